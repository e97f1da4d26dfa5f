"""Music in MATLAB files and pen strokes in .npz files: tiny ones, and broken ones."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from throughtime.cli.main import main
from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks import TASKS, music
from throughtime.tasks.download import RemoteFile
from throughtime.tasks.music import read_polymusic
from throughtime.tasks.pen_strokes import read_strokes


def written(folder: Path) -> RemoteFile:
    """Write two, one and one songs of 88 keys as a MATLAB file."""
    io = pytest.importorskip("scipy.io")
    parts = {}
    for name, count in (("traindata", 2), ("validdata", 1), ("testdata", 1)):
        cells = np.empty((1, count), object)
        for k in range(count):
            cells[0, k] = (np.arange(88 * (3 + k)).reshape(-1, 88) % 5 == k).astype(np.uint8)
        parts[name] = cells
    io.savemat(folder / "Tiny.mat", parts)
    sha256 = hashlib.sha256((folder / "Tiny.mat").read_bytes()).hexdigest()
    return RemoteFile("Tiny.mat", (), sha256)


def test_songs_of_a_matlab_file(tmp_path, monkeypatch):
    file = written(tmp_path)
    found = read_polymusic(tmp_path, file)
    assert {split: len(each) for split, each in found.items()} == {
        "training": 2,
        "validation": 1,
        "test": 1,
    }
    assert found["training"][1].shape == (4, 88)
    assert found["training"][1].dtype == np.float32
    assert np.argwhere(found["training"][1])[0].tolist() == [0, 1]
    monkeypatch.setattr(music, "NOTTINGHAM", file)
    task = TASKS.build(f"nottingham:data_dir={tmp_path},samples=1")
    assert (task.name, task.length) == ("nottingham", 4)


def test_other_and_absent_matlab_files(tmp_path):
    file = written(tmp_path)
    with (tmp_path / "Tiny.mat").open("ab") as opened:
        opened.write(b"x")
    with pytest.raises(DataError, match="SHA-256"):
        read_polymusic(tmp_path, file)
    (tmp_path / "Tiny.mat").unlink()
    with pytest.raises(DataError, match=r"no Tiny\.mat"):
        read_polymusic(tmp_path, file)
    with pytest.raises(DataError, match="no such folder"):
        read_polymusic(tmp_path / "absent", file)
    for name in ("nottingham", "jsb-chorales"):
        with pytest.raises(DataError, match="no music"):
            TASKS.build(f"{name}:data_dir={tmp_path}")


POINTS = np.array([[0, 0, 0], [6, 12, 0], [-6, 18, 1], [12, 0, 0], [30, -6, 1]], np.int16)


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_drawings_in_splits(tmp_path):
    splits = {
        f"{part}_{kind}": value
        for part in ("train", "valid", "test")
        for kind, value in (("strokes", POINTS), ("lengths", np.array([3, 2])))
    }
    path = saved(tmp_path / "omniglot_strokes_flat.npz", **splits)
    drawings, checksum = read_strokes(path)
    assert [len(each) for each in drawings["test"]] == [3, 2]
    assert np.array_equal(np.concatenate(drawings["training"]), POINTS)
    task = TASKS.build(f"pen-strokes:data_dir={tmp_path},grid=false")
    scale = POINTS[:, :2].std()
    found = np.concatenate(task.sequences["training"])
    assert np.allclose(found[:, :2] * scale, POINTS[:, :2], atol=1e-5)
    assert np.array_equal(found[:, 2], POINTS[:, 2])
    assert f"2 ln s = {2 * math.log(scale):.3f}" in task.criterion
    assert "normalised" in task.metrics[0].unit
    assert task.sha256 == checksum
    noisy = np.concatenate(TASKS.build(f"pen-strokes:data_dir={tmp_path}").sequences["training"])
    errors = noisy[:, :2] * scale - POINTS[:, :2]
    assert 0 < np.abs(errors).max() <= 3.001  # the grid has cells of 6
    assert np.array_equal(noisy[:, 2], POINTS[:, 2])


def test_drawings_alone_are_split_at_random(tmp_path):
    path = saved(tmp_path / "own.npz", strokes=np.tile(POINTS, (4, 1)), lengths=np.full(10, 2))
    task = TASKS.build(f"pen-strokes:file={path}")
    counts = [len(task.sequences[split]) for split in ("training", "validation", "test")]
    assert counts == [8, 1, 1]
    again = TASKS.build(f"pen-strokes:file={path},sha256={task.sha256}")
    assert again.chance_loss == task.chance_loss
    with pytest.raises(DataError, match="SHA-256"):
        TASKS.build(f"pen-strokes:file={path},sha256={'0' * 16}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": POINTS}, "arrays other"),
        ({"train_strokes": POINTS, "train_lengths": np.array([5])}, "valid_strokes"),
        ({"strokes": POINTS, "lengths": np.array([3, 1])}, "sum is the number of points"),
        ({"strokes": POINTS, "lengths": np.array([5, 0])}, "at least 1"),
        ({"strokes": POINTS[:, :2], "lengths": np.array([5])}, r"\(points, 3\)"),
        ({"strokes": POINTS, "lengths": np.array([2.5, 2.5])}, "whole lengths"),
        ({"strokes": POINTS, "lengths": np.array([3, 2])}, "2 drawings"),
        ({"strokes": 0 * POINTS, "lengths": np.array([2, 1, 1, 1])}, "deviation of 0"),
    ],
)
def test_arrays_that_are_no_drawings(tmp_path, arrays, message):
    path = saved(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DataError, match=message):
        TASKS.build(f"pen-strokes:file={path}")


def test_a_pen_is_up_or_down(tmp_path):
    points = POINTS.copy()
    points[1, 2] = 2
    path = saved(tmp_path / "pen.npz", strokes=points, lengths=np.array([2, 1, 1, 1]))
    with pytest.raises(ConfigurationError, match="0 and 1 for the pen"):
        TASKS.build(f"pen-strokes:file={path}")


def test_broken_files_and_python_objects(tmp_path, capsys):
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 cut short")
    objects = np.empty(2, object)
    saved(tmp_path / "objects.npz", strokes=objects, lengths=objects)
    for name in ("broken.npz", "objects.npz"):
        with pytest.raises(DataError, match=name):
            TASKS.build(f"pen-strokes:file={tmp_path / name}")
        assert main(["train", f"pen-strokes:file={tmp_path / name}", "vrnn"]) == 1
        assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(DataError, match=r"absent\.npz"):
        TASKS.build(f"pen-strokes:file={tmp_path / 'absent.npz'}")
    with pytest.raises(DataError, match="polygons needs no file"):
        TASKS.build(f"pen-strokes:data_dir={tmp_path}")
