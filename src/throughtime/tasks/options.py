"""Checks of options that several tasks share."""

import math
from typing import Literal

from throughtime.core.errors import ConfigurationError

NoiseIs = Literal["variance", "std"]


def check_at_least(subject: str, value: int, minimum: int, fix: str = "") -> None:
    """Raise ConfigurationError unless value >= minimum; `subject` names the option."""
    if value < minimum:
        raise ConfigurationError(subject, got=value, expected=f"at least {minimum}", fix=fix)


def noise_deviation(task: str, noise: float, noise_is: NoiseIs) -> float:
    """The standard deviation of a task's noise.

    Arguments:
        task: name of the task, for the error message.
        noise: its size, at least 0.
        noise_is: meaning of `noise`.

    Raises:
        ConfigurationError: the noise is negative or not finite.

    Example:
        >>> noise_deviation("latch", 0.25, "variance")
        0.5
    """
    if not 0 <= noise < math.inf:
        raise ConfigurationError(
            f"noise of task '{task}'", got=noise, expected="a number of at least 0"
        )
    return math.sqrt(noise) if noise_is == "variance" else noise
