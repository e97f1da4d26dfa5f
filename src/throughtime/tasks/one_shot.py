"""One-shot classification: drawings of new characters, whose labels hold for one sequence."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float64, Int64

from throughtime.core.errors import ConfigurationError
from throughtime.tasks.kinds import Classes, Vectors
from throughtime.tasks.sequences import (
    GeneratedTask,
    Outputs,
    Right,
    SequenceBatch,
    Targets,
    likeliest,
)
from throughtime.tasks.task import check_at_least

_CONTROLS = 4  # points of a Bezier curve


class OneShotStrokes(GeneratedTask):
    """One-shot strokes: name the character of each drawing; its label comes one step later.

        x_t = [points of the strokes of drawing t; label of drawing t - 1, one of `classes`]
        y_t = label of drawing t

    A character is made by our own rules: `strokes` Bezier curves, whose four control points are
    uniform in [-1, 1] x [-1, 1]. A drawing of it moves each control point by N(0, wobble^2), and
    turns the whole by an angle of N(0, turn^2). Each sequence has `classes` new characters, each
    drawn `presentations` times, in random order; their labels are random too. So an answer is only
    known from the steps before, and characters of held-out sequences are new.

    Arguments:
        classes: number of characters of a sequence, at least 2.
        presentations: drawings of each, at least 2.
        strokes: curves of a character, at least 1.
        points: points of a curve, at evenly spaced parameters, at least 2.
        wobble: standard deviation of the control points, at least 0.
        turn: standard deviation of the angle in radians, at least 0.

    Inputs:
        (time, batch, 2 * strokes * points + classes), where time is classes * presentations.

    Targets:
        (time, batch): the label of each drawing, from the first on.

    Chance:
        1 / classes; ln classes.

    Differs from the papers in:
        they classify images of Omniglot's characters; these characters are synthetic, and a drawing
        is a vector of points. All sizes are our choice, but for 10 presentations.

    Raises:
        ConfigurationError: an option out of range.

    Example:
        >>> task = OneShotStrokes(classes=3, presentations=4)
        >>> next(task.batches("training", 2)).inputs.shape
        torch.Size([12, 2, 35])

    Source:
        Santoro, Bartunov, Botvinick, Wierstra & Lillicrap, "Meta-learning with memory-augmented
        neural networks", ICML 2016; Rae et al., "Scaling memory-augmented neural networks with
        sparse reads and writes", NIPS 2016.
    """

    name = "one-shot-strokes"
    criterion = "at least 90 % of the second drawings of a character are named (our choice)"

    def __init__(
        self,
        *,
        classes: int = 5,
        presentations: int = 10,
        strokes: int = 2,
        points: int = 8,
        wobble: float = 0.1,
        turn: float = 0.1,
    ):
        for option, number, least in (
            ("classes", classes, 2),
            ("presentations", presentations, 2),
            ("strokes", strokes, 1),
            ("points", points, 2),
        ):
            check_at_least(f"{option} of task '{self.name}'", number, least)
        for option, size in (("wobble", wobble), ("turn", turn)):
            if not 0 <= size < math.inf:
                raise ConfigurationError(
                    f"{option} of task '{self.name}'", got=size, expected="at least 0"
                )
        self.classes, self.presentations, self.strokes = classes, presentations, strokes
        self.wobble, self.turn = wobble, turn
        self.counted = tuple(n for n in (1, 2, 5) if n <= presentations)
        self.inputs = Vectors(2 * strokes * points + classes)
        self.answers = Classes(classes, per_step=True)
        self.chance, self.chance_loss = 1 / classes, math.log(classes)
        self.length = classes * presentations
        self.dependency_length = classes
        t = np.linspace(0, 1, points)[:, None]
        k = np.arange(_CONTROLS)
        self._basis = np.array([1, 3, 3, 1]) * t**k * (1 - t) ** (_CONTROLS - 1 - k)

    def draw(self, random: np.random.Generator, batch_size: int) -> SequenceBatch:
        """Sequences of new characters."""
        order = np.tile(np.repeat(np.arange(self.classes), self.presentations), (batch_size, 1))
        labels = random.permuted(order, axis=1)
        shape = (batch_size, self.classes, self.strokes, _CONTROLS, 2)
        characters = random.uniform(-1, 1, shape)
        drawn = self.drawings(random, characters, labels)
        before = np.zeros((batch_size, self.length, self.classes))
        before[:, 1:] = np.eye(self.classes)[labels[:, :-1]]
        x = np.concatenate([drawn, before], -1).astype(np.float32).swapaxes(0, 1)
        return SequenceBatch(
            torch.from_numpy(np.ascontiguousarray(x)),
            torch.from_numpy(np.ascontiguousarray(labels.T)),
        )

    def drawings(
        self,
        random: np.random.Generator,
        characters: Float64[np.ndarray, "batch classes strokes controls 2"],
        labels: Int64[np.ndarray, "batch time"],
    ) -> Float64[np.ndarray, "batch time width"]:
        """Return drawings of characters.

        Arguments:
            random: source of the random numbers.
            characters: control points of each character.
            labels: character of each drawing.
        """
        batch, time = labels.shape
        controls = characters[np.arange(batch)[:, None], labels]
        controls = controls + self.wobble * random.standard_normal(controls.shape)
        angle = self.turn * random.standard_normal((batch, time))
        cos, sin = np.cos(angle), np.sin(angle)
        turns = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        points = np.einsum("pk,btskd,bted->btspe", self._basis, controls, turns)
        return points.reshape(batch, time, -1)

    def right(self, outputs: Outputs, targets: Targets) -> Right:
        """Return True for each drawing whose label has the largest output."""
        return likeliest(outputs, targets)

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """Return True if at least 90 % of the second drawings are named."""
        return metrics["accuracy_at_2"] >= 0.9
