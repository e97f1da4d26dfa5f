"""idx files: read whole or not at all."""

import gzip
import hashlib

import numpy as np
import pytest

from throughtime.core.errors import DataError
from throughtime.tasks.image_sets import IdxFile, read_idx

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + ARRAY.tobytes()
EXPECTED = IdxFile("some-idx3-ubyte", (2, 3, 4), hashlib.sha256(CONTENT).hexdigest())


def test_plain_and_compressed_files(tmp_path):
    plain, packed = tmp_path / "some-idx3-ubyte", tmp_path / "some-idx3-ubyte.gz"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT, 1))
    for path in (plain, packed):
        array = read_idx(path, EXPECTED)
        np.testing.assert_array_equal(array, ARRAY)
        assert array.dtype == np.uint8
        assert not array.flags.writeable


def test_the_first_bytes_tell_whether_a_file_is_compressed(tmp_path):
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(gzip.compress(CONTENT))
    np.testing.assert_array_equal(read_idx(path, EXPECTED), ARRAY)


def test_sizes_are_big_endian(tmp_path):
    content = bytes([0, 0, 8, 1, 0, 0, 1, 2]) + bytes(258)
    path = tmp_path / "long"
    path.write_bytes(content)
    expected = IdxFile("long", (258,), hashlib.sha256(content).hexdigest())
    assert read_idx(path, expected).shape == (258,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            CONTENT[:-1],
            r"some is cut short: got 39 bytes, expected 40 bytes\. Delete it and get it again",
        ),
        (CONTENT[:16], r"some is cut short: got 16 bytes, expected 40 bytes"),
        (CONTENT + b"x", r"some is too long: got more than 40 bytes, expected 40 bytes"),
        (CONTENT[:-1] + b"x", r"some is corrupt or not some-idx3-ubyte: got SHA-256 [0-9a-f]{64}"),
        (
            b"",
            r"some is not some-idx3-ubyte: got a first part of \(nothing\), expected 00 00 08 03",
        ),
        (
            b"\0\0\x08\x01" + CONTENT[4:],
            r"some is not some-idx3-ubyte: got a first part of 00 00 08 01",
        ),
        (b"<html>" + CONTENT, r"an idx file of shape \(2, 3, 4\)"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path, content, message):
    path = tmp_path / "some"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_idx(path, EXPECTED)
    assert str(path) in str(raised.value)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message):
        read_idx(path, EXPECTED)


@pytest.mark.parametrize("kept", [3, 10, -9, -8, -1])
def test_a_compressed_file_that_is_cut_short(tmp_path, kept):
    path = tmp_path / "some.gz"
    path.write_bytes(gzip.compress(CONTENT)[:kept])
    with pytest.raises(
        DataError, match=r"some\.gz is cut short or corrupt: got EOFError: .*whole gzip file"
    ):
        read_idx(path, EXPECTED)


def test_a_compressed_file_with_a_flipped_bit_is_never_used(tmp_path):
    path = tmp_path / "some.gz"
    whole = gzip.compress(CONTENT)
    header = {3, 4, 5, 6, 7, 8, 9}  # "this is text", time and system: no data
    for place in range(2, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        if place in header:
            np.testing.assert_array_equal(read_idx(path, EXPECTED), ARRAY)
        else:
            with pytest.raises(DataError, match=r"some\.gz (is|cannot)"):
                read_idx(path, EXPECTED)


def test_a_compression_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "some.gz"
    path.write_bytes(gzip.compress(CONTENT[:16] + bytes(50_000_000)))
    with pytest.raises(DataError, match=r"too long: got more than 40 bytes"):
        read_idx(path, EXPECTED)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"nowhere cannot be read: got .*No such file"):
        read_idx(tmp_path / "nowhere", EXPECTED)
