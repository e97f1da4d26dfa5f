"""A gated cell's step, linearised: elementwise partial derivatives, and matrices between them."""

import dataclasses
from collections.abc import Iterator
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.cell import Cell, Streams
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.state import State
from throughtime.core.weights import recurrent_weight
from throughtime.engines.trace.plan import plan
from throughtime.engines.trace.program import UntraceableError
from throughtime.learning.unrolled import side_by_side, with_tensors


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Partials:
    """What small changes of state and parameters do in a step of a gated cell, row by row.

        x, u: gates of the input and of the past      r: its results, h and the memories
        F_s = r_s + r_u W_hh        F_theta: r_x x' by W_ih, r_u h' by W_hh

    What is by parameters is whole for `separable` cells alone.

    Attributes:
        cell: whose step it is, with its own parameters.
        trained: names of its trained parameters, in their order.
        s, x: states before the step, their fields side by side, and inputs.
        by_input, by_past: r_x and r_u; the same tensor where they are only added.
        by_state: r_s where u is held.
        direct: results and fields of which r_s differs from zero anywhere.
    """

    cell: GatedCell
    trained: tuple[str, ...]
    s: Float[Tensor, "batch size"]
    x: Float[Tensor, "batch input"]
    by_input: Float[Tensor, "batch results gates hidden"]
    by_past: Float[Tensor, "batch results gates hidden"]
    by_state: Float[Tensor, "batch results fields hidden"]
    direct: tuple[tuple[int, int], ...]

    def unflattened(self, time: int) -> list["Partials"]:
        """Those of the single steps.

        Arguments:
            time: how many there are; the rows of each follow each other.
        """
        parts = (self.s, self.x, self.by_input, self.by_past, self.by_state)
        s, x, by_input, by_past, by_state = (t.unflatten(0, (time, -1)).unbind() for t in parts)
        same = self.by_past is self.by_input
        return [
            Partials(
                self.cell,
                self.trained,
                s[t],
                x[t],
                by_input[t],
                by_input[t] if same else by_past[t],
                by_state[t],
                self.direct,
            )
            for t in range(time)
        ]

    def pushed(self, v: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        """F_s v.

        Arguments:
            v: of each row.
        """
        fields = v.unflatten(1, (-1, self.cell.hidden_size))
        results = v.new_zeros(()) if self.cell.lags else torch.zeros_like(self.by_state[:, :, 0])
        for lag, matrix in self._matrices():
            u = F.linear(fields[:, self._field(lag)], matrix)
            results = results + (self.by_past * u.view_as(self.by_past[:, :1])).sum(2)
        if self.direct:
            results = results + (self.by_state * fields[:, None]).sum(2)
        return torch.cat([results, *self._older(fields)], 1).flatten(1)

    def pulled(self, v: Float[Tensor, "batch size"]) -> Float[Tensor, "batch count"]:
        """v' F_theta.

        Arguments:
            v: of each row.
        """
        of = self._results(v)
        by_input = (of[:, :, None] * self.by_input).sum(1).flatten(1)
        by_past = by_input
        if self.by_past is not self.by_input:
            by_past = (of[:, :, None] * self.by_past).sum(1).flatten(1)
        parts: list[Tensor] = []
        for name in self.trained:
            if name.startswith("bias"):
                parts.append(by_input if name == "bias_ih" else by_past)
            else:
                gates = by_input if name == "weight_ih" else by_past
                parts.append(gates[:, :, None] * self._read(name)[:, None])
        return torch.cat([part.flatten(1) for part in parts], 1)

    def by_s(self) -> Float[Tensor, "batch size size"]:
        """F_s."""
        eye = torch.eye(self.s.shape[1], dtype=self.s.dtype, device=self.s.device)
        return self.carried(eye.expand(len(self.s), -1, -1))

    def carried(
        self, influence: Float[Tensor, "batch size any"], *, through_matrices: bool = True
    ) -> Float[Tensor, "batch size any"]:
        """F_s G.

        Arguments:
            influence: G.
            through_matrices: False where what the matrices read is held.
        """
        _, count, width, hidden = self.by_state.shape
        fields = influence.unflatten(1, (width, hidden))
        found = torch.zeros_like(fields)
        results = found[:, :count].flatten(1, 2)  # the same memory
        for lag, matrix in self._matrices() if through_matrices else ():
            by_gate = matrix.view(-1, hidden, hidden)
            product = torch.einsum("brgh,ghk->brhk", self.by_past, by_gate).flatten(1, 2)
            results.baddbmm_(product, fields[:, self._field(lag)])
        for result, field in self.direct:
            found[:, result].addcmul_(self.by_state[:, result, field, :, None], fields[:, field])
        if width > count:  # outputs become older ones
            found[:, count] = fields[:, 0]
            found[:, count + 1 :] = fields[:, count:-1]
        return found.flatten(1, 2)

    def add_by_theta(self, whole: Float[Tensor, "batch size count"]) -> None:
        """Add F_theta to something, in place.

        Arguments:
            whole: contiguous.
        """
        count, hidden = self.by_state.shape[1], self.cell.hidden_size
        own = [self.cell.get_parameter(name) for name in self.trained]
        results = whole.unflatten(1, (-1, hidden))[:, :count]
        blocks = results.split([p.numel() for p in own], -1)
        for name, block in zip(self.trained, blocks, strict=True):
            gates = self.by_past if "_hh" in name else self.by_input
            if name.startswith("bias"):
                block.unflatten(-1, (-1, hidden)).diagonal(dim1=2, dim2=4).add_(gates)
            else:
                read = self._read(name)
                entries = block.unflatten(-1, (-1, hidden, read.shape[1]))
                product = gates[:, :, :, None] * read[:, None, None, :, None]
                entries.diagonal(dim1=2, dim2=4).add_(product)

    def _results(self, v: Tensor) -> Float[Tensor, "batch results hidden"]:
        """The part of a vector that is at the step's results."""
        return v.unflatten(1, (-1, self.cell.hidden_size))[:, : self.by_state.shape[1]]

    def _older(self, fields: Tensor) -> Iterator[Tensor]:
        """What small changes of outputs become: of older ones."""
        count = self.by_state.shape[1]
        if fields.shape[1] > count:
            yield fields[:, :1]
            yield fields[:, count:-1]

    def _matrices(self) -> Iterator[tuple[int, Tensor]]:
        for lag in self.cell.lags:
            yield lag, self.cell.recurrent_matrix(lag).detach()

    def _field(self, lag: int) -> int:
        """Where the output of `lag` steps ago lies in the state."""
        return 0 if lag == 1 else self.by_state.shape[1] + lag - 2

    def _read(self, name: str) -> Float[Tensor, "batch read"]:
        """What a weight is multiplied with."""
        if name == "weight_ih":
            return self.x
        lag = int(name.removeprefix("weight_hh_lag")) if "lag" in name else 1
        hidden, place = self.cell.hidden_size, self._field(lag)
        return self.s[:, place * hidden : (place + 1) * hidden]


def elementwise(cell: Cell) -> bool:
    """Whether a cell's step is elementwise after products with its matrices: `pointwise` is traced.

    Arguments:
        cell: any.
    """
    if not isinstance(cell, GatedCell) or not cell.standard:
        return False
    try:
        plan(cell, torch.float64)
    except UntraceableError:
        return False
    return True


def separable(cell: Cell) -> bool:
    """Whether it is `elementwise`, its matrices are its weights, and no other parameter is trained.

    Arguments:
        cell: any.
    """
    if not isinstance(cell, GatedCell) or not elementwise(cell):
        return False
    linear = {"weight_ih", "bias_ih", "bias_hh", *map(recurrent_weight, cell.lags)}
    trained = {name for name, p in cell.named_parameters() if p.requires_grad}
    own = type(cell).recurrent_matrix is not GatedCell.recurrent_matrix
    return trained <= linear and cell.constrained is None and not own


def partials(
    cell: Any, before: State, x: Float[Tensor, "rows input"], streams: Streams
) -> Partials:
    """The partial derivatives of steps, all rows at once.

    Arguments:
        cell: gated, with `step` and `project` of its class.
        before: states before the steps, of as many rows.
        x: their inputs.
        streams: of them.
    """
    kind, hidden = type(cell), cell.hidden_size
    s = side_by_side(before).detach().requires_grad_()
    trained = tuple(name for name, p in cell.named_parameters() if p.requires_grad)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        projected = cell.project(x)
    by_input = torch.zeros_like(projected, requires_grad=True)
    apart = bool(cell.lags) and not cell.additive
    by_past = torch.zeros_like(projected, requires_grad=True) if apart else by_input
    held = bind(cell, {})
    # no nested function: tests would compile a check of it at every step
    vars(held)["_gates"] = lambda projected, own: _moved(
        kind._gates(held, projected + by_input, before), by_past if apart else None
    )
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        own = (streams,) if streams else ()
        _, after = held.step(projected, with_tensors(before, s), *own)
        results = after[: 1 + len(cell.memories)]
        by = [s, by_input, by_past]
        found = [
            torch.autograd.grad(
                r.sum(), by, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for r in results
        ]
    of_s, of_input, of_past = (
        torch.stack(parts, 1).unflatten(-1, (-1, hidden)) for parts in zip(*found, strict=True)
    )
    return Partials(
        cell,
        trained,
        s.detach(),
        x,
        of_input,
        of_past if apart else of_input,
        of_s,
        tuple((int(r), int(f)) for r, f in of_s.any(-1).any(0).nonzero()),
    )


def _moved(gates: tuple[Gates, Gates], by: Tensor | None) -> tuple[Gates, Gates]:
    """x, and u with something added, or as it is."""
    x, u = gates
    if by is not None:
        u = tuple(a + b for a, b in zip(u, by.chunk(len(u), -1), strict=True))
    return x, u
