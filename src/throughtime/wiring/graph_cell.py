"""Any architecture as a cell: its states are units of one kind, wired as in the graph."""

from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.cell import Cell, check_size, converted, draw
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell
from throughtime.core.registry import CELLS
from throughtime.core.state import State, state_type
from throughtime.wiring.graph import INPUT, OUTPUT, Architecture, Edge, architecture

KINDS: dict[str, Any] = {
    "tanh": ElmanCell,
    "relu": lambda *sizes: ElmanCell(*sizes, nonlinearity="relu"),
    "lstm": LSTMCell,
    "gru": GRUCell,
}
"""Kinds of units by name: functions from an input and a hidden size to a cell."""


@final
class GraphCell(Cell):
    """An architecture whose hidden states are groups of units of one kind.

        x^s = b + sum over edges into s but its own: W^e h^source_{t-lag}     the input is a source
        u^s = sum over s's edges to itself: U^e h^s_{t-lag}
        h^s_t, memories = pointwise(x^s, u^s)                       in an order that zero lags allow

    The output is what the output's edges read, side by side; the read-out's matrix is their product
    with a parameter.

    Parameters are `input_S`, `weight_S` (columns in the order of `architecture.incoming(S)`),
    `own_S` and `bias_S` of each state S.

    Arguments:
        architecture: the graph; states' names are identifiers.
        input_size: width of x_t, at least 1.
        hidden_size: number of units of each state, at least 1.
        cell: the kind: "tanh", "relu", "lstm" or "gru".
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or a state whose name is no identifier.
        UnknownNameError: an unknown kind.

    Example:
        >>> from throughtime.wiring import architecture
        >>> cell = GraphCell(architecture("td"), 3, 5, cell="lstm")
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> h.shape
        torch.Size([2, 5])

    Differs from the paper in: one bias for all edges into a state.
    """

    def __init__(
        self,
        architecture: Architecture,
        input_size: int,
        hidden_size: int,
        *,
        cell: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_size("input_size", input_size)
        check_size("hidden_size", hidden_size)
        if cell not in KINDS:
            raise UnknownNameError("kind of unit", cell, KINDS)
        self.architecture, self.kind = architecture, cell
        self.input_size, self.hidden_size = input_size, hidden_size
        # its pointwise alone is used; not a submodule, since its weights are not
        vars(self)["unit"] = converted(KINDS[cell](1, hidden_size), lambda t: t.to("meta"))
        self.gate_names = self._unit.gate_names
        widths = {INPUT: input_size, **dict.fromkeys(architecture.states, hidden_size)}
        self.output_size = sum(widths[edge.source] for edge in architecture.incoming(OUTPUT))
        rows = len(self.gate_names) * hidden_size
        for state in architecture.states:
            if not state.isidentifier():
                raise ConfigurationError("state", got=repr(state), expected="an identifier")
            shapes = {
                "input": input_size * len(self._edges(state, "input")),
                "weight": sum(widths[edge.source] for edge in self._edges(state, "weight")),
                "own": hidden_size * len(self._edges(state, "own")),
            }
            for name, width in shapes.items():
                weight = draw(self, rows, width, device=device, dtype=dtype) if width else None
                self.register_parameter(f"{name}_{state}", weight)
            self.register_parameter(f"bias_{state}", draw(self, rows, device=device, dtype=dtype))
        self.depths = {
            source: max((e.lag for e in architecture.edges if e.source == source), default=0)
            for source in widths
        }
        lagged = self.depths[INPUT] > 0 or any(
            edge.source == INPUT for edge in architecture.incoming(OUTPUT)
        )
        self.keeps_input = lagged

    @property
    def _unit(self) -> GatedCell:
        return vars(self)["unit"]

    def _edges(self, state: str, kind: str) -> list[Edge]:
        """Return the edges into a state of one kind: from this step's input, itself, or others."""
        kinds = {(INPUT, 0): "input"}
        return [
            edge
            for edge in self.architecture.incoming(state)
            if kinds.get((edge.source, edge.lag), "own" if edge.source == state else "weight")
            == kind
        ]

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros: h, `states` (one a group of units), `past` (older values of sources)."""

        def zeros(width: int) -> Tensor:
            return torch.zeros(batch_size, width, dtype=dtype, device=device)

        fields = ("h", *self._unit.memories)
        states = tuple(
            state_type(*fields)(*(zeros(self.hidden_size) for _ in fields))
            for _ in self.architecture.states
        )
        past = [tuple(zeros(self.input_size) for _ in range(self.depths[INPUT]))]
        for state in self.architecture.states:
            older = range(max(0, self.depths[state] - 1))
            past.append(tuple(zeros(self.hidden_size) for _ in older))
        return state_type("h", "states", "past")(zeros(self.output_size), states, tuple(past))

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the products of this step's input, and the input itself where it is read again."""
        weights = [getattr(self, f"input_{state}") for state in self.architecture.states]
        read = [weight for weight in weights if weight is not None]
        parts = [F.linear(x, torch.cat(read))] if read else []
        return torch.cat([*parts, x] if self.keeps_input else parts, -1)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Return the output, and the new states of all groups."""
        names = self.architecture.states
        rows, taken = len(self.gate_names) * self.hidden_size, 0
        values: dict[tuple[str, int], Tensor] = {}
        if self.keeps_input:
            values[INPUT, 0] = projected[..., projected.shape[-1] - self.input_size :]
        for k, old in enumerate(state.past[0]):
            values[INPUT, k + 1] = old
        for name, own, older in zip(names, state.states, state.past[1:], strict=True):
            values[name, 1] = own.h
            for k, old in enumerate(older):
                values[name, k + 2] = old

        def product(name: str, kind: str) -> Tensor | None:
            edges = self._edges(name, kind)
            if not edges:
                return None
            read = torch.cat([values[edge.source, edge.lag] for edge in edges], -1)
            return F.linear(read, getattr(self, f"{kind}_{name}"))

        after: list[State] = []
        for name, own in zip(names, state.states, strict=True):
            x = getattr(self, f"bias_{name}").expand(projected.shape[0], -1)
            if getattr(self, f"input_{name}") is not None:
                x = x + projected[..., taken : taken + rows]
                taken += rows
            other = product(name, "weight")
            x = x if other is None else x + other
            u = product(name, "own")
            u = torch.zeros_like(x) if u is None else u
            count = len(self.gate_names)
            result = self._unit.pointwise(x.chunk(count, -1), u.chunk(count, -1), own)
            fields = result if isinstance(result, tuple) else (result,)
            after.append(type(own)(*fields))
            values[name, 0] = after[-1].h
        read = [values[edge.source, edge.lag] for edge in self.architecture.incoming(OUTPUT)]
        # what was k steps ago is k + 1 steps ago in the next; the states' newest is in `states`
        past = tuple(
            tuple(values[source, k] for k in range(first, first + len(older)))
            for source, first, older in zip(
                (INPUT, *names), (0, *(1 for _ in names)), state.past, strict=True
            )
        )
        h = torch.cat(read, -1)
        return h, type(state)(h, tuple(after), past)


@CELLS.register("graph")
def _graph(
    input_size: int, hidden_size: int, *, name: str = "td", lag: int = 21, cell: str = "tanh"
) -> GraphCell:
    """An architecture of Zhang et al. (2016): sh, st, bu, td, skip, variant-1 to -4."""
    return GraphCell(architecture(name, lag), input_size, hidden_size, cell=cell)
