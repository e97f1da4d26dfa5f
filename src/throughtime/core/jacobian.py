"""The Jacobian of a cell's step: push (J v), pull (v' J) and dense, for gated and for all cells."""

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, jvp, vjp, vmap

from throughtime.core.cell import Cell, Streams, advance, bind
from throughtime.core.gated import GatedCell
from throughtime.core.state import Layout, State

Flat: TypeAlias = Float[Tensor, "batch size"]
Inputs: TypeAlias = Float[Tensor, "batch input"]
Many: TypeAlias = Float[Tensor, "k batch size"]
Whole: TypeAlias = tuple[Tensor, ...]
"""The whole numbers of a state, in order."""

Vectors: TypeAlias = Float[Tensor, "*k rows size"]
ByState: TypeAlias = Float[Tensor, "rows size size"]
ByParameters: TypeAlias = Float[Tensor, "rows size count"]


@final
class Dynamics:
    """The map s_t = F(s_{t-1}, x_t) of a cell, the state's tensors side by side in one vector s.

    The state's fields are in order (h, then memories, then past outputs, newest first), of any
    rank: see `Layout`. Whole numbers of the state (counts, indices) are held constant.

    Arguments:
        cell: any cell, on detached tensors.

    Attributes:
        size: width of s.
        fields: slice of s that each field of the state takes.

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
        self.layout = Layout(cell.initial_state(1, dtype=self.dtype, device=self.device))
        self.size, self.fields = self.layout.size, self.layout.fields

    def bound(self, tensors: Mapping[str, Tensor]) -> "Dynamics":
        """Return the same map on other parameters, by name within the cell."""
        other = object.__new__(Dynamics)
        vars(other).update(vars(self), cell=bind(self.cell, tensors))
        return other

    def flatten(self, state: State) -> Float[Tensor, "*leading size"]:
        """Return s, of a state whose fields have any leading axes."""
        return self.layout.flatten(state)

    def unflatten(self, flat: Float[Tensor, "*leading size"], whole: Whole = ()) -> State:
        """Return the state whose tensors lie in s; whole numbers are zero where none are given."""
        return self.layout.unflatten(flat, whole)

    def __call__(self, flat: Flat, x: Inputs, streams: Streams = (), whole: Whole = ()) -> Flat:
        """Return F(s, x), row by row."""
        state = self.layout.unflatten(flat, whole)
        _, state = advance(self.cell, self.cell.project(x), state, streams)
        return self.layout.flatten(state)

    def pushforward(
        self, flat: Flat, x: Inputs, tangents: Many, streams: Streams = (), whole: Whole = ()
    ) -> tuple[Flat, Many]:
        """Return F(s, x), and J v for k vectors v a row, J = dF/ds: forward mode, all at once."""
        value = self(flat, x, streams, whole)

        def along(v: Tensor) -> Tensor:
            return jvp(lambda s: self(s, x, streams, whole), (flat,), (v,))[1]

        return value, vmap(along)(tangents)

    def pullback(
        self, flat: Flat, x: Inputs, cotangents: Many, streams: Streams = (), whole: Whole = ()
    ) -> tuple[Flat, Many]:
        """Return F(s, x), and v' J for k vectors v a row: reverse mode, all at once."""
        result = vjp(lambda s: self(s, x, streams, whole), flat)
        value, back = result[0], result[1]
        return value, vmap(lambda v: back(v)[0])(cotangents)

    def jacobian(self, flat: Flat, x: Inputs, streams: Streams = (), whole: Whole = ()) -> ByState:
        """Return J = dF/ds of each row: entry [i, j] is dF_i/ds_j."""
        eye = torch.eye(self.size, dtype=flat.dtype, device=flat.device)
        tangents = eye[:, None, :].expand(-1, flat.shape[0], -1)
        return self.pushforward(flat, x, tangents, streams, whole)[1].permute(1, 2, 0)


def trained_parameters(cell: Cell) -> dict[str, Tensor]:
    """Return the parameters of a cell that are trained, detached, by name."""
    return {name: p.detach() for name, p in cell.named_parameters() if p.requires_grad}


