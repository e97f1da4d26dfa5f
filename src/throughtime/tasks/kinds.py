"""Kinds of inputs and answers: a task declares them, and models are built for them."""

import dataclasses
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Sequences of vectors, (time, batch, width).

    Attributes:
        width: width of x_t.
    """

    width: int


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Sequences of symbols, (time, batch) int64.

    Attributes:
        alphabet: number of symbols.
    """

    alphabet: int


@dataclasses.dataclass(frozen=True)
class Vector:
    """One vector, (batch, width), without an axis of time.

    Attributes:
        width: width of the vector.
    """

    width: int


@dataclasses.dataclass(frozen=True)
class Pairs:
    """A source, and the sequence of symbols that it is to become.

    Attributes:
        source: kind of the source.
        target: kind of the target.
    """

    source: Tokens | Vectors | Vector
    target: Tokens


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Images of whole levels, (batch, channels, height, width) int64.

    A vector of D binary values is an image of one row: Pixels(1, D).

    Attributes:
        height: number of rows.
        width: number of columns.
        channels: number of colours of a pixel.
        levels: number of levels, 0 ... levels - 1, of a colour.
    """

    height: int
    width: int
    channels: int = 1
    levels: int = 2


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of real numbers, (batch, channels, height, width) float32, with sizes or without.

    Attributes:
        height: largest number of rows.
        width: largest number of columns.
        channels: number of colours of a pixel.
    """

    height: int
    width: int
    channels: int = 1


@dataclasses.dataclass(frozen=True)
class Frames:
    """Sequences of frames to be predicted, (time, batch, width) float32.

    Attributes:
        width: width of a frame.
        binary: If True, values are 0 and 1; else real numbers.
        pen: If True, a frame is a movement of a pen (dx, dy), and 1 where the pen is lifted after
            it, else 0.
    """

    width: int
    binary: bool
    pen: bool = False


@dataclasses.dataclass(frozen=True)
class Dialogues:
    """Utterances in turn, each a sequence of symbols with its end, (turn, time, batch) int64.

    Attributes:
        alphabet: number of symbols.
        begin: symbol that a model reads before the first one of an utterance.
    """

    alphabet: int
    begin: int


@dataclasses.dataclass(frozen=True)
class Stories:
    """Sentences, and a question about them: words are int64 numbers.

    Attributes:
        alphabet: number of words; an answer is one of them.
        end: word behind each sentence, where a model reads the words of a story one by one.
        words: largest number of words of a sentence or a question.
        facts: largest number of sentences that an answer follows from; 0 where they are not known.
    """

    alphabet: int
    end: int
    words: int
    facts: int


@dataclasses.dataclass(frozen=True)
class Trees:
    """Trees with a symbol at some nodes, a `throughtime.Forest`; answers are due at nodes.

    Attributes:
        alphabet: number of symbols.
        arity: largest number of children of a node.
    """

    alphabet: int
    arity: int


@dataclasses.dataclass(frozen=True)
class Classes:
    """One of several classes, after the last step or at steps.

    Targets are (batch,) int64, or (time, batch) int64 with -1 where no answer is due.

    Attributes:
        count: number of classes.
        per_step: If True, answers are due at steps.
    """

    count: int
    per_step: bool = False

    @property
    def width(self) -> int:
        """The width of a model's output."""
        return self.count

    def loss(
        self, outputs: Float[Tensor, "*rows count"], targets: Int[Tensor, "*rows"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats over the answers that are due."""
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=-1)

    def losses(
        self, outputs: Float[Tensor, "row count"], targets: Int[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        """Return the cross-entropy of each answer; 0 where none is due."""
        return F.cross_entropy(outputs, targets, ignore_index=-1, reduction="none")

    def due(self, targets: Int[Tensor, "*rows"]) -> Bool[Tensor, "*rows"]:
        """Return True where an answer is due."""
        return targets >= 0


@dataclasses.dataclass(frozen=True)
class Values:
    """Real numbers, after the last step or at every step.

    Targets are (batch, count) or (time, batch, count) float32.

    Attributes:
        count: number of values of an answer.
        per_step: If True, an answer is due at every step.
    """

    count: int
    per_step: bool = False

    @property
    def width(self) -> int:
        """The width of a model's output."""
        return self.count

    def loss(
        self, outputs: Float[Tensor, "*rows count"], targets: Float[Tensor, "*rows count"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared error."""
        return F.mse_loss(outputs, targets)

    def losses(
        self, outputs: Float[Tensor, "row count"], targets: Float[Tensor, "row count"]
    ) -> Float[Tensor, " row"]:
        """Return the mean squared error of each answer."""
        return (outputs - targets).square().mean(-1)

    def due(self, targets: Float[Tensor, "*rows count"]) -> Bool[Tensor, "*rows"]:
        """Return True: an answer is due in every row."""
        return torch.ones(targets.shape[:-1], dtype=torch.bool, device=targets.device)


@dataclasses.dataclass(frozen=True)
class Bits:
    """Independent bits, after the last step or at steps.

    Targets are (batch, count) or (time, batch, count) float32: 0 and 1, NaN in rows without answer.

    Attributes:
        count: number of bits of an answer.
        per_step: If True, answers are due at steps.
    """

    count: int
    per_step: bool = False

    @property
    def width(self) -> int:
        """The width of a model's output: a bit is 1 where it is above 0."""
        return self.count

    def loss(
        self, outputs: Float[Tensor, "*rows count"], targets: Float[Tensor, "*rows count"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of a bit in nats over the answers that are due."""
        due = self.due(targets)
        return F.binary_cross_entropy_with_logits(outputs[due], targets[due].to(outputs.dtype))

    def losses(
        self, outputs: Float[Tensor, "row count"], targets: Float[Tensor, "row count"]
    ) -> Float[Tensor, " row"]:
        """Return the mean cross-entropy of a bit of each answer; 0 where none is due."""
        known = targets.nan_to_num().to(outputs.dtype)
        each = F.binary_cross_entropy_with_logits(outputs, known, reduction="none")
        return torch.where(self.due(targets), each.mean(-1), 0)

    def due(self, targets: Float[Tensor, "*rows count"]) -> Bool[Tensor, "*rows"]:
        """Return True where an answer is due."""
        return ~targets[..., 0].isnan()

    def wrong(
        self,
        outputs: Float[Tensor, "*time batch count"],
        targets: Float[Tensor, "*time batch count"],
    ) -> Int[Tensor, " batch"]:
        """Return the number of wrong bits of each sequence."""
        wrong = ((outputs > 0) != (targets > 0.5)) & ~targets.isnan()
        return wrong.sum((0, 2) if wrong.dim() == 3 else 1)


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """No answer: the model gives the probability of its input."""


Inputs: TypeAlias = (
    Vectors | Tokens | Pairs | Pixels | Images | Frames | Dialogues | Stories | Trees
)
Answers: TypeAlias = Classes | Values | Bits | Likelihood
