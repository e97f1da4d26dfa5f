"""Measurements of the model as it is: its gradient, its gates, and its use of old inputs."""

import dataclasses
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.state import map_state
from throughtime.doctor.gradient_cut import flow_in_double
from throughtime.doctor.intervals import estimate, mean
from throughtime.doctor.subject import Subject
from throughtime.foreign.loop_site import ENDS
from throughtime.foreign.recording import record
from throughtime.foreign.site import LayerSite
from throughtime.foreign.sites import find_recurrent, kept_outputs, replaced_forward, site_of
from throughtime.foreign.watching import watch
from throughtime.instruments.gates import GateActivity, gate_activity
from throughtime.instruments.input_influence import exchange_older
from throughtime.results.diagnosis import Estimate

_BATCHES, _FEWEST = 4, 2
_EXCHANGES = 16  # of old inputs over all batches, where these are fewer
_MARGIN = 0.025  # of a sigmoid and a tanh to their bounds, within which they hardly change


@dataclasses.dataclass(frozen=True, eq=False)
class Mechanism:
    """Measurements of the layer on several batches; each estimate is over batches.

    Attributes:
        lag: lag at which they are taken.
        arriving: log10 of the gradient that arrives at the lag, relative to that near the answer.
        growth: log10 of the largest gradient at any lag, relative to that near the answer.
        by_lag: the gradient's norm by lag, relative, mean of logarithms over batches.
        retention: share that a unit at the 90th percentile keeps over the lag by its gate; None for
            cells without a gate that keeps.
        keeping: mean value of the gate that keeps, of a unit at the 90th percentile; None likewise.
        dead: share of units whose output never changes.
        saturated: share of activations in the flat part of their nonlinearity.
        units: number of units.
        activity: activity of the top level's gates on the last of the batches.
    """

    lag: int
    arriving: Estimate
    growth: Estimate
    by_lag: tuple[float, ...]
    retention: Estimate | None
    keeping: Estimate | None
    dead: Estimate
    saturated: Estimate
    units: int
    activity: GateActivity


def measure_mechanism(
    subject: Subject, layer: str, lag: int, seconds: float = math.inf
) -> Mechanism:
    """Measure the model as it is.

    Arguments:
        seconds: time after which no batch is begun, but for the first two.
    """
    end = time.monotonic() + seconds
    curves: list[Tensor] = []
    dead: list[float] = []
    saturated: list[float] = []
    kept: list[float] = []
    keeping: list[float] = []
    activities: list[GateActivity] = []
    for k, batch in enumerate(subject.held_out[:_BATCHES]):
        if k >= _FEWEST and time.monotonic() > end:
            break
        curves.append(_state_flow(subject, layer, batch, seed=k))
        model = subject.copy()
        _, module = find_recurrent(model, layer)
        recordings = [
            record(model, lambda m=model, b=batch: subject.loss(m, b), layer=layer, level=level)
            for level in range(site_of(module).levels)
        ]
        activities = [gate_activity(each, margin=_MARGIN, samples=1) for each in recordings]
        dead.append(max(float(activity.dead.double().mean()) for activity in activities))
        saturated.append(max(map(_saturated, activities)))
        retentions = [r for r in (_retention(a, lag) for a in activities) if r is not None]
        if retentions:
            kept.append(min(retentions))
        means = [
            float(torch.quantile(activity.gates[each.cell.remember_gates[0]].mean, 0.9))
            for each, activity in zip(recordings, activities, strict=True)
            if activity.gates is not None and each.cell.remember_gates
        ]
        if means:
            keeping.append(min(means))
    shortest = min(len(curve) for curve in curves)
    logs = torch.stack([curve[:shortest] for curve in curves])
    at = min(lag, shortest - 1)
    return Mechanism(
        lag=lag,
        arriving=estimate(logs[:, at].tolist()),
        growth=estimate(logs.amax(1).tolist()),
        by_lag=tuple((10.0 ** logs.mean(0)).tolist()),
        retention=estimate(kept) if kept else None,
        keeping=estimate(keeping) if keeping else None,
        dead=estimate(dead),
        saturated=estimate(saturated),
        units=len(activities[-1].dead),
        activity=activities[-1],
    )


def _state_flow(subject: Subject, layer: str, batch: Any, seed: int) -> Tensor:
    """Return log10 ||d(v . h_T)/da_{T-k}|| by lag k for a random v, relative to that of k < 3.

    a is the input of the gates, before their nonlinearities.
    """
    flow = flow_in_double(
        subject, layer, batch, loss=lambda m, b: _projected_end(subject, m, layer, b, seed)
    )
    norm = (
        torch.stack(list(flow.per_gate.values())).square().sum(0).sqrt().flip(0)
        if flow.per_gate
        else flow.norm_by_lag
    )
    near = norm[:3].max().clamp_min(1e-300)
    return (norm / near).clamp_min(1e-300).log10().clamp(-300, 300)


def _projected_end(subject: Subject, model: nn.Module, layer: str, batch: Any, seed: int) -> Tensor:
    """Return v . h at the last valid step of the forward top cell, summed over sequences."""
    _, module = find_recurrent(model, layer)
    with kept_outputs(module) as outputs:
        subject.loss(model, batch)
    end = ENDS.pop(module, outputs[-1])
    if not isinstance(end, Tensor):
        layers = isinstance(end[0], Tensor) and end[0].dim() == 3
        end = end[1] if layers else end[0]
        end = end[0] if isinstance(end, tuple) else end
    if end.dim() != 2:
        end = end[-site_of(module).directions]
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(end.shape[-1], generator=generator, dtype=torch.float64)
    return (end * v.to(end.device, end.dtype)).sum()


