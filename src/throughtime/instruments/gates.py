"""Gate activity: statistics of a cell's gates, time constants of its memory, and idle units."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from throughtime.core.cell import Activation, Cell, Streams, advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.jacobian import Dynamics
from throughtime.core.state import State, map_state
from throughtime.foreign.recording import Recording, cast_cell
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class GateStatistics(Record):
    """One gate over all valid steps and sequences, by unit.

    Attributes:
        activation: nonlinearity of the gate; low, high and slope depend on it.
        mean: mean of the gate's value.
        low: share of the steps at which it is saturated below: a sigmoid under 0.05, a tanh under
            -0.95, a ReLU at 0.
        high: share of those at which it is saturated above: a sigmoid over 0.95, a tanh over 0.95.
        slope: mean derivative by the preactivation, relative to the largest that there can be.
    """

    activation: Activation
    mean: Float[Tensor, " units"]
    low: Float[Tensor, " units"]
    high: Float[Tensor, " units"]
    slope: Float[Tensor, " units"]

    @property
    def saturated(self) -> Float[Tensor, " units"]:
        """Share of the steps at which the gate is saturated on either side."""
        return self.low + self.high


@dataclasses.dataclass(frozen=True, eq=False)
class GateActivity(Record):
    """Statistics of a cell's gates on a batch; None where the cell does not declare its gates.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: place of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        steps: valid steps of all sequences together.
        gates: statistics by the cell's names of its gates.
        memory: statistics of tanh(c), or of the function in its place; None without a memory.
        remembered: geometric mean over the steps of the factor by which a unit keeps its memory:
            the forget gate of an LSTM, 1 without one, the update gate of a GRU; None of others.
        time_constants: -1 / log(remembered), in steps: in so many, a memory decays to 1/e.
        dead: outputs that are zero at every valid step, or whose variance is 1e-12 of the mean
            square of all outputs or less.
        saturated: units whose tanh (gate "hidden", "cell" or "new") has a mean slope below the
            threshold: little gradient passes it. None where that gate is no tanh.
        carry: dF_i/ds_i, each component's own carry from one step to the next, by field of the
            state: mean over some steps without a reset; NaN where there are none.
    """

    layer: str
    level: int
    direction: int
    steps: int
    gates: dict[str, GateStatistics] | None
    memory: GateStatistics | None
    remembered: Float[Tensor, " units"] | None
    time_constants: Float[Tensor, " units"] | None
    dead: Bool[Tensor, " outputs"]
    saturated: Bool[Tensor, " units"] | None
    carry: dict[str, Float[Tensor, " _"]]

    def share_longer(self, lags: Float[Tensor, " lags"]) -> Float[Tensor, " lags"] | None:
        """The share of units whose time constant is above each of these lags.

        Arguments:
            lags: steps.

        Returns:
            From 0 to 1; None where time constants are not known.
        """
        if self.time_constants is None:
            return None
        return (self.time_constants > lags.cpu()[:, None]).double().mean(1)


def gate_activity(
    recording: Recording,
    *,
    sequences: Sequence[int] | None = None,
    margin: float = 0.05,
    least_slope: float = 0.05,
    samples: int = 32,
    seed: int = 0,
) -> GateActivity:
    """Recompute the gates of a recorded run, and their statistics over its valid steps alone.

        time constant of a unit = -1 / mean over steps of log f,   f: its remember gate

    Gates are read of cells that declare their `activations`; of any other cell, `dead` and `carry`.

    Arguments:
        recording: recorded run of any cell.
        sequences: indices of sequences in the batch; all if None.
        margin: distance from its limits at which a gate is saturated, in (0, 0.5).
        least_slope: mean slope below which a unit is saturated, in (0, 1].
        samples: steps, of any sequence, at which the carry is measured, at least 1.
        seed: seed of the choice of these steps.

    Returns:
        Statistics by unit, on the CPU, in float64.

    Raises:
        ConfigurationError: no such sequence, a number out of range, or states or inputs that are
            not finite.

    Example:
        >>> from throughtime.foreign.recording import record
        >>> model = torch.nn.LSTM(1, 8)
        >>> activity = gate_activity(record(model, lambda: model(torch.ones(20, 2, 1))[0].sum()))
        >>> list(activity.gates), activity.time_constants.shape
        (['input', 'forget', 'cell', 'output'], torch.Size([8]))

    Source: for time constants, C. Tallec and Y. Ollivier, "Can recurrent neural networks warp
    time?" (2018).

    Differs from the paper in: they have 1 / (1 - f), the first terms of ours for f near 1.
    """
    if not (0 < margin < 0.5 and 0 < least_slope <= 1 and samples >= 1):
        raise ConfigurationError(
            "gate_activity",
            got=f"margin={margin}, least_slope={least_slope}, samples={samples}",
            expected="(0, 0.5), (0, 1] and at least 1",
        )
    chosen = list(range(recording.batch)) if sequences is None else sorted(set(sequences))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < recording.batch:
        raise ConfigurationError(
            "sequences", got=sequences, expected=f"from 0 to {recording.batch - 1}"
        )
    lengths = recording.valid_lengths()[chosen]
    valid = torch.arange(recording.time)[:, None] < lengths
    t, place = valid.nonzero().unbind(1)
    b = torch.tensor(chosen)[place]
    device = recording.inputs.device
    at = (t.to(device), b.to(device))
    outputs = recording.outputs[at].double()
    cell = cast_cell(recording.cell, torch.float64)
    gates = memory = log_f = saturated = None
    if cell.activations:
        gates, memory, log_f = _totals(recording, cell, at, margin)
        candidate = next(gates[name] for name in _CANDIDATES if name in gates)
        if candidate.activation == "tanh":
            saturated = candidate.slope < least_slope
    variance = (outputs - outputs.mean(0)).square().mean(0)
    return GateActivity(
        layer=recording.layer,
        level=recording.level,
        direction=recording.direction,
        steps=len(t),
        gates=gates,
        memory=memory,
        remembered=None if log_f is None else log_f.exp(),
        time_constants=None if log_f is None else 1 / log_f.abs(),
        dead=((outputs == 0).all(0) | (variance <= 1e-12 * outputs.square().mean())).cpu(),
        saturated=saturated,
        carry=_carry(recording, cell, at, samples, torch.Generator().manual_seed(seed)),
    )


class _Gate(NamedTuple):
    """A gate at some rows: factor * activation(a)."""

    activation: Activation
    a: Float[Tensor, "rows units"]
    factor: float = 1.0

    def sums(self, margin: float) -> Float[Tensor, "4 units"]:
        """Value, low, high and relative slope, summed over the rows."""
        a, edge = self.a, 1 - margin
        if self.activation == "sigmoid":
            v = a.sigmoid()
            parts = (v, v < margin, v > edge, 4 * v * (1 - v))
        elif self.activation == "tanh":
            v = a.tanh()
            parts = (v, v < -edge, v > edge, 1 - v * v)
        elif self.activation == "relu":
            parts = (a.relu(), a <= 0, torch.zeros_like(a), a > 0)
        else:
            parts = (a, torch.zeros_like(a), torch.zeros_like(a), torch.ones_like(a))
        value, *rest = (part.double().sum(0) for part in parts)
        return torch.stack([self.factor * value, *rest])


class _Step(NamedTuple):
    """Gates of a cell at some rows, its squashed memory, and log f of what it keeps of that."""

    gates: tuple[_Gate, ...]
    memory: _Gate | None = None
    log_f: Tensor | None = None


class _Preactivations(TorchFunctionMode):
    """A record of the arguments of nonlinear functions, in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Activation, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        activation = _ACTIVATIONS.get(getattr(func, "__name__", ""))
        if activation is not None:
            self.found.append((activation, args[0]))
        return result


