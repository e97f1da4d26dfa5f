"""The healthy recipes of the development family."""

from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe

LSTM = Design("lstm", 32, initial="remember")
LSTM_LOOP = Design("lstm", 24, loop=True, initial="remember", stateful=True)
LSTM_TWO = Design("lstm", 24, layers=2, read="final", layer_batch_first=False, initial="remember")
TT_LSTM = Design("tt_lstm", 40, initial="remember", head="log_softmax")
GRU = Design("gru", 32, initial="remember", layer_batch_first=False, stateful=True)
GRU_FINAL = Design("gru", 32, initial="remember", read="final", data_batch_first=False)
GRU_TWO_WAYS = Design("gru", 24, bidirectional=True, read="final", initial="remember")
GRU_PACKED = Design("gru", 32, read="final", packed=True)
LSTM_PADDED = Design("lstm", 32)
GRU_PADDED = Design("gru", 24, head="mlp")
LSTM_PACKED = Design("lstm", 32, read="final", packed=True)
LSTM_MAX = Design("lstm", 32, read="max", initial="remember")
GRU_MEAN = Design("gru", 32, read="mean", initial="remember", layer_batch_first=False)
TANH = Design("rnn", 32, initial="orthogonal")
RELU = Design("rnn", 32, activation="relu", initial="identity")
LSTM_STEPS = Design("lstm", 32, read="steps", initial="remember", stateful=True)
GRU_STEPS = Design("gru", 32, read="steps", initial="remember", data_batch_first=False)
TANH_STEPS = Design("rnn", 32, read="steps", initial="orthogonal", stateful=True)

RECIPES: dict[str, Recipe] = {}


def _enter(task: str, network: str, design: Design, rate: float, updates: int = 400) -> None:
    loader = "dict" if design.layer_batch_first != design.data_batch_first else "tuple"
    RECIPES[f"{task}/{network}"] = Recipe(task, design, loader=loader, rate=rate, updates=updates)


_enter("latch-40", "lstm", LSTM, 3e-3)
_enter("latch-40", "lstm-loop", LSTM_LOOP, 3e-3)
_enter("latch-40", "lstm-two", LSTM_TWO, 3e-3)
_enter("latch-40", "tt-lstm", TT_LSTM, 3e-3)
_enter("latch-40", "gru", GRU, 1e-2, 250)
_enter("latch-40", "tanh", TANH, 3e-3, 300)
_enter("latch-40", "relu", RELU, 3e-3)
_enter("latch-40", "lstm-max", LSTM_MAX, 3e-3)
_enter("latch-40", "gru-mean", GRU_MEAN, 1e-2, 250)
_enter("latch-32", "lstm", LSTM, 3e-3, 300)
_enter("latch-32", "gru-final", GRU_FINAL, 1e-2, 250)
_enter("latch-32", "tanh", TANH, 3e-3, 300)
_enter("token-40", "gru", GRU, 1e-2, 250)
_enter("token-40", "gru-two-ways", GRU_TWO_WAYS, 1e-2, 250)
_enter("token-40", "relu", RELU, 3e-3)
_enter("adding-24", "lstm", LSTM, 1e-2)
_enter("adding-24", "gru", GRU, 1e-2, 300)
_enter("adding-24", "relu", RELU, 3e-3, 600)
_enter("echo-6", "lstm", LSTM_STEPS, 1e-2)
_enter("echo-6", "gru", GRU_STEPS, 1e-2)
_enter("echo-6", "tanh", TANH_STEPS, 1e-2, 200)
_enter("announce-40", "lstm", LSTM_STEPS, 3e-3)
_enter("announce-40", "gru", GRU_STEPS, 1e-2, 250)
_enter("padded-60", "lstm", LSTM_PADDED, 1e-2, 300)
_enter("padded-60", "gru", GRU_PADDED, 1e-2, 250)
_enter("padded-60", "gru-packed", GRU_PACKED, 1e-2, 250)
_enter("padded-60", "lstm-packed", LSTM_PACKED, 1e-2, 300)
_enter("recent-40", "lstm", LSTM, 1e-2)
_enter("recent-40", "gru", GRU, 1e-2)
_enter("recent-40", "tanh", TANH, 3e-3)
_enter("pairs-40", "lstm", LSTM_STEPS, 1e-2, 250)
_enter("pairs-40", "gru", GRU_STEPS, 1e-2, 250)
