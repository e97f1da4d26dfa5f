"""Cells that are no gated cells: unitary and layer-normalised ones, and the latch unit."""

import math

import pytest
import torch
from cells.references import gate, linear, sigmoid

import throughtime as tt
from throughtime.cells import LatchUnitCell, LayerNormGRUCell, LayerNormLSTMCell, UnitaryCell
from throughtime.core.state import state_type
from throughtime.testing import CellConformance


def fourier(n):
    """The unitary Fourier matrix, written out."""
    turns = torch.outer(torch.arange(n), torch.arange(n)).double() * (-2 * math.pi / n)
    return torch.polar(torch.ones_like(turns), turns) / math.sqrt(n)


def reflection(v):
    return torch.eye(len(v)).to(v) - 2 * torch.outer(v, v.conj()) / (v * v.conj()).real.sum()


class Unitary(CellConformance):
    by = "auto"

    def make_cell(self, input_size, hidden_size):
        cell = UnitaryCell(input_size, hidden_size, by=self.by)
        self.permutation = cell.permutation
        return cell

    def reference(self, parameters, x, state):
        p, n = parameters, parameters["bias"].shape[0]
        f = fourier(n)
        d1, d2, d3 = (torch.diag(torch.polar(torch.ones(n).double(), t)) for t in p["theta"])
        r1, r2 = (reflection(torch.complex(v[:n], v[n:])) for v in p["reflection"])
        shuffle = torch.eye(n)[self.permutation].to(f)
        w = d3 @ r2 @ f.mH @ d2 @ shuffle @ r1 @ f @ d1
        h = torch.complex(state.h[:, :n], state.h[:, n:])
        outputs = []
        for x_t in x:
            v = linear(x_t, p["weight_ih"], None)
            z = h @ w.T + torch.complex(v[:, :n], v[:, n:])
            size = (z.real.square() + z.imag.square()).sqrt()
            h = z / (size + 1e-5) * (size + p["bias"]).clamp(min=0)
            outputs.append(torch.cat([h.real, h.imag], 1))
        return torch.stack(outputs), state_type("h")(outputs[-1])


class TestUnitaryByItsMatrix(Unitary):
    by = "matrix"


class TestUnitaryByFourierTransforms(Unitary):
    by = "fft"


class TestLatchUnit(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LatchUnitCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, h, outputs = parameters, state.h, []
        for x_t in x:
            noise = x_t[:, -1:]
            h = torch.tanh(
                linear(x_t[:, :-1], p["weight_ih"], noise) + linear(h, p["weight_hh"], None)
            )
            outputs.append(h)
        return torch.stack(outputs), state_type("h")(h)


def normed(a, gain, bias):
    centred = a - a.mean(-1, keepdim=True)
    return gain * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias


class TestLayerNormLSTM(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LayerNormLSTMCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, (h, c) = parameters, state
        n, outputs = h.shape[1], []
        for x_t in x:
            a = normed(linear(x_t, p["weight_ih"], None), p["gain_ih"], p["bias_ih"])
            b = normed(linear(h, p["weight_hh"], None), p["gain_hh"], p["bias_hh"])
            i, f, g, o = (gate(a + b, k, n) for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            h = sigmoid(o) * torch.tanh(normed(c, p["gain_memory"], p["bias_memory"]))
            outputs.append(h)
        return torch.stack(outputs), state_type("h", "c")(h, c)


class TestLayerNormGRU(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return LayerNormGRUCell(input_size, hidden_size)

    def reference(self, parameters, x, state):
        p, (h,) = parameters, state
        n, outputs = h.shape[1], []

        def parts(name, a):
            gates = normed(a[:, : 2 * n], p[f"gain_{name}"], p[f"bias_{name}"])
            new = normed(a[:, 2 * n :], p[f"gain_{name}_new"], p[f"bias_{name}_new"])
            return gates[:, :n], gates[:, n:], new

        for x_t in x:
            a_r, a_z, a_n = parts("ih", linear(x_t, p["weight_ih"], None))
            b_r, b_z, b_n = parts("hh", linear(h, p["weight_hh"], None))
            r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
            h = (1 - z) * torch.tanh(a_n + r * b_n) + z * h
            outputs.append(h)
        return torch.stack(outputs), state_type("h")(h)


def test_the_matrix_is_unitary_before_and_after_training() -> None:
    torch.manual_seed(0)
    layer = tt.Recurrent(UnitaryCell(2, 32))
    head = torch.nn.Linear(64, 1)
    optimizer = torch.optim.RMSprop([*layer.parameters(), *head.parameters()], lr=1e-2)
    before = layer.theta_l0.detach().clone()
    for _ in range(30):
        x = torch.randn(20, 8, 2)
        loss = (head(layer(x)[0][-1]) - x[0, :, :1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (layer.theta_l0 - before).abs().max() > 0.01
    (cell,) = layer.cells()
    w = cell.matrix().to(torch.complex128)
    assert (w @ w.mH - torch.eye(32)).abs().max() < 1e-6


def test_the_learned_start_has_a_gradient() -> None:
    layer = tt.Recurrent(UnitaryCell(1, 3))
    layer(torch.randn(4, 2, 1))[0].square().sum().backward()
    assert layer.start_l0.grad.abs().min() > 0


@pytest.mark.usefixtures("unchecked")
def test_unknown_ways_are_refused() -> None:
    with pytest.raises(tt.errors.UnknownNameError, match="unknown way of applying W"):
        UnitaryCell(2, 3, by="magic")
