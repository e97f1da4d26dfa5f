"""The gradient of a loss: its norm at each step of the past, and its norm over batches."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell, bind
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_tensors
from throughtime.foreign.unchanged import unchanged
from throughtime.foreign.watching import Call, Link, Watched, watch
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class GradientFlow(Record):
    """The gradient of one loss over time, for one cell of one layer. All in float64.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: number of the cell in its stack, from the bottom.
        per_unit: |dL/dh_t| of each unit: root of the sum of squares over the batch.
        per_gate: ||dL/da_t|| of each gate's preactivation a, by name, over batch and units; empty
            for cells that are not gated.
        norm: ||dL/dh_t||, over batch and units.
        contribution: norm of step t's part of the gradient of the recurrent weights (without
            biases): the summands of dL/dW = sum over tau of (dL/da_tau) (da_tau/dW).
        answer: ||dL/dh_t|| of each sequence by what reads h_t from outside the layer alone, without
            the part that comes back through later states: where the loss looks.
        calls: steps of each call of the layer.
        links: origin of the state of each call: from the end of the call before, with its
            graph ("connected"), made from it ("changed"), or without its graph ("detached"); or not
            from it ("fresh").
    """

    layer: str
    level: int
    per_unit: Float[Tensor, "time hidden"]
    per_gate: dict[str, Float[Tensor, " time"]]
    norm: Float[Tensor, " time"]
    contribution: Float[Tensor, " time"]
    answer: Float[Tensor, "outputs batch"]
    calls: tuple[int, ...]
    links: tuple[Link, ...]

    @property
    def norm_by_lag(self) -> Float[Tensor, " time"]:
        """`norm` by the number of steps before the last one, from 0."""
        return self.norm.flip(0)

    @property
    def contribution_by_lag(self) -> Float[Tensor, " time"]:
        """`contribution` by the number of steps before the last one, from 0."""
        return self.contribution.flip(0)

    @property
    def share_beyond(self) -> Float[Tensor, " time"]:
        """The part of all contributions that comes from k steps back and more, for each lag k.

        Norms of summands are added, not summands, which may cancel. 1 at lag 0; NaN where there is
        no gradient at all, or one that is not finite.
        """
        tail = self.contribution.cumsum(0).flip(0)
        return tail / tail[0]

    def reach(self, fraction: float = 0.01) -> int:
        """The longest lag at which ||dL/dh|| is at least this fraction of its largest value.

        Arguments:
            fraction: a number in (0, 1].

        Returns:
            Steps before the last one, from 0 to time - 1; 0 if there is no gradient at all. A
            gradient that is not finite has exploded: it reaches.
        """
        return reach(self.norm_by_lag, fraction)

    def half_life(self) -> float:
        """Steps in which ||dL/dh|| halves on its way back: ln 2 over the slope of its logarithm.

        The slope is that of the least-squares line through log ||dL/dh|| against the lag, over the
        lags where it is finite and positive.

        Returns:
            Steps; infinite where the gradient does not shrink, NaN with fewer than two lags.
        """
        return half_life(self.norm_by_lag)


def reach(norms: Float[Tensor, " lag"], fraction: float) -> int:
    """Return the longest lag at which a norm is at least this fraction of the largest one.

    Arguments:
        norms: Norms by lag, from 0.
        fraction: A number in (0, 1].
    """
    finite = norms.isfinite()
    largest = torch.where(finite, norms, 0.0).max()
    reached = ~finite | ((norms >= fraction * largest) & (norms > 0))
    return int(reached.nonzero().max()) if bool(reached.any()) else 0


def half_life(norms: Float[Tensor, " lag"]) -> float:
    """Return the lags in which norms halve, by a least-squares line through their logarithms.

    Arguments:
        norms: Norms by lag, from 0; those that are not finite and positive are left out.
    """
    seen = norms.isfinite() & (norms > 0)
    if int(seen.sum()) < 2:
        return math.nan
    lags, logs = seen.nonzero()[:, 0].double(), norms[seen].log()
    lags = lags - lags.mean()
    slope = float((lags * (logs - logs.mean())).sum() / lags.square().sum())
    return math.log(2) / -slope if slope < 0 else math.inf


def gradient_flow(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    layer: str | None = None,
    level: int = -1,
    direction: int = 0,
) -> GradientFlow:
    """Measure ||dL/dh_t|| at every step, and each step's contribution to the weights' gradient.

        dL/dh_t = sum over all paths from h_t to the loss, through outputs and later states

    The model runs once, with the recurrent layer's place taken by a replica that steps through
    time on the same parameters. Sequences shorter than the longest have no gradient beyond their
    length. Where the model calls the layer several times (chunks of a sequence, or a cell that it
    steps itself), the calls follow each other in time. Afterwards the model is as it was:
    parameters, their gradients, buffers, modes, random state.

    Arguments:
        model: any module that holds a `torch.nn.RNN/LSTM/GRU`, one of torch's cells, or a layer of
            throughtime.
        loss: runs the model on a batch and returns a scalar, as `lambda: f(model(x), y)`.
        layer: the recurrent layer's name within the model, needed if there are several.
        level: number of the cell in a stack, from the bottom; the top one by default.
        direction: 0 forward, 1 the reverse cell of a bidirectional layer, with time as it sees it.

    Returns:
        Norms by time step, on the CPU, in float64. Frozen weights count as if they were not.

    Raises:
        ConfigurationError: no recurrent layer, or several and none named; its forward is not
            torch's or ours, so that no replica is known; the loss is no scalar, does not depend
            on the layer, runs it on unlike batches, or calls backward.
        UnknownNameError: no recurrent layer of that name.

    Example:
        >>> model = nn.LSTM(1, 8)
        >>> flow = gradient_flow(model, lambda: model(torch.ones(20, 2, 1))[0][-1].sum())
        >>> flow.norm.shape, flow.per_unit.shape
        (torch.Size([20]), torch.Size([20, 8]))
    """
    probe = _Probe()
    with unchanged(model):
        watched = watch(model, loss, layer=layer, level=level, direction=direction, observer=probe)
        return probe.measure(watched)


@final
class UnreachedError(ConfigurationError):
    """No gradient of the loss comes to any state of the layer."""

    def __init__(self) -> None:
        super().__init__(
            "loss", got="a loss that the layer's states do not reach", expected="one they do"
        )


@final
class _Probe:
    """Keeps the tensors h_t and a_t of a cell, and the gradient through each of its steps."""

    def __init__(self) -> None:
        self.projected: list[Tensor] = []
        self.states: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.weights: dict[int, Tensor] = {}

    def before_step(self, t: int, cell: Cell, projected: Tensor) -> Cell:
        """The cell on views of its weights whose gradients are this step's alone."""
        del t
        self.projected.append(projected)
        total = torch.zeros((), dtype=torch.float64)
        self.squares.append(total)

        def add(gradient: Tensor) -> None:
            total.add_(gradient.detach().double().square().sum().cpu())

        views: dict[str, Tensor] = {}
        for name, parameter in cell.named_parameters():
            view = parameter.view_as(parameter)
            if view.requires_grad and not name.rpartition(".")[2].startswith("bias"):
                view.register_hook(add)
                self.weights[id(parameter)] = parameter
            views[name] = view
        return bind(cell, {**views, **dict(cell.named_buffers())})

    def after_step(self, t: int, rows: Tensor | None, state: State) -> None:
        """Keep h_t as the graph holds it."""
        del t, rows
        self.states.append(state.h)

    def measure(self, watched: Watched) -> GradientFlow:
        """Differentiate the loss."""
        loss, calls = watched.loss, watched.calls
        if len({call.request.inputs.shape[1] for call in calls}) > 1:
            raise ConfigurationError(
                "loss",
                got="calls of the recurrent layer with other numbers of sequences",
                expected="the same sequences in every call",
            )
        if not loss.requires_grad:
            raise ConfigurationError(
                "loss", got="a loss without gradient", expected="one that depends on the layer"
            )
        outside = [
            tensor
            for call in calls
            for tensor in (
                call.result.outputs,
                *state_tensors(call.result.state),
                *state_tensors(call.request.state),
            )
        ]
        # the weights are asked for so that the gradients of their views are computed at all
        wanted = [*self.states, *self.projected, *outside, *self.weights.values()]
        changed = any(call.link == "changed" for call in calls)
        gradients = iter(_gradients(loss, wanted, changed))
        states = [next(gradients) for _ in self.states]
        if all(g is None for g in states):
            raise UnreachedError
        # in float64: squares underflow long before the gradient itself does
        filled = [
            torch.zeros_like(h, dtype=torch.float64) if g is None else g.double()
            for g, h in zip(states, self.states, strict=True)
        ]
        projected = [_double(next(gradients), a) for a in self.projected]
        names = calls[0].request.cell.gate_names if filled else ()
        gated = names and projected[0].shape[-1] == len(names) * filled[0].shape[-1]
        gates = [[g.norm() for g in a.chunk(len(names), -1)] for a in projected] if gated else []
        return GradientFlow(
            layer=watched.layer,
            level=watched.level,
            per_unit=torch.stack([g.square().sum(0).sqrt() for g in filled]).cpu(),
            per_gate={
                name: torch.stack([g[k] for g in gates]).cpu() for k, name in enumerate(names)
            }
            if gated
            else {},
            norm=torch.stack([g.norm() for g in filled]).cpu(),
            contribution=torch.stack(self.squares).sqrt(),
            answer=_answers(watched, gradients),
            calls=tuple(call.steps for call in calls),
            links=tuple(call.link for call in calls),
        )


