"""Each task keeps the rules of `TaskConformance`, and each rule is broken by a task that does."""

import itertools
import random

import pytest
from tasks.test_task_registry import NEEDS_FILES
from torch import nn

from throughtime.models import build_model
from throughtime.tasks import (
    TASKS,
    Characters,
    Parallel,
    TaggedSentences,
    Task,
    Text,
    Translation,
    WordDialogues,
)
from throughtime.tasks.adding import UnitAdding
from throughtime.testing import TaskConformance

_LINE = "the quick brown fox jumps over a lazy dog and on. it is so\n"
TEXT = " ".join(random.Random(0).choices(_LINE.split(" "), k=900))


class Conformance(TaskConformance):
    """A task that a text of the registry names, with a GRU."""

    spec: str

    def make_task(self) -> Task:
        return TASKS.build(self.spec)

    def make_model(self, task: Task) -> nn.Module:
        return build_model("gru:hidden=5", task.inputs, task.answers)


class TestPolarity(Conformance):
    spec = "polarity:leaves=5,trees=60"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("tree-lstm:hidden=5,embedding=4", task.inputs, task.answers)


class TestLinearGaussian(Conformance):
    spec = "linear-gaussian:length=6,samples=2"


class TestChords(Conformance):
    spec = "chords:samples=2"


class TestPolygons(Conformance):
    spec = "polygons:samples=2"


class TestFramesWithLatentVariables(Conformance):
    """The bound, whose draws belong to the sequences, with a weight of its KL part."""

    spec = "polygons:samples=2,annealing=10"

    def make_model(self, task: Task) -> nn.Module:
        return build_model(
            "vrnn:cell=gru,hidden=5,engine=eager,latent=2,features=4", task.inputs, task.answers
        )


class TestThresholdedDigits(Conformance):
    spec = "thresholded-digits"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("made:hidden=70", task.inputs, task.answers)


class TestLatch(Conformance):
    spec = "latch:length=12"


class TestTwoSequence(Conformance):
    spec = "two-sequence:length=20"


class TestParity(Conformance):
    spec = "parity:length=9"


class TestAdding(Conformance):
    spec = "adding:length=30"


class TestUnitAdding(Conformance):
    spec = "adding:length=30,form=unit"


class TestMultiplication(Conformance):
    spec = "multiplication:length=30"


class TestTemporalOrder(Conformance):
    spec = "temporal-order:length=30"


class TestPascanuTemporalOrder(Conformance):
    spec = "temporal-order:length=30,form=pascanu"


class TestCopying(Conformance):
    spec = "copying:length=5,items=3,symbols=4"


class TestCopyBits(Conformance):
    spec = "copy-bits:bits=2,largest=4,longer=6"


class TestRepeatCopy(Conformance):
    spec = "repeat-copy:bits=2,largest=3"


class TestAssociativeRecall(Conformance):
    spec = "associative-recall:bits=3,vectors=2,largest=4"


class TestPrioritySort(Conformance):
    spec = "priority-sort:bits=2,smallest=1,largest=5,start=2"


class TestOneShotStrokes(Conformance):
    spec = "one-shot-strokes:classes=3,presentations=2,points=3"


class TestDistantBrackets(Conformance):
    spec = "distant-brackets"


class TestCounting(Conformance):
    spec = "counting"


class TestDigits(Conformance):
    spec = "digits:pixels_per_step=8"


class TestPermutedDigits(Conformance):
    spec = "permuted-digits:pixels_per_step=8"


class TestBothSides(Conformance):
    spec = "both-sides:length=7,distance=2"


class TestBothSidesInBothDirections(Conformance):
    spec = "both-sides:length=7,distance=2"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("gru:hidden=5,bidirectional=true", task.inputs, task.answers)


class TestDigitImages(Conformance):
    spec = "digit-images"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("plain:depth=1,batch-norm=false,widths=8", task.inputs, task.answers)


class TestWarpedDigits(Conformance):
    spec = "warped-digits:image-size=9"


class TestWarpedDigitsOfSeveralSizes(Conformance):
    spec = "warped-digits:image-size=9,cropped=true"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("grid:hidden=3,blocks=2x2", task.inputs, task.answers)


class TestWave(Conformance):
    spec = "wave"
    draws = False


class TestCharacters(Conformance):
    def make_task(self) -> Task:
        return Characters(TEXT, length=9)


class TestCharactersOfAStream(Conformance):
    def make_task(self) -> Task:
        return Characters(TEXT, length=9, stream=True)


class TestText(Conformance):
    def make_task(self) -> Task:
        return Text.of(TEXT, length=9)


