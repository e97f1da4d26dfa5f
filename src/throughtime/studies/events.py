"""Events of a comparison while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from throughtime.training import Event, Result


@dataclass(frozen=True)
class Planned:
    """The run is part of the comparison; sent for every run before the first one starts.

    Attributes:
        steps: updates of the run, at most.
    """

    steps: int


@dataclass(frozen=True)
class Waiting:
    """Another process writes the run; it will be looked at again."""


@dataclass(frozen=True)
class Done:
    """The run is trained and measured, now or by an earlier call.

    Attributes:
        result: result of the training.
    """

    result: Result


@dataclass(frozen=True)
class StudyEvent:
    """An event of one run of a comparison.

    Attributes:
        label: label of the model in the request.
        seed: seed of the run.
        event: one of the above, or an event of training.
    """

    label: str
    seed: int
    event: Planned | Waiting | Done | Event


StudyObserver = Callable[[StudyEvent], None]
"""Called with each event, in the process and thread that called `compare`."""
