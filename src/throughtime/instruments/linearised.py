"""The Jacobians along a recorded run, as linear maps of many vectors at once."""

import abc
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams
from throughtime.core.dynamics import Dynamics
from throughtime.core.errors import ConfigurationError
from throughtime.core.gated import GatedCell
from throughtime.core.state import map_state
from throughtime.instruments.recording import Recording, cast_cell


class LinearisedRun(abc.ABC):
    """J_t = ds_t/ds_{t-1} of every step of one sequence, in float64.

    A step that starts afresh has its Jacobian with respect to the state that it starts from; that
    this state does not depend on the one before is said by `resets`.

    Attributes:
        steps: how many.
        size: width of s.
        resets: the steps that start afresh.
        changes: the steps before which the model itself made another state of the cell's, by a map
            that is not known.
        device: where the cell is.
    """

    steps: int
    size: int
    resets: tuple[int, ...]
    changes: tuple[int, ...]
    device: torch.device

    @abc.abstractmethod
    def pushforward(
        self, at: slice, tangents: Float[Tensor, "k steps size"]
    ) -> Float[Tensor, "k steps size"]:
        """J_t v for k vectors of each of some steps."""

    @abc.abstractmethod
    def pullback(
        self, at: slice, cotangents: Float[Tensor, "k steps size"]
    ) -> Float[Tensor, "k steps size"]:
        """J_t' v for k vectors of each of some steps."""


def linearise(recording: Recording, sequence: int) -> LinearisedRun:
    """The Jacobians of one sequence's valid steps, at the recorded states, in float64.

    Arguments:
        recording: of any cell.
        sequence: which of the batch.

    Raises:
        ConfigurationError: no such sequence, or inputs or states that are not finite.
    """
    if not 0 <= sequence < recording.batch:
        raise ConfigurationError(
            "sequence", got=sequence, expected=f"from 0 to {recording.batch - 1}"
        )
    steps = int(recording.valid_lengths()[sequence])
    cell = cast_cell(recording.cell, torch.float64)
    dynamics = Dynamics(cell)
    after = dynamics.flatten(map_state(lambda s: s[:steps, sequence], recording.states))
    start = dynamics.flatten(map_state(lambda s: s[sequence : sequence + 1], recording.initial))
    before = torch.cat([start, after[:-1]]).double()
    fresh = dynamics.flatten(cell.initial_state(1, dtype=torch.float64, device=before.device))[0]
    reset = torch.zeros(steps, dtype=torch.bool, device=before.device)
    if recording.resets is not None:
        reset = recording.resets[:steps, sequence].clone()
    changes: list[int] = []
    for t, state in recording.starts.items():
        given = dynamics.flatten(map_state(lambda s: s[sequence : sequence + 1], state))[0].double()
        if t >= steps or bool(reset[t]) or torch.equal(given, before[t]):
            continue
        if torch.equal(given, fresh):
            reset[t] = True  # masked away
        else:
            changes.append(t)
            before[t] = given
    before = torch.where(reset[:, None], fresh, before)
    breaks = (tuple(reset.nonzero()[:, 0].tolist()), tuple(changes))
    inputs = recording.inputs[:steps, sequence].double()
    for name, values in (("states", before), ("states", after), ("inputs", inputs)):
        bad = ~values.isfinite().all(-1)
        if bool(bad.any()):
            raise ConfigurationError(
                "recording",
                got=f"{name} that are not finite at step {int(bad.nonzero()[0, 0])}",
                expected="finite ones, which alone have a Jacobian",
            )
    streams = tuple(
        s[:steps, sequence].double() if s.is_floating_point() else s[:steps, sequence]
        for s in recording.streams
    )
    plain = _AnyRun(dynamics, before, inputs, streams, *breaks)
    if not isinstance(cell, GatedCell) or not _steps_as_gated(cell):
        return plain
    quick = _GatedRun(cell, dynamics, before, inputs, streams, *breaks)
    # a pointwise function that is not elementwise breaks its contract; it is measured all the same
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(1, steps, quick.size, dtype=torch.float64, generator=generator)
    probe, at = probe.to(before.device), slice(0, steps)
    expected = plain.pushforward(at, probe)
    close = torch.allclose(quick.pushforward(at, probe), expected, rtol=1e-7, atol=1e-9)
    return quick if close else plain


def jacobian(run: LinearisedRun, at: slice) -> Float[Tensor, "steps size size"]:
    """J_t of some steps in full: entry [t, i, j] is ds_i/ds_j.

    Arguments:
        run: of any cell.
        at: the steps.
    """
    count = len(range(*at.indices(run.steps)))
    eye = torch.eye(run.size, dtype=torch.float64, device=run.device)
    return run.pushforward(at, eye[:, None, :].expand(-1, count, -1)).permute(1, 2, 0)