def _saturated(activity: GateActivity) -> float:
    """Return the share of values of gates with a bounded range that lie in its flat parts."""
    bounded = [g for g in (activity.gates or {}).values() if g.activation in ("sigmoid", "tanh")]
    if not bounded:
        return 0.0
    return float(torch.stack([gate.saturated.mean() for gate in bounded]).mean())


def _retention(activity: GateActivity, lag: int) -> float | None:
    """Return the share that a unit at the 90th percentile keeps over the lag."""
    if activity.remembered is None:
        return None
    return float(torch.quantile(activity.remembered, 0.9)) ** lag


def context_losses(
    subject: Subject,
    model: nn.Module,
    layer: str,
    answered: Tensor,
    older: int,
    seed: int = 0,
    seconds: float = math.inf,
) -> list[float] | None:
    """Measure held-out losses where each answer depends on its own last inputs alone.

    With one answer a sequence, the inputs `older` and more steps before it are replaced by those of
    another sequence of the batch. With answers at many steps, each of them is computed from the
    state that another sequence had `older` steps before, and the sequence's own inputs since.

    Arguments:
        answered: (time, batch) True at the steps of the first held-out batch that the loss reads.
        seconds: time after which no batch is begun, but for the first two.

    Returns:
        Losses by held-out batch, of the first ones where the time does not suffice for all; where
        there are few, the mean over several exchanges, as two sequences may be alike by chance.
        None where the layer runs backwards too, so that an old input of one direction is a new one
        of the other; and where answers at many steps come from a layer that is called several
        times, or from a cell.
    """
    _, module = find_recurrent(model, layer)
    if site_of(module).directions > 1:
        return None
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    single = int(answered.sum(0).max()) <= 1
    end = time.monotonic() + seconds

    def exchanged(batch: Any) -> float | None:
        shift = int(torch.randint(1, 2**20, (), generator=generator))
        with torch.no_grad():
            if single:
                return _scrambled(subject, model, layer, batch, older, shift)
            return _windowed(subject, model, layer, batch, answered.any(1), older, shift)

    found: list[list[float]] = []  # by batch, one for each exchange
    for k in range(_EXCHANGES):
        for number, batch in enumerate(subject.held_out):
            late = time.monotonic() > end
            if late and (k > 0 or number >= _FEWEST):
                break
            loss = exchanged(batch)
            if loss is None:
                return None
            found += [[]] if k == 0 else []
            found[number].append(loss)
        if len(found) * (k + 1) >= _EXCHANGES or len(found) < len(subject.held_out):
            break
    return [mean(losses) for losses in found]


def _scrambled(
    subject: Subject, model: nn.Module, layer: str, batch: Any, older: int, shift: int
) -> float:
    def loss() -> Tensor:
        return subject.loss(model, batch)

    plain = watch(model, loss, layer=layer, level=0, gradients=False)
    rows = len(plain.lengths)
    if rows < 2:
        return float(plain.loss)
    other = torch.arange(rows).roll(1 + shift % (rows - 1))
    change = exchange_older(other, plain.lengths, older - 1)
    return float(watch(model, loss, layer=layer, level=0, change=change, gradients=False).loss)


def _windowed(
    subject: Subject,
    model: nn.Module,
    layer: str,
    batch: Any,
    answered: Tensor,
    older: int,
    shift: int,
) -> float | None:
    _, module = find_recurrent(model, layer)
    site = site_of(module)
    if not isinstance(site, LayerSite):
        return None
    site.replica.share_tensors(module)
    site.replica.engine = "auto"
    run: Any = site.replica.forward
    runs = 0

    def forward(x: Any, hx: Any = None, **options: Any) -> Any:
        nonlocal runs
        runs += 1
        if not isinstance(x, Tensor) or x.dim() != 3 or options:
            runs = 2
            return run(x, hx, **options)
        outputs, final, states = run(x, hx, return_states=True)
        grid = x.transpose(0, 1) if site.replica.batch_first else x
        result = outputs.transpose(0, 1) if site.replica.batch_first else outputs
        times = [t for t in answered.nonzero()[:, 0].tolist() if older <= t < grid.shape[0]]
        if times and grid.shape[1] > 1:
            result = result.clone()
            at = torch.tensor(times, device=grid.device)
            windows = torch.cat([grid[t - older + 1 : t + 1] for t in times], 1)
            other = 1 + shift % (grid.shape[1] - 1)
            before = map_state(
                lambda s: (
                    s.index_select(0, at - older).roll(other, 2).transpose(0, 1).flatten(1, 2)
                ),
                states,
            )
            if site.replica.batch_first:
                windows = windows.transpose(0, 1)
            given = before.h if before._fields == ("h",) else before
            late, _ = run(windows, given)
            last = late[:, -1] if site.replica.batch_first else late[-1]
            result[at] = last.reshape(len(times), grid.shape[1], -1)
        return (result.transpose(0, 1) if site.replica.batch_first else result), final

    with replaced_forward(module, forward):
        value = float(subject.loss(model, batch))
    return value if runs == 1 else None
