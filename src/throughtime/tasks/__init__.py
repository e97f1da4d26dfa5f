"""Problems that need memory, each with batches, a known answer, a chance level and a criterion."""

from throughtime.core.registry import Registry
from throughtime.tasks.adding import HochreiterAdding, Multiplication, UnitAdding, adding
from throughtime.tasks.bits import Latch, Parity, TwoSequence
from throughtime.tasks.image_sets import ImageSet, LabelledImages, load_digits, load_mnist
from throughtime.tasks.pixels import (
    PixelSequences,
    digits,
    mnist,
    permuted_digits,
    permuted_mnist,
)
from throughtime.tasks.sequences import SequenceBatch, SequenceTask
from throughtime.tasks.symbols import (
    Copying,
    Counting,
    DistantBrackets,
    PascanuTemporalOrder,
    TemporalOrder,
    temporal_order,
)
from throughtime.tasks.task import Split, Task
from throughtime.tasks.texts import Characters, Text, characters, text
from throughtime.tasks.vocabulary import (
    CharacterVocabulary,
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)
from throughtime.tasks.wave import Wave

# Every task by name: TASKS.build("adding:length=100").
TASKS: Registry[Task] = Registry("task")
TASKS.register("latch")(Latch)
TASKS.register("two-sequence")(TwoSequence)
TASKS.register("parity")(Parity)
TASKS.register("adding")(adding)
TASKS.register("multiplication")(Multiplication)
TASKS.register("temporal-order")(temporal_order)
TASKS.register("copying")(Copying)
TASKS.register("digits")(digits)
TASKS.register("permuted-digits")(permuted_digits)
TASKS.register("mnist")(mnist)
TASKS.register("permuted-mnist")(permuted_mnist)
TASKS.register("wave")(Wave)
TASKS.register("characters")(characters)
TASKS.register("text")(text)
TASKS.register("distant-brackets")(DistantBrackets)
TASKS.register("counting")(Counting)

__all__ = [
    "TASKS",
    "CharacterVocabulary",
    "Characters",
    "Copying",
    "Counting",
    "DistantBrackets",
    "HochreiterAdding",
    "ImageSet",
    "LabelledImages",
    "Latch",
    "Multiplication",
    "Parity",
    "PascanuTemporalOrder",
    "PixelSequences",
    "SequenceBatch",
    "SequenceTask",
    "Split",
    "SubwordVocabulary",
    "Task",
    "TemporalOrder",
    "Text",
    "TwoSequence",
    "UnitAdding",
    "Vocabulary",
    "Wave",
    "WordVocabulary",
    "characters",
    "load_digits",
    "load_mnist",
    "temporal_order",
]
