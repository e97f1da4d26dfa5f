"""A stack of cells that is itself a cell."""

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.state import State, state_type

Connections: TypeAlias = Literal["plain", "residual", "skip"]


@final
class StackedCell(Cell):
    """Cells on top of each other, stepped together: each reads the output of the one below.

        h^(0)_t = x_t;   y^(k)_t, s^(k)_t = cell_k(i^(k)_t, s^(k)_{t-1})
        "plain":     i^(k) = h^(k-1)           h^(k) = y^(k)                     output h^(top)
        "residual":  i^(k) = h^(k-1)           h^(k) = y^(k) + h^(k-1), k > 1    output h^(top)
        "skip":      i^(k) = [h^(k-1), x], k > 1     h^(k) = y^(k)     output all h, side by side

    The state has the fields h (the output), `layers` (the states of the cells, from the
    bottom), and `steps` if any cell has streams.

    Arguments:
        cells: cells from the bottom to the top, at least one; each input as wide as the output
            below, and as x beside it under "skip".
        connections: links between layers: "plain", "residual", or "skip" (Graves 2013).

    Raises:
        ConfigurationError: no cells, or widths that do not meet.
        UnknownNameError: unknown connections.

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = StackedCell([GRUCell(3, 5), GRUCell(5, 4)])
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> h.shape
        torch.Size([2, 4])
    """

    def __init__(self, cells: Sequence[Cell], *, connections: Connections = "plain"):
        super().__init__()
        if connections not in ("plain", "residual", "skip"):
            raise UnknownNameError("connections", connections, ("plain", "residual", "skip"))
        if not cells:
            raise ConfigurationError("StackedCell", got="no cells", expected="at least one")
        beside = cells[0].input_size if connections == "skip" else 0
        for below, above in itertools.pairwise(cells):
            if above.input_size != below.output_size + beside:
                raise ConfigurationError(
                    "StackedCell",
                    got=f"a cell of input_size={above.input_size} over an output of "
                    f"{below.output_size}" + (f" and an input of {beside}" if beside else ""),
                    expected="widths that meet",
                )
            if connections == "residual" and above.output_size != below.output_size:
                raise ConfigurationError(
                    "StackedCell",
                    got=f"outputs of {below.output_size} and {above.output_size}",
                    expected="outputs of one width, since they are added",
                )
        self.stack = nn.ModuleList(cells)
        self.connections: Connections = connections
        self.input_size, self.hidden_size = cells[0].input_size, cells[-1].hidden_size
        outputs = [cell.output_size for cell in cells]
        self.output_size = sum(outputs) if connections == "skip" else outputs[-1]
        self.streams = tuple(f"{i}.{s}" for i, cell in enumerate(cells) for s in cell.streams)
        self.lasting = tuple(f"{i}.{s}" for i, cell in enumerate(cells) for s in cell.lasting)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the cells' own initial states."""
        layers = tuple(
            cell.initial_state(batch_size, dtype=dtype, device=device) for cell in self._cells()
        )
        h = torch.zeros(batch_size, self.output_size, dtype=dtype, device=device)
        if not self.streams:
            return state_type("h", "layers")(h, layers)
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "layers", "steps")(h, layers, steps)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """Return the bottom cell's projection; the others' inputs are outputs of the same step.

        Under "skip", x itself comes after it.
        """
        bottom = self._cells()[0].project(x)
        return torch.cat([bottom, x], -1) if self.connections == "skip" else bottom

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Run one step of all cells."""
        x = projected
        if self.connections == "skip":
            width = projected.shape[-1] - self.input_size
            projected, x = projected.split((width, self.input_size), -1)
        h: Tensor | None = None
        outputs: list[Tensor] = []
        layers: list[State] = []
        taken = 0
        for cell, before in zip(self._cells(), state.layers, strict=True):
            own = streams[taken : taken + len(cell.streams)]
            taken += len(cell.streams)
            if h is not None:
                projected = cell.project(torch.cat([h, x], -1) if self.connections == "skip" else h)
            y, after = advance(cell, projected, before, own)
            h = y + h if self.connections == "residual" and h is not None else y
            outputs.append(h)
            layers.append(after)
        out = torch.cat(outputs, -1) if self.connections == "skip" else outputs[-1]
        fields = [out, tuple(layers)]
        if self.streams:
            fields.append(state.steps + 1)
        return out, type(state)(*fields)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return the streams of all cells, from the bottom."""
        return tuple(
            stream
            for cell in self._cells()
            if cell.streams
            for stream in cell.draw_streams(
                steps, training=training, dtype=dtype, generator=generator
            )
        )

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.stack if isinstance(cell, Cell)]