class TestTextByWords(Conformance):
    def make_task(self) -> Task:
        return Text.of(TEXT, tokens="words", length=9)


class TestTextBySubwords(Conformance):
    def make_task(self) -> Task:
        pytest.importorskip("tokenizers")
        return Text.of(TEXT, tokens="subwords", size=280, length=9)


class TestReverse(Conformance):
    spec = "reverse"


class TestCopySequence(Conformance):
    spec = "copy-sequence"


class TestNoisyWalk(Conformance):
    spec = "noisy-walk:symbols=6,length=8"


class TestSpelling(Conformance):
    spec = "spelling:digits=3"


class TestTagging(Conformance):
    spec = "tagging"


class TestTaggedSentences(Conformance):
    def make_task(self) -> Task:
        words = TEXT.split()[:400]
        tagged = [[(w, w[0]) for w in words[k : k + 2 + k % 7]] for k in range(0, 390, 3)]
        return TaggedSentences(tagged)


class TestCountingDialogue(Conformance):
    spec = "counting-dialogue:turns=4"


class TestWordDialogues(Conformance):
    def make_task(self) -> Task:
        words = TEXT.split()
        dialogues = [
            [" ".join(words[7 * k + t : 7 * k + 2 * t + 1]) for t in range(2 + k % 4)]
            for k in range(60)
        ]
        splits = {"training": 40, "validation": 12, "test": 8}
        ends = iter(itertools.accumulate(splits.values()))
        return WordDialogues(
            {s: dialogues[(end := next(ends)) - count : end] for s, count in splits.items()}
        )


class TestQuestions(Conformance):
    spec = "questions:kind=counting,questions=40"


class TestQuestionsOfAllKinds(Conformance):
    """With a model that reads the stories as they are."""

    spec = "questions:kind=all,questions=40"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("memn2n:hidden=5,memory=7", task.inputs, task.answers)


class TestStronglySupervisedQuestions(Conformance):
    """With a model whose training has losses of its own."""

    spec = "questions:kind=lists,questions=40"

    def make_model(self, task: Task) -> nn.Module:
        return build_model("memory-network:hidden=5", task.inputs, task.answers)


class TestTranslation(Conformance):
    def make_task(self) -> Task:
        words = TEXT.split()
        lines = [" ".join(words[k : k + 2 + k % 7]) for k in range(0, 390, 3)]
        texts = [Parallel(part, part[::-1]) for part in (lines[:60], lines[60:90], lines[90:])]
        return Translation(dict(zip(("training", "validation", "test"), texts, strict=True)))


def test_each_registered_task_is_checked() -> None:
    """Those that need files are instances of the same classes."""
    named = {c.spec.partition(":")[0] for c in Conformance.__subclasses__() if hasattr(c, "spec")}
    assert named | NEEDS_FILES == set(TASKS)


class Wrong(UnitAdding):
    """A task whose draws depend on those before."""

    def __init__(self) -> None:
        super().__init__(length=9)
        self.drawn = 0

    def draw(self, random, batch_size):
        self.drawn += 1
        batch = super().draw(random, batch_size)
        return batch._replace(inputs=batch.inputs + self.drawn)


class NeighboursLeak(nn.Module):
    """A model whose answers depend on the other sequences of the batch."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, inputs, lengths=None):
        return self.linear(inputs.mean((0, 1)) + inputs.mean(0))


def test_a_task_with_a_state_is_found() -> None:
    class Suite(Conformance):
        def make_task(self) -> Task:
            return Wrong()

    with pytest.raises(AssertionError, match="two batches that should be the same differ"):
        Suite().test_training_batches_are_functions_of_seed_and_step()


def test_a_score_that_depends_on_neighbours_is_found() -> None:
    class Suite(Conformance):
        def make_task(self) -> Task:
            return UnitAdding(length=9)

        def make_model(self, task: Task) -> nn.Module:
            return NeighboursLeak(2)

    with pytest.raises(AssertionError, match="sum of loss"):
        Suite().test_parts_of_small_batches_merge_to_those_of_a_large_one()


def test_padding_that_is_read_is_found() -> None:
    class Suite(Conformance):
        spec = "two-sequence:length=20"

        def make_model(self, task: Task) -> nn.Module:
            model = build_model("gru:hidden=5", task.inputs, task.answers)
            forward = model.forward
            model.forward = lambda inputs, lengths=None: forward(inputs)
            return model

    batches = TASKS.build(Suite.spec).batches("training", 3)
    assert any(b.lengths is not None for b in itertools.islice(batches, 1))
    with pytest.raises(AssertionError, match="padding changes loss"):
        Suite().test_padding_changes_nothing()
