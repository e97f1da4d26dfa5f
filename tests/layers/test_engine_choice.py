"""Which engine runs a layer, and what `explain` says of it."""

import pytest
import torch

import throughtime as tt
from throughtime.core.gated import GatedCell
from throughtime.engines import recording
from throughtime.engines.cpp import engine as native_engine
from throughtime.engines.cpp.compiler import Search, find_compiler

pytestmark = pytest.mark.without_compiler

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a compiler, on purpose, so that nothing is warned of."""
    monkeypatch.setenv("THROUGHTIME_CXX", "none")
    monkeypatch.setattr(native_engine, "search", lambda: Search("switched off", {}))


@needs_compiler
def test_explain_says_which_engine_and_why():
    assert str(tt.LSTM(3, 4).explain()) == "native (chosen by auto)"
    assert str(tt.GRU(3, 4, engine="eager").explain()) == "eager (chosen by name)"
    assert str(tt.Recurrent(tt.cells.ChoGRUCell, 3, 4).explain()) == "native (chosen by auto)"
    sorting = str(tt.Recurrent(Sorting(3, 4)).explain())
    assert sorting.splitlines()[0] == "eager (chosen by auto)"
    assert "step uses aten.sort.default, which is not in the native engine's list" in sorting
    assert "not vendor: Sorting is none of torch's" in sorting


class Sorting(GatedCell):
    """A cell with an operation that compiled code does not have."""

    gates = ("h",)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).sort().values


def test_explain_without_a_compiler(no_compiler):
    choice = str(tt.LSTM(3, 4).explain())
    assert choice == "vendor (chosen by auto)\n  not native: switched off"
    skip = tt.RNN(3, 4, lags=(1, 2)).explain()
    assert skip.engine == "eager"
    assert "not vendor: ElmanCell is none of torch's" in str(skip)
    assert "per-step reset" in str(tt.GRU(3, 4).explain(reset=torch.zeros(1, 1).bool()))
    assert "last step only" in str(tt.GRU(3, 4).explain(return_states=True))


def test_an_engine_asked_for_by_name_refuses_what_it_cannot_do():
    layer = tt.LSTM(3, 4, engine="vendor")
    with pytest.raises(tt.errors.EngineRefusalError, match=r"per-step reset\. Use engine='auto'"):
        layer(torch.zeros(5, 2, 3), reset=torch.zeros(5, 2, dtype=torch.bool))
    with pytest.raises(tt.errors.UnknownNameError, match="Did you mean 'vendor'"):
        tt.LSTM(3, 4, engine="vender")


def test_auto_runs_the_vendor_where_it_can_and_records_it(no_compiler):
    layer = tt.GRU(3, 4, 2, bidirectional=True)
    with tt.engines.recording() as names:
        layer(torch.zeros(5, 2, 3))
        layer(torch.zeros(5, 2, 3), reset=torch.zeros(5, 2, dtype=torch.bool))
    assert names == ["vendor"] * 4 + ["eager"] * 4


@needs_compiler
def test_auto_runs_the_native_engine_where_it_can():
    layer = tt.GRU(3, 4, 2, bidirectional=True)
    with tt.engines.recording() as names:
        layer(torch.zeros(5, 2, 3))
        layer(torch.zeros(5, 2, 3), reset=torch.zeros(5, 2, dtype=torch.bool), return_states=True)
    assert names == ["native"] * 8


@pytest.mark.usefixtures("no_compiler")
def test_float16_autocast_without_a_compiler_needs_no_kernel_of_onednn():
    layer, x = tt.LSTM(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.float16), recording() as names:
        assert "not vendor: oneDNN has no LSTM in float16" in str(layer.explain(x))
        output, (h, c) = layer(x)
    assert names == ["eager"]
    assert output.dtype == h.dtype == c.dtype == torch.float16
    torch.testing.assert_close(output.float(), expected, rtol=1e-2, atol=1e-2)


def test_a_schedule_in_training_draws_nothing():
    layer = tt.Recurrent(tt.cells.ClockworkCell, 3, 4)
    zoneout = tt.Recurrent(
        lambda i, h: tt.wiring.ZoneoutCell(
            tt.cells.LSTMCell(i, h), output_rate=0.0, memory_rate=1.0
        ),
        3,
        4,
    )
    before = torch.get_rng_state()
    for never_random in (layer, zoneout):
        never_random.train()(torch.ones(5, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_explain_says_which_engine_a_captured_program_is_made_by():
    assert tt.LSTM(3, 4).explain(captured=True).engine == "vendor"
    skip = str(tt.RNN(3, 4, lags=(1, 2)).explain(captured=True))
    assert skip.startswith("eager (chosen by auto)")
    assert "not native: a program is captured of the call, and its kernels are of this" in skip


def test_the_native_engine_by_name_is_not_captured():
    layer = tt.LSTM(3, 4, engine="native").requires_grad_(False)
    with pytest.raises(tt.errors.EngineRefusalError, match=r"torch\.export captures the call"):
        torch.export.export(layer, (torch.zeros(5, 2, 3),), strict=False)


def test_checkpoints_are_not_captured():
    with (
        tt.engines.engine_options(checkpoint="sqrt"),
        pytest.raises(
            tt.errors.EngineRefusalError, match="as a program, which sees no checkpoints"
        ),
    ):
        torch.export.export(tt.LSTM(3, 4), (torch.zeros(5, 2, 3),), strict=False)