_ACTIVATIONS: dict[str, Activation] = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}


@final
class _Reader:
    """A reader of the gates of one cell, from the nonlinear functions that its step calls.

    The value of gate k is that of the function whose argument depends on gate k's rows of the
    projected input, and on the fewest other rows. The one function that is left over, if any,
    squashes the memory.
    """

    def __init__(self, cell: Cell):
        self.cell = cell
        count, units = len(cell.gate_names), cell.hidden_size
        like = next(cell.parameters())
        where = {"dtype": like.dtype, "device": like.device}
        generator = torch.Generator().manual_seed(0)

        def drawn(like: Tensor) -> Tensor:
            if not like.is_floating_point():
                return like
            return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

        before = map_state(drawn, cell.initial_state(2, **where))
        projected = drawn(torch.zeros(2, count * units, **where)).requires_grad_()
        ones = tuple(torch.ones(2, 1, **where) for _ in cell.streams)
        reads: list[set[int]] = []
        with torch.enable_grad():
            for _, argument in self._arguments(projected, before, ones):
                (slopes,) = torch.autograd.grad(argument.sum(), projected, retain_graph=True)
                rows = slopes.unflatten(-1, (count, units)).ne(0).any(-1).any(0)
                reads.append(set(rows.nonzero()[:, 0].tolist()))
        self.places: list[int] = []
        for gate in range(count):
            readers = [place for place, rows in enumerate(reads) if gate in rows]
            self.places.append(min(readers, key=lambda place: len(reads[place])))
        left = sorted(set(range(len(reads))) - set(self.places))
        self.memory = left[0] if len(left) == 1 else None

    def step(self, projected: Tensor, before: State, streams: Streams) -> _Step:
        """Return the gates of some steps."""
        found = self._arguments(projected, before, streams)
        gates: list[_Gate] = []
        for place, activation in zip(self.places, self.cell.activations, strict=True):
            called, a = found[place]
            # 4 sigmoid(a) - 2 = 2 tanh(a / 2)
            halved = (called, activation) == ("sigmoid", "tanh")
            gates.append(_Gate("tanh", a / 2, 2.0) if halved else _Gate(activation, a))
        memory = None
        if self.memory is not None:
            called, c = found[self.memory]
            memory = _Gate("tanh", c / 2 if called == "sigmoid" else c)  # 2 sigmoid(c) - 1
        log_f = None
        if self.cell.remember_gates:
            log_f = F.logsigmoid(gates[self.cell.gate_names.index(self.cell.remember_gates[0])].a)
        elif memory is not None:
            log_f = torch.zeros_like(memory.a)
        return _Step(tuple(gates), memory, log_f)

    def _arguments(
        self, projected: Tensor, before: State, streams: Streams
    ) -> list[tuple[Activation, Tensor]]:
        with _Preactivations() as calls:
            output, _ = advance(self.cell, projected, before, streams)
        if not calls.found:
            return [("identity", output)]
        units = self.cell.hidden_size
        return [(name, part) for name, a in calls.found for part in a.split(units, -1)]


