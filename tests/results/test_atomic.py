"""Files that are replaced whole, and what is no file."""

import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from throughtime.core.errors import DataError, LearnerRefusalError, RunWriteError
from throughtime.results.atomic import write_whole
from throughtime.training.config import RunConfig
from throughtime.training.run import train


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path) -> None:
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links_are_followed(tmp_path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    (tmp_path / "to-file").symlink_to("other/file")
    (tmp_path / "to-link").symlink_to("to-file")
    (tmp_path / "to-nothing").symlink_to(folder / "new")
    write_whole(tmp_path / "to-link", b"through two")
    write_whole(tmp_path / "to-nothing", b"new")
    assert (folder / "file").read_bytes() == b"through two"
    assert (folder / "new").read_bytes() == b"new"
    links = [path for path in tmp_path.iterdir() if path.is_symlink()]
    assert len(links) == 3
    assert len(os.listdir(folder)) == 2


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_where_the_content_is_written_first_is_not_followed(tmp_path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "a.tmp").symlink_to("mine")
    write_whole(tmp_path / "a", b"new")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and folders of Unix")
def test_what_cannot_be_a_file_is_told(tmp_path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    name_limit = os.pathconf(tmp_path, "PC_NAME_MAX")
    for path, said in {
        tmp_path: "Is a directory. Choose the name of a file.",
        tmp_path / "loop": f"{os.strerror(errno.ELOOP)}. Choose a path whose links end somewhere.",
        tmp_path / ("x" * (name_limit + 1)): "File name too long. Choose a shorter name.",
        tmp_path / "none" / "file": "No such file",
        tmp_path / "a\0b": r"expected a path without \0",
    }.items():
        with pytest.raises(RunWriteError) as caught:
            write_whole(path, b"")
        assert said in str(caught.value)
    assert os.listdir(tmp_path) == ["loop"]


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_is_written_to(tmp_path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"content")
    reader.join()
    assert got == [b"content"]
    assert path.is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/stdout, a device of our own")
def test_devices_are_written_to(tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/full")
    with pytest.raises(RunWriteError, match="No space left on device"):
        write_whole(link, b"content")
    assert link.is_symlink()
    assert Path("/dev/full").is_char_device()
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="devices of Unix")
def test_output_that_goes_to_a_file_takes_its_turn(tmp_path, monkeypatch) -> None:
    out, before = tmp_path / "out", os.dup(1)
    with out.open("wb") as file, open(1, "w", closefd=False) as stream:
        os.dup2(file.fileno(), 1)
        try:
            monkeypatch.setattr(sys, "stdout", stream)
            print("a")
            write_whole(Path("/dev/stdout"), b"b\n")
            print("c", flush=True)
        finally:
            os.dup2(before, 1)
            os.close(before)
    assert out.read_bytes() == b"a\nb\nc\n"
    assert os.listdir(tmp_path) == ["out"]


def test_a_run_that_is_refused_leaves_no_folder(tmp_path) -> None:
    missing = RunConfig("characters", "rnn", data_dir=str(tmp_path / "none"))
    with pytest.raises(DataError, match="no such folder"):
        train(missing, tmp_path / "run")
    with pytest.raises(LearnerRefusalError, match="expected a gated cell"):
        train(RunConfig("adding:length=11", "lstm:layers=2", learner="rflo"), tmp_path / "run")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunWriteError, match=r"cannot write .*Choose a shorter name"):
        train(RunConfig("adding:length=11", "rnn", steps=1), tmp_path / ("x" * 300))
