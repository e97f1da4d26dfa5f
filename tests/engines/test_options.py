import pytest
import torch

import throughtime as tt
from throughtime.core.errors import ConfigurationError, EngineRefusalError
from throughtime.engines.engine import EngineOptions, Request

pytestmark = pytest.mark.without_compiler


@pytest.mark.parametrize(
    ("checkpoint", "time", "segment"),
    [(None, 100, 0), (7, 100, 7), ("sqrt", 1, 1), ("sqrt", 16, 4), ("sqrt", 17, 5), (9, 3, 9)],
)
def test_segment(checkpoint, time, segment):
    assert EngineOptions(checkpoint).segment(time) == segment


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("checkpoint", [0, -1, 2.5, True, "log"])
def test_out_of_range(checkpoint):
    with pytest.raises(ConfigurationError, match='expected None, "sqrt", or a number of steps'):
        EngineOptions(checkpoint)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("budget", [0, -1, 2.5, True, "all"])
def test_a_budget_is_a_number_of_bytes(budget):
    with pytest.raises(ConfigurationError, match="expected None, or a number of bytes"):
        EngineOptions(memory_budget=budget)


def test_a_budget_or_checkpoints():
    with pytest.raises(ConfigurationError, match="expected one of the two"):
        EngineOptions(checkpoint=3, memory_budget=1_000)
    assert EngineOptions().stores_all
    assert not EngineOptions(memory_budget=1_000).stores_all


def test_options_hold_within_the_block_only():
    cell = tt.cells.ElmanCell(1, 1)
    state = cell.initial_state(1, dtype=torch.float32, device=torch.device("cpu"))

    def options():
        return Request(cell, torch.ones(1, 1, 1), state).options

    assert options() == EngineOptions()
    with tt.engine_options(checkpoint=3), tt.engine_options(checkpoint="sqrt"):
        assert options() == EngineOptions("sqrt")
    assert options() == EngineOptions()


def test_auto_that_finds_no_engine_says_why():
    layer = tt.LSTM(3, 4, proj_size=2)
    with (
        tt.engine_options(checkpoint="sqrt"),
        pytest.raises(EngineRefusalError, match="vendor: torch's kernels store every step"),
    ):
        torch.func.vmap(lambda x: layer(x)[0])(torch.ones(2, 2, 1, 3))
