"""Every gated cell of the literature runs on the native engine, as the eager one runs it."""

import pytest
import torch

import throughtime as tt
from throughtime import cells
from throughtime.engines import recording
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.wiring import ZoneoutCell


class Blocks(tt.GatedCell):
    """Heads with two lags, a memory, and parameters for each unit and gate."""

    gates, memories, lags, heads = 2, ("c",), (1, 3), 3

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.scale = torch.nn.Parameter(torch.rand(2, hidden_size))
        self.shift = torch.nn.Parameter(torch.rand(hidden_size))

    def pointwise(self, x, u, state):
        z = (x[0] * self.scale[0] + u[0]).sigmoid()
        c = z * state.c + (1 - z) * (x[1] + self.scale[1] * u[1]).tanh()
        return c * self.shift + 0.1 * state.past[1], c


MADE = {
    "slstm": lambda: cells.SLSTMCell(3, 8, heads=4),
    "blocks": lambda: Blocks(3, 9),
    "leaky": lambda: cells.LeakyCell(3, 7, rate=(0.1, 0.9), learnable=True, lags=(1, 3)),
    "indrnn": lambda: cells.IndRNNCell(3, 7, nonlinearity="tanh"),
    "mgu": lambda: cells.MinimalGatedUnitCell(3, 7),
    "mingru": lambda: cells.MinGRUCell(3, 7),
    "minlstm": lambda: cells.MinLSTMCell(3, 7, candidate="positive"),
    "mi-rnn": lambda: cells.MultiplicativeCell(3, 7),
    "mi-lstm": lambda: cells.MultiplicativeLSTMCell(3, 7, frozen=("alpha",)),
    "mi-gru": lambda: cells.MultiplicativeGRUCell(3, 7),
    "clockwork": lambda: cells.ClockworkCell(3, 7, periods=(1, 2, 4)),
    "time scales": lambda: cells.ClockworkCell(3, 7, periods=(1, 3), connections="all"),
    "lstm dropout": lambda: cells.RecurrentDropoutLSTMCell(3, 7, per="sequence"),
    "gru dropout": lambda: cells.RecurrentDropoutGRUCell(3, 7),
    "zoneout": lambda: ZoneoutCell(cells.LSTMCell(3, 7, peepholes=True), output_rate=0.3),
    "zoneout of clockwork": lambda: ZoneoutCell(cells.ClockworkCell(3, 7, periods=(1, 2))),
}


@pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("training", [True, False])
def test_native_equals_eager(name: str, training: bool) -> None:
    """Outputs, the last state and all gradients, with lengths, resets and the same masks."""
    layer = tt.Recurrent(MADE[name](), engine="native").double().train(training)
    lengths, reset = torch.tensor([11, 4, 9, 1]), torch.rand(11, 4) < 0.15
    x = torch.randn(11, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = [p for p in layer.parameters() if p.requires_grad]
    results = []
    for engine in ("native", "eager"):
        layer.engine = engine
        torch.manual_seed(3)
        with recording() as ran:
            outputs, state = layer(x, lengths=lengths, reset=reset)
        assert ran == [engine]
        ends = [s for s in (state if isinstance(state, tuple) else (state,)) if torch.is_tensor(s)]
        ends = [s for s in ends if s.is_floating_point()]
        loss = outputs.sin().sum() + sum(s.cos().sum() for s in ends)
        results.append([outputs, *ends, *torch.autograd.grad(loss, [x, *weights])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
