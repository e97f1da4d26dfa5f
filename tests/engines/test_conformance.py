import dataclasses

import pytest
import torch
from cells.samples import LookingBack, MinimalGRU, MultiplicativeIntegration, StreamedCell

import throughtime as tt
from throughtime.cells import (
    ChoGRUCell,
    CoupledLSTMCell,
    ElmanCell,
    GRUCell,
    LSTM1997Cell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    ProjectedLSTMCell,
)
from throughtime.core.state import map_state
from throughtime.engines import (
    ENGINES,
    EagerEngine,
    Engine,
    NativeEngine,
    ScanEngine,
    VendorEngine,
    unroll,
)
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.testing import EngineConformance

pytestmark = pytest.mark.without_compiler


class TestEager(EngineConformance):
    def engine(self):
        return EagerEngine()

    def cells(self, input_size, hidden_size):
        return [
            LSTMCell(input_size, hidden_size, peepholes=True),
            ElmanCell(input_size, hidden_size, lags=(1, 4)),
            ChoGRUCell(input_size, hidden_size),
            StreamedCell(input_size, hidden_size),
            MinimalGRU(input_size, hidden_size),
            tt.wiring.StackedCell(
                [LSTM1997Cell(input_size, 3), StreamedCell(3, hidden_size)],
            ),
        ]


class TestVendor(EngineConformance):
    def engine(self):
        return VendorEngine()

    def serves(self):
        return frozenset({"lengths", "last"})

    def cells(self, input_size, hidden_size):
        return [
            LSTMCell(input_size, hidden_size),
            ProjectedLSTMCell(input_size, hidden_size + 2, proj_size=hidden_size),
            GRUCell(input_size, hidden_size, bias=False),
            ElmanCell(input_size, hidden_size),
            ElmanCell(input_size, hidden_size, nonlinearity="relu"),
        ]


@pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
class TestNative(EngineConformance):
    """Every gated cell of the library, and those of users that use what the library's do not."""

    def engine(self):
        return NativeEngine()

    def cells(self, input_size, hidden_size):
        return [
            ElmanCell(input_size, hidden_size),
            ElmanCell(input_size, hidden_size, nonlinearity="relu", lags=(1, 4)),
            ElmanCell(input_size, hidden_size, nonlinearity="identity", lags=(2, 3), bias=False),
            LSTMCell(input_size, hidden_size),
            LSTMCell(input_size, hidden_size, peepholes=True),
            CoupledLSTMCell(input_size, hidden_size),
            LSTM1997Cell(input_size, hidden_size, bias=False),
            GRUCell(input_size, hidden_size),
            GRUCell(input_size, hidden_size, bias=False),
            StreamedCell(input_size, hidden_size),
            MinimalGRU(input_size, hidden_size),
            MultiplicativeIntegration(input_size, hidden_size),
            LookingBack(input_size, hidden_size),
        ]


class TestScan(EngineConformance):
    def engine(self):
        return ScanEngine()

    def cells(self, input_size, hidden_size):
        return [
            MinGRUCell(input_size, hidden_size),
            MinLSTMCell(input_size, hidden_size, candidate="positive"),
        ]


def test_every_engine_has_a_suite():
    suites = [s for s in globals().values() if isinstance(s, type) and s is not EngineConformance]
    suites = [s for s in suites if issubclass(s, EngineConformance)]
    assert {type(engine) for engine in ENGINES.values()} == {type(s().engine()) for s in suites}


class Mutant(Engine):
    """The eager engine with one thing wrong."""

    name = "mutant"

    def prepare(self, request):
        return lambda: self.returned(request, unroll(self.changed(request)))

    def changed(self, request):
        return request

    def returned(self, request, result):
        return result


class ShiftedReset(Mutant):
    def changed(self, request):
        if request.resets is None:
            return request
        return dataclasses.replace(request, resets=request.resets.roll(1, 0))


class IgnoredState(Mutant):
    def changed(self, request):
        return dataclasses.replace(request, state=map_state(torch.zeros_like, request.state))


class ShortenedLength(Mutant):
    def changed(self, request):
        if request.lengths is None:
            return request
        return dataclasses.replace(request, lengths=(request.lengths - 1).clamp(min=1))


class DetachedInput(Mutant):
    def changed(self, request):
        return dataclasses.replace(request, inputs=request.inputs.detach())


class DetachedMemory(Mutant):
    def returned(self, request, result):
        state = result.state
        return result._replace(state=type(state)(state.h, state.c.detach()))


class SwappedRows(Mutant):
    def returned(self, request, result):
        return result._replace(outputs=result.outputs.flip(-2))


class Elsewhere(Mutant):
    """Runs, but never under its own name."""

    name = "elsewhere"


class WrongWithoutGradient(Mutant):
    def returned(self, request, result):
        if torch.is_grad_enabled():
            return result
        return result._replace(outputs=result.outputs * 0)


class WrongWhenFrozen(Mutant):
    def returned(self, request, result):
        if all(p.requires_grad for p in request.cell.parameters()):
            return result
        return result._replace(outputs=result.outputs * 2)


@pytest.mark.parametrize(
    ("mutant", "caught_by"),
    [
        (WrongWithoutGradient, "test_whole_sequences"),
        (WrongWhenFrozen, "test_frozen_parameters"),
        (ShiftedReset, "test_resets"),
        (IgnoredState, "test_whole_sequences"),
        (ShortenedLength, "test_lengths"),
        (DetachedInput, "test_whole_sequences"),
        (DetachedMemory, "test_whole_sequences"),
        (SwappedRows, "test_last_output_alone"),
    ],
)
def test_mutants_are_caught(mutant, caught_by):
    class Suite(EngineConformance):
        def engine(self):
            return mutant()

        def cells(self, input_size, hidden_size):
            return [LSTMCell(input_size, hidden_size)]

    with pytest.raises((AssertionError, RuntimeError)):
        getattr(Suite(), caught_by)()


def test_auto_is_never_compared_with_itself():
    """A suite whose engine is not the one that ran fails."""

    class Suite(EngineConformance):
        def engine(self):
            engine = Elsewhere()
            type(self).calls = getattr(type(self), "calls", 0) + 1
            engine.__dict__["name"] = f"elsewhere {type(self).calls}"
            return engine

        def cells(self, input_size, hidden_size):
            return [LSTMCell(input_size, hidden_size)]

    with pytest.raises(AssertionError, match="ran instead"):
        Suite().test_whole_sequences()
