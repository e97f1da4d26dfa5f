"""Files of vectors: what they hold is read, and what is broken is named."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks import TASKS, PixelDensity
from throughtime.tasks.kinds import Pixels

BITS = (np.random.default_rng(0).random((40, 6)) < 0.4).astype(np.uint8)


def build(path: Path, **options) -> PixelDensity:
    task = TASKS.build("vectors", file=str(path), **options)
    assert isinstance(task, PixelDensity)
    return task


def rows(task: PixelDensity, split: str) -> np.ndarray:
    return task._splits[split].reshape(len(task._splits[split]), -1)


def test_three_arrays_are_the_splits(tmp_path: Path) -> None:
    for names in (("train", "valid", "test"), ("training", "validation", "test")):
        np.savez(tmp_path / "mine.npz", **dict(zip(names, np.split(BITS, [20, 30]), strict=True)))
        task = build(tmp_path / "mine.npz")
        assert (task.name, task.inputs) == ("mine", Pixels(1, 6))
        for split, part in zip(("training", "validation", "test"), (20, 10, 10), strict=True):
            assert len(rows(task, split)) == part
        assert np.array_equal(rows(task, "validation"), BITS[20:30])


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv"])
def test_one_array_is_split_at_random(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        lines = "\n".join(", ".join(map(str, row)) for row in BITS)
        path.write_text(f"a,b,c,d,e,f\n{lines}\n\n")
    else:
        (np.savez if suffix == "npz" else np.save)(path, BITS)
    task = build(path)
    parts = [rows(task, split) for split in ("training", "validation", "test")]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert sorted(np.concatenate(parts).tolist()) == sorted(BITS.tolist())
    assert not np.array_equal(parts[0], BITS[:32])
    assert np.array_equal(rows(build(path), "training"), parts[0])


def test_images_and_levels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 5, (30, 3, 4))
    np.save(tmp_path / "images.npy", images)
    assert build(tmp_path / "images.npy", levels=5).inputs == Pixels(3, 4, 1, 5)
    np.save(tmp_path / "images.npy", images[:, None].repeat(3, 1).astype(float))
    assert build(tmp_path / "images.npy", levels=5).inputs == Pixels(3, 4, 3, 5)


def test_values_that_are_no_levels(tmp_path: Path) -> None:
    for value in (2, -1, 0.5, np.nan, np.inf):
        wrong = BITS.astype(float)
        wrong[7, 3] = value
        np.save(tmp_path / "mine.npy", wrong)
        message = rf"mine\.npy, \w+: got the value {value}.*expected whole numbers from 0 to 1"
        with pytest.raises(DataError, match=message):
            build(tmp_path / "mine.npy")


def test_files_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, train=BITS, valid=BITS[:, :5], test=BITS)
    with pytest.raises(DataError, match="expected one size in all splits"):
        build(path)
    np.savez(path, train=BITS, valid=BITS)
    with pytest.raises(DataError, match="got arrays train, valid"):
        build(path)
    np.savez(path, train=BITS, valid=BITS[:1], test=BITS)
    with pytest.raises(DataError, match="validation: got 1 row"):
        build(path)
    np.savez(path, np.array([{"a": 1}]))  # an object, which only pickle could read
    with pytest.raises(DataError, match="expected arrays of numbers"):
        build(path)
    np.savez(path, BITS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"expected a whole \.npz file"):
        build(path)
    for content in (b"", b"\x93NUMPY\x01\x00", b"nothing"):
        (tmp_path / "mine.npy").write_bytes(content)
        with pytest.raises(DataError, match="expected an array of numbers"):
            build(tmp_path / "mine.npy")
    np.save(tmp_path / "mine.npy", BITS[:19])
    with pytest.raises(DataError, match="20 rows or more"):
        build(tmp_path / "mine.npy")
    np.save(tmp_path / "mine.npy", np.array(["a"] * 30))
    with pytest.raises(DataError, match=r"got an array of <U1 of shape \(24,\)"):
        build(tmp_path / "mine.npy")
    with pytest.raises(DataError, match=r"none\.npz"):
        build(tmp_path / "none.npz")


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("throughtime.tasks.vector_files._MOST_BYTES", 10_000)
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(20_000))
    with pytest.raises(DataError, match="got 20,000 bytes, unpacked"):
        build(path)


def test_csv_files_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    for text, message in (
        ("1,0\n1,0,1\n" * 20, "got 3 numbers in row 2: '1,0,1', expected 2"),
        ("1,0\n1,x\n" * 20, "expected rows of whole numbers"),
        ("", "20 rows or more"),
        ("1,0\n" * 5, "20 rows or more"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            build(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="a CSV file, or one that ends in"):
        build(path)


def test_options_out_of_range(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", BITS)
    checksum = build(tmp_path / "mine.npy").sha256
    assert build(tmp_path / "mine.npy", sha256=checksum).sha256 == checksum
    with pytest.raises(DataError, match="Bring the file back"):
        build(tmp_path / "mine.npy", sha256="0" * 16)
    with pytest.raises(ConfigurationError, match="16 to 64 hexadecimal"):
        build(tmp_path / "mine.npy", sha256="no")
    for levels in (1, 257):
        with pytest.raises(ConfigurationError, match=f"levels of task 'vectors': got {levels}"):
            build(tmp_path / "mine.npy", levels=levels)
    with pytest.raises(ConfigurationError, match="file of task 'vectors': got none"):
        TASKS.build("vectors")