def initial_influence(cell: Cell, parameters: Mapping[str, Tensor]) -> Float[Tensor, "size count"]:
    """Return ds_0/dtheta: zero but for an initial state that is learnt."""
    dynamics = Dynamics(cell)

    def start(theta: dict[str, Tensor]) -> Tensor:
        own, where = bind(cell, theta), {"dtype": dynamics.dtype, "device": dynamics.device}
        return dynamics.flatten(own.initial_state(1, **where))[0]

    return _side_by_side(jacrev(start)(dict(parameters)), 1)


class StepJacobian(abc.ABC):
    """The derivatives of steps s' = F(theta, s, x) of a cell: one step a row.

        F_s = ds'/ds          F_theta = ds'/dtheta, theta the trained parameters, flattened

    Attributes:
        s: (rows, size) the states before the steps.
        x: (rows, input) the inputs.
        parameters: theta, by name within the cell, detached.
    """

    s: Float[Tensor, "rows size"]
    x: Float[Tensor, "rows input"]
    parameters: dict[str, Tensor]

    @property
    def size(self) -> int:
        """Width of s."""
        return self.s.shape[1]

    @property
    def count(self) -> int:
        """Width of theta."""
        return sum(p.numel() for p in self.parameters.values())

    @abc.abstractmethod
    def rows(self, at: slice) -> "StepJacobian":
        """Return those of some of the steps."""

    @abc.abstractmethod
    def push(self, v: Vectors) -> Vectors:
        """Return F_s v, for one vector a row, or for k of them."""

    @abc.abstractmethod
    def pull(self, v: Vectors) -> Vectors:
        """Return v' F_s, for one vector a row, or for k of them."""

    @abc.abstractmethod
    def pull_parameters(self, v: Vectors) -> Float[Tensor, "*k rows count"]:
        """Return v' F_theta, for one vector a row, or for k of them."""

    @abc.abstractmethod
    def dense(self) -> ByState:
        """Return F_s: entry [i, j] is ds'_i/ds_j."""

    @abc.abstractmethod
    def both(self) -> tuple[ByState, ByParameters]:
        """Return F_s and F_theta."""

    @abc.abstractmethod
    def influence(self, before: ByParameters, *, local: bool = False) -> ByParameters:
        """Return F_s G + F_theta."""


