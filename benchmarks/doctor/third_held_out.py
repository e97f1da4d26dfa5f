"""The healthy recipes of the third held-out family, for faults of scale."""

import benchmarks.doctor.tasks_third  # noqa: F401 enters its tasks
from benchmarks.doctor.models import Design
from benchmarks.doctor.recipes import Recipe

LSTM = Design("lstm", 38, initial="remember")
LSTM_TWO = Design("lstm", 22, layers=2, read="final", initial="remember")
LSTM_LOOP = Design("lstm", 18, loop=True, initial="remember", head="mlp")
GRU_MLP = Design("gru", 38, head="mlp", initial="remember", data_batch_first=False)
GRU_TWO = Design("gru", 22, layers=2, initial="remember", layer_batch_first=False)
TT_GRU = Design("tt_gru", 26, initial="remember", head="norm")
TANH = Design("rnn", 34, initial="orthogonal", read="final")
STEPS_LSTM = Design("lstm", 26, initial="remember", read="steps", head="mlp")
STEPS_GRU = Design("gru", 38, initial="remember", read="steps", layer_batch_first=False)
STEPS_TANH = Design("rnn", 38, initial="orthogonal", read="steps", stateful=True)

RECIPES: dict[str, Recipe] = {}


def _enter(task: str, network: str, design: Design, rate: float, updates: int = 300) -> None:
    RECIPES[f"{task}/{network}"] = Recipe(task, design, rate=rate, updates=updates)


_enter("level-34", "lstm", LSTM, 1e-2)
_enter("level-34", "lstm-two", LSTM_TWO, 3e-3)
_enter("level-34", "lstm-loop", LSTM_LOOP, 3e-3, 500)
_enter("level-34", "gru-mlp", GRU_MLP, 1e-2)
_enter("level-34", "gru-two", GRU_TWO, 3e-3)
_enter("level-34", "tanh", TANH, 1e-3, 500)
_enter("early-30", "lstm", LSTM, 3e-3, 600)
_enter("early-30", "gru-two", GRU_TWO, 1e-2)
_enter("early-30", "tt-gru", TT_GRU, 1e-2)
_enter("early-30", "tanh", TANH, 1e-3, 500)
_enter("held-36", "lstm", STEPS_LSTM, 1e-2)
_enter("held-36", "gru", STEPS_GRU, 1e-2)
_enter("held-36", "tanh", STEPS_TANH, 3e-3)
