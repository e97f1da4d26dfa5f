"""Data files: found, unpacked, or got from the network, checked by their sums."""

import functools
import gzip
import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from throughtime.core.errors import DataError

CHUNK = 1 << 16
MOST_BYTES = 1 << 28  # of a file, whatever a server goes on sending
TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network.

    Attributes:
        name: file name in the cache.
        urls: addresses, best first.
        sha256: checksum of the file in the form in which it is sent, in hexadecimal.
        terms: origin and terms of the data, which are shown before the download.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    terms: str = ""


def cache_folder() -> Path:
    """This user's folder for downloaded data, private to them: `platformdirs.user_cache_path`."""
    import platformdirs

    return platformdirs.user_cache_path("throughtime", appauthor=False)


def data_folder(data_dir: str | Path | None, name: str, files: Sequence[RemoteFile]) -> Path:
    """Return the given folder, that of THROUGHTIME_DATA, or that of the downloaded files."""
    chosen = data_dir if data_dir is not None else os.environ.get("THROUGHTIME_DATA") or None
    if chosen is not None:
        return Path(chosen).expanduser().resolve()
    folder = cache_folder() / name
    fetch(files, folder)
    return folder.resolve()


def found(folder: Path, subfolder: str, name: str) -> Path | None:
    """Return the file or its gzip form, in a folder or its subfolder; None if there is none."""
    names = (name, f"{name}.gz")
    places = [place / each for place in (folder, folder / subfolder) for each in names]
    return next((place for place in places if place.is_file()), None)


def unpacked(path: Path, size: int) -> bytes:
    """Return the uncompressed file, but no more than `size` + 1 bytes of it."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                return file.read(size + 1)
            file.seek(0)
            with gzip.open(file) as unpacked:
                return unpacked.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is cut short or corrupt",
            got=f"{type(error).__name__}: {error}",
            expected="a whole gzip file",
            fix="Delete it and get it again.",
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=str(error)) from error


def fetch(files: Sequence[RemoteFile], folder: Path) -> None:
    """Download the files that `folder` does not hold yet.

    A file arrives as `<name>.partial`, from where a later call goes on, and gets its name only when
    its checksum is right. Each address is tried twice. Processes that fetch at once wait for each
    other. The terms of files that are absent are written to stderr.
    A progress bar is shown on a terminal.

    Raises:
        DataError: a file cannot be got, or the folder not written; the message names it.
    """
    import filelock
    import tqdm

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            absent = [file for file in files if not (folder / file.name).exists()]
            for terms in dict.fromkeys(file.terms for file in absent if file.terms):
                tqdm.tqdm.write(terms, file=sys.stderr)
            for file in files:
                _fetch_one(file, folder)
    except OSError as error:
        raise DataError(
            f"downloading to {folder}",
            got=str(error),
            expected="a folder that can be written",
            fix="Free or make room there, or get the files by hand and set THROUGHTIME_DATA.",
        ) from error


def _fetch_one(file: RemoteFile, folder: Path) -> None:
    import pooch
    import requests

    partial = folder / f"{file.name}.partial"
    # A cast, since pooch's Protocol misnames the arguments: its own downloaders do not fit it.
    downloader = cast(Any, functools.partial(_resume, partial))
    failures: list[str] = []
    for url in file.urls * 2:
        store = pooch.create(
            path=folder,
            base_url="",
            registry={file.name: f"sha256:{file.sha256}"},
            urls={file.name: url},
        )
        try:
            # pooch keeps a file that has the right sum, and moves a download into place, in one
            # step, only if it has.
            store.fetch(file.name, downloader=downloader)
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{url}: {error}")
        else:
            return
    raise DataError(
        f"{file.name} could not be downloaded",
        got="; ".join(dict.fromkeys(failures)),
        expected=f"the file with SHA-256 {file.sha256}",
        fix=(
            f"Run it again to go on from where it stopped, or get {file.name} by hand and "
            "point --data-dir or THROUGHTIME_DATA at its folder."
        ),
    )


def _resume(partial: Path, url: str, output_file: str, store: object) -> None:
    """A pooch downloader that keeps in `partial` what arrived before the connection broke."""
    import requests
    import tqdm

    start = partial.stat().st_size if partial.exists() else 0
    # Without "identity" a server may send a .gz file as an encoding, which requests would undo.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        # 416: the partial file is all that there is, or the server refuses ranges that it was not
        # asked for, which is its failure
        if not start or response.status_code != requests.codes.requested_range_not_satisfiable:
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0  # the server sends the whole file again
            remaining = int(response.headers.get("Content-Length", 0))
            with (
                tqdm.tqdm(
                    desc=partial.stem,
                    total=start + remaining if remaining else None,
                    initial=start,
                    unit="B",
                    unit_scale=True,
                    disable=None,  # on a terminal only
                ) as bar,
                partial.open("ab" if start else "wb") as file,
            ):
                for chunk in response.iter_content(CHUNK):
                    if file.tell() > MOST_BYTES:
                        partial.unlink()  # nobody goes on from there
                        raise ValueError(f"it sends more than {MOST_BYTES:,} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
    # All bytes are here, or (416) there were no more to come: the checksum decides.
    partial.replace(output_file)
