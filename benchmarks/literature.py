"""The library's gated cells beside its LSTM: shares of the machine's peak in a training step."""

from collections.abc import Callable

import throughtime as tt
from benchmarks.engines import shares
from benchmarks.registry import Row, benchmark
from throughtime import cells, wiring

GATED: dict[str, Callable[[int, int], tt.GatedCell]] = {
    "Elman, lags 1 and 5": lambda i, h: cells.ElmanCell(i, h, lags=(1, 5)),
    "coupled LSTM": cells.CoupledLSTMCell,
    "leaky": cells.LeakyCell,
    "minimal gated unit": cells.MinimalGatedUnitCell,
    "multiplicative RNN": cells.MultiplicativeCell,
    "multiplicative LSTM": cells.MultiplicativeLSTMCell,
    "multiplicative GRU": cells.MultiplicativeGRUCell,
    "clockwork": cells.ClockworkCell,
    "LSTM, recurrent dropout": cells.RecurrentDropoutLSTMCell,
    "GRU, recurrent dropout": cells.RecurrentDropoutGRUCell,
    "LSTM, zoneout": lambda i, h: wiring.ZoneoutCell(cells.LSTMCell(i, h)),
    "flip-flop": cells.FlipFlopCell,
    # no matrix times a state: what they do is read and write memory
    "IndRNN": cells.IndRNNCell,
    "minGRU": cells.MinGRUCell,
    "minLSTM": cells.MinLSTMCell,
}


@benchmark("literature")
def literature(rounds: int) -> list[Row]:
    """The share of the machine's peak of each gated cell of the library, and of LSTM's share."""
    return shares(GATED, rounds)
