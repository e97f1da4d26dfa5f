"""The healthy recipes of the first held-out family: other tasks, widths, read-outs and heads."""

import benchmarks.doctor.tasks_first  # noqa: F401 enters its tasks
from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe

LSTM_MLP = Design("lstm", 40, head="mlp", initial="remember", layer_batch_first=False)
LSTM_TWO = Design("lstm", 28, layers=2, initial="remember", read="final")
LSTM_ATTENTION = Design("lstm", 28, initial="remember", read="attention")
LSTM_LOOP = Design("lstm", 20, loop=True, initial="remember", head="log_softmax", stateful=True)
GRU_NORM = Design("gru", 20, initial="remember", head="norm")
GRU_BEFORE = Design("gru", 48, initial="remember", before=24, stateful=True)
GRU_TWO_WAYS = Design("gru", 24, bidirectional=True, initial="remember", read="mean")
GRU_PACKED = Design("gru", 40, packed=True, read="final", layers=2)
GRU_MLP = Design("gru", 36, head="mlp", layer_batch_first=False)
LSTM_PADDED = Design("lstm", 24, layers=2)
GRU_LOOP = Design("gru", 28, loop=True, initial="remember")
LSTM_PACKED = Design("lstm", 44, packed=True, read="final", head="mlp")
TT_GRU = Design("tt_gru", 36, initial="remember", head="log_softmax", data_batch_first=False)
RELU = Design("rnn", 40, activation="relu", initial="identity", head="norm")
RELU_MLP = Design("rnn", 36, activation="relu", initial="identity", head="mlp")
RELU_LOOP = Design("rnn", 48, activation="relu", initial="identity", loop=True)
TANH = Design("rnn", 48, initial="orthogonal", layer_batch_first=False)
STEPS_LSTM = Design("lstm", 40, head="mlp", initial="remember", read="steps", stateful=True)
STEPS_GRU = Design("gru", 28, layers=2, initial="remember", read="steps", layer_batch_first=False)
STEPS_TANH = Design("rnn", 40, initial="orthogonal", read="steps")
STEPS_RELU = Design("rnn", 48, activation="relu", initial="identity", read="steps", head="norm")

RECIPES: dict[str, Recipe] = {}


def _enter(task: str, network: str, design: Design, rate: float, updates: int = 400) -> None:
    loader = "dict" if design.head in ("mlp", "norm") else "tuple"
    RECIPES[f"{task}/{network}"] = Recipe(task, design, loader=loader, rate=rate, updates=updates)


_enter("order-36", "lstm-mlp", LSTM_MLP, 3e-3)
_enter("order-36", "lstm-two", LSTM_TWO, 3e-3, 300)
_enter("order-36", "lstm-loop", LSTM_LOOP, 1e-2)
_enter("order-36", "gru-before", GRU_BEFORE, 1e-2, 200)
_enter("order-36", "gru-two-ways", GRU_TWO_WAYS, 1e-2, 200)
_enter("order-36", "tt-gru", TT_GRU, 1e-2, 200)
_enter("order-36", "relu", RELU, 3e-3, 300)
_enter("order-36", "relu-loop", RELU_LOOP, 3e-3, 300)
_enter("order-32", "gru-norm", GRU_NORM, 1e-2, 200)
_enter("order-32", "lstm-two", LSTM_TWO, 3e-3, 300)
_enter("difference-30", "lstm-attention", LSTM_ATTENTION, 1e-2, 300)
_enter("difference-30", "gru-norm", GRU_NORM, 1e-2, 250)
_enter("difference-30", "gru-loop", GRU_LOOP, 1e-2, 250)
_enter("difference-30", "relu", RELU_MLP, 3e-3)
_enter("recall-48", "lstm", STEPS_LSTM, 1e-2, 200)
_enter("recall-48", "gru-two", STEPS_GRU, 1e-2, 200)
_enter("recall-48", "tanh", STEPS_TANH, 1e-2, 150)
_enter("recall-48", "relu", STEPS_RELU, 3e-3, 200)
_enter("copying-28", "lstm", STEPS_LSTM, 1e-2)
_enter("copying-28", "gru-two", STEPS_GRU, 1e-2, 500)
_enter("copying-28", "tanh", STEPS_TANH, 3e-3)
_enter("varying-70", "gru-mlp", GRU_MLP, 1e-2, 200)
_enter("varying-70", "lstm-two", LSTM_PADDED, 1e-2, 200)
_enter("varying-70", "gru-packed", GRU_PACKED, 1e-2, 200)
_enter("varying-70", "lstm-packed", LSTM_PACKED, 1e-2, 200)
_enter("varying-70", "lstm-attention", LSTM_ATTENTION, 1e-2, 200)
_enter("late-44", "lstm-mlp", LSTM_MLP, 1e-2, 300)
_enter("late-44", "gru-before", GRU_BEFORE, 1e-2, 300)
_enter("late-44", "tanh", TANH, 1e-2, 200)
_enter("tags-40", "lstm", STEPS_LSTM, 1e-2, 200)
_enter("tags-40", "tanh", STEPS_TANH, 1e-2, 150)
