"""What a learner sees of a network: a cell, a read-out, and a loss of each step."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError, ShapeError


@final
class StepwiseModel(nn.Module):
    """A cell whose output is read and judged at every step.

        l_t = weight_t loss(readout(h_t), y_t) + sparsity sum_i |h_{t,i}|

    The second term makes gradients sparse where units are rectified (Bengio, Boulanger-Lewandowski
    and Pascanu 2013): an output that is pressed to 0 passes none.

    Arguments:
        cell: any cell; a stack of several is a cell, too.
        readout: from outputs (rows, output) to answers (rows, answer), row by row.
        loss: from answers (rows, answer) and targets (rows, ...) to losses (rows,).
        sparsity: of the outputs, at least 0.

    Raises:
        ConfigurationError: a negative sparsity.

    Example:
        >>> import torch
        >>> from throughtime.cells import ElmanCell
        >>> def squared(answers, targets):
        ...     return (answers - targets).square().sum(-1)
        >>> model = StepwiseModel(ElmanCell(2, 5), torch.nn.Linear(5, 1), squared)
        >>> model.losses(torch.ones(7, 3, 5), torch.ones(7, 3, 1)).shape
        torch.Size([7, 3])
    """

    def __init__(
        self,
        cell: Cell,
        readout: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        sparsity: float = 0.0,
    ):
        super().__init__()
        if not sparsity >= 0:
            raise ConfigurationError("sparsity", got=sparsity, expected="at least 0")
        self.cell, self.readout, self.loss, self.sparsity = cell, readout, loss, float(sparsity)

    def losses(
        self,
        outputs: Float[Tensor, "*steps output"],
        targets: Tensor,
        weights: Float[Tensor, "*steps"] | None = None,
    ) -> Float[Tensor, "*steps"]:
        """The loss of each step.

        Arguments:
            outputs: h_t, with any leading axes.
            targets: y_t, (..., *) with the same leading axes.
            weights: of the steps; None for 1 everywhere.

        Raises:
            ShapeError: `loss` does not give one number a row.
        """
        leading = outputs.shape[:-1]
        rows, asked = outputs.flatten(0, -2), None
        targets = targets.flatten(0, len(leading) - 1)
        if weights is not None and not (answered := weights.flatten() != 0).all():
            asked = answered.nonzero()[:, 0]
            rows, targets = rows[asked], targets[asked]
        losses = self.loss(self.readout(rows), targets)
        if losses.shape != rows.shape[:1]:
            raise ShapeError(
                "loss",
                got=f"losses of shape {tuple(losses.shape)}",
                expected=f"{tuple(rows.shape[:1])}, one for each row: reduction='none'",
            )
        if asked is not None:
            losses = losses.new_zeros(leading.numel()).index_copy(0, asked, losses)
        losses = losses.unflatten(0, leading)
        if weights is not None:
            losses = losses * weights
        return losses + self.sparsity * outputs.abs().sum(-1) if self.sparsity else losses
