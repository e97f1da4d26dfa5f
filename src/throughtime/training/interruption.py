"""A request to stop, as by Ctrl-C: met between two updates, when the run's state is whole."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar, final

Item = TypeVar("Item")


class StopRequested(Exception):  # noqa: N818  # no error: caught by the loop, which saves and says so
    """A stop was requested."""


@final
class Interruption:
    """A flag: a stop was requested since the block of `interruptible` began."""

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


_running: list[Interruption] = []
"""The runs that go on in the main thread, the innermost last."""


def request_stop() -> bool:
    """Let the run of the main thread end its update, save and stop, as the first Ctrl-C does.

    Returns:
        False if no run goes on, or it was requested before.
    """
    if not _running or _running[-1].requested:
        return False
    _running[-1].requested = True
    return True


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the block the first Ctrl-C sets a flag; the second raises KeyboardInterrupt, as ever.

    Where signals are not ours to take (in other threads than the main one, or where the process was
    started to ignore Ctrl-C) nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = signal.getsignal(signal.SIGINT)
    ours = previous not in (None, signal.SIG_IGN)

    def request(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        signal.signal(signal.SIGINT, previous)

    _running.append(interruption)
    if ours:
        signal.signal(signal.SIGINT, request)
    try:
        yield interruption
    finally:
        if ours:
            signal.signal(signal.SIGINT, previous)
        _running.remove(interruption)
