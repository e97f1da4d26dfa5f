"""What stands in the way of a memory: numbers of the layer as it is, at the lag that is needed."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.doctor.cut import to_double
from throughtime.doctor.intervals import estimate
from throughtime.doctor.subject import Subject
from throughtime.foreign.recording import record
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.instruments.gates import GateActivity, gate_activity
from throughtime.instruments.gradient_flow import gradient_flow
from throughtime.results.diagnosis import Estimate

_BATCHES = 4
_MARGIN = 0.025  # of a sigmoid and a tanh to their bounds, within which they hardly change


@dataclasses.dataclass(frozen=True, eq=False)
class Mechanism:
    """Numbers of the layer on several batches; each estimate is over batches.

    Attributes:
        lag: at which they are taken.
        arriving: log10 of the gradient that arrives at the lag, relative to that near the answer.
        growth: log10 of the largest gradient at any lag, relative to that near the answer.
        by_lag: the gradient's norm by lag, relative, mean of logarithms over batches.
        retention: what a unit at the 90th percentile keeps over the lag by its gate; None for cells
            without a gate that keeps.
        dead: share of units whose output never changes.
        saturated: share of activations in the flat part of their nonlinearity.
        units: of the layer.
        activity: of the top level's gates on the last of the batches.
    """

    lag: int
    arriving: Estimate
    growth: Estimate
    by_lag: tuple[float, ...]
    retention: Estimate | None
    dead: Estimate
    saturated: Estimate
    units: int
    activity: GateActivity


def measure_mechanism(subject: Subject, layer: str, lag: int) -> Mechanism:
    """Measure the copy as it is.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        lag: that matters.
    """
    curves: list[Tensor] = []
    dead: list[float] = []
    saturated: list[float] = []
    kept: list[float] = []
    activities: list[GateActivity] = []
    for k, batch in enumerate(subject.held_out[:_BATCHES]):
        curves.append(_state_flow(subject, layer, batch, seed=k))
        model = subject.copy()
        _, module = find_recurrent(model, layer)
        activities = [
            gate_activity(
                record(
                    model, lambda m=model, b=batch: subject.loss(m, b), layer=layer, level=level
                ),
                margin=_MARGIN,
                samples=1,
            )
            for level in range(site_of(module).levels)
        ]
        dead.append(max(float(activity.dead.double().mean()) for activity in activities))
        saturated.append(max(map(_saturated, activities)))
        retentions = [r for r in (_retention(a, lag) for a in activities) if r is not None]
        if retentions:
            kept.append(min(retentions))
    shortest = min(len(curve) for curve in curves)
    logs = torch.stack([curve[:shortest] for curve in curves])
    at = min(lag, shortest - 1)
    return Mechanism(
        lag=lag,
        arriving=estimate(logs[:, at].tolist()),
        growth=estimate(logs.amax(1).tolist()),
        by_lag=tuple((10.0 ** logs.mean(0)).tolist()),
        retention=estimate(kept) if kept else None,
        dead=estimate(dead),
        saturated=estimate(saturated),
        units=len(activities[-1].dead),
        activity=activities[-1],
    )


def _state_flow(subject: Subject, layer: str, batch: Any, seed: int) -> Tensor:
    """log10 ||d(v . h_T)/da_{T-k}|| by lag k for a random v, relative to the largest of k < 3.

    a is what the gates take in: what would have to change for another input to be kept.
    """
    model = subject.copy()
    try:
        model.double()
        flow = gradient_flow(
            model,
            lambda: _projected_end(subject, model, layer, to_double(batch), seed),
            layer=layer,
        )
    except ConfigurationError:
        raise
    except (RuntimeError, TypeError, ValueError):  # a dtype is written out in the model
        model = subject.copy()
        flow = gradient_flow(
            model, lambda: _projected_end(subject, model, layer, batch, seed), layer=layer
        )
    norm = (
        torch.stack(list(flow.per_gate.values())).square().sum(0).sqrt().flip(0)
        if flow.per_gate
        else flow.norm_by_lag
    )
    near = norm[:3].max().clamp_min(1e-300)
    return (norm / near).clamp_min(1e-300).log10().clamp(-300, 300)


def _projected_end(subject: Subject, model: nn.Module, layer: str, batch: Any, seed: int) -> Tensor:
    """v . h at the last valid step of the forward top cell, summed over sequences."""
    _, module = find_recurrent(model, layer)
    ends: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        del module, arguments
        if isinstance(output, Tensor):
            ends.append(output)
            return
        h = output[1] if isinstance(output[0], Tensor) and output[0].dim() == 3 else output[0]
        ends.append(h[0] if isinstance(h, tuple) else h)

    handle = module.register_forward_hook(keep)
    try:
        subject.loss(model, batch)
    finally:
        handle.remove()
    directions = site_of(module).directions
    end = ends[-1] if ends[-1].dim() == 2 else ends[-1][-directions]
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(end.shape[-1], generator=generator, dtype=torch.float64)
    return (end * v.to(end.device, end.dtype)).sum()


def _saturated(activity: GateActivity) -> float:
    """Share of the values of gates with a bounded range that lie in its flat parts."""
    bounded = [g for g in (activity.gates or {}).values() if g.activation in ("sigmoid", "tanh")]
    if not bounded:
        return 0.0
    return float(torch.stack([gate.saturated.mean() for gate in bounded]).mean())


def _retention(activity: GateActivity, lag: int) -> float | None:
    """What a unit at the 90th percentile keeps over the lag."""
    if activity.remembered is None:
        return None
    return float(torch.quantile(activity.remembered, 0.9)) ** lag
