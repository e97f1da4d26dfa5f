"""Downloads from a server on this machine: whole, cut short, taken up again, wrong."""

import dataclasses
import gzip
import hashlib
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from throughtime.core.errors import DataError
from throughtime.tasks import download, image_sets, load_mnist
from throughtime.tasks.download import CHUNK, RemoteFile, fetch

CONTENT = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` says after how many bytes the next answers break off."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {"/data.bin": CONTENT}
        self.cuts: list[int] = []
        self.ranges_ignored = False
        self.requests: list[str | None] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        assert self.headers.get("Accept-Encoding") == "identity"
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(416 if "416" in self.path else 404)
            return
        start = 0
        if asked and not self.server.ranges_ignored:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, format, *arguments):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, *paths: str, sha256: str = SHA256) -> RemoteFile:
    return RemoteFile("data.bin", tuple(server.url(p) for p in paths or ("/data.bin",)), sha256)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_a_file_is_fetched_once_into_a_private_folder(server, tmp_path):
    folder = tmp_path / "cache" / "mnist"
    for _ in range(2):
        fetch([remote(server)], folder)
        assert (folder / "data.bin").read_bytes() == CONTENT
    assert server.requests == [None]
    assert names(folder) == {"data.bin"}
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_terms_are_shown_before_a_download_alone(server, tmp_path, capsys):
    files = [
        dataclasses.replace(remote(server), name=name, terms="Not to be passed on.")
        for name in ("one.bin", "two.bin")
    ]
    fetch(files, tmp_path)
    assert capsys.readouterr().err.splitlines()[0] == "Not to be passed on."
    (tmp_path / "two.bin").unlink()
    fetch(files, tmp_path)
    assert capsys.readouterr().err.count("Not to be passed on.") == 1
    fetch(files, tmp_path)
    assert capsys.readouterr().err == ""


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = [CHUNK + 1_000]  # whole chunks are kept
    fetch([remote(server)], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={CHUNK}-"]
    assert names(tmp_path) == {"data.bin"}


def test_a_later_run_goes_on_with_the_partial_file(server, tmp_path):
    server.cuts = [CHUNK, CHUNK + 1]  # both attempts break off
    with pytest.raises(
        DataError, match=r"^data\.bin could not be downloaded: got http://127\.0\.0\.1"
    ):
        fetch([remote(server)], tmp_path)
    assert names(tmp_path) == {"data.bin.partial"}
    assert (tmp_path / "data.bin.partial").read_bytes() == CONTENT[: 2 * CHUNK]
    fetch([remote(server)], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]


def test_another_address_goes_on_with_the_partial_file(server, tmp_path):
    server.files["/mirror/data.bin"] = CONTENT
    server.cuts = [CHUNK]
    fetch([remote(server, "/data.bin", "/mirror/data.bin")], tmp_path)
    assert server.requests == [None, f"bytes={CHUNK}-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT[:999])
    server.ranges_ignored = True
    fetch([remote(server)], tmp_path)
    assert server.requests == ["bytes=999-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_partial_file_that_is_whole_already(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT)
    fetch([remote(server)], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"data.bin"}


def test_a_partial_file_with_wrong_bytes_is_thrown_away(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(b"x" * 1_000)
    fetch([remote(server)], tmp_path)
    assert server.requests == ["bytes=1000-", None]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"<html>Sign in</html>"])
def test_a_wrong_file_is_never_kept(server, tmp_path, content):
    server.files["/data.bin"] = content
    message = rf"data\.bin could not be downloaded: .*does not match.*, expected .* {SHA256}"
    with pytest.raises(DataError, match=message):
        fetch([remote(server)], tmp_path)
    assert names(tmp_path) == set()


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    fetch([remote(server)], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_missing_file_and_a_missing_server_are_told(server, tmp_path):
    message = (
        r"^data\.bin could not be downloaded: got http://127\.0\.0\.1:\d+/nothing: 404 .*"
        r"Run it again to go on from where it stopped, or get data\.bin by hand and point "
        r"--data-dir or THROUGHTIME_DATA at its folder\.$"
    )
    with pytest.raises(DataError, match=message):
        fetch([remote(server, "/nothing")], tmp_path)
    assert server.requests == [None, None]
    nowhere = RemoteFile("data.bin", ("http://127.0.0.1:9/data.bin",), SHA256)
    with pytest.raises(DataError, match=r"data\.bin could not be downloaded: .*[Cc]onnection"):
        fetch([nowhere], tmp_path)
    assert names(tmp_path) == set()


def test_a_server_that_refuses_ranges_nobody_asked_for(server, tmp_path):
    with pytest.raises(DataError, match=r"downloaded: got http://.*/416: 416 .*"):
        fetch([remote(server, "/416")], tmp_path)
    fetch([remote(server, "/416", "/data.bin")], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_goes_on_sending(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", CHUNK)
    with pytest.raises(DataError, match="it sends more than 65,536 bytes"):
        fetch([remote(server)], tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = r"downloading to .*file.*: got .*, expected a folder that can be written\. Free or"
    with pytest.raises(DataError, match=message):
        fetch([remote(server)], tmp_path / "file" / "mnist")
    assert server.requests == []


def test_two_who_fetch_at_once_fetch_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=([remote(server)], tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == [None]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


class Screen(io.StringIO):
    """Standard error, on a terminal or not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_is_shown_on_a_terminal_alone(server, tmp_path, monkeypatch, terminal):
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    fetch([remote(server)], tmp_path)
    assert ("data.bin: 100%" in screen.getvalue()) is terminal


def test_mnist_is_downloaded_checked_and_split(server, tmp_path, small_mnist, monkeypatch):
    monkeypatch.delenv("THROUGHTIME_DATA", raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path)
    downloads = []
    for file, content in zip(small_mnist.files, small_mnist.contents, strict=True):
        packed = gzip.compress(content)
        server.files[f"/{file.name}.gz"] = packed
        sha256 = hashlib.sha256(packed).hexdigest()
        downloads.append(RemoteFile(f"{file.name}.gz", (server.url(f"/{file.name}.gz"),), sha256))
    server.cuts = [10]
    for _ in range(2):
        image_sets._read_mnist.cache_clear()
        images = load_mnist(files=small_mnist.files, downloads=tuple(downloads), validation=5)
        assert images.splits["training"].images.tolist() == small_mnist.arrays[0][:25].tolist()
        assert images.splits["test"].labels.tolist() == small_mnist.arrays[3].tolist()
    assert len(server.requests) == 5
    assert names(tmp_path / "mnist") == {f"{file.name}.gz" for file in small_mnist.files}
