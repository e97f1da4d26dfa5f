"""Problems that need memory, each with batches, a known answer, a chance level and a criterion."""

from throughtime.core.registry import Registry
from throughtime.tasks.adding import HochreiterAdding, Multiplication, UnitAdding, adding
from throughtime.tasks.algorithms import AssociativeRecall, CopyBits, PrioritySort, RepeatCopy
from throughtime.tasks.binary_sets import (
    binarized_mnist,
    dynamic_mnist,
    load_binarized_mnist,
    thresholded_digits,
)
from throughtime.tasks.bits import Latch, Parity, TwoSequence
from throughtime.tasks.both_sides import BothSides
from throughtime.tasks.characters import Characters, characters
from throughtime.tasks.corpora import penn_treebank, text, text8
from throughtime.tasks.counting_dialogue import CountingDialogue
from throughtime.tasks.density_sets import binary_density
from throughtime.tasks.dialogue_files import WordDialogues, daily_dialog, dialogue
from throughtime.tasks.dialogues import DialogueBatch, DialogueSet, DialogueTask
from throughtime.tasks.frame_sets import LinearGaussian, chords, linear_gaussian, polygons
from throughtime.tasks.frames import FrameBatch, FrameDensity
from throughtime.tasks.image_sets import ImageSet, LabelledImages, load_digits, load_mnist
from throughtime.tasks.levels import Levelled, Levels
from throughtime.tasks.midi import read_midi, write_midi
from throughtime.tasks.music import jsb_chorales, midi, nottingham
from throughtime.tasks.one_shot import OneShotStrokes
from throughtime.tasks.pairs import PairBatch, PairSet, PairTask
from throughtime.tasks.parallel_texts import multi30k, translation
from throughtime.tasks.pen_strokes import pen_strokes
from throughtime.tasks.pixel_densities import PixelBatch, PixelDensity
from throughtime.tasks.pixels import (
    PixelSequences,
    digits,
    mnist,
    permuted_digits,
    permuted_mnist,
)
from throughtime.tasks.polarity import polarity
from throughtime.tasks.questions import draw_stories, questions
from throughtime.tasks.rewriting import CopySequence, NoisyWalk, Reverse
from throughtime.tasks.sequences import SequenceBatch, SequenceTask
from throughtime.tasks.spelling import Spelling
from throughtime.tasks.stories import StoryBatch, StoryQuestions
from throughtime.tasks.story_files import babi, read_stories, write_stories
from throughtime.tasks.symbols import (
    Copying,
    Counting,
    DistantBrackets,
    PascanuTemporalOrder,
    TemporalOrder,
    temporal_order,
)
from throughtime.tasks.tagging import SeenBefore, TaggedSentences, tagging
from throughtime.tasks.task import Split, Task
from throughtime.tasks.texts import Text
from throughtime.tasks.translation import Parallel, Translation
from throughtime.tasks.treebanks import sentiment, treebank
from throughtime.tasks.trees import TreeBatch, TreeLabels
from throughtime.tasks.vector_files import vectors
from throughtime.tasks.vocabulary import (
    CharacterVocabulary,
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)
from throughtime.tasks.warped_images import (
    ImageBatch,
    WarpedImages,
    digit_images,
    mnist_images,
    warped_digits,
    warped_mnist,
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
TASKS.register("copy-bits")(CopyBits)
TASKS.register("repeat-copy")(RepeatCopy)
TASKS.register("associative-recall")(AssociativeRecall)
TASKS.register("priority-sort")(PrioritySort)
TASKS.register("one-shot-strokes")(OneShotStrokes)
TASKS.register("digits")(digits)
TASKS.register("permuted-digits")(permuted_digits)
TASKS.register("mnist")(mnist)
TASKS.register("permuted-mnist")(permuted_mnist)
TASKS.register("both-sides")(BothSides)
TASKS.register("digit-images")(digit_images)
TASKS.register("mnist-images")(mnist_images)
TASKS.register("warped-digits")(warped_digits)
TASKS.register("warped-mnist")(warped_mnist)
TASKS.register("wave")(Wave)
TASKS.register("characters")(characters)
TASKS.register("text")(text)
TASKS.register("penn-treebank")(penn_treebank)
TASKS.register("text8")(text8)
TASKS.register("distant-brackets")(DistantBrackets)
TASKS.register("counting")(Counting)
TASKS.register("reverse")(Reverse)
TASKS.register("copy-sequence")(CopySequence)
TASKS.register("noisy-walk")(NoisyWalk)
TASKS.register("spelling")(Spelling)
TASKS.register("tagging")(tagging)
TASKS.register("translation")(translation)
TASKS.register("multi30k")(multi30k)
TASKS.register("thresholded-digits")(thresholded_digits)
TASKS.register("binarized-mnist")(binarized_mnist)
TASKS.register("dynamic-mnist")(dynamic_mnist)
TASKS.register("linear-gaussian")(linear_gaussian)
TASKS.register("chords")(chords)
TASKS.register("polygons")(polygons)
TASKS.register("nottingham")(nottingham)
TASKS.register("jsb-chorales")(jsb_chorales)
TASKS.register("midi")(midi)
TASKS.register("pen-strokes")(pen_strokes)
TASKS.register("counting-dialogue")(CountingDialogue)
TASKS.register("dialogue")(dialogue)
TASKS.register("dailydialog")(daily_dialog)
TASKS.register("binary-density")(binary_density)
TASKS.register("vectors")(vectors)
TASKS.register("questions")(questions)
TASKS.register("babi")(babi)
TASKS.register("polarity")(polarity)
TASKS.register("treebank")(treebank)
TASKS.register("sentiment")(sentiment)

__all__ = [
    "TASKS",
    "AssociativeRecall",
    "BothSides",
    "CharacterVocabulary",
    "Characters",
    "CopyBits",
    "CopySequence",
    "Copying",
    "Counting",
    "CountingDialogue",
    "DialogueBatch",
    "DialogueSet",
    "DialogueTask",
    "DistantBrackets",
    "FrameBatch",
    "FrameDensity",
    "HochreiterAdding",
    "ImageBatch",
    "ImageSet",
    "LabelledImages",
    "Latch",
    "Levelled",
    "Levels",
    "LinearGaussian",
    "Multiplication",
    "NoisyWalk",
    "OneShotStrokes",
    "PairBatch",
    "PairSet",
    "PairTask",
    "Parallel",
    "Parity",
    "PascanuTemporalOrder",
    "PixelBatch",
    "PixelDensity",
    "PixelSequences",
    "PrioritySort",
    "RepeatCopy",
    "Reverse",
    "SeenBefore",
    "SequenceBatch",
    "SequenceTask",
    "Spelling",
    "Split",
    "StoryBatch",
    "StoryQuestions",
    "SubwordVocabulary",
    "TaggedSentences",
    "Task",
    "TemporalOrder",
    "Text",
    "Translation",
    "TreeBatch",
    "TreeLabels",
    "TwoSequence",
    "UnitAdding",
    "Vocabulary",
    "WarpedImages",
    "Wave",
    "WordDialogues",
    "WordVocabulary",
    "babi",
    "binarized_mnist",
    "binary_density",
    "characters",
    "chords",
    "daily_dialog",
    "dialogue",
    "digit_images",
    "draw_stories",
    "dynamic_mnist",
    "jsb_chorales",
    "linear_gaussian",
    "load_binarized_mnist",
    "load_digits",
    "load_mnist",
    "midi",
    "mnist_images",
    "multi30k",
    "nottingham",
    "pen_strokes",
    "penn_treebank",
    "polarity",
    "polygons",
    "questions",
    "read_midi",
    "read_stories",
    "sentiment",
    "temporal_order",
    "thresholded_digits",
    "translation",
    "treebank",
    "vectors",
    "warped_digits",
    "warped_mnist",
    "write_midi",
    "write_stories",
]
