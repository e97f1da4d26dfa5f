"""Programs of torch.export, strict ones too, which are loaded in a process without this package."""

import subprocess
import sys
from pathlib import Path

import warm

# in processes of their own: strict export reads Python, and the checks of annotations with it
EXPORT = """
import sys
import torch
import throughtime as tt

class Model(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.rnn = layer

    def forward(self, x, reset):
        output, state = self.rnn(x, reset=reset)
        return output, state, state.h.sum()

torch.manual_seed(0)
x, reset = torch.randn(5, 2, 3), torch.zeros(5, 2, dtype=torch.bool)
longer = torch.randn(7, 2, 3), torch.ones(7, 2, dtype=torch.bool)
time = torch.export.Dim("time", min=2)
clockwork = tt.Recurrent(tt.cells.ClockworkCell, 3, 4)
for layer, strict in ((tt.LSTM(3, 4), True), (clockwork, False)):
    model = Model(layer).eval()
    program = torch.export.export(
        model, (x, reset), dynamic_shapes=({0: time}, {0: time}), strict=strict
    )
    layer.engine = "eager"  # nothing to compile
    output, state, _ = model(*longer)
    assert program.module()(*longer)[1].h.shape == state.h.shape
    path = f"{sys.argv[1]}/{strict}.pt2"
    torch.export.save(program, path)
    torch.save((longer, [output, *state]), f"{path}.expected")
"""
LOAD = """
import pathlib
import sys
import torch

sys.modules["throughtime"] = None  # an import would fail
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.pt2"))
assert len(paths) == 2
for path in paths:
    given, expected = torch.load(f"{path}.expected")
    output, state, _ = torch.export.load(path).module()(*given)
    assert type(state) is tuple
    torch.testing.assert_close([output, *state], expected)
"""


def test_a_saved_program_is_loaded_without_this_package(tmp_path: Path):
    code, said = warm.script(EXPORT, str(tmp_path))
    assert code == 0, said
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
