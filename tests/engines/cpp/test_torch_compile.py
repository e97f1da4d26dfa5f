"""The operators and layers under torch.compile, in a process of its own: it cannot trace checks."""

import textwrap

import pytest
import warm

from throughtime.engines.cpp.compiler import find_compiler

SCRIPT = """
    import torch
    import throughtime as tt
    from throughtime.engines import recording
    from throughtime.engines.cpp.engine import kernel_of
    from throughtime.engines.cpp.operands import gather
    from throughtime.engines.cpp.operators import sequence

    torch.manual_seed(0)
    layer = tt.LSTM(3, 5, engine="native")
    cell, x = layer.as_cell(), torch.randn(4, 2, 3, requires_grad=True)
    state = cell.initial_state(2, dtype=x.dtype, device=x.device)
    kernel = kernel_of(cell, x.dtype)
    operands = gather(kernel.plan, cell, x, state, ())
    torch.library.opcheck(sequence, (kernel.name, operands, None, None, "all", True, 0))

    def loss(operands):
        outputs = sequence(kernel.name, operands, None, None, "all", True, 0)[2]
        return outputs.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaves = [x, *cell.parameters()]
    expected = torch.autograd.grad(loss(operands), leaves)
    for got, wanted in zip(torch.autograd.grad(compiled(operands), leaves), expected):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.readout = layer, torch.nn.Linear(5, 1)

        def forward(self, x):
            return self.readout(self.layer(torch.tanh(x))[0]).sum()

    model = Model()
    expected = torch.autograd.grad(model(x), list(model.parameters()))
    with recording() as names:
        value = torch.compile(model, backend="aot_eager")(x)
    assert names == ["native"], names
    for got, wanted in zip(torch.autograd.grad(value, list(model.parameters())), expected):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
"""


@pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
def test_torch_compile():
    code, said = warm.script(textwrap.dedent(SCRIPT))
    assert code == 0, said