def _gradients(loss: Tensor, wanted: list[Tensor], retain: bool) -> list[Tensor | None]:
    """Gradients of those that have one; the graph is retained on request."""
    kept = [tensor for tensor in wanted if tensor.requires_grad]
    try:
        found = iter(torch.autograd.grad(loss, kept, allow_unused=True, retain_graph=retain))
    except RuntimeError as error:
        raise ConfigurationError(
            "loss",
            got=f"no way back: {str(error).splitlines()[0]}",
            expected="a graph that is whole",
            fix="The loss must not call backward itself.",
        ) from error
    return [next(found) if tensor.requires_grad else None for tensor in wanted]


def _answers(watched: Watched, gradients: Any) -> Float[Tensor, "time batch"]:
    """||dL/dh_t|| of each sequence by what reads the layer's results, from gradients in order."""
    parts: list[Tensor] = []
    ends: list[Tensor] = []
    for k, call in enumerate(watched.calls):
        parts.append(_double(next(gradients), call.result.outputs))
        end = map_state(lambda s: _double(next(gradients), s), call.result.state)
        starts = [next(gradients) for _ in state_tensors(call.request.state)]
        if k > 0 and call.link in ("connected", "changed"):
            # what comes back through this call is not a reading of the state from outside
            ends[-1] = ends[-1] - _returned(watched.calls[k - 1], call, starts)
        ends.append(end.h)
    for k, (end, call) in enumerate(zip(ends, watched.calls, strict=True)):
        if end.shape[-1] != parts[k].shape[-1]:
            continue
        lengths = call.request.lengths
        last = (
            torch.full((end.shape[0],), call.steps - 1)
            if lengths is None
            else lengths.to(torch.int64) - 1
        ).to(end.device)
        parts[k] = parts[k].index_put(
            (last, torch.arange(end.shape[0], device=end.device)), end, accumulate=True
        )
    return torch.cat(parts).norm(dim=-1).cpu()


