"""The kernels under the address, undefined-behaviour and thread sanitizers."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cells.samples import MultiplicativeIntegration, StreamedCell
from engines.cpp.fuzz import environment

import throughtime as tt
from throughtime.engines import engine_options
from throughtime.engines.cpp import kernel as jobs
from throughtime.engines.cpp import operators
from throughtime.engines.cpp.building import SOURCE_FOLDER
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.engines.cpp.kernel import Kernel
from throughtime.engines.cpp.printer import print_cells

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
    # not optimised: that takes a third of the time, and leaves more to be found
    words = [COMPILER.path, "-std=c++17", "-O0", "-g1", "-ffp-contract=fast", "-Wno-psabi"]
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
        self.direction, self.structure = direction, job.structure

    def contents(self, *, sizes: bool) -> bytes:
        """All arrays as they are now, with their sizes or without."""
        parts: list[bytes] = []

        def array(address: int | None, size: int) -> None:
            if not address:
                parts.append(numbers(-1) if sizes else b"")
                return
            parts.append(numbers(size) if sizes else b"")
            parts.append(ctypes.string_at(address, size))

        for name in jobs._ARRAYS:
            address = getattr(self.structure, name)
            size = getattr(self.structure, f"{name}_size")
            if name == "workspace" or not address:
                parts.append(numbers(-1) if sizes else b"")
            elif name in _LISTS:
                parts.append(numbers(-2) + numbers(size // 16) if sizes else b"")
                for i in range(size // 16):
                    pair = (ctypes.c_int64 * 2).from_address(address + 16 * i)
                    array(*pair)
            else:
                array(address, size)
        return b"".join(parts)

    def before(self) -> bytes:
        s = self.structure
        plain = [getattr(s, name) for name in jobs._NUMBERS]
        plain += [stride for name in jobs._STRIDES for stride in getattr(s, name)]
        return b"".join(map(numbers, [len(plain), *plain])) + self.contents(sizes=True)


_LISTS = frozenset(
    [
        *("weight_hh", "initial", "stream_values", "parameter_values", "histories", "final"),
        *("history_gradients", "final_gradients", "d_weight_hh", "d_initial", "d_parameters"),
    ]
)


def cases(cell, monkeypatch) -> tuple[object, list[tuple[str, bytes, bytes]]]:
    """The plan of a cell, and calls: the direction, all before, all after."""
    layers = {
        hidden: tt.Recurrent(cell, 3, hidden, engine="native", dtype=torch.float64)
        for hidden in (21, 32)
    }
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
        shapes = ((1, 1, 21, None), (7, 5, 21, None), (9, 3, 21, 4), (60, 1, 32, None))
        for time, batch, hidden, checkpoint in shapes:  # threads share the one row of the last
            x = torch.randn(time, batch, 3, dtype=torch.float64, requires_grad=True)
            reset = torch.rand(time, batch) < 0.2
            lengths = torch.randint(1, time + 1, (batch,))
            for given in ({}, {"lengths": lengths, "reset": reset}):
                with engine_options(checkpoint=checkpoint):
                    outputs, state = layers[hidden](x, **given)
                (outputs.square().sum() + state.h.sum()).backward()
    return plans[0], saved


@pytest.mark.parametrize("kind", SANITIZERS)
def test_clean(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(operators, "split_units", lambda batch, *_: 2 if batch == 1 else 1)
    plans, calls = zip(*(cases(cell, monkeypatch) for cell in CELLS), strict=True)
    program = build(kind, plans, tmp_path)
    for number, saved in enumerate(calls):
        assert len(saved) == 16
        for direction, before, after in saved:
            (tmp_path / "case").write_bytes(before)
            words = [str(program), direction, str(number), str(tmp_path / "case")]
            words += [str(tmp_path / "result")]
            ran = subprocess.run(words, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
            got = np.frombuffer((tmp_path / "result").read_bytes())
            np.testing.assert_allclose(got, np.frombuffer(after), rtol=1e-9, atol=1e-11)


@pytest.mark.nightly
@pytest.mark.parametrize("tests", ["engines/test_autoregression.py", "models/test_generation.py"])
def test_other_compiled_code_passes_its_tests_under_sanitizers(tests, tmp_path) -> None:
    env = environment(tmp_path)
    if env is None:
        pytest.skip("no g++ with an address sanitizer is here")
    folder = Path(__file__).parents[2]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / tests)]
    ran = subprocess.run(words, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-6000:]
