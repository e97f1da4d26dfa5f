"""The cell suite catches cells that are wrong."""

import pytest
import torch
import torch.nn.functional as F
from cells import references

from throughtime.cells import ElmanCell, LSTMCell
from throughtime.core.gated import GatedCell
from throughtime.testing import CellConformance


class DroppedBias(GatedCell):
    gates = 1

    def project(self, x):
        return F.linear(x, self.weight_ih)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh()


class SwappedLags(GatedCell):
    gates, lags = 1, (1, 3)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh()

    def recurrent_matrix(self, lag):
        return super().recurrent_matrix({1: 3, 3: 1}[lag])


class DetachedMemory(GatedCell):
    gates, memories = 4, ("c",)

    def pointwise(self, x, u, state):
        i, f, g, o = (a + b for a, b in zip(x, u, strict=True))
        c = f.sigmoid() * state.c.detach() + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class SwappedGates(GatedCell):
    gates, memories = 4, ("c",)

    def pointwise(self, x, u, state):
        f, i, g, o = (a + b for a, b in zip(x, u, strict=True))
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class KeepsThePast(GatedCell):
    """Keeps a tensor in the module between steps, so that runs are not independent."""

    gates = 1

    def pointwise(self, x, u, state):
        self.seen = getattr(self, "seen", 0) + 1
        return (x[0] + u[0]).tanh() * (1 + 0.01 * self.seen)


class InPlace(GatedCell):
    gates = 1

    def pointwise(self, x, u, state):
        return state.h.copy_((x[0] + u[0]).tanh().detach())


class ForgetsTheReset(GatedCell):
    """Its initial state is not that of zeros but whatever came before."""

    gates = 1

    def initial_state(self, batch_size, *, dtype, device):
        state = super().initial_state(batch_size, dtype=dtype, device=device)
        self.drawn = getattr(self, "drawn", 0) + 1
        return type(state)(state.h + 0.1 * self.drawn)

    def pointwise(self, x, u, state):
        return (x[0] + u[0]).tanh()


def suite_of(cell, equation):
    class Suite(CellConformance):
        def make_cell(self, input_size, hidden_size):
            return cell(input_size, hidden_size)

        def reference(self, parameters, x, state):
            return equation(parameters, x, state)

    return Suite()


def elman(lags):
    return lambda p, x, s: references.elman(p, x, s, torch.tanh, lags)


def failures(suite):
    names = [name for name in dir(suite) if name.startswith("test_")]
    failed = []
    for name in names:
        try:
            getattr(suite, name)()
        except Exception as error:  # noqa: BLE001 whatever a test raises counts as caught
            failed.append((name, error))
    return [name for name, _ in failed]


@pytest.mark.parametrize(
    ("mutant", "equation", "caught_by"),
    [
        (DroppedBias, elman((1,)), "test_equation"),
        (SwappedLags, elman((1, 3)), "test_equation"),
        (DetachedMemory, references.lstm, "test_gradients_are_those_of_finite_differences"),
        (SwappedGates, references.lstm, "test_equation"),
        (KeepsThePast, elman((1,)), "test_step_is_pure"),
        (InPlace, elman((1,)), "test_step_is_pure"),
        (ForgetsTheReset, elman((1,)), "test_reset_starts_afresh"),
    ],
)
def test_mutants_are_caught(mutant, equation, caught_by):
    assert caught_by in failures(suite_of(mutant, equation))


@pytest.mark.parametrize(
    ("cell", "equation"), [(ElmanCell, elman((1,))), (LSTMCell, references.lstm)]
)
def test_right_cells_pass(cell, equation):
    assert failures(suite_of(cell, equation)) == []
