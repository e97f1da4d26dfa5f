"""Dependence of targets on two sequences together, as those of a network that compares them."""

import time
from typing import Any

import torch
from torch import Tensor

from throughtime.core.state import state_tensors
from throughtime.doctor.data_pairs import RAISED, roles_of
from throughtime.doctor.dependence import Dependence, Pairs, find_dependence
from throughtime.doctor.sample_axes import SampleAxes
from throughtime.doctor.subject import Subject, batch_tensors, redraw
from throughtime.foreign.watching import watch

_UNITS = 24  # of a layer, that are compared
_MOST_SAMPLES, _MOST_SEQUENCES = 1024, 4
_LEAST_SAMPLES = 128  # fewer may show nothing of a dependence
_SECONDS = 5.0  # after which no further batch is run


def dependence_of_pairs(
    subject: Subject, layer: str, axes: SampleAxes | None, seed: int
) -> Dependence | None:
    """Find a dependence of one target a sample on the final states of its sequences.

    The states are those of a copy with fresh weights: they keep a part of what each sequence
    holds, mostly of its end. Squared differences and products of the states of two sequences are
    compared with the targets, beside the states themselves.

    Arguments:
        subject: model, data and loss.
        layer: name of the layer, which runs over each sequence from a fresh state.
        axes: axis of the samples in each tensor.
        seed: seed of the weights.

    Returns:
        The dependence; None where it cannot be measured.
    """
    if axes is None:
        return None
    targets = [
        k
        for k in roles_of(subject, layer, axes).targets
        if batch_tensors(subject.held_out[0])[k].dim() <= 2
    ]
    if len(targets) != 1:
        return None
    every: list[Any] = [*subject.held_out]
    every += [b for b in subject.training if all(b is not each for each in every)]
    every = every[: max(1, _MOST_SAMPLES // axes.count)]
    y = torch.cat([_samples_first(batch, axes, targets[0]) for batch in every])
    if y[0].numel() > 1:
        return None
    x = _features(subject, layer, every, axes.count, seed)
    if x is None or not _LEAST_SAMPLES <= len(x) <= len(y):
        return None
    y = y[: len(x)]
    pairs = Pairs(
        x[None],
        y.float().reshape(1, -1, 1),
        torch.zeros(1, dtype=torch.int64),
        not y.is_floating_point(),
    )
    return find_dependence(pairs, seed)


def _samples_first(batch: Any, axes: SampleAxes, tensor: int) -> Tensor:
    return batch_tensors(batch)[tensor].detach().cpu().transpose(0, axes.axes[tensor] or 0)


def _features(
    subject: Subject, layer: str, batches: list[Any], count: int, seed: int
) -> Tensor | None:
    """Return states of a copy with fresh weights, with products, (samples, features)."""
    model = subject.copy()
    redraw(model, seed)
    found: list[Tensor] = []
    end = time.monotonic() + _SECONDS
    for batch in batches:
        if found and time.monotonic() > end:
            break
        try:
            calls = watch(
                model,
                lambda batch=batch: subject.loss(model, batch),
                layer=layer,
                level=-1,
                gradients=False,
            ).calls
        except RAISED:
            return None
        starts = [k for k, call in enumerate(calls) if call.link == "fresh"]
        ends = [*(k - 1 for k in starts[1:]), len(calls) - 1]
        states = [state_tensors(calls[k].result.state)[0].detach().cpu().float() for k in ends]
        if len(states) == 1 and len(states[0]) == 2 * count:
            states = list(states[0].chunk(2))  # both in one call
        if not 2 <= len(states) <= _MOST_SEQUENCES:
            return None
        if len({state.shape for state in states}) != 1:
            return None
        states = [state[:, :_UNITS] for state in states]
        both = [(a, b) for k, a in enumerate(states) for b in states[k + 1 :]]
        products = [part for a, b in both for part in ((a - b).square(), a * b)]
        found.append(torch.cat([*states, *products], 1))
    return torch.cat(found)