def _returned(before: Call, call: Call, starts: list[Tensor | None]) -> Tensor:
    """The gradient that a call hands back to the output that the call before ended with."""
    end = before.result.state.h
    if call.link == "connected":
        return _double(starts[0], end)
    roots = [
        (tensor, gradient)
        for tensor, gradient in zip(state_tensors(call.request.state), starts, strict=True)
        if gradient is not None
    ]
    (found,) = torch.autograd.grad(
        [tensor for tensor, _ in roots],
        [end],
        [gradient for _, gradient in roots],
        retain_graph=True,
        allow_unused=True,
    )
    return _double(found, end)


def _double(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.float64) if gradient is None else gradient.double()


@dataclasses.dataclass(frozen=True, eq=False)
class GradientNorms(Record):
    """||dL/dtheta|| of several batches, over all trained parameters together, in float64.

    Attributes:
        norm: norm of each batch, in the order in which they came; infinite or NaN where a gradient
            is.
        loss: loss of each batch.
    """

    norm: Float[Tensor, " batches"]
    loss: Float[Tensor, " batches"]

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.norm)

    @property
    def not_finite(self) -> int:
        """Number of batches whose norm is not finite."""
        return int((~self.norm.isfinite()).sum())

    @property
    def tail_ratio(self) -> float:
        """The largest norm over the median one, of those that are finite.

        About 1 where all batches are alike; in the hundreds where a few of them meet a cliff. NaN
        if none is finite or the median is zero.
        """
        finite = self._sorted()
        if len(finite) == 0 or float(finite.quantile(0.5)) == 0:
            return math.nan
        return float(finite[-1] / finite.quantile(0.5))

    def quantiles(self, at: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> list[float]:
        """Quantiles of the finite norms, interpolated linearly; NaN if none is finite.

        Arguments:
            at: levels in [0, 1].
        """
        finite = self._sorted()
        return [float(finite.quantile(p)) if len(finite) else math.nan for p in at]

    def tail_index(self, fraction: float = 0.1) -> float | None:
        """Hill's estimate of alpha, where P(norm > x) falls as x^-alpha in its tail.

            1 / alpha = mean over i = 1 .. k of log(x_(i) / x_(k+1)),  x_(1) >= x_(2) >= ...

        Below 2 the variance is infinite: averages over batches converge slowly, and clipping is
        what keeps them useful. The standard error is alpha / sqrt(k).

        Arguments:
            fraction: part of the finite norms that is taken for the tail, in (0, 1).

        Returns:
            alpha; None where it is not well defined: fewer than 10 norms in the tail, or a tail
            without spread.

        Raises:
            ConfigurationError: a fraction outside (0, 1).

        Source:
            Hill, 1975.
        """
        if not 0 < fraction < 1:
            raise ConfigurationError("fraction", got=fraction, expected="in (0, 1)")
        falling = self._sorted().flip(0)
        k = int(fraction * len(falling))
        if k < 10 or float(falling[k]) <= 0:
            return None
        spread = float((falling[:k] / falling[k]).log().mean())
        return 1 / spread if spread > 0 else None

    def clip_rate(self, threshold: float) -> float:
        """Return the part of the batches that clipping at this norm changes; infinite ones count.

        Arguments:
            threshold: the largest norm that is left alone.
        """
        return float((~(self.norm <= threshold)).double().mean())

    def threshold_for(self, rate: float) -> float:
        """The smallest norm to clip at that changes at most this part of the batches.

        Arguments:
            rate: a rate in [0, 1].

        Returns:
            One of the norms; infinite if more than this part is not finite; 0 if all may be
            changed.

        Raises:
            ConfigurationError: a rate outside [0, 1].
        """
        if not 0 <= rate <= 1:
            raise ConfigurationError("rate", got=rate, expected="in [0, 1]")
        allowed = math.floor(rate * self.batches + 1e-9)
        if allowed >= self.batches:
            return 0.0
        return float(self.norm.nan_to_num(math.inf, math.inf).sort(descending=True)[0][allowed])

    def _sorted(self) -> Tensor:
        return self.norm[self.norm.isfinite()].sort()[0]


def gradient_norms(model: nn.Module, losses: Iterable[Callable[[], Tensor]]) -> GradientNorms:
    """Measure ||dL/dtheta|| on several batches without training on any.

    Random numbers, buffers and hidden states go on from one batch to the next as in training, and
    are put back in the end.

    Arguments:
        model: any module. It is left as it was.
        losses: functions, one a batch, each of which runs the model on it and returns a scalar.

    Returns:
        The norm of each batch, of all parameters that require a gradient, as
        `torch.nn.utils.clip_grad_norm_` takes it before clipping.

    Raises:
        ConfigurationError: no losses, none of the parameters is trained, or a loss is no scalar or
            has no gradient.

    Example:
        >>> rnn = nn.RNN(1, 8)
        >>> batches = [torch.randn(20, 4, 1) for _ in range(5)]
        >>> norms = gradient_norms(rnn, [lambda x=x: rnn(x)[0].square().mean() for x in batches])
        >>> norms.batches, norms.not_finite, norms.clip_rate(norms.threshold_for(0.2))
        (5, 0, 0.2)
    """
    values: list[float] = []
    norms: list[float] = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigurationError("model", got="no trained parameters", expected="some")
    with unchanged(model):
        for loss in losses:
            value = loss()
            if value.dim() != 0 or not value.requires_grad:
                raise ConfigurationError(
                    "losses",
                    got=f"shape {tuple(value.shape)}, requires_grad={value.requires_grad}",
                    expected="scalars that depend on the parameters",
                )
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            # in float64: squares overflow long before the gradient itself does
            squares = [float(g.double().square().sum()) for g in gradients if g is not None]
            values.append(float(value.detach()))
            norms.append(math.sqrt(math.fsum(squares)) if _all_finite(squares) else sum(squares))
    if not values:
        raise ConfigurationError("losses", got="none", expected="at least one")
    return GradientNorms(
        norm=torch.tensor(norms, dtype=torch.float64, device="cpu"),
        loss=torch.tensor(values, dtype=torch.float64, device="cpu"),
    )


def _all_finite(values: list[float]) -> bool:
    return all(math.isfinite(value) for value in values)
