"""The part of a network that learners take: a cell, a read-out, and a loss of each step."""

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
        readout: map from outputs (rows, output) to answers (rows, answer), row by row.
        loss: function from answers (rows, answer) and targets (rows, ...) to losses (rows,).
        sparsity: weight of the second term, at least 0.

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
        """The loss of each step. Neither read-out nor loss takes a step whose weight is 0.

        Arguments:
            outputs: h_t, with any leading axes.
            targets: y_t, (..., *) with the same leading axes.
            weights: weights of the steps; None for 1 everywhere.

        Raises:
            ShapeError: `loss` does not give one number a row.
        """
        if weights is None or bool((weights != 0).all()):
            losses = self.unweighted(outputs, targets)
            losses = losses if weights is None else losses * weights
        else:
            asked = weights.flatten().nonzero()[:, 0]
            rows, targets = outputs.flatten(0, -2)[asked], targets.flatten(0, weights.dim() - 1)
            own = self.unweighted(rows, targets[asked]) if len(asked) else rows.sum(-1)
            losses = own.new_zeros(weights.numel()).index_copy(0, asked, own)
            losses = losses.view_as(weights) * weights
        return losses + self.penalties(outputs) if self.sparsity else losses

    def unweighted(
        self, outputs: Float[Tensor, "*steps output"], targets: Tensor
    ) -> Float[Tensor, "*steps"]:
        """loss(readout(h_t), y_t) alone.

        Arguments:
            outputs: h_t, with any leading axes.
            targets: y_t, (..., *) with the same leading axes.

        Raises:
            ShapeError: `loss` does not give one number a row.
        """
        leading = outputs.shape[:-1]
        answers = self.readout(outputs.flatten(0, -2))
        losses = self.loss(answers, targets.flatten(0, len(leading) - 1))
        if losses.shape != (leading.numel(),):
            raise ShapeError(
                "loss",
                got=f"losses of shape {tuple(losses.shape)}",
                expected=f"({leading.numel()},), one for each row: reduction='none'",
            )
        return losses.unflatten(0, leading)

    def penalties(self, outputs: Float[Tensor, "*steps output"]) -> Float[Tensor, "*steps"]:
        """The second term.

        Arguments:
            outputs: h_t, with any leading axes.
        """
        return self.sparsity * outputs.abs().sum(-1)
