"""Unbiased random estimates of the influence: UORO, NoBackTrack and KF-RTRL."""

import functools
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.jacobian import GatedJacobian
from throughtime.core.scoring import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import (
    Step,
    forward_parameters,
    forward_sizes,
    go_forward,
    separable,
)
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update

_LINEAR = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
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
        """Return v and w of product zero: a learnt initial state counts from its first step on."""
        return _zeros(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""

        def visit(step: Step, memory: State):
            v, w = _entering(step, memory)
            past, signs = _past(step, v, w), step.drawn[-1]
            pushed, pulled = step.jacobian.push(v), step.jacobian.pull_parameters(signs)
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
        """Return v and w."""
        return _zeros(model, batch_size)

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""

        def visit(step: Step, memory: State):
            v, w = _entering(step, memory)
            past = _past(step, v, w)
            by_s, by_theta = step.jacobian.both()
            pushed = torch.einsum("bij,bj->bi", by_s, v)
            keep = ratio(w, pushed)
            return past, _with_rows(by_theta, keep * pushed, w / keep, step.drawn[-1])

        return go_forward(model, state, chunk, visit, functools.partial(_draw, state.memory[0]))


def _zeros(model: StepwiseModel, batch_size: int) -> State:
    like, widths = next(iter(forward_parameters(model).values())), forward_sizes(model)
    return tuple(like.new_zeros(batch_size, width) for width in widths)


def _past(step: Step, v: Tensor, w: Tensor) -> Float[Tensor, " count"]:
    return ((step.credit * v).sum(1, keepdim=True) * w).sum(0)


def _draw(like: Tensor, fresh: Tensor, random: torch.Generator) -> tuple[Tensor, ...]:
    """A sign for each entry of s, and others for the start of a sequence."""
    return tuple(_signs(like.shape, like, random) for _ in range(1 + bool(fresh.any())))


def _with_rows(
    rows: Float[Tensor, "batch size count"], v: Tensor, w: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """v w' and a matrix, summed in the mean over a sign for each row."""
    scale = (rows.norm(dim=2) + _SMALL).sqrt()
    return v + signs * scale, w + torch.einsum("bi,bip->bp", signs / scale, rows)


def _entering(step: Step, memory: State) -> tuple[Tensor, Tensor]:
    """v and w for the state that a step starts from, which may be learnt."""
    v, w = memory
    fresh = step.fresh[:, None]
    if not bool(fresh.any()):
        return v, w
    v, w = torch.where(fresh, 0.0, v), torch.where(fresh, 0.0, w)
    initial = step.initial()
    if not bool(initial.any()):
        return v, w
    initial = initial.expand(len(v), -1, -1)
    first = _with_rows(initial, torch.zeros_like(v), torch.zeros_like(w), step.drawn[0])
    return torch.where(fresh, first[0], v), torch.where(fresh, first[1], w)


def _signs(shape: tuple[int, ...], like: Tensor, random: torch.Generator) -> Tensor:
    """Independent signs."""
    bits = torch.randint(2, shape, generator=random, dtype=torch.int8)
    return (2 * bits - 1).to(like)


def ratio(above: Tensor, below: Tensor) -> Float[Tensor, "batch 1"]:
    """Return the square root of the ratio of norms: it makes two factors of a product alike.

    Arguments:
        above, below: the factors, (batch, ...).
    """
    norms = [t.flatten(1).norm(dim=1, keepdim=True) + _SMALL for t in (above, below)]
    return (norms[0] / norms[1]).sqrt()


@final
class KFRTRL(Learner):
    """Kronecker-factored RTRL (Mujika, Meier and Steger 2018).

        a = W z + ...   z = (x_t, h_{t-1}, 1, 1)      F_theta = D (x) z',  D = ds_t/da
        G ~ A (x) u'    u' = c_1 rho_1 u + c_2 rho_2 z    A' = c_1 F_s A / rho_1 + c_2 D / rho_2

    c_1 and c_2 are signs, rho_1 = sqrt(||F_s A|| / ||u||), rho_2 = sqrt(||D|| / ||z||). The mean
    over them is the influence of RTRL.

    It is for gated cells all of whose parameters are those of one linear map of (x_t, h_{t-1}),
    each gate the sum of both: tanh networks, LSTM. Others it refuses.

    Source: A. Mujika, F. Meier and A. Steger, "Approximating real-time recurrent learning with
    random Kronecker factors", NeurIPS 2018.
    """

    def memory(self, model: StepwiseModel, batch_size: int) -> State:
        """Return u and A."""
        cell = model.cell
        others = [n for n, p in cell.named_parameters() if p.requires_grad and n not in _LINEAR]
        if (
            not isinstance(cell, GatedCell)
            or cell.lags != (1,)
            or not cell.additive
            or others
            or cell.streams
            or not separable(cell)
        ):
            why = f"parameters {others}" if others else f"the equations of {type(cell).__name__}"
            raise LearnerRefusalError(
                "KFRTRL",
                got=f"{why}, so that the immediate Jacobian is no Kronecker product",
                expected="a gated cell with one linear map of input and past, whose pointwise can "
                "be traced: ElmanCell, LSTMCell",
                fix="UORO() learns any cell, RTRL() exactly.",
            )
        like = cell.weight_ih.detach()
        width = cell.input_size + cell.hidden_size + len(_names(cell)) - 2
        size, rows = forward_sizes(model)[0], like.shape[0]
        return (like.new_zeros(batch_size, width), like.new_zeros(batch_size, size, rows))

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Go forward through the chunk."""
        cell = model.cell
        assert isinstance(cell, GatedCell)
        h, biases = slice(0, cell.hidden_size), len(_names(cell)) - 2

        def visit(step: Step, memory: State):
            fresh, at = step.fresh, step.jacobian
            assert isinstance(at, GatedJacobian), "of another cell, refused before"
            u = torch.where(fresh[:, None], 0.0, memory[0])
            a = torch.where(fresh[:, None, None], 0.0, memory[1])
            past = torch.einsum("bs,bsr,bq->rq", step.credit, a, u)
            z = torch.cat([at.x, at.s[:, h], at.x.new_ones(len(u), biases)], 1)
            d = at.by_input.diag_embed(dim1=2, dim2=4).flatten(3).flatten(1, 2)
            pushed = at.dense() @ a
            keep, add = step.drawn[0] * torch.stack([ratio(pushed, u), ratio(d, z)])
            u = keep * u + add * z
            a = pushed / keep[..., None] + d / add[..., None]
            return _in_order(cell, past), (u, a)

        return go_forward(model, state, chunk, visit, functools.partial(_draw_two, chunk.inputs))


def _draw_two(like: Tensor, fresh: Tensor, random: torch.Generator) -> tuple[Tensor]:
    """Two signs for each sequence."""
    bits = torch.randint(2, (2, len(fresh), 1), generator=random, dtype=torch.int8)
    return ((2 * bits - 1).to(like),)


def _names(cell: GatedCell) -> list[str]:
    """The names of the two weights, then of the biases."""
    return [name for name, _ in cell.named_parameters() if name in _LINEAR]


def _in_order(cell: GatedCell, by_row: Tensor) -> Tensor:
    """A gradient by rows and columns of the one map, as one by the parameters in their order."""
    widths = [cell.input_size, cell.hidden_size, *(1 for _ in _names(cell)[2:])]
    columns = zip(_names(cell), by_row.split(widths, 1), strict=True)
    return torch.cat([c.flatten() for n, c in columns if cell.get_parameter(n).requires_grad])
