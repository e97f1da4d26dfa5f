"""A cell as a map of plain vectors, and the products of its Jacobians with vectors."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.state import State, map_state, state_tensors


@final
class Dynamics:
    """s_t = F(s_{t-1}, x_t), with the state's tensors laid side by side in one vector s.

    The state's fields are in order (h, then memories, then past outputs, newest first); the count
    of steps that cells with streams carry is left out.

    Arguments:
        cell: any cell, on detached tensors.

    Attributes:
        size: width of s.
        fields: where each field of the state lies in s.

    Example:
        >>> from throughtime.cells import LSTMCell
        >>> F = Dynamics(LSTMCell(3, 5, dtype=torch.float64))
        >>> F.size, F.fields
        (10, {'h': slice(0, 5, None), 'c': slice(5, 10, None)})
        >>> s, x = torch.zeros(2, 10, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
        >>> F(s, x).shape, F.jacobian(s, x).shape
        (torch.Size([2, 10]), torch.Size([2, 10, 10]))
    """

    def __init__(self, cell: Cell):
        self.cell = cell
        like = next(cell.parameters())
        self.dtype, self.device = like.dtype, like.device
        state = cell.initial_state(1, dtype=self.dtype, device=self.device)
        self._like = state
        self.fields: dict[str, slice] = {}
        start = 0
        for name, field in zip(state._fields, state, strict=True):
            tensors = [s for s in state_tensors(field) if s.is_floating_point()]
            width = sum(s.shape[1:].numel() for s in tensors)
            if tensors:
                self.fields[name] = slice(start, start + width)
            start += width
        self.size = start

    def flatten(self, state: State) -> Float[Tensor, "*leading size"]:
        """s, from a state whose fields are (..., hidden)."""
        return torch.cat([s for s in state_tensors(state) if s.is_floating_point()], -1)

    def unflatten(self, flat: Float[Tensor, "batch size"]) -> State:
        """The state whose tensors lie in s; its count of steps is zero."""
        floating = [s for s in state_tensors(self._like) if s.is_floating_point()]
        parts = iter(flat.split([s.shape[-1] for s in floating], -1))
        # no nested function: tests would compile a check of it at every step
        return map_state(
            lambda like: (
                next(parts)
                if like.is_floating_point()
                else torch.zeros(flat.shape[0], dtype=like.dtype, device=like.device)
            ),
            self._like,
        )

    def __call__(
        self,
        flat: Float[Tensor, "batch size"],
        x: Float[Tensor, "batch input"],
        streams: Streams = (),
    ) -> Float[Tensor, "batch size"]:
        """F(s, x), row by row."""
        _, state = advance(self.cell, self.cell.project(x), self.unflatten(flat), streams)
        return self.flatten(state)

    def pushforward(
        self,
        flat: Float[Tensor, "batch size"],
        x: Float[Tensor, "batch input"],
        tangents: Float[Tensor, "k batch size"],
        streams: Streams = (),
    ) -> tuple[Float[Tensor, "batch size"], Float[Tensor, "k batch size"]]:
        """F(s, x), and J v for k vectors v a row, J = dF/ds: forward mode, all at once."""
        value = self(flat, x, streams)

        def along(v: Tensor) -> Tensor:
            return torch.func.jvp(lambda s: self(s, x, streams), (flat,), (v,))[1]

        return value, torch.func.vmap(along)(tangents)

    def pullback(
        self,
        flat: Float[Tensor, "batch size"],
        x: Float[Tensor, "batch input"],
        cotangents: Float[Tensor, "k batch size"],
        streams: Streams = (),
    ) -> tuple[Float[Tensor, "batch size"], Float[Tensor, "k batch size"]]:
        """F(s, x), and J' v for k vectors v a row: reverse mode, all at once."""
        result = torch.func.vjp(lambda s: self(s, x, streams), flat)
        value, back = result[0], result[1]
        return value, torch.func.vmap(lambda v: back(v)[0])(cotangents)

    def jacobian(
        self,
        flat: Float[Tensor, "batch size"],
        x: Float[Tensor, "batch input"],
        streams: Streams = (),
    ) -> Float[Tensor, "batch size size"]:
        """J = dF/ds of each row: entry [i, j] is dF_i/ds_j."""
        eye = torch.eye(self.size, dtype=flat.dtype, device=flat.device)
        tangents = eye[:, None, :].expand(-1, flat.shape[0], -1)
        return self.pushforward(flat, x, tangents, streams)[1].permute(1, 2, 0)