@final
class GeneralJacobian(StepJacobian):
    """The derivatives of any cell's steps, by forward and reverse mode.

    Arguments:
        cell: any cell.
        before: the states before the steps.
        x: the inputs.
        streams: the cell's streams at the steps.
        parameters: theta, by name within the cell; its trained parameters if None.
    """

    def __init__(
        self,
        cell: Cell,
        before: State,
        x: Float[Tensor, "rows input"],
        streams: Streams = (),
        parameters: dict[str, Tensor] | None = None,
    ):
        self.parameters = trained_parameters(cell) if parameters is None else parameters
        self.dynamics = Dynamics(bind(cell, self.parameters))
        self.s = self.dynamics.flatten(before).detach()
        self.whole, self.x, self.streams = self.dynamics.layout.whole(before), x, streams

    def rows(self, at: slice) -> "GeneralJacobian":
        """Return those of some of the steps."""
        return self._of_rows(lambda t: t[at])

    def push(self, v: Vectors) -> Vectors:
        """Return F_s v, in forward mode."""
        if v.dim() > 2:
            return self.dynamics.pushforward(self.s, self.x, v, self.streams, self.whole)[1]
        function = lambda s: self.dynamics(s, self.x, self.streams, self.whole)  # noqa: E731
        return jvp(function, (self.s,), (v,))[1]

    def pull(self, v: Vectors) -> Vectors:
        """Return v' F_s, in reverse mode."""
        many, vectors, restore = self._repeated(v)
        with torch.enable_grad():
            s = many.s.clone().requires_grad_()
            after = self.dynamics(s, many.x, many.streams, many.whole)
        if not after.requires_grad:  # a step that reads no state
            return torch.zeros_like(v)
        return restore(torch.autograd.grad(after, s, vectors, materialize_grads=True)[0])

    def pull_parameters(self, v: Vectors) -> Float[Tensor, "*k rows count"]:
        """Return v' F_theta, in reverse mode."""
        many, vectors, restore = self._repeated(v)

        def back(s: Tensor, x: Tensor, v: Tensor, *rest: Tensor) -> dict[str, Tensor]:
            given = self.parameters
            return vjp(lambda theta: self._row(theta, s, x, *rest), given)[1](v)[0]

        found = vmap(back)(many.s, many.x, vectors, *many.streams, *many.whole)
        return restore(_side_by_side(found, 1))

    def dense(self) -> ByState:
        """Return F_s, in forward mode."""
        return self.dynamics.jacobian(self.s, self.x, self.streams, self.whole)

    def both(self) -> tuple[ByState, ByParameters]:
        """Return F_s and F_theta, in reverse mode."""
        rest = (*self.streams, *self.whole)
        every = (None, 0, 0, *(0 for _ in rest))
        by_theta, by_s = vmap(jacrev(self._row, argnums=(0, 1)), in_dims=every)(
            self.parameters, self.s, self.x, *rest
        )
        return by_s, _side_by_side(by_theta, 2)

    def influence(self, before: ByParameters, *, local: bool = False) -> ByParameters:
        """Return F_s G + F_theta; `local` is for gated cells."""
        by_s, by_theta = self.both()
        return torch.baddbmm(by_theta, self._local() if local else by_s, before)

    def _local(self) -> ByState:
        """F_s of a gated cell whose matrices read a constant: unit by unit."""
        cell: Any = self.dynamics.cell
        layout, count = self.dynamics.layout, len(self.streams)

        def function(s: Tensor, x: Tensor, *rest: Tensor) -> Tensor:
            streams, whole = _single_rows(rest[:count]), _single_rows(rest[count:])
            held = layout.unflatten(s.detach()[None], whole)
            gates = cell._gates(cell.project(x[None]), held)
            after = cell.step_of_gates(*gates, layout.unflatten(s[None], whole), streams)[1]
            return layout.flatten(after)[0]

        return vmap(jacrev(function))(self.s, self.x, *self.streams, *self.whole)

    def _row(self, theta: dict[str, Tensor], s: Tensor, x: Tensor, *rest: Tensor) -> Tensor:
        """F of one row: streams come first in `rest`, then the state's whole numbers."""
        count = len(self.streams)
        streams, whole = _single_rows(rest[:count]), _single_rows(rest[count:])
        return self.dynamics.bound(theta)(s[None], x[None], streams, whole)[0]

    def _of_rows(self, function: Callable[[Tensor], Tensor]) -> "GeneralJacobian":
        other = object.__new__(GeneralJacobian)
        other.dynamics, other.parameters = self.dynamics, self.parameters
        other.s, other.x = function(self.s), function(self.x)
        other.streams, other.whole = (tuple(map(function, t)) for t in (self.streams, self.whole))
        return other

    def _repeated(self, v: Tensor) -> tuple["GeneralJacobian", Tensor, Callable[[Tensor], Tensor]]:
        """The steps once for each vector, the vectors, and the map back to their shape."""
        if v.dim() == 2:
            return self, v, lambda found: found
        k = len(v)
        many = self._of_rows(lambda t: t.repeat_interleave(k, 0))
        vectors = v.transpose(0, 1).flatten(0, 1)
        return many, vectors, lambda found: found.unflatten(0, (-1, k)).transpose(0, 1)


