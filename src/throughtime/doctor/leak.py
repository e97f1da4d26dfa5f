"""A state that leaks away much faster than the lag, shown by a copy whose state changes slowly."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.state import State, map_state
from throughtime.doctor.brief_training import Trial
from throughtime.doctor.carried_state import run_condition_by
from throughtime.doctor.fresh_copies import FreshCopies, in_words
from throughtime.doctor.intervals import exactly
from throughtime.doctor.mechanism import Mechanism
from throughtime.doctor.remedies import Condition
from throughtime.doctor.subject import Subject
from throughtime.engines import Place, Request, Result, run
from throughtime.foreign.sites import find_recurrent
from throughtime.foreign.watching import watch
from throughtime.reports.numbers import in_percent
from throughtime.results.diagnosis import Cause, Finding

_SOONER = 2  # times as many updates as with a slow state: the least that the model as it is takes


@final
class SlowCell(Cell):
    """A cell whose state goes a small part of the way to that of another cell.

        s_t = s_{t-1} + (F(x_t, s_{t-1}) - s_{t-1}) / k

    Arguments:
        cell: cell with the step F.
        slower: number k of steps that the state takes.
    """

    def __init__(self, cell: Cell, slower: float):
        super().__init__()
        self.cell, self.slower = cell, slower
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.output_size, self.streams, self.lasting = cell.output_size, cell.streams, cell.lasting

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the other cell's."""
        return self.cell.initial_state(batch_size, dtype=dtype, device=device)

    def project(self, x: Tensor) -> Tensor:
        """Return the other cell's."""
        return self.cell.project(x)

    def step(self, projected: Tensor, state: State, streams: Streams = ()) -> tuple[Tensor, State]:
        """Return the slow h where the other cell's output is its h, else that output."""
        output, new = advance(self.cell, projected, state, streams)

        def slow(before: Tensor, after: Tensor) -> Tensor:
            return before + (after - before) / self.slower if after.is_floating_point() else after

        slowed = map_state(slow, state, new)
        same = output.shape == new.h.shape and torch.equal(output, new.h)
        return (slowed.h if same else output), slowed


@final
class _Gates(TorchFunctionMode):
    """Mode that counts the gates: calls of a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.count += "sigmoid" in getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


@final
class _Slow:
    """Runs each cell with a state that changes slowly.

    Arguments:
        slower: number of steps that the state takes.
    """

    def __init__(self, slower: int):
        self.slower = slower

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameters."""
        return []

    def run(self, request: Request, place: Place) -> Result:
        """Run with the first engine that serves."""
        del place
        cell = SlowCell(request.cell, self.slower)
        return run(dataclasses.replace(request, cell=cell), "auto")


def has_gates(subject: Subject, layer: str) -> bool:
    """Return whether the steps of the layer call a sigmoid.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
    """
    model, batch = subject.copy(), subject.held_out[0]
    watched = watch(
        model, lambda: subject.loss(model, batch), layer=layer, level=0, gradients=False
    )
    request = watched.calls[0].request
    streams = tuple(stream[0] for stream in request.streams)
    with torch.no_grad(), _Gates() as gates:
        advance(request.cell, request.cell.project(request.inputs[0]), request.state, streams)
    return gates.count > 0


def check_leak(
    copies: FreshCopies,
    mechanism: Mechanism,
    trial: Trial,
    suspects: Sequence[Finding],
    where: str,
) -> Finding | None:
    """Check whether a copy as it is learns late since its state leaks away within the lag.

    Only layers without gates, and of which hardly any gradient arrives.

    Arguments:
        copies: trials, of copies with the given weights here.
        mechanism: measurements of the layer.
        trial: trial of the model as it is, in which it learns.
        suspects: obstacles in the layer.
        where: layer and batches, in words.

    Returns:
        The fault, if a copy whose state changes slowly learns as well in half the updates.
    """
    subject, layer, lag = copies.trainer.subject, copies.layer, mechanism.lag
    _, module = find_recurrent(subject.copy(), layer)
    vanishing = any(finding.cause is Cause.VANISHING for finding in suspects)
    if not vanishing or isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return None
    if mechanism.retention is not None or has_gates(subject, layer):
        return None
    name = f"a state that changes {lag} times as slowly"

    def change(condition: Condition) -> Condition:
        return run_condition_by(condition, layer, _Slow(lag))

    slow = copies.train(name, change, given=True)
    if slow is None or copies.enough is None or not copies.enough(slow.after):
        return None
    if _SOONER * slow.updates > trial.updates:
        return None
    code = f"state = state + (new_state - state) / {lag}"
    copies.add_remedy(name, code, trial, slow)
    return Finding(
        cause=Cause.FORGETTING,
        severity="fault",
        certainty="measured",
        statement=f"The state leaks away much faster than the lag: of the gradient near the answer "
        f"{in_percent(10**mechanism.arriving.value)} arrives {lag} steps back. A copy with {name} "
        f"learns in {slow.updates} updates (held-out loss {in_words(slow.after)}), an equal one as "
        f"it is takes {trial.updates} ({in_words(trial.after)}).",
        effect=exactly(trial.updates / slow.updates),
        effect_name="updates of a copy as it is, relative to those with a slow state",
        threshold=float(_SOONER),
        measured_on=where,
        remedy=f"Take a time constant of the order of the lag: {code}. It is the step of the "
        "integration divided by the time constant that counts.",
    )