@final
class _AnyRun(LinearisedRun):
    """By forward and reverse mode through the step of whatever cell."""

    def __init__(
        self,
        dynamics: Dynamics,
        before: Tensor,
        inputs: Tensor,
        streams: Streams,
        resets: tuple[int, ...],
        changes: tuple[int, ...],
    ):
        self.dynamics, self.before, self.inputs, self.streams = dynamics, before, inputs, streams
        self.steps, self.size = before.shape
        self.resets, self.changes = resets, changes
        self.device = before.device

    def pushforward(self, at, tangents):
        streams = tuple(s[at] for s in self.streams)
        return self.dynamics.pushforward(self.before[at], self.inputs[at], tangents, streams)[1]

    def pullback(self, at, cotangents):
        streams = tuple(s[at] for s in self.streams)
        return self.dynamics.pullback(self.before[at], self.inputs[at], cotangents, streams)[1]


@final
class _GatedRun(LinearisedRun):
    """By the partial derivatives of a gated cell's pointwise function, found once for all steps.

    s_t depends on s_{t-1} through u = W s_{t-1}, and unit by unit on u and s_{t-1}: each step is
    one matrix product and a few elementwise ones.
    """

    def __init__(
        self,
        cell: GatedCell,
        dynamics: Dynamics,
        before: Tensor,
        inputs: Tensor,
        streams: Streams,
        resets: tuple[int, ...],
        changes: tuple[int, ...],
    ):
        self.steps, self.size = before.shape
        self.resets, self.changes = resets, changes
        self.device = before.device
        self.units, self.gates = cell.hidden_size, len(cell.gate_names)
        self.results = 1 + len(cell.memories)  # h and the memories; what follows is past outputs
        self.fields = self.size // self.units
        self.weights: list[tuple[int, Tensor]] = []  # field that each matrix reads
        for lag in cell.lags:
            field = 0 if lag == 1 else self.results + lag - 2
            self.weights.append((field, cell.recurrent_matrix(lag)))
        parts = before.chunk(self.fields, -1)
        u = sum((F.linear(parts[k], w) for k, w in self.weights), start=torch.zeros(()))
        if self.weights and cell.bias_hh is not None and not cell.additive:
            u = u + cell.bias_hh  # else it is in the input's projection
        x = cell.project(inputs).chunk(self.gates, -1)
        past = tuple(u.chunk(self.gates, -1)) if self.weights else ()

        def function(*slots: Tensor) -> tuple[Tensor, ...]:
            state = dynamics.unflatten(torch.cat(slots[len(past) :], -1))
            own = (streams,) if streams else ()
            result = cell.pointwise(x, slots[: len(past)], state, *own)
            return result if isinstance(result, tuple) else (result,)

        slots = (*past, *parts)
        self.partials: list[tuple[int, int, Tensor]] = []  # result, slot, derivative
        for k, slot in enumerate(slots):

            def along(value: Tensor, k: int = k) -> tuple[Tensor, ...]:
                return function(*slots[:k], value, *slots[k + 1 :])

            derivatives = torch.func.jvp(along, (slot,), (torch.ones_like(slot),))[1]
            self.partials += [(i, k, d) for i, d in enumerate(derivatives) if bool((d != 0).any())]

    def pushforward(self, at, tangents):
        fields = tangents.chunk(self.fields, -1)
        slots = (*self._recurrent(fields), *fields)
        results: list[Tensor | None] = [None] * self.results
        for i, k, derivative in self.partials:
            results[i] = _add_product(results[i], slots[k], derivative[at])
        filled = [torch.zeros_like(fields[0]) if r is None else r for r in results]
        shifted = () if self.fields == self.results else (fields[0], *fields[self.results : -1])
        return torch.cat([*filled, *shifted], -1)

    def pullback(self, at, cotangents):
        given = cotangents.chunk(self.fields, -1)
        gates = self.gates if self.weights else 0
        slots: list[Tensor | None] = [None] * (gates + self.fields)
        for i, k, derivative in self.partials:
            slots[k] = _add_product(slots[k], given[i], derivative[at])
        filled = [torch.zeros_like(given[0]) if s is None else s for s in slots]
        fields = filled[gates:]
        for k, cotangent in enumerate(given[self.results :]):
            # what was moved one place along in the list of past outputs
            source = 0 if k == 0 else self.results + k - 1
            fields[source] = fields[source] + cotangent
        if self.weights:
            u = torch.cat(filled[:gates], -1).flatten(0, 1)
            for k, weight in self.weights:
                fields[k] = fields[k] + (u @ weight).view_as(fields[k])
        return torch.cat(fields, -1)

    def _recurrent(self, fields: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.weights:
            return ()
        # two axes: the product of strided rows with three of them is several times as slow
        u = [fields[k].flatten(0, 1) @ weight.T for k, weight in self.weights]
        total = sum(u[1:], start=u[0])
        return total.unflatten(0, fields[0].shape[:2]).chunk(self.gates, -1)


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a * b if total is None else total.addcmul_(a, b)


def _steps_as_gated(cell: Cell) -> bool:
    """Whether a gated cell left its step as it is."""
    names = ("step", "project", "_gates")
    return all(getattr(type(cell), n) is getattr(GatedCell, n) for n in names)
