"""Memorised answers and learned rules, told apart without new data: by relearning."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.doctor.brief_training import USUAL, by_gradient
from throughtime.doctor.data_pairs import roles_of
from throughtime.doctor.dependence_findings import RULE, beats_no_input, could_be_memorised
from throughtime.doctor.fresh_copies import FreshCopies
from throughtime.doctor.intervals import estimate, mean
from throughtime.doctor.sample_axes import SampleAxes, change_tensor
from throughtime.doctor.subject import Subject
from throughtime.foreign.unchanged import evaluating
from throughtime.results.diagnosis import Estimate

_LEAST, _MOST = 100, 300  # updates with wrong targets; of either training
_REGAINED = 0.9  # of the gain on the training batches: the end of relearning
_WATCHED = 4  # training batches whose loss is watched


def memorised(
    subject: Subject,
    layer: str,
    axes: SampleAxes | None,
    copies: FreshCopies,
    losses: Sequence[float],
    answers: int,
    seconds: float,
    seed: int,
) -> tuple[bool, Estimate | None]:
    """Return whether a model is better than no input by what it may have memorised.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        axes: sample axes of the tensors; the first axis where they are not known.
        copies: trainer of fresh copies, which have seen no held-out batch.
        losses: held-out losses of the model.
        answers: answers in a batch.
        seconds: largest duration of relearning.
        seed: seed of the exchange and of the orders.

    Returns:
        The answer; and the share of the gain that came back, where it was measured.
    """
    need = copies.need
    if subject.unseen or not beats_no_input(need, losses):
        return False, None
    answers *= len(subject.training) + len(subject.held_out)
    parameters = sum(p.numel() for p in subject.copy().parameters())
    if not could_be_memorised(need, losses, answers, parameters):
        return False, None
    if copies.gains_little(losses):  # relearning tells nothing of so small a gain
        fresh = copies.plain()
        return fresh is None or not copies.supports(fresh, losses), None
    share = relearned_share(subject, layer, axes, need.constant, seconds, seed)
    if share is not None and share.value >= RULE:
        return False, share
    fresh = copies.plain()  # no predictor may fit
    return fresh is None or not copies.learns(fresh), share


def relearned_share(
    subject: Subject,
    layer: str,
    axes: SampleAxes | None,
    constant: Sequence[float],
    seconds: float,
    seed: int,
) -> Estimate | None:
    """Measure the part of a model's gain on held-out batches that comes back with the others.

    A copy is trained on the held-out batches with targets exchanged among samples, until its
    answers to them are lost. Then it is trained on the other batches, as they are, until its gain
    on these is back. A rule that all batches follow comes back for the held-out ones, entirely.
    Memorised answers come back in part only: on coin tosses, half of the gain at most was seen.

    Arguments:
        subject: model, data and loss.
        layer: name of the recurrent layer.
        axes: sample axes of the tensors; the first axis where they are not known.
        constant: held-out losses of the best answer without inputs.
        seconds: largest duration.
        seed: seed of the exchange and of the orders.

    Returns:
        The share, relative to the gain on the other batches; None where targets are no tensors of
        the batch, where there is one batch, or where the gain does not come back in time.
    """
    targets = roles_of(subject, layer, axes).targets
    if not targets or subject.held_out[0] is subject.training[0]:
        return None
    end = time.monotonic() + seconds
    generator = torch.Generator().manual_seed(seed)
    model = subject.copy(training=True)
    watched = subject.training[:_WATCHED]

    def losses(batches: Sequence[Any]) -> list[float]:
        with evaluating(model):
            return [float(subject.loss(model, batch)) for batch in batches]

    def train(batches: Sequence[Any], done: Callable[[int], bool]) -> bool:
        optimizer = torch.optim.Adam(
            [p for p in model.parameters() if p.requires_grad], lr=USUAL.learning_rate
        )
        update = by_gradient(lambda b: subject.loss(model, b), optimizer, USUAL.clip_norm)
        for made in range(_MOST):
            if made % len(batches) == 0 and done(made):
                return True
            if time.monotonic() > end:
                return False
            update(batches[made % len(batches)])
        return done(_MOST)

    without = mean(constant)
    goal = without - _REGAINED * (without - mean(losses(watched)))
    wrong = [exchanged(batch, targets, axes, generator) for batch in subject.held_out]
    lost = train(
        wrong, lambda made: made >= _LEAST and mean(losses(subject.held_out)) >= 0.9 * without
    )
    order = torch.randperm(len(subject.training), generator=generator).tolist()
    others = [subject.training[k] for k in order]
    if not lost or not train(others, lambda made: made > 0 and mean(losses(watched)) <= goal):
        return None
    gain = without - mean(losses(watched))
    after = losses(subject.held_out)
    return estimate([(c - loss) / gain for c, loss in zip(constant, after, strict=True)])


def exchanged(
    batch: Any, targets: Sequence[int], axes: SampleAxes | None, generator: torch.Generator
) -> Any:
    """Return a batch with its targets exchanged among samples, all tensors of them alike.

    Arguments:
        targets: numbers of the tensors of targets.
        axes: sample axes of the tensors; the first axis where they are not known.
        generator: source of the order.
    """
    order: Tensor | None = None
    for k in targets:
        axis = 0 if axes is None else axes.axes[k]
        assert axis is not None

        def change(leaf: Tensor, axis: int = axis) -> Tensor:
            nonlocal order
            if order is None or len(order) != leaf.shape[axis]:
                order = torch.randperm(leaf.shape[axis], generator=generator).to(leaf.device)
            return leaf.index_select(axis, order)

        batch = change_tensor(batch, k, change)
    return batch
