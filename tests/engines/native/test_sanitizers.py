"""The kernels under the address, undefined-behaviour and thread sanitizers."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from cells.samples import MultiplicativeIntegration, StreamedCell

import throughtime as tt
from throughtime.engines import engine_options
from throughtime.engines.native import job as jobs
from throughtime.engines.native.building import SOURCE_FOLDER
from throughtime.engines.native.compiler import find_compiler
from throughtime.engines.native.kernel import Kernel
from throughtime.engines.native.printer import print_cells

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(isinstance(COMPILER, str), reason="no C++ compiler")

SANITIZERS = {"memory": "address,undefined", "threads": "thread"}
CELLS = (tt.cells.LSTMCell, StreamedCell, MultiplicativeIntegration)


def build(kind: str, plans, folder: Path) -> Path:
    """The driver with these cells under a sanitizer."""
    tables = {"Forward": ("forward", "inference"), "Backward": ("backward",)}
    lists = [
        f"static const {of} {name.upper()}S[] = "
        f"{{{', '.join(f'{name}_{i}' for i in range(len(plans)))}}};\n"
        for of, names in tables.items()
        for name in names
    ]
    (folder / "cell.cpp").write_text(print_cells(plans) + "".join(lists))
    program = folder / "driver"
    words = [COMPILER.path, "-std=c++17", "-O1", "-g", "-ffp-contract=fast", "-Wno-psabi"]
    words += [f for f in COMPILER.flags if f.startswith("-m")]
    words += ["-pthread", f"-fsanitize={SANITIZERS[kind]}", "-fno-sanitize-recover=all"]
    words += ["-DREAL=double", f"-DVECTOR_BYTES={COMPILER.vector_bytes}"]
    words += [f"-I{SOURCE_FOLDER}", f"-I{folder}", str(Path(__file__).with_name("driver.cpp"))]
    made = subprocess.run([*words, "-o", str(program)], capture_output=True, text=True)
    if "cannot find -l" in made.stderr:
        pytest.skip(f"the compiler has no {kind} sanitizer")
    assert made.returncode == 0, made.stderr
    return program


def numbers(value: int) -> bytes:
    return int(value).to_bytes(8, "little", signed=True)


class Case:
    """One call as it was, and what it wrote."""

    def __init__(self, direction: str, job: jobs.Job):
        self.direction = direction
        s = job.structure
        self.structure = s
        field = 8 * s.batch * s.hidden
        steps = s.time * field
        state = s.depth + s.memories
        segments = -(-s.time // s.segment) if s.segment else 0
        weight = 8 * s.gates * s.hidden
        whole = {
            "gate_of": 8 * s.accumulators, "lag": 8 * s.lags, "past": 8 * s.pasts,
            "stream_strides": 8 * s.streams, "lengths": 8 * s.batch, "ages": 8 * s.time * s.batch,
            "inputs": 8 * s.time * s.batch * s.input, "weight_ih": weight * s.input,
            "bias_ih": weight, "bias_hh": weight, "outputs": steps,
            "saved_values": steps * s.saved, "snapshots": segments * state * field,
            "output_gradient": steps, "d_inputs": 8 * s.time * s.batch * s.input,
            "d_weight_ih": weight * s.input, "d_bias_ih": weight, "d_bias_hh": weight,
        }  # fmt: skip
        unit = 8 * s.hidden
        lists = {
            "weight_hh": [weight * s.hidden] * s.lags, "initial": [field] * state,
            "parameter_values": [unit] * s.parameters, "histories": [steps] * s.memories,
            "final": [field] * state, "history_gradients": [steps] * s.memories,
            "final_gradients": [field] * state, "d_weight_hh": [weight * s.hidden] * s.lags,
            "d_initial": [field] * state, "d_parameters": [unit] * s.parameter_gradients,
        }  # fmt: skip
        strides = np.ctypeslib.as_array((ctypes.c_int64 * s.streams).from_address(s.stream_strides))
        lists["stream_values"] = [
            8 * s.time * s.batch * (s.hidden if k else 1) for k in strides.tolist()
        ]
        self.whole, self.lists = whole, lists

    def contents(self, *, sizes: bool) -> bytes:
        """All arrays as they are now, with their sizes or without."""
        parts: list[bytes] = []

        def array(address: int | None, size: int) -> None:
            if not address:
                parts.append(numbers(-1) if sizes else b"")
                return
            parts.append(numbers(size) if sizes else b"")
            parts.append(ctypes.string_at(address, size))

        for name in jobs._POINTERS:
            address = getattr(self.structure, name)
            if name in ("forward", "backward", "workspace") or not address:
                parts.append(numbers(-1) if sizes else b"")
            elif name in self.lists:
                entries = self.lists[name]
                parts.append(numbers(-2) + numbers(len(entries)) if sizes else b"")
                for i, size in enumerate(entries):
                    array(ctypes.c_int64.from_address(address + 8 * i).value, size)
            else:
                array(address, self.whole[name])
        return b"".join(parts)

    def before(self) -> bytes:
        s = self.structure
        plain = [getattr(s, name) for name in jobs._NUMBERS]
        plain += [stride for name in jobs._STRIDES for stride in getattr(s, name)]
        return b"".join(map(numbers, [len(plain), *plain])) + self.contents(sizes=True)


def cases(cell, monkeypatch) -> tuple[object, list[tuple[str, bytes, bytes]]]:
    """The plan of a cell, and calls: the direction, all before, all after."""
    layer = tt.Recurrent(cell, 3, 21, engine="native", dtype=torch.float64)
    saved: list[tuple[str, bytes, bytes]] = []
    plans = []
    true_run = Kernel.run

    def run(self, direction, job):
        case = Case(direction, job)
        before = case.before()
        true_run(self, direction, job)
        saved.append((direction, before, case.contents(sizes=False)))
        plans.append(self.plan)

    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "run", run)
        for time, batch, checkpoint in ((1, 1, None), (7, 5, None), (9, 3, 4)):
            x = torch.randn(time, batch, 3, dtype=torch.float64, requires_grad=True)
            reset = torch.rand(time, batch) < 0.2
            lengths = torch.randint(1, time + 1, (batch,))
            for given in ({}, {"lengths": lengths, "reset": reset}):
                with engine_options(checkpoint=checkpoint):
                    outputs, state = layer(x, **given)
                (outputs.square().sum() + state.h.sum()).backward()
    return plans[0], saved


@pytest.mark.parametrize("kind", SANITIZERS)
def test_clean(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    plans, calls = zip(*(cases(cell, monkeypatch) for cell in CELLS), strict=True)
    program = build(kind, plans, tmp_path)
    for number, saved in enumerate(calls):
        assert len(saved) == 12
        for direction, before, after in saved:
            (tmp_path / "case").write_bytes(before)
            words = [str(program), direction, str(number), str(tmp_path / "case")]
            words += [str(tmp_path / "result")]
            ran = subprocess.run(words, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
            got = np.frombuffer((tmp_path / "result").read_bytes())
            np.testing.assert_allclose(got, np.frombuffer(after), rtol=1e-9, atol=1e-11)
