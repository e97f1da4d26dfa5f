"""A stack of cells that is itself a cell."""

import itertools
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, state_type


@final
class StackedCell(Cell):
    """Cells on top of each other, stepped together: each reads the output of the one below.

        h^(0)_t = x_t;   h^(k)_t, s^(k)_t = cell_k(h^(k-1)_t, s^(k)_{t-1})

    The state has the fields h (the top cell's output), `layers` (the states of the cells, from the
    bottom), and `steps` if any cell has streams.

    Arguments:
        cells: from the bottom to the top, at least one; each input as wide as the output below.

    Raises:
        ConfigurationError: no cells, or widths that do not meet.

    Example:
        >>> from throughtime.cells import GRUCell
        >>> cell = StackedCell([GRUCell(3, 5), GRUCell(5, 4)])
        >>> state = cell.initial_state(2, dtype=torch.float32, device=torch.device("cpu"))
        >>> h, state = cell.step(cell.project(torch.ones(2, 3)), state)
        >>> h.shape
        torch.Size([2, 4])
    """

    def __init__(self, cells: Sequence[Cell]):
        super().__init__()
        if not cells:
            raise ConfigurationError("StackedCell", got="no cells", expected="at least one")
        for below, above in itertools.pairwise(cells):
            if above.input_size != below.output_size:
                raise ConfigurationError(
                    "StackedCell",
                    got=f"a cell of input_size={above.input_size} over an output of "
                    f"{below.output_size}",
                    expected="widths that meet",
                )
        self.stack = nn.ModuleList(cells)
        self.input_size = cells[0].input_size
        self.hidden_size, self.output_size = cells[-1].hidden_size, cells[-1].output_size
        self.streams = tuple(f"{i}.{s}" for i, cell in enumerate(cells) for s in cell.streams)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """The cells' own initial states."""
        layers = tuple(
            cell.initial_state(batch_size, dtype=dtype, device=device) for cell in self._cells()
        )
        if not self.streams:
            return state_type("h", "layers")(layers[-1].h, layers)
        steps = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return state_type("h", "layers", "steps")(layers[-1].h, layers, steps)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps projected"]:
        """The bottom cell's projection; the others' inputs are outputs of the same step."""
        return self._cells()[0].project(x)

    def step(
        self, projected: Float[Tensor, "batch projected"], state: State, streams: Streams = ()
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """One step of all cells."""
        h: Tensor | None = None
        layers: list[State] = []
        taken = 0
        for cell, before in zip(self._cells(), state.layers, strict=True):
            own = streams[taken : taken + len(cell.streams)]
            taken += len(cell.streams)
            h, after = advance(cell, projected if h is None else cell.project(h), before, own)
            layers.append(after)
        assert h is not None
        fields = [h, tuple(layers)]
        if self.streams:
            fields.append(state.steps + 1)
        return h, type(state)(*fields)

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """The streams of all cells, from the bottom."""
        return tuple(
            stream
            for cell in self._cells()
            for stream in cell.draw_streams(
                steps, training=training, dtype=dtype, generator=generator
            )
        )

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.stack if isinstance(cell, Cell)]
