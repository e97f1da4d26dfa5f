"""Ctrl-C as a request that is met between two updates, when the run's state is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar, final

Item = TypeVar("Item")


class StopRequested(Exception):  # noqa: N818  # no error: caught by the loop, which saves and says so
    """Ctrl-C was pressed."""


@final
class Interruption:
    """Whether Ctrl-C was pressed since the block of `interruptible` began."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise StopRequested if it was."""
        if self.requested:
            raise StopRequested

    def between(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with a check before each."""
        for item in items:
            self.check()
            yield item


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the block the first Ctrl-C sets a flag; the second raises KeyboardInterrupt, as ever.

    Where signals are not ours to take (in other threads than the main one, or where the process was
    started to ignore Ctrl-C) nothing is changed.
    """
    interruption = Interruption()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous in (
        None,
        signal.SIG_IGN,
    ):
        yield interruption
        return

    def request(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, request)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, previous)
