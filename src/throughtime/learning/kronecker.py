"""KF-RTRL: the influence of a cell with one linear map as a random Kronecker product."""

import functools
from typing import final

import torch
from torch import Tensor

from throughtime.core.errors import LearnerRefusalError
from throughtime.core.gated import GatedCell
from throughtime.core.learnable import StepwiseModel
from throughtime.core.state import State
from throughtime.learning.forward import go_forward
from throughtime.learning.learner import Chunk, Learner, LearnerState, Update
from throughtime.learning.partials import separable
from throughtime.learning.step_map import Step, StepMap
from throughtime.learning.unbiased import ratio

_LINEAR = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


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
        """u and A."""
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
        size, rows = StepMap(model).size, like.shape[0]
        return (like.new_zeros(batch_size, width), like.new_zeros(batch_size, size, rows))

    def update(self, model: StepwiseModel, state: LearnerState, chunk: Chunk) -> Update:
        """Forward through the chunk."""
        cell = model.cell
        assert isinstance(cell, GatedCell)
        h, biases = slice(0, cell.hidden_size), len(_names(cell)) - 2

        def visit(step_map: StepMap, step: Step, memory: State):
            del step_map
            fresh, partials = step.fresh, step.partials
            assert partials is not None, "of a cell without partials, refused before"
            u = torch.where(fresh[:, None], 0.0, memory[0])
            a = torch.where(fresh[:, None, None], 0.0, memory[1])
            past = torch.einsum("bs,bsr,bq->rq", step.credit, a, u)
            z = torch.cat([step.x, step.s[:, h], step.x.new_ones(len(u), biases)], 1)
            d = partials.by_input.diag_embed(dim1=2, dim2=4).flatten(3).flatten(1, 2)
            pushed = partials.by_s() @ a
            keep, add = step.drawn[0] * torch.stack([ratio(pushed, u), ratio(d, z)])
            u = keep * u + add * z
            a = pushed / keep[..., None] + d / add[..., None]
            return _in_order(cell, past), (u, a)

        return go_forward(model, state, chunk, visit, functools.partial(_draw, chunk.inputs))


def _draw(like: Tensor, fresh: Tensor, random: torch.Generator) -> tuple[Tensor]:
    """Two signs for each sequence."""
    bits = torch.randint(2, (2, len(fresh), 1), generator=random, dtype=torch.int8)
    return ((2 * bits - 1).to(like),)


def _names(cell: GatedCell) -> list[str]:
    """Those of the two weights, then of the biases."""
    return [name for name, _ in cell.named_parameters() if name in _LINEAR]


def _in_order(cell: GatedCell, by_row: Tensor) -> Tensor:
    """A gradient by rows and columns of the one map, as those of the parameters in their order."""
    widths = [cell.input_size, cell.hidden_size, *(1 for _ in _names(cell)[2:])]
    columns = zip(_names(cell), by_row.split(widths, 1), strict=True)
    return torch.cat([c.flatten() for n, c in columns if cell.get_parameter(n).requires_grad])
