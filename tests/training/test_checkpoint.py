"""A run's state on disk: to the same bits, and never half of one."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError, RunError, RunVersionError
from throughtime.training.checkpoint import (
    Checkpoint,
    RunState,
    load_checkpoint,
    save_checkpoint,
)
from throughtime.training.reproducibility import current_environment

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


def checkpoint(model: dict[str, object], optimizer: dict[str, object] | None = None) -> Checkpoint:
    environment = current_environment(torch.device("cpu"), 1, ["vendor"])
    state = RunState(step=7, seconds=0.1 + 0.2, validation={"loss": 1e-300, "accuracy": 0.5})
    return Checkpoint(state, model, optimizer or {}, {"cpu": torch.get_rng_state()}, environment)


def through(folder: Path, saved: Checkpoint) -> Checkpoint:
    save_checkpoint(saved, folder)
    return load_checkpoint(folder)


def assert_same_bits(one: Tensor, other: Tensor) -> None:
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.contiguous().numpy(force=True).tobytes() == other.numpy(force=True).tobytes()


def test_tensors_of_every_kind(tmp_path: Path) -> None:
    shapes = [(), (0,), (3, 0), (2, 3, 4)]
    model = {
        f"{dtype}{shape}": (100 * torch.rand(shape, dtype=torch.float64)).to(dtype)
        for dtype in DTYPES
        for shape in shapes
    }
    model["transposed"] = torch.rand(3, 5).t()
    model["tied"] = model["tied too"] = torch.rand(4)
    model["part of it"] = model["tied"][1:3]
    model["not numbers"] = torch.tensor([math.nan, math.inf, -math.inf, -0.0])
    loaded = through(tmp_path, checkpoint(model)).model
    assert loaded.keys() == model.keys()
    for name, value in model.items():
        if value.dtype == torch.bfloat16:
            value, loaded[name] = value.view(torch.int16), loaded[name].view(torch.int16)
        assert_same_bits(value, loaded[name])


def test_nested_values(tmp_path: Path) -> None:
    optimizer = {
        "state": {0: {"step": 3.0, "buffer": None}, 1: {}, "one": [1, 2.5, True, "text", ()]},
        "param_groups": [{"betas": (0.9, 0.999), "params": [0, 1], "nested": ((1,), [()])}],
        "dict": {"tensor": "no tensor", "float": "no float", "tuple": {}},
        "numbers": [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 2**80],
        "inf": (math.inf, -math.inf),
    }
    loaded = through(tmp_path, checkpoint({}, optimizer)).optimizer
    assert loaded == optimizer
    assert repr(loaded) == repr(optimizer), "types, too: True is not 1, and -0.0 not 0.0"
    assert math.isnan(through(tmp_path, checkpoint({"x": math.nan})).model["x"])


def test_all_the_rest(tmp_path: Path) -> None:
    saved = checkpoint({"w": torch.rand(3)})
    loaded = through(tmp_path, saved)
    assert loaded.state == saved.state
    assert loaded.environment == saved.environment
    assert_same_bits(saved.random["cpu"], loaded.random["cpu"])


def test_files_are_json_and_safetensors(tmp_path: Path) -> None:
    """Readable without this package, and without pickle."""
    import safetensors.torch

    saved = checkpoint({"w": torch.rand(3)}, {"state": {0: {"m": torch.ones(2)}}})
    save_checkpoint(saved, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"state.json", "tensors.safetensors"}
    assert json.loads((tmp_path / "state.json").read_text())["schema_version"] == 1
    tensors = safetensors.torch.load_file(tmp_path / "tensors.safetensors")
    assert tensors.keys() == {"model.w", "optimizer.state.0.m", "random.cpu"}


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    message = "model.extra.1 cannot be kept in a checkpoint: got set, expected a tensor, a number"
    with pytest.raises(ConfigurationError, match=message):
        save_checkpoint(checkpoint({"extra": [1, {2}]}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_checkpoint(checkpoint({"w": torch.rand(100)}), tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", [0, 1, 7, 50, 200, -1])
def test_tensors_cut_short(stored: Path, size: int) -> None:
    file = stored / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunError, match=r"is damaged: got .* has another SHA-256 than state.json"):
        load_checkpoint(stored)


def test_tensors_with_one_bit_turned(stored: Path) -> None:
    file = stored / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match="Write the name of an earlier checkpoint, if there is one"):
        load_checkpoint(stored)


@pytest.mark.parametrize("size", [0, 1, 30, -3])
def test_state_cut_short(stored: Path, size: int) -> None:
    file = stored / "state.json"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunError, match=r"state.json is not whole: got \d+ bytes \(JSONDecodeError"):
        load_checkpoint(stored)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_file_is_missing(stored: Path, name: str) -> None:
    (stored / name).unlink()
    with pytest.raises(RunError, match=f"cannot read .*{name}: got No such file or directory"):
        load_checkpoint(stored)


def edit(file: Path, change: dict[str, object]) -> None:
    document = json.loads(file.read_text()) | change
    document.pop("sha256")  # as earlier versions wrote it
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": {"stepp": 3}}, "is damaged: got TypeError: run has the unknown field stepp"),
        ({"model": {"dict": [["w", {"tensor": "gone"}]]}}, "is damaged: got KeyError: 'gone'"),
        ({"model": {"pickle": "x"}}, "is damaged: got ValueError: a value marked 'pickle'"),
        ({"model": {"tensor": "x", "dict": []}}, "is damaged: got ValueError"),
        ({"environment": {}}, "is damaged: got TypeError"),
    ],
)
def test_state_of_another_shape(stored: Path, change: dict[str, object], message: str) -> None:
    edit(stored / "state.json", change)
    with pytest.raises(RunError, match=message):
        load_checkpoint(stored)


def test_another_version(stored: Path) -> None:
    edit(stored / "state.json", {"schema_version": 2})
    message = "state.json was written in another version of the format: got schema_version 2, exp"
    with pytest.raises(RunVersionError, match=message):
        load_checkpoint(stored)


def same(one: object, other: object) -> bool:
    """Whether two values are equal to the bit, tensors within them too."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and [*map(repr, one)] == [*map(repr, other)]
            and same([*one.values()], [*other.values()])
        )
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def test_a_wrong_bit_of_the_state_is_found(tmp_path: Path) -> None:
    """Bits all over the file: an error, or the same state (blanks, and digits beyond a float's)."""
    model = {"weight": torch.rand(2, 3), "bias": torch.rand(2)}
    optimizer = {"state": {0: {"step": 3.0}}, "param_groups": [{"betas": (0.9, 0.999)}]}
    saved = checkpoint(model, optimizer)
    save_checkpoint(saved, tmp_path)
    file = tmp_path / "state.json"
    content = file.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(content), 11):  # 11 and 8 have no divisor in common
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            loaded = load_checkpoint(tmp_path)
        except RunError:
            refused += 1
            continue
        for part in ("state", "model", "optimizer", "random", "environment", "learner"):
            assert same(getattr(saved, part), getattr(loaded, part)), (bit, part)
    assert refused > 0.8 * 8 * len(content) / 11


def test_checkpoints_without_a_checksum_of_the_state_are_read(tmp_path: Path) -> None:
    """Those of earlier versions; what is no state all the same is refused."""
    save_checkpoint(checkpoint({"weight": torch.ones(2)}), tmp_path)
    file = tmp_path / "state.json"
    document = json.loads(file.read_text())
    del document["sha256"]
    file.write_text(json.dumps(document))
    assert torch.equal(load_checkpoint(tmp_path).model["weight"], torch.ones(2))
    for entry in ({"sha257": "0"}, {"run": []}, {"model": 3}, {"environment": {"threads": "1"}}):
        file.write_text(json.dumps(document | entry))
        with pytest.raises(RunError, match="is damaged"):
            load_checkpoint(tmp_path)
