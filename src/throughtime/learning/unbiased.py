"""Forward learning with random estimates of the influence: right in the mean, cheap to carry."""

import functools
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import go_forward
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.step_map import Step, StepMap

_SMALL = 1e-7  # keeps the ratios of norms finite; whatever it is, the estimate is unbiased


@final
class UORO(Learner):
    """Unbiased online recurrent optimisation (Tallec and Ollivier 2018), for any cell.

        G_t ~ v w'        v' = rho_0 F_s v + rho_1 nu        w' = w / rho_0 + nu' F_theta / rho_1
        rho_0 = sqrt(||w|| / ||F_s v||)        rho_1 = sqrt(||nu' F_theta|| / ||nu||)

    nu has independent signs. The mean of v w' over them is the influence G_t of RTRL.

    Source: C. Tallec and Y. Ollivier, "Unbiased online recurrent optimization", ICLR 2018.

    Differs from the paper in: every sequence of a batch has its own v and w; the mean over the
    batch is taken of their estimates.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """v and w, whose product is zero: a state that is learnt counts from its first step on."""
        return _nothing(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State):
            v, w = _started(cell, step, memory)
            past, signs = _past(step, v, w), step.drawn[-1]
            pushed, pulled = cell.pushed(step, v), cell.pulled(step, signs)
            keep, add = ratio(w, pushed), ratio(pulled, signs)
            return past, (keep * pushed + add * signs, w / keep + pulled / add)

        return go_forward(model, state, chunk, visit, functools.partial(_draw, state.memory[0]))


@final
class NoBackTrack(Learner):
    """NoBackTrack (Ollivier, Tallec and Charpiat 2015), for any cell.

        v' = e_0 rho_0 F_s v + sum_i e_i rho_i unit_i
        w' = e_0 w / rho_0 + sum_i e_i (F_theta)_i / rho_i
        rho_0 = sqrt(||w|| / ||F_s v||)        rho_i = sqrt(||(F_theta)_i||)

    e has independent signs, unit_i is the i-th unit vector and (F_theta)_i the i-th row. Each unit
    has a scale of its own, where UORO has one for all.

    Source: Y. Ollivier, C. Tallec and G. Charpiat, "Training recurrent networks online without
    backtracking", 2015.

    Differs from the paper in: as UORO here, every sequence has its own estimate.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """v and w."""
        return _nothing(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""

        def visit(cell: StepMap, step: Step, memory: State):
            v, w = _started(cell, step, memory)
            past = _past(step, v, w)
            by_s, by_theta = cell.jacobians(step)
            pushed = torch.einsum("bij,bj->bi", by_s, v)
            keep = ratio(w, pushed)
            return past, _with_rows(by_theta, keep * pushed, w / keep, step.drawn[-1])

        return go_forward(model, state, chunk, visit, functools.partial(_draw, state.memory[0]))


def _nothing(model: StepwiseModel, batch_size: int) -> State:
    cell = StepMap(model)
    like = next(iter(cell.parameters.values()))
    return (like.new_zeros(batch_size, cell.size), like.new_zeros(batch_size, cell.count))


def _past(step: Step, v: Tensor, w: Tensor) -> Float[Tensor, " count"]:
    return ((step.credit * v).sum(1, keepdim=True) * w).sum(0)


def _draw(like: Tensor, fresh: Tensor, random: torch.Generator) -> tuple[Tensor, ...]:
    """A sign for each entry of s, and where a sequence starts others for its start."""
    return tuple(_signs(like.shape, like, random) for _ in range(1 + bool(fresh.any())))


def _with_rows(
    rows: Float[Tensor, "batch size count"], v: Tensor, w: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """v w' and a matrix, summed in the mean over a sign for each row."""
    scale = (rows.norm(dim=2) + _SMALL).sqrt()
    return v + signs * scale, w + torch.einsum("bi,bip->bp", signs / scale, rows)


def _started(cell: StepMap, step: Step, memory: State) -> tuple[Tensor, Tensor]:
    """v and w of the state that a step starts from: an estimate of what a learnt one depends on."""
    v, w = memory
    fresh = step.fresh[:, None]
    if not bool(fresh.any()):
        return v, w
    v, w = torch.where(fresh, 0.0, v), torch.where(fresh, 0.0, w)
    initial = cell.initial(len(v))
    if not bool(initial.any()):
        return v, w
    first = _with_rows(initial, torch.zeros_like(v), torch.zeros_like(w), step.drawn[0])
    return torch.where(fresh, first[0], v), torch.where(fresh, first[1], w)


def _signs(shape: tuple[int, ...], like: Tensor, random: torch.Generator) -> Tensor:
    """Independent signs."""
    bits = torch.randint(2, shape, generator=random, dtype=torch.int8)
    return (2 * bits - 1).to(like)


def ratio(above: Tensor, below: Tensor) -> Float[Tensor, "batch 1"]:
    """Square root of the ratio of norms, by which two factors of a product are made alike.

    Arguments:
        above, below: (batch, ...).
    """
    norms = [t.flatten(1).norm(dim=1, keepdim=True) + _SMALL for t in (above, below)]
    return (norms[0] / norms[1]).sqrt()
