"""The Python that a warm call of `tt.LSTM` passes: files and calls, of this package and of all."""

import collections
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch

import throughtime as tt
from benchmarks.registry import Row, benchmark

PACKAGE = str(Path(tt.__file__).parent)
WARM = 3


class Passed(NamedTuple):
    """The Python functions that a call passes.

    Attributes:
        files: The number of files that they lie in.
        calls: The number of calls.
        own_files: The number of files of this package.
        own_calls: The number of calls of functions of this package.
    """

    files: int
    calls: int
    own_files: int
    own_calls: int


def passed(function: Callable[[], object]) -> Passed:
    """Count the Python functions that a call passes, once it is warm.

    Arguments:
        function: The call.
    """
    counts: collections.Counter[CodeType] = collections.Counter()

    def enter(frame: FrameType, event: str, argument: object) -> None:
        del argument
        if event == "call":
            counts[frame.f_code] += 1

    for _ in range(WARM):
        function()
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        function()
    finally:
        sys.setprofile(before)
    own = {code: n for code, n in counts.items() if code.co_filename.startswith(PACKAGE)}
    return Passed(
        len({code.co_filename for code in counts}),
        counts.total(),
        len({code.co_filename for code in own}),
        sum(own.values()),
    )


def passed_by_layer(*, training: bool) -> Passed:
    """Count what a call of a small LSTM passes, by the native engine.

    Arguments:
        training: If True, the call is a training step with its backward pass.
    """
    torch.manual_seed(0)
    layer, x = tt.LSTM(3, 5, engine="native"), torch.randn(7, 2, 3)

    def step() -> None:
        if training:
            layer(x)[0].sum().backward()
        else:
            layer(x)

    with torch.set_grad_enabled(training):
        return passed(step)


@benchmark("calls")
def calls(rounds: int) -> list[Row]:
    """Files and Python calls of a warm call of tt.LSTM."""
    del rounds
    rows: list[Row] = []
    for case, training in (("LSTM without gradient", False), ("LSTM training step", True)):
        found = passed_by_layer(training=training)._asdict()
        rows += [Row(case, "native", name, n, n, n, "") for name, n in found.items()]
    return rows
