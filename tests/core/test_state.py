import copy
import pickle

import torch

from throughtime.cells import LSTMCell
from throughtime.core.cell import bind
from throughtime.core.state import map_state, state_tensors, state_type


def test_one_class_for_each_list_of_fields():
    assert state_type("h", "c") is state_type("h", "c")
    assert state_type("h", "c") is not state_type("c", "h")


def test_states_can_be_copied_and_pickled():
    state = state_type("h", "past")(torch.ones(2), (torch.zeros(2), torch.ones(3)))
    for duplicate in (copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))):
        twin = duplicate(state)
        assert type(twin) is type(state)
        assert torch.equal(twin.past[1], state.past[1])


def test_mapping_keeps_the_structure():
    inner = state_type("h")(torch.ones(1))
    state = state_type("h", "layers")(torch.zeros(1), (inner, inner))
    doubled = map_state(lambda a, b: a + b, state, state)
    assert doubled.layers[1].h.item() == 2
    assert type(doubled) is type(state)
    assert [t.item() for t in state_tensors(doubled)] == [0, 2, 2]


def test_binding_leaves_the_cell_alone():
    cell = LSTMCell(2, 3)
    before = dict(cell.named_parameters())
    zeros = {name: torch.zeros_like(p) for name, p in before.items()}
    bound = bind(cell, zeros)
    assert bound.weight_hh is zeros["weight_hh"]
    assert all(dict(cell.named_parameters())[n] is p for n, p in before.items())
    nested = torch.nn.Sequential(cell)
    assert bind(nested, {f"0.{n}": z for n, z in zeros.items()})[0].bias_ih is zeros["bias_ih"]
    assert nested[0] is cell