_CANDIDATES = ("hidden", "cell", "new")  # the gates that are what is written into the memory


class _Totals(NamedTuple):
    gates: dict[str, GateStatistics]
    memory: GateStatistics | None
    log_f: Tensor | None


def _totals(
    recording: Recording,
    cell: Cell,
    at: tuple[Tensor, Tensor],
    margin: float,
) -> _Totals:
    """Means over the rows, some at a time: gates take more memory than states."""
    rows = max(1, 2**20 // (8 * cell.hidden_size))
    reader = _Reader(cell)
    sums: list[Tensor] = []
    log_f: Tensor | None = None
    kinds: list[Activation] = []
    for part in zip(*(i.split(rows) for i in at), strict=True):
        projected = cell.project(recording.inputs[part].double())
        streams = _of_steps(recording.streams, part)
        step = reader.step(projected, _before(recording, cell, part), streams)
        every = [*step.gates, *(() if step.memory is None else (step.memory,))]
        kinds = [gate.activation for gate in every]
        added = torch.stack([gate.sums(margin) for gate in every])
        sums = [added] if not sums else [sums[0] + added]
        if step.log_f is not None:
            log_f = step.log_f.sum(0) + (0 if log_f is None else log_f)
    means = (sums[0] / len(at[0])).cpu()
    if not bool(means.isfinite().all()):
        raise ConfigurationError(
            "recording", got="gates that are not finite", expected="finite states and inputs"
        )
    found = [GateStatistics(kind, *mean) for kind, mean in zip(kinds, means, strict=True)]
    return _Totals(
        dict(zip(cell.gate_names, found, strict=False)),
        found[-1] if len(found) > len(cell.gate_names) else None,
        None if log_f is None else (log_f / len(at[0])).cpu(),
    )


def _before(recording: Recording, cell: Cell, at: tuple[Tensor, Tensor]) -> State:
    """The states that some steps start from, in float64."""
    t, b = at
    fresh = cell.initial_state(len(t), dtype=torch.float64, device=t.device)
    reset = None if recording.resets is None else recording.resets[at]

    def choose(initial: Tensor, states: Tensor, fresh: Tensor) -> Tensor:
        wide = (-1, *(1,) * (states.dim() - 2))
        s = torch.where((t == 0).reshape(wide), initial[b], states[(t - 1).clamp(min=0), b])
        s = s if reset is None else torch.where(reset.reshape(wide), fresh.to(s.dtype), s)
        return s.to(fresh.dtype)

    return map_state(choose, recording.initial, recording.states, fresh)


def _of_steps(streams: Streams, at: tuple[Tensor, Tensor]) -> Streams:
    return tuple(s[at].double() if s.is_floating_point() else s[at] for s in streams)


def _carry(
    recording: Recording,
    cell: Cell,
    at: tuple[Tensor, Tensor],
    samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The mean diagonal of dF/ds over some steps that do not start afresh."""
    dynamics = Dynamics(cell)
    kept = torch.ones_like(at[0], dtype=torch.bool)
    if recording.resets is not None:
        kept = ~recording.resets[at]
    rows = kept.nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=generator)[:samples].to(rows.device)]
    if len(rows) == 0:
        return {
            name: torch.full((s.stop - s.start,), torch.nan) for name, s in dynamics.fields.items()
        }
    at = (at[0][rows], at[1][rows])
    state, x = _before(recording, cell, at), recording.inputs[at].double()
    before, counts = dynamics.flatten(state), dynamics.layout.whole(state)
    streams = _of_steps(recording.streams, at)
    diagonal: list[Tensor] = []
    eye = torch.eye(dynamics.size, dtype=torch.float64, device=x.device)
    for basis in eye.split(max(1, 2**22 // (len(rows) * dynamics.size))):
        cotangents = basis[:, None].expand(-1, len(rows), -1)
        back = dynamics.pullback(before, x, cotangents, streams, counts)[1]
        diagonal.append((back.mean(1) * basis).sum(1))
    whole = torch.cat(diagonal).cpu()
    return {name: whole[part] for name, part in dynamics.fields.items()}
