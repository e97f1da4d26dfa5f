"""Sets of binary vectors: each form of a file gives the same, and a wrong one is named."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from throughtime.core.errors import DataError
from throughtime.tasks import TASKS, density_sets, download, load_binarized_mnist
from throughtime.tasks.download import RemoteFile

PARTS = {"training": "train", "validation": "valid", "test": "test"}
BITS = {
    split: (np.random.default_rng(k).random((count, 16)) < 0.3).astype(np.uint8)
    for k, (split, count) in enumerate({"training": 9, "validation": 5, "test": 4}.items())
}
TEXTS = {
    split: "".join(" ".join(map(str, row)) + "\n" for row in bits).encode()
    for split, bits in BITS.items()
}
FILES = {
    split: RemoteFile(f"binarized_mnist_{part}.amat", (), hashlib.sha256(TEXTS[split]).hexdigest())
    for split, part in PARTS.items()
}


def written(folder: Path, form: str) -> Path:
    folder.mkdir(exist_ok=True)
    if form == "packed":
        packed = {PARTS[split]: np.packbits(bits, axis=1) for split, bits in BITS.items()}
        np.savez(folder / "binarized_mnist_packed.npz", **packed)
        return folder
    for split, file in FILES.items():
        suffix, content = (".gz", gzip.compress(TEXTS[split])) if form == "gz" else ("", None)
        (folder / f"{file.name}{suffix}").write_bytes(content or TEXTS[split])
    return folder


@pytest.mark.parametrize("form", ["text", "gz", "packed"])
@pytest.mark.parametrize("subfolder", ["", "binarized_mnist"])
def test_each_form_of_the_fixed_set(tmp_path: Path, form: str, subfolder: str) -> None:
    written(tmp_path / subfolder, form)
    images = load_binarized_mnist(tmp_path, files=FILES, side=4)
    for split, bits in BITS.items():
        assert images[split].shape == (len(bits), 1, 4, 4)
        assert np.array_equal(images[split].reshape(len(bits), -1), bits)


@pytest.mark.parametrize("form", ["text", "gz", "packed"])
def test_a_fixed_set_that_is_another(tmp_path: Path, form: str) -> None:
    written(tmp_path, form)
    wrong = FILES | {"test": RemoteFile(FILES["test"].name, (), "0" * 64)}
    with pytest.raises(DataError, match=r"corrupt.*expected 0000"):
        load_binarized_mnist(tmp_path, files=wrong, side=4)
    with pytest.raises(DataError, match=r"corrupt.*expected ad693b29f"):
        TASKS.build("binarized-mnist", data_dir=str(tmp_path))


def test_a_packed_set_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "binarized_mnist_packed.npz"
    np.savez(path, train=np.packbits(BITS["training"], axis=1))
    with pytest.raises(DataError, match=r"cannot be read.*expected an array 'valid'"):
        load_binarized_mnist(tmp_path, files=FILES, side=4)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        load_binarized_mnist(tmp_path, files=FILES, side=4)


def test_a_folder_without_the_set(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "fetch", pytest.fail)
    with pytest.raises(DataError, match=r"no binarised MNIST in .*got no binarized_mnist_train"):
        load_binarized_mnist(tmp_path, files=FILES)
    with pytest.raises(DataError, match="got no such folder"):
        load_binarized_mnist(tmp_path / "none", files=FILES)


@pytest.fixture
def small_set(monkeypatch) -> None:
    packed = b"".join(np.packbits(bits, axis=1).tobytes() for bits in BITS.values())
    sha256 = hashlib.sha256(packed).hexdigest()
    monkeypatch.setitem(density_sets._SETS, "nltcs", (16, sha256))


def test_each_form_of_a_density_set(tmp_path: Path, small_set, monkeypatch) -> None:
    packed = {f"nltcs_{PARTS[s]}": np.packbits(bits, axis=1) for s, bits in BITS.items()}
    (tmp_path / "one").mkdir()
    np.savez(tmp_path / "one" / "binary_density_packed.npz", **packed)
    (tmp_path / "two" / "nltcs").mkdir(parents=True)
    for split, text in TEXTS.items():
        path = tmp_path / "two" / "nltcs" / f"nltcs.{PARTS[split]}.data"
        path.write_bytes(text.replace(b" ", b","))
    for folder in ("one", "two"):
        monkeypatch.setenv("THROUGHTIME_DATA", str(tmp_path / folder))
        task = TASKS.build("binary-density:name=nltcs")
        assert task.name == "nltcs"
        for split, bits in BITS.items():
            assert np.array_equal(task._splits[split][:, 0, 0], bits)


def test_a_density_set_that_is_broken(tmp_path: Path, small_set, monkeypatch) -> None:
    monkeypatch.delenv("THROUGHTIME_DATA", raising=False)
    with pytest.raises(DataError, match=r"got no folder of data.*github\.com"):
        TASKS.build("binary-density")
    folder = str(tmp_path)
    with pytest.raises(DataError, match=r"no nltcs in .*got no nltcs\.train\.data"):
        TASKS.build("binary-density", data_dir=folder)
    for split, text in TEXTS.items():
        (tmp_path / f"nltcs.{PARTS[split]}.data").write_bytes(text)
    path = tmp_path / "nltcs.test.data"
    path.write_bytes(TEXTS["test"][2:] + b"1\n")
    with pytest.raises(DataError, match="vectors whose packed bits have SHA-256"):
        TASKS.build("binary-density", data_dir=folder)
    for content in (b"", b"1,0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected a multiple of 16"):
            TASKS.build("binary-density", data_dir=folder)
    path.unlink()
    (tmp_path / "binary_density_packed.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="expected an array nltcs_test of packed bits"):
        TASKS.build("binary-density", data_dir=folder)


def test_dynamic_binarisation_of_a_small_mnist(tmp_path: Path, small_mnist, monkeypatch) -> None:
    small_mnist.write(tmp_path, compressed=True)
    monkeypatch.setattr(
        "throughtime.tasks.binary_sets.load_mnist",
        lambda folder: _small(folder, small_mnist),
    )
    task = TASKS.build("dynamic-mnist", data_dir=str(tmp_path))
    one, two = (next(task.batches("training", 8, start=start)).x for start in (0, 1))
    assert one.shape == (8, 1, 6, 6)
    assert set(one.unique().tolist()) == {0, 1}
    assert not np.array_equal(one, two)


def _small(folder, small_mnist):
    from throughtime.tasks import load_mnist

    return load_mnist(folder, files=small_mnist.files, validation=7)
