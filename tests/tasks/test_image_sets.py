"""The digits in the package, and MNIST from a folder."""

import hashlib
import importlib.resources

import numpy as np
import pytest

from throughtime.core.errors import DataError
from throughtime.tasks import TASKS, download, image_sets, load_digits, load_mnist

VALIDATION = 5


@pytest.fixture(autouse=True)
def no_folder_from_outside(monkeypatch):
    monkeypatch.delenv("THROUGHTIME_DATA", raising=False)
    image_sets._read_mnist.cache_clear()


def assert_split(images, small):
    train_images, train_labels, test_images, test_labels = small.arrays
    expected = {
        "training": (train_images[:25], train_labels[:25]),
        "validation": (train_images[25:], train_labels[25:]),
        "test": (test_images, test_labels),
    }
    assert set(images.splits) == set(expected)
    for split, (pixels, labels) in expected.items():
        np.testing.assert_array_equal(images.splits[split].images, pixels)
        np.testing.assert_array_equal(images.splits[split].labels, labels)
        assert images.splits[split].images.dtype == np.uint8
        assert images.splits[split].labels.dtype == np.int64
    assert (images.name, images.side, images.white) == ("mnist", 6, 255)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("subfolder", [".", "mnist"])
def test_mnist_from_a_folder(tmp_path, small_mnist, compressed, subfolder):
    small_mnist.write(tmp_path / subfolder, compressed=compressed)
    for data_dir in (tmp_path, str(tmp_path)):
        images = load_mnist(data_dir, files=small_mnist.files, validation=VALIDATION)
        assert_split(images, small_mnist)


def test_mnist_from_the_environment_unless_a_folder_is_given(tmp_path, small_mnist, monkeypatch):
    small_mnist.write(tmp_path / "right", compressed=True)
    monkeypatch.setenv("THROUGHTIME_DATA", str(tmp_path / "right"))
    assert_split(load_mnist(files=small_mnist.files, validation=VALIDATION), small_mnist)
    with pytest.raises(DataError, match=r"no MNIST in .*wrong"):
        load_mnist(tmp_path / "wrong", files=small_mnist.files, validation=VALIDATION)


def test_mnist_is_read_once(tmp_path, small_mnist):
    small_mnist.write(tmp_path, compressed=True)
    first = load_mnist(tmp_path, files=small_mnist.files, validation=VALIDATION)
    assert load_mnist(tmp_path, files=small_mnist.files, validation=VALIDATION) is first


def test_a_folder_without_mnist_is_never_replaced_by_a_download(tmp_path, small_mnist, monkeypatch):
    monkeypatch.setattr(download, "fetch", pytest.fail)
    message = (
        r"^no MNIST in {}: got {}, expected train-images-idx3-ubyte or "
        r"train-images-idx3-ubyte\.gz, there or in its subfolder mnist\. Point --data-dir or "
        r"THROUGHTIME_DATA at the folder of the four files, or set neither to download them\.$"
    )
    with pytest.raises(DataError, match=message.format(tmp_path / "none", "no such folder")):
        load_mnist(tmp_path / "none", files=small_mnist.files)
    monkeypatch.setenv("THROUGHTIME_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message.format(tmp_path, "no train-images-idx3-ubyte")):
        load_mnist(files=small_mnist.files)


@pytest.mark.parametrize("which", range(4))
def test_a_missing_or_damaged_file_is_named(tmp_path, small_mnist, which):
    name = small_mnist.files[which].name
    small_mnist.write(tmp_path, compressed=False)
    path = tmp_path / name
    whole = path.read_bytes()
    for content, words in (
        (whole[:-3], "is cut short"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is corrupt or not"),
        (b"Not Found", "is not"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path} {words}"):
            load_mnist(tmp_path, files=small_mnist.files, validation=VALIDATION)
    path.unlink()
    expected = (
        r"no MNIST in" if which == 0 else f"{path} is missing: expected {name} or {name}\\.gz"
    )
    with pytest.raises(DataError, match=expected):
        load_mnist(tmp_path, files=small_mnist.files, validation=VALIDATION)
    path.write_bytes(whole)  # a failure is not remembered
    assert_split(load_mnist(tmp_path, files=small_mnist.files, validation=VALIDATION), small_mnist)


def test_a_foreign_mnist_is_refused(tmp_path, small_mnist):
    """The real sums are the default: 6 x 6 images are not MNIST."""
    small_mnist.write(tmp_path, compressed=True)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz is not train-images-idx3-ubyte"
    ):
        TASKS.build("mnist", data_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"shape \(60000, 28, 28\)"):
        TASKS.build("permuted-mnist", data_dir=str(tmp_path))


def test_digits_are_the_published_ones():
    path = importlib.resources.files("throughtime.tasks").joinpath("data", "digits.npz")
    readme = path.parent.joinpath("README.md").read_text(encoding="utf-8")
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("images", "labels"):
            assert hashlib.sha256(arrays[name].tobytes()).hexdigest() in readme
        images, labels = arrays["images"], arrays["labels"]
    assert image_sets.DIGITS_SHA256 in readme
    assert "CC BY 4.0" in readme
    assert images.shape == (1797, 8, 8)
    assert (int(images.sum()), int(images.max())) == (561_718, 16)  # as load_digits() of sklearn
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    first = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0], [0, 3, 15, 2, 0, 11, 8, 0]]
    assert images[0, :3].tolist() == first


def test_the_split_of_the_digits_takes_each_image_once():
    path = importlib.resources.files("throughtime.tasks").joinpath("data", "digits.npz")
    with np.load(path) as arrays:
        everything = sorted(
            (image.tobytes(), int(label))
            for image, label in zip(arrays["images"], arrays["labels"], strict=True)
        )
    splits = load_digits().splits
    assert {name: len(part.labels) for name, part in splits.items()} == {
        "training": 1_297,
        "validation": 200,
        "test": 300,
    }
    parts = [
        (image.tobytes(), int(label))
        for part in splits.values()
        for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert sorted(parts) == everything  # also: no image is in two splits, as all are distinct
    assert len({image for image, _ in everything}) == 1797


def test_the_split_of_the_digits_is_fixed_and_even():
    splits = load_digits().splits
    for name, size in (("validation", 200), ("test", 300)):
        for digit, count in enumerate(np.bincount(splits[name].labels)):
            of_all = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180][digit]
            assert abs(count - size * of_all / 1797) <= 1.5
    digest = hashlib.sha256(b"".join(part.images.tobytes() for part in splits.values()))
    assert digest.hexdigest()[:16] == "9ea3afecc80c70f1"


def test_a_damaged_package_is_noticed(monkeypatch):
    monkeypatch.setattr(image_sets, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"digits\.npz is corrupt: .*Install throughtime again"):
        load_digits.__wrapped__()
