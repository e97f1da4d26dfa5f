"""The adapter of torchrecurrent, on its cells and on stand-ins."""

import pytest
import torch
import torchrecurrent as tr
from torch import nn

from throughtime.foreign import adapters
from throughtime.instruments import Dynamics, gradient_flow, record

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


def h_of(state):
    return state[0] if isinstance(state, tuple) else state


def stand_in(base, forward, name="StandInCell", **extra):
    """A class as torchrecurrent has them: known by the module that its base is from."""
    base = type(base, (nn.Module,), {"__module__": "torchrecurrent.base"})

    def init(self, input_size, hidden_size):
        nn.Module.__init__(self)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = nn.Parameter(torch.randn(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.randn(hidden_size, hidden_size))

    return type(name, (base,), {"__init__": init, "forward": forward, **extra})


def single(self, x, state=None):
    state = x.new_zeros(len(x), self.hidden_size) if state is None else state
    return torch.tanh(x @ self.weight_ih.T + state @ self.weight_hh.T)


def double(self, x, state=None):
    h, c = 2 * (x.new_zeros(len(x), self.hidden_size),) if state is None else state
    c = 0.5 * c + single(self, x, h)
    return torch.tanh(c), c


def decoupled(self, x, state=None):
    v = single(self, x, state)
    return torch.cat([x, v], -1), v


def decoupled_double(self, x, state=None):
    c = x.new_zeros(len(x), self.hidden_size) if state is None else state[0]
    before = torch.zeros_like(x) if state is None else state[1]
    c = 0.5 * c + single(self, x) + before.sum(-1, keepdim=True)
    return torch.tanh(c), (c, x)


def steps_of(cell, x, separate):
    """Outputs and each first state of a loop over a cell."""
    outputs, states, state = [], [], None
    for x_t in x:
        given = cell(x_t, state)
        output, state = given if separate else (h_of(given), given)
        outputs.append(output)
        states.append(h_of(state))
    return torch.stack(outputs), states


def check_foreign(cell, x, separate, jacobian=True):
    def loss():
        return steps_of(cell, x, separate)[0][-1].square().sum()

    outputs, states = steps_of(cell, x, separate)
    wanted = torch.autograd.grad(outputs[-1].square().sum(), states, allow_unused=True)
    expected = torch.stack([x.new_zeros(()) if g is None else g.norm() for g in wanted])
    flow, recording = gradient_flow(cell, loss), record(cell, loss)
    torch.testing.assert_close(flow.norm.to(x.dtype), expected)
    assert set(flow.links[1:]) == set(recording.links[1:]) == {"connected"}
    assert not flow.answer[:-1].any()
    assert flow.answer[-1].all()
    torch.testing.assert_close(recording.outputs, outputs.detach())
    if not jacobian:
        return
    F = Dynamics(recording.cell)
    s = torch.randn(1, F.size, dtype=x.dtype)
    expected = torch.autograd.functional.jacobian(lambda v: F(v[None], x[0, :1])[0], s[0])
    torch.testing.assert_close(F.jacobian(s, x[0, :1])[0], expected)


@pytest.mark.parametrize(
    ("base", "forward", "name", "separate"),
    [
        ("SingleStateCellBase", single, "ACell", False),
        ("DoubleStateCellBase", double, "BCell", False),
        ("DecoupledSingleStateCellBase", decoupled, "CCell", True),
        ("DecoupledDoubleStateCellBase", decoupled_double, "TLSTMCell", True),
    ],
)
def test_the_adapter_of_torchrecurrent_on_stand_ins(base, forward, name, separate):
    cell = stand_in(base, forward, name)(3, 4)
    assert adapters.adapter_of(cell) is not None
    check_foreign(cell, torch.randn(5, 2, 3), separate)
    assert adapters.adapter_of(stand_in("OtherBase", forward)(3, 4)) is None


def test_the_cells_of_torchrecurrent():
    names = [name for name in tr.__all__ if name.endswith("Cell")]
    assert len(names) > 30
    for name in names:
        cell = getattr(tr, name)(4, 4)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.copy_(0.4 * torch.randn_like(parameter))
        separate = any(kind.__name__.startswith("Decoupled") for kind in type(cell).__mro__)
        check_foreign(
            cell.double(), torch.randn(5, 2, 4, dtype=torch.float64), separate, name < "D"
        )
    layer = tr.LiGRU(3, 4, num_layers=2)
    x = torch.randn(5, 2, 3)
    flow = gradient_flow(layer, lambda: layer(x)[0][-1].sum(), layer="cells.1")
    assert flow.answer.any(1).tolist() == [False] * 4 + [True]
