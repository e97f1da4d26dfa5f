"""Learning rates as functions of the step: a run taken up again needs no other state of them."""

import math
from typing import Literal

FINAL_FRACTION = 0.01
"""Where the exponential schedule ends, as a fraction of the peak; our choice."""


def depends_on_steps(schedule: str) -> bool:
    """True if the learning rate of an update depends on the number of steps of the whole run.

    Arguments:
        schedule: schedule of `learning_rate`.

    Example:
        >>> depends_on_steps("constant"), depends_on_steps("cosine")
        (False, True)
    """
    return schedule != "constant"


def learning_rate(
    schedule: Literal["constant", "linear", "cosine", "exponential"],
    peak: float,
    step: int,
    steps: int,
    warmup_steps: int = 0,
) -> float:
    """The learning rate of one update.

    With w warmup steps, n = steps - w and k = step - w:

        step < w:     peak (step + 1) / w
        constant:     peak
        linear:       peak (1 - k / n)
        cosine:       peak (1 + cos(pi k / n)) / 2
        exponential:  peak FINAL_FRACTION^(k / n)

    Arguments:
        schedule: the shape after the warmup.
        peak: the largest value.
        step: number of the update, 0 to steps - 1.
        steps: updates of the whole run.
        warmup_steps: updates of the warmup, fewer than `steps`.

    Returns:
        Above 0 at every step: the decay would reach its end one update after the last.

    Example:
        >>> [learning_rate("linear", 1.0, step, steps=6, warmup_steps=2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]

    Source:
        The cosine is that of Loshchilov and Hutter (2017), SGDR, without its restarts; the linear
        warmup that of Goyal et al. (2017).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / (steps - warmup_steps)
    if schedule == "linear":
        return peak * (1.0 - done)
    if schedule == "cosine":
        return peak * (1.0 + math.cos(math.pi * done)) / 2.0
    if schedule == "exponential":
        return peak * FINAL_FRACTION**done
    return peak