@final
class GatedJacobian(StepJacobian):
    """The derivatives of a gated cell's steps: elementwise, with matrices between them.

        x, u: gates of the input and of the past      r: results, h and the memories
        F_s = r_s + r_u W_hh        F_theta: r_x x' by W_ih, r_u h' by W_hh

    The derivatives by parameters are whole where all trained parameters are those of the linear
    maps.

    Arguments:
        cell: a cell with `step` and `project` of `GatedCell`, elementwise.
        before: the states before the steps.
        x: the inputs.
        streams: the cell's streams at the steps.

    Attributes:
        by_input, by_past: r_x and r_u, (rows, results, gates, hidden); one tensor where x and u
            are only added.
        by_state: r_s where u is held, (rows, results, fields, hidden).
        direct: results and fields of which r_s differs from zero anywhere.
    """

    def __init__(self, cell: GatedCell, before: State, x: Inputs, streams: Streams = ()):
        self.cell, self.x, self.parameters = cell, x, trained_parameters(cell)
        gated: Any = cell
        layout, hidden = Layout(before), cell.hidden_size
        s = layout.flatten(before).detach().requires_grad_()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            projected = cell.project(x)
        apart = bool(cell.lags) and not cell.additive
        by_input = torch.zeros_like(projected, requires_grad=True)
        by_past = torch.zeros_like(projected, requires_grad=True) if apart else by_input
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            # what the matrices read is held: the matrices come in by themselves, later
            gates, past = gated._gates(projected + by_input, before)
            if apart:
                moves = by_past.chunk(len(past), -1)
                past = tuple(a + b for a, b in zip(past, moves, strict=True))
            state = layout.unflatten(s, layout.whole(before))
            after = cell.step_of_gates(gates, past, state, streams)[1]
            by, results = [s, by_input, by_past], after[: 1 + len(cell.memories)]
            found = [
                torch.autograd.grad(r.sum(), by, retain_graph=True, materialize_grads=True)
                for r in results
            ]
        of_s, of_input, of_past = (
            torch.stack(parts, 1).unflatten(-1, (-1, hidden)) for parts in zip(*found, strict=True)
        )
        self.s = s.detach()
        self.by_input, self.by_past = of_input, of_past if apart else of_input
        self.by_state = of_s
        self.direct = tuple((int(r), int(f)) for r, f in of_s.any(-1).any(0).nonzero())

    def rows(self, at: slice) -> "GatedJacobian":
        """Return those of some of the steps."""
        other = object.__new__(GatedJacobian)
        vars(other).update(vars(self))
        other.s, other.x = self.s[at], self.x[at]
        other.by_input, other.by_state = self.by_input[at], self.by_state[at]
        same = self.by_past is self.by_input
        other.by_past = other.by_input if same else self.by_past[at]
        return other

    def push(self, v: Vectors) -> Vectors:
        """Return F_s v."""
        fields = v.unflatten(-1, (-1, self.cell.hidden_size))
        _, count, gates, hidden = self.by_past.shape
        results = v.new_zeros(()) if self.cell.lags else torch.zeros_like(fields[..., :count, :])
        for lag, matrix in self._matrices():
            # two axes: the product of strided rows with three of them is several times as slow
            u = F.linear(fields[..., self._field(lag), :].flatten(0, -2), matrix)
            u = u.view(*v.shape[:-1], 1, gates, hidden)
            results = results + (self.by_past * u).sum(-2)
        if self.direct:
            results = results + (self.by_state * fields[..., None, :, :]).sum(-2)
        older = (fields[..., :1, :], fields[..., count:-1, :]) if self._delayed() else ()
        return torch.cat([results, *older], -2).flatten(-2)

    def pull(self, v: Vectors) -> Vectors:
        """Return v' F_s."""
        given = v.unflatten(-1, (-1, self.cell.hidden_size))
        count = self.by_state.shape[1]
        results = given[..., :count, None, :]
        found = (results * self.by_state).sum(-3) if self.direct else torch.zeros_like(given)
        if self._delayed():
            found[..., 0, :] += given[..., count, :]
            found[..., count:-1, :] += given[..., count + 1 :, :]
        if self.cell.lags:
            gates = (results * self.by_past).sum(-3).flatten(-2)
            for lag, matrix in self._matrices():
                moved = gates.flatten(0, -2) @ matrix
                found[..., self._field(lag), :] += moved.view(*v.shape[:-1], -1)
        return found.flatten(-2)

    def pull_parameters(self, v: Vectors) -> Float[Tensor, "*k rows count"]:
        """Return v' F_theta."""
        if v.dim() > 2:
            return torch.stack([self.pull_parameters(one) for one in v])
        results = v.unflatten(1, (-1, self.cell.hidden_size))[:, : self.by_state.shape[1], None]
        by_input = by_past = (results * self.by_input).sum(1).flatten(1)
        if self.by_past is not self.by_input:
            by_past = (results * self.by_past).sum(1).flatten(1)
        parts: list[Tensor] = []
        for name in self.parameters:
            gates = by_past if "_hh" in name else by_input
            if not name.startswith("bias"):
                gates = gates[:, :, None] * self._read(name)[:, None]
            parts.append(gates.flatten(1))
        return torch.cat(parts, 1)

    def dense(self) -> ByState:
        """Return F_s."""
        rows, count, width, hidden = self.by_state.shape
        whole = self.s.new_zeros(rows, width, hidden, width, hidden)
        for lag, matrix in self._matrices():
            by_gate = matrix.view(-1, hidden, hidden)
            product = torch.einsum("brgh,ghk->brhk", self.by_past, by_gate)
            whole[:, :count, :, self._field(lag)] += product
        for result, field in self.direct:
            entries = whole[:, result, :, field].diagonal(dim1=1, dim2=2)
            entries.add_(self.by_state[:, result, field])
        if self._delayed():
            for field in range(count, width):
                source = 0 if field == count else field - 1
                whole[:, field, :, source].diagonal(dim1=1, dim2=2).fill_(1)
        return whole.flatten(3).flatten(1, 2)

    def both(self) -> tuple[ByState, ByParameters]:
        """Return F_s and F_theta."""
        by_theta = self.s.new_zeros(len(self.s), self.size, self.count)
        self._add_by_theta(by_theta)
        return self.dense(), by_theta

    def influence(self, before: ByParameters, *, local: bool = False) -> ByParameters:
        """Return F_s G + F_theta."""
        _, count, width, hidden = self.by_state.shape
        fields = before.unflatten(1, (width, hidden))
        found = torch.zeros_like(fields)
        results = found[:, :count].flatten(1, 2)  # the same memory
        for lag, matrix in () if local else self._matrices():
            by_gate = matrix.view(-1, hidden, hidden)
            product = torch.einsum("brgh,ghk->brhk", self.by_past, by_gate).flatten(1, 2)
            results.baddbmm_(product, fields[:, self._field(lag)])
        for result, field in self.direct:
            found[:, result].addcmul_(self.by_state[:, result, field, :, None], fields[:, field])
        if self._delayed():
            found[:, count] = fields[:, 0]
            found[:, count + 1 :] = fields[:, count:-1]
        after = found.flatten(1, 2)
        self._add_by_theta(after)
        return after

    def _add_by_theta(self, whole: ByParameters) -> None:
        """Add F_theta to a contiguous tensor, in place."""
        count, hidden = self.by_state.shape[1], self.cell.hidden_size
        results = whole.unflatten(1, (-1, hidden))[:, :count]
        blocks = results.split([p.numel() for p in self.parameters.values()], -1)
        for name, block in zip(self.parameters, blocks, strict=True):
            gates = self.by_past if "_hh" in name else self.by_input
            if name.startswith("bias"):
                block.unflatten(-1, (-1, hidden)).diagonal(dim1=2, dim2=4).add_(gates)
            else:
                read = self._read(name)
                entries = block.unflatten(-1, (-1, hidden, read.shape[1]))
                product = gates[:, :, :, None] * read[:, None, None, :, None]
                entries.diagonal(dim1=2, dim2=4).add_(product)

    def _matrices(self) -> Iterator[tuple[int, Tensor]]:
        for lag in self.cell.lags:
            yield lag, self.cell.recurrent_matrix(lag).detach()

    def _delayed(self) -> bool:
        """True if the state holds past outputs, each of which becomes an older one."""
        return self.by_state.shape[2] > self.by_state.shape[1]

    def _field(self, lag: int) -> int:
        """The field of the state that holds the output of `lag` steps ago."""
        return 0 if lag == 1 else self.by_state.shape[1] + lag - 2

    def _read(self, name: str) -> Float[Tensor, "rows read"]:
        """The vector that a weight is multiplied with."""
        if name == "weight_ih":
            return self.x
        lag = int(name.removeprefix("weight_hh_lag")) if "lag" in name else 1
        hidden, place = self.cell.hidden_size, self._field(lag)
        return self.s[:, place * hidden : (place + 1) * hidden]


def _side_by_side(by_name: dict[str, Tensor], leading: int) -> Tensor:
    """Derivatives by each parameter, as those by theta."""
    parts = [part.reshape(*part.shape[:leading], -1) for part in by_name.values()]
    return torch.cat(parts, -1)


def _single_rows(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part[None] for part in parts)
