"""Peak memory of a training step beyond what the process holds before, each in its own process."""

import resource
import subprocess
import sys

import torch
from torch import nn

import throughtime as tt
from benchmarks.engines import case_of
from benchmarks.registry import Row, benchmark
from throughtime.engines import Request, engine_options, run

LONG = (8, 100_000, 1, 128)
USUAL = (32, 5000, 8, 128)
CASES = {
    "nn.LSTM": USUAL,
    "native": USUAL,
    "native, checkpoint=sqrt": USUAL,
    "native, checkpoint=sqrt, all outputs": LONG,
    "native, checkpoint=sqrt, last output": LONG,
}


@benchmark("memory")
def memory(rounds: int) -> list[Row]:
    """Training steps of an LSTM by torch.nn and by the native engine."""
    del rounds
    rows: list[Row] = []
    for name, shape in CASES.items():
        words = [sys.executable, "-m", "benchmarks.memory", name, str(torch.get_num_threads())]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        peak = float(said)
        rows.append(Row(case_of("LSTM", shape), name, "before", peak, peak, peak, "MB at the peak"))
    return rows


def main() -> None:
    """Print the peak of one case in megabytes, beyond what it was before the step."""
    name, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    batch, time, width, hidden = CASES[name]
    kind, engine = (nn.LSTM, {}) if name == "nn.LSTM" else (tt.LSTM, {"engine": "native"})
    small = kind(width, hidden, **engine)
    small(torch.ones(3, 2, width))[0].sum().backward()  # kernels are loaded before the baseline
    layer = kind(width, hidden, **engine)
    x = torch.randn(time, batch, width, requires_grad=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with engine_options(checkpoint="sqrt" if "sqrt" in name else None):
        if "last" in name:
            cell = layer.as_cell()
            state = cell.initial_state(batch, dtype=x.dtype, device=x.device)
            output = run(Request(cell, x, state, outputs="last"), "native").outputs
        else:
            output = layer(x)[0]
    output.backward(torch.ones_like(output))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / 1000)


if __name__ == "__main__":
    main()
