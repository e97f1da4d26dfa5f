"""The healthy recipes of the second held-out family: tasks and networks of neither one before."""

import benchmarks.doctor.tasks_second  # noqa: F401 enters its tasks
from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe

LSTM_NORM = Design("lstm", 44, head="norm", initial="remember", stateful=True)
LSTM_TWO = Design("lstm", 26, layers=2, head="mlp", initial="remember", layer_batch_first=False)
LSTM_FINAL = Design("lstm", 36, read="final", initial="remember", data_batch_first=False)
LSTM_LOOP = Design("lstm", 22, loop=True, read="final", initial="remember")
LSTM_TWO_WAYS = Design("lstm", 20, bidirectional=True, read="max", initial="remember")
TT_LSTM = Design("tt_lstm", 34, initial="remember", layer_batch_first=False)
GRU_BEFORE = Design("gru", 30, before=20, head="log_softmax", initial="remember")
GRU_TWO = Design("gru", 26, layers=2, read="final", initial="remember")
GRU_ATTENTION = Design("gru", 28, read="attention", initial="remember", data_batch_first=False)
GRU_LOOP = Design("gru", 24, loop=True, head="mlp", initial="remember", stateful=True)
TANH = Design("rnn", 40, initial="orthogonal", head="mlp", stateful=True)
TANH_LOOP = Design("rnn", 36, initial="orthogonal", loop=True)
RELU = Design("rnn", 44, activation="relu", initial="identity", before=16)
RELU_FINAL = Design("rnn", 40, activation="relu", initial="identity", read="final")
STEPS_LSTM = Design("lstm", 36, before=16, initial="remember", read="steps")
STEPS_GRU = Design("gru", 34, head="norm", initial="remember", read="steps", stateful=True)
STEPS_TANH = Design("rnn", 44, initial="orthogonal", read="steps", data_batch_first=False)
STEPS_RELU = Design("rnn", 36, activation="relu", initial="identity", read="steps")
LSTM_PADDED = Design("lstm", 30, head="norm")
GRU_PADDED = Design("gru", 34, layer_batch_first=False)
LSTM_PACKED = Design("lstm", 28, packed=True, read="final", layers=2)
GRU_PACKED = Design("gru", 36, packed=True, read="final", before=16)

RECIPES: dict[str, Recipe] = {}


def _enter(task: str, network: str, design: Design, rate: float, updates: int = 300) -> None:
    loader = "dict" if design.stateful or design.before else "tuple"
    RECIPES[f"{task}/{network}"] = Recipe(task, design, loader=loader, rate=rate, updates=updates)


_enter("majority-35", "lstm-norm", LSTM_NORM, 3e-3)
_enter("majority-35", "lstm-two", LSTM_TWO, 3e-3)
_enter("majority-35", "lstm-loop", LSTM_LOOP, 1e-2)
_enter("majority-35", "gru-before", GRU_BEFORE, 1e-2)
_enter("majority-35", "gru-attention", GRU_ATTENTION, 1e-2, 250)
_enter("majority-35", "relu", RELU, 3e-3)
_enter("majority-32", "lstm-final", LSTM_FINAL, 3e-3)
_enter("majority-32", "gru-two", GRU_TWO, 3e-3)
_enter("majority-32", "relu-final", RELU_FINAL, 1e-3, 400)
_enter("pulses-36", "lstm-two", LSTM_TWO, 3e-3, 600)
_enter("pulses-36", "lstm-two-ways", LSTM_TWO_WAYS, 1e-2)
_enter("pulses-36", "tt-lstm", TT_LSTM, 1e-2, 450)
_enter("pulses-36", "gru-loop", GRU_LOOP, 1e-2)
_enter("pulses-36", "tanh", TANH, 1e-3, 800)
_enter("pulses-36", "relu-final", RELU_FINAL, 3e-3)
_enter("pulses-36", "tanh-loop", TANH_LOOP, 1e-3, 800)
_enter("marked-33", "lstm-norm", LSTM_NORM, 3e-3, 700)
_enter("marked-33", "gru-two", GRU_TWO, 1e-2, 400)
_enter("marked-33", "gru-loop", GRU_LOOP, 1e-2, 400)
_enter("marked-33", "relu", RELU, 3e-3, 500)
_enter("query-40", "lstm", STEPS_LSTM, 3e-3, 400)
_enter("query-40", "gru", STEPS_GRU, 1e-2)
_enter("query-40", "relu", STEPS_RELU, 3e-3)
_enter("reverse-26", "lstm", STEPS_LSTM, 1e-2, 400)
_enter("reverse-26", "gru", STEPS_GRU, 1e-2, 400)
_enter("reverse-26", "tanh", STEPS_TANH, 3e-3, 400)
_enter("varying-64", "lstm-padded", LSTM_PADDED, 1e-2, 200)
_enter("varying-64", "gru-padded", GRU_PADDED, 1e-2, 200)
_enter("varying-64", "lstm-packed", LSTM_PACKED, 1e-2, 200)
_enter("varying-64", "gru-packed", GRU_PACKED, 1e-2, 200)
_enter("ending-42", "lstm-final", LSTM_FINAL, 1e-2)
_enter("ending-42", "gru-before", GRU_BEFORE, 1e-2)
_enter("ending-42", "tanh", TANH, 3e-3)
_enter("rising-38", "lstm", STEPS_LSTM, 1e-2)
_enter("rising-38", "tanh", STEPS_TANH, 3e-3)
