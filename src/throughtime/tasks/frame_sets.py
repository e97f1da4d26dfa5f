"""Frames that are drawn from known laws: no data is needed."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float

from throughtime.tasks.frames import FrameDensity, Sequences
from throughtime.tasks.kinds import Frames
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Split, check_at_least

_COUNTS: dict[Split, int] = {"training": 2_000, "validation": 300, "test": 600}
_MARGIN = 0.02  # nats per frame above the Kalman filter's loss


@final
class LinearGaussian(NamedTuple):
    """A linear system with Gaussian noise, whose likelihood the Kalman filter gives exactly.

        s_1 ~ N(0, 1)    s_t = A s_{t-1} + w_t    x_t = s_t + v_t
        A = decay * rotation by `angle`    w_t ~ N(0, 1 - decay^2)    v_t ~ N(0, noise^2)

    s and x have two elements. Each element of s has the variance 1 at all times.

    Attributes:
        decay: Factor of the state, below 1.
        angle: Angle of a step in radians.
        noise: Standard deviation of v_t.

    Example:
        >>> round(LinearGaussian().log_likelihood(np.zeros((3, 2))), 4)
        -4.3352
    """

    decay: float = 0.95
    angle: float = math.pi / 8
    noise: float = 0.5

    @property
    def transition(self) -> Float[np.ndarray, "2 2"]:
        """The matrix A."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return self.decay * np.array([[c, -s], [s, c]])

    def draw(self, random: np.random.Generator, length: int) -> Float[np.ndarray, "length 2"]:
        """Return a sequence of frames.

        Arguments:
            random: Source of the random numbers.
            length: Number of frames.
        """
        state, found = random.standard_normal(2), np.empty((length, 2))
        for t in range(length):
            found[t] = state + self.noise * random.standard_normal(2)
            w = math.sqrt(1 - self.decay**2) * random.standard_normal(2)
            state = self.transition @ state + w
        return found

    def log_likelihood(self, x: Float[np.ndarray, "length 2"]) -> float:
        """Return ln p(x) in nats, by the Kalman filter.

        Arguments:
            x: Frames.
        """
        mean, variance, total = np.zeros(2), 1.0, 0.0  # of s_t given the frames before
        for frame in x.astype(np.float64):
            expected = variance + self.noise**2
            error = frame - mean
            total -= 0.5 * (error @ error) / expected + math.log(2 * math.pi * expected)
            gain = variance / expected
            mean = self.transition @ (mean + gain * error)
            # the covariances stay multiples of the identity: A is a multiple of a rotation
            variance = self.decay**2 * (1 - gain) * variance + 1 - self.decay**2
        return float(total)


def linear_gaussian(*, length: int = 20, annealing: int = 0, samples: int = 100) -> FrameDensity:
    """Noisy observations of a rotating state; the Kalman filter gives the likelihood exactly.

    There are 2,000 sequences for training, 300 for validation and 600 for test. A model can do as
    well as the filter, and no better.

    Arguments:
        length: frames of a sequence, at most; each has at least half as many.
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.

    Raises:
        ConfigurationError: an option out of range.
    """
    check_at_least("length of task 'linear-gaussian'", length, 2)
    system, sequences = LinearGaussian(), _drawn(_observed, length)
    held_out = sequences["validation"]
    exact = -sum(map(system.log_likelihood, held_out)) / sum(map(len, held_out))
    return FrameDensity(
        "linear-gaussian",
        sequences,
        Frames(2, binary=False),
        annealing=annealing,
        samples=samples,
        goal=exact + _MARGIN,
        note=f"{_MARGIN} above the loss of the Kalman filter, which no model surpasses; our choice",
    )


def chords(*, annealing: int = 0, samples: int = 100) -> FrameDensity:
    """Chord progressions in random keys, as frames of 88 piano keys.

    Each of four to eight chords lasts four frames: a bass note, and the notes of the chord one
    after the other, over the whole chord in the last frame. Our choice throughout.

    Arguments:
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.

    Raises:
        ConfigurationError: an option out of range.
    """
    return FrameDensity(
        "chords", _drawn(_chords), Frames(88, binary=True), annealing=annealing, samples=samples
    )


def polygons(*, annealing: int = 0, samples: int = 100) -> FrameDensity:
    """Polygons of three to six corners, drawn with a pen that trembles.

    A frame is (dx, dy, pen). The first one goes to the first corner. The pen is lifted (1) after
    the last side. The size of a polygon is 1, give or take 20 %; movements have errors of 0.05. Our
    choice throughout.

    Arguments:
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.

    Raises:
        ConfigurationError: an option out of range.
    """
    return FrameDensity(
        "polygons",
        _drawn(_polygon),
        Frames(3, binary=False, pen=True),
        annealing=annealing,
        samples=samples,
    )


@functools.lru_cache(maxsize=4)
def _drawn(draw: Callable[..., Float[np.ndarray, "_ width"]], *arguments: int) -> Sequences:
    return {
        split: [draw(generator(0, split, k), *arguments).astype(np.float32) for k in range(count)]
        for split, count in _COUNTS.items()
    }


def _observed(random: np.random.Generator, length: int) -> Float[np.ndarray, "time 2"]:
    return LinearGaussian().draw(random, int(random.integers((length + 1) // 2, length + 1)))


_PROGRESSION = {0: (5, 7, 9), 5: (0, 7, 2), 7: (0, 9, 0), 9: (5, 2, 7), 2: (7, 7, 5)}
_MINOR = (2, 9)
_MIDDLE_C = 60 - 21  # the lowest of 88 keys has the number 21


def _chords(random: np.random.Generator) -> Float[np.ndarray, "time 88"]:
    key, root = _MIDDLE_C + int(random.integers(-5, 6)), 0
    count = int(random.integers(4, 9))
    frames = np.zeros((4 * count, 88))
    for chord in range(count):
        notes = [root, root + (3 if root in _MINOR else 4), root + 7]
        if random.random() < 0.5:
            notes.reverse()
        for beat, part in enumerate((notes[:1], notes[1:2], notes[2:], notes)):
            t = 4 * chord + beat
            frames[t, [key + note for note in part]] = 1
            frames[t, key + root - 24] = 1
        root = int(random.choice(_PROGRESSION[root]))
    return frames


def _polygon(random: np.random.Generator) -> Float[np.ndarray, "time 3"]:
    corners, turn = int(random.integers(3, 7)), random.uniform(0, 2 * math.pi)
    angles = turn + 2 * math.pi * np.arange(corners + 1) / corners
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(0.8, 1.2)
    moves = np.diff(points, axis=0, prepend=np.zeros((1, 2)))
    frames = np.zeros((corners + 1, 3))
    frames[:, :2] = moves + 0.05 * random.standard_normal(moves.shape)
    frames[-1, 2] = 1
    return frames
