"""Cells that are not gated, by the native engine, against the engines that run them otherwise."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import throughtime as tt
from benchmarks.engines import Step, case_of, data_of
from benchmarks.measure import compare
from benchmarks.registry import Row, benchmark
from throughtime.cells import ChoGRUCell, LayerNormLSTMCell, ProjectedLSTMCell
from throughtime.core.cell import Cell
from throughtime.core.state import State, zero_state
from throughtime.wiring import GraphCell, architecture

SHAPES = ((32, 784, 1, 128), (64, 200, 64, 256))


class PlainCell(Cell):
    """A cell as users write it."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.of_input = nn.Linear(input_size, hidden_size)
        self.of_past = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return zeros."""
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """Return the input's linear map."""
        return self.of_input(x)

    def step(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """Return h_t, and the state (h_t,)."""
        h = torch.tanh(projected + self.of_past(state.h))
        return h, type(state)(h)


CELLS: dict[str, Callable[[int, int], Cell]] = {
    "LN-LSTM": LayerNormLSTMCell,
    "Cho-GRU": ChoGRUCell,
    "proj-LSTM": lambda i, h: ProjectedLSTMCell(i, h, proj_size=h // 2),
    "td-tanh": lambda i, h: GraphCell(architecture("td"), i, h),
    "td-LSTM": lambda i, h: GraphCell(architecture("td"), i, h, cell="lstm"),
    "plain": PlainCell,
}


@benchmark("steps")
def steps(rounds: int) -> list[Row]:
    """A training step of each cell: the native engine beside the eager one and the vendor's."""
    rows: list[Row] = []
    for shape in SHAPES:
        for name, make in CELLS.items():
            cell = make(*shape[2:])
            x, _ = data_of(shape)
            outputs = torch.randn(*x.shape[:2], cell.output_size)
            names = ["native", "eager", *(["vendor"] if name == "proj-LSTM" else [])]
            runs = {n: Step(tt.Recurrent(cell, engine=n), x, outputs) for n in names}
            for baseline in names[1:]:
                pair = {n: runs[n] for n in ("native", baseline)}
                rows += compare(f"train {case_of(name, shape)}", pair, baseline, rounds)
    return rows
