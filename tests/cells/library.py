"""Every cell of the library by name, made from input and hidden size."""

from collections.abc import Callable

import throughtime as tt
from throughtime import cells, wiring

CELLS: dict[str, Callable[[int, int], tt.Cell]] = {
    **{name: getattr(cells, name) for name in cells.__all__ if name != "ProjectedLSTMCell"},
    "projected LSTM": lambda i, h: cells.ProjectedLSTMCell(i, h, proj_size=h - 2),
    "skip RNN": lambda i, h: cells.ElmanCell(i, h, lags=(1, 3)),
    "zoneout": lambda i, h: wiring.ZoneoutCell(cells.LSTMCell(i, h)),
    "stacked": lambda i, h: wiring.StackedCell([cells.GRUCell(i, h), cells.GRUCell(h, h)]),
    "deep transition": wiring.DeepTransitionCell,
    "deep input": lambda i, h: wiring.DeepInputCell(cells.GRUCell(h, h), i),
    "deep output": lambda i, h: wiring.DeepOutputCell(cells.LSTMCell(i, h), h),
    "graph": lambda i, h: wiring.GraphCell(wiring.architecture("td", 3), i, h),
}
