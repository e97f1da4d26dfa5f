"""An influence of which only some entries are kept: how they go on in time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from throughtime.learning.pattern import Pattern, rows_of_s, rows_of_theta
from throughtime.learning.step_map import Step, StepMap

_ROUNDING = 1000  # differences that are allowed, in units of the largest value's last place
_FEW = 4  # a dense product is faster where more than one entry in so many is kept


def entering(
    cell: StepMap, step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, "batch kept count"]:
    """The entries kept of the influence on the state that a step starts from.

    Arguments:
        cell: of the model.
        step: which.
        influence: (batch, K, count) after the step before.
        pattern: of the entries.
    """
    if not bool(step.fresh.any()):
        return influence
    return torch.where(step.fresh[:, None, None], initial(cell, len(influence), pattern), influence)


def initial(cell: StepMap, batch: int, pattern: Pattern) -> Float[Tensor, "batch kept count"]:
    """The entries kept of ds_0/dtheta.

    Arguments:
        cell: of the model.
        batch: number of sequences.
        pattern: of the entries.
    """
    shape = (batch, *pattern.kept.shape)
    if not bool(pattern.learnt):
        return next(iter(cell.parameters.values())).new_zeros(shape)
    return cell.initial(batch).gather(1, pattern.rows.expand(shape)) * pattern.kept


def past(
    step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, " count"]:
    """dL_t/ds G, summed over the batch.

    Arguments:
        step: whose credit.
        influence: (batch, K, count) on the state before it.
        pattern: of the entries.
    """
    if len(pattern.rows) == len(pattern.reads):
        return torch.einsum("bs,bsp->p", step.credit, influence)
    return (step.credit[:, pattern.rows] * influence).sum((0, 1))


def jacobians(
    cell: StepMap, step: Step, pattern: Pattern, *, check: bool = False
) -> tuple[Float[Tensor, "batch size size"], Float[Tensor, "batch kept count"], bool]:
    """F_s, the entries kept of F_theta, and whether a check found no others.

    Where K is size it is the dense Jacobian, of which `carried` leaves out what is not kept. Else
    states of one colour share a product, that of a vector of ones at these states with F_s or with
    F_theta. The check compares one more product, with other numbers; where both are finite.

    Arguments:
        cell: of the model.
        step: at which.
        pattern: of the entries.
        check: whether to look for entries outside the pattern.
    """
    if len(pattern.rows) == cell.size:
        by_s, by_theta = cell.jacobians(step)
        return by_s, by_theta, True
    # multiples of the golden ratio: far from each other, and none is zero
    weights = ((torch.arange(1, cell.size + 1) * 0.618034) % 1 + 0.5).to(step.s)
    seeds = [_ones(pattern.colours_s), _ones(pattern.colours_theta)]
    if check:
        seeds = [torch.cat([ones.to(weights), weights[None]]) for ones in seeds]
    for_s, for_theta = rows_of_s(cell, step, seeds[0]), rows_of_theta(cell, step, seeds[1])
    by_s = _only(pattern.reads, for_s[:, pattern.colours_s])
    colour = pattern.colours_theta[pattern.rows].expand(len(step.s), -1, -1)
    by_theta = _only(pattern.immediate, for_theta.gather(1, colour))
    if not check:
        return by_s, by_theta, True
    same = _alike(weights @ by_s, for_s[:, -1])
    same &= _alike((weights[pattern.rows] * by_theta).sum(1), for_theta[:, -1])
    return by_s, by_theta, same


def carried(
    influence: Float[Tensor, "batch kept count"],
    by_s: Float[Tensor, "batch size size"],
    by_theta: Float[Tensor, "batch kept count"],
    pattern: Pattern,
) -> Float[Tensor, "batch kept count"]:
    """The entries kept of F_s G + F_theta.

    Arguments:
        influence: G, (batch, K, count) on the state before the step.
        by_s: F_s, (batch, size, size).
        by_theta: (batch, K, count) of F_theta.
        pattern: of the entries.
    """
    rows, size = pattern.rows, by_s.shape[1]
    if len(rows) == size:
        return _only(pattern.kept, torch.baddbmm(by_theta, by_s, influence))
    if _FEW * len(rows) >= size:
        whole = by_s @ dense(influence, pattern)
        total = whole.gather(1, rows.expand(influence.shape)) + by_theta
        return _only(pattern.kept, total)
    total = by_theta
    for k, other in enumerate(rows):
        total = total + by_s.flatten(1)[:, rows * size + other] * influence[:, k : k + 1]
    return _only(pattern.kept, total)


def dense(
    influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, "batch size count"]:
    """All entries, zeros among them.

    Arguments:
        influence: (batch, K, count).
        pattern: of the entries.
    """
    batch, _, count = influence.shape
    whole = influence.new_zeros(batch, len(pattern.reads), count)
    return whole.scatter_add_(1, pattern.rows.expand(influence.shape), influence)


def _ones(colours: Int[Tensor, " size"]) -> Tensor:
    """Ones at the states of each colour, (colours, size)."""
    return torch.nn.functional.one_hot(colours).mT


def _only(where: Tensor, values: Tensor) -> Tensor:
    """The values with zeros elsewhere, in their own memory; NaN there does not matter."""
    return values if bool(where.all()) else values.masked_fill_(~where, 0.0)


def _alike(got: Tensor, expected: Tensor) -> bool:
    """Whether two results differ by rounding alone, where both are finite."""
    finite = got.isfinite() & expected.isfinite()
    got, expected = torch.where(finite, got, 0.0), torch.where(finite, expected, 0.0)
    allowed = _ROUNDING * torch.finfo(got.dtype).eps * got.abs().max()
    return bool(((got - expected).abs() <= allowed).all())
