"""Cells that are not gated on the native engine: their whole steps are traced and compiled."""

import pytest
import torch
from torch import nn

from throughtime.cells import ChoGRUCell
from throughtime.core.cell import Cell
from throughtime.core.state import zero_state
from throughtime.engines import NativeEngine
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.testing import EngineConformance

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


class Plain(Cell):
    """A cell as users write it: two linear maps and a tanh."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.of_input = nn.Linear(input_size, hidden_size)
        self.of_past = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, batch_size, *, dtype, device):
        return zero_state(batch_size, dtype=dtype, device=device, h=self.hidden_size)

    def project(self, x):
        return x

    def step(self, projected, state):
        h = torch.tanh(self.of_input(projected) + self.of_past(state.h))
        return h, type(state)(h)


@needs_compiler
class TestPlainCell(EngineConformance):
    def engine(self):
        return NativeEngine()

    def cells(self, input_size, hidden_size):
        return [Plain(input_size, hidden_size), ChoGRUCell(input_size, hidden_size)]
