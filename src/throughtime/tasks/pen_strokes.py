"""Drawings with a pen, as movements: Omniglot's characters, or a file of the user's."""

import hashlib
import io
import math
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Num

from throughtime.core.errors import DataError
from throughtime.tasks.download import data_folder, found
from throughtime.tasks.frames import FrameDensity, Sequences
from throughtime.tasks.kinds import Frames
from throughtime.tasks.music import split_at_random
from throughtime.tasks.seeding import generator
from throughtime.tasks.task import Split

OMNIGLOT = "omniglot_strokes_flat.npz"
"""The file of Omniglot's drawings."""

_SPLITS: dict[Split, str] = {"training": "train", "validation": "valid", "test": "test"}


def pen_strokes(
    *,
    file: str | None = None,
    annealing: int = 0,
    samples: int = 20,
    longest: int = 0,
    grid: bool = True,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> FrameDensity:
    """Drawings as movements of a pen: frames (dx, dy, pen), with 1 where the pen is lifted.

    Movements are divided by their standard deviation in the training drawings, one number for x and
    y: losses are those of the divided movements. The task's criterion names the number, s. In the
    file's own units, each frame has 2 ln s nats more. Whole numbers have no density. So movements
    on a grid get uniform noise of one cell, the same in every run.

    Arguments:
        file: path of a .npz file with the arrays train_strokes (points, 3), train_lengths (points
            of each drawing), and the same for valid and test; or strokes and lengths alone, which
            are split at random, a tenth for validation and for test. None for the file
            omniglot_strokes_flat.npz in `data_dir`, or in the folder of THROUGHTIME_DATA.
        annealing: training steps until the KL part has the weight 1; 0 for 1 from the start.
        samples: draws of the importance-weighted bound.
        longest: frames of a training sequence, at most; 0 for whole drawings.
        grid: If True, movements on a grid get noise of one cell.
        sha256: beginning of the checksum of the file; another file is refused. A run adds it to its
            configuration.
        data_dir: folder of the file.

    Raises:
        ConfigurationError: an option out of range, or a pen that is neither 0 nor 1.
        DataError: the file is missing, broken, or not the one that it should be.

    Source:
        Drawings of Omniglot: Lake, Salakhutdinov and Tenenbaum 2015, Human-level concept learning
        through probabilistic program induction; in the form of D. Ha's sketch-rnn data sets.
    """
    path = _path(file, data_dir)
    drawings, checksum = read_strokes(path, sha256)
    drawings, scale = _normalised(drawings, grid)
    task = FrameDensity(
        "pen-strokes",
        drawings,
        Frames(3, binary=False, pen=True),
        annealing=annealing,
        samples=samples,
        longest=longest,
        note=f"movements are divided by s = {scale:.4g}; in the file's units each frame has "
        f"2 ln s = {2 * math.log(scale):.3f} nats more",
        unit="nats per frame, normalised",
    )
    task.sha256 = checksum
    return task


def read_strokes(path: Path, sha256: str | None = None) -> tuple[Sequences, str]:
    """Return the drawings of each split as in the file, and the beginning of its checksum.

    Arguments:
        path: .npz file; see `pen_strokes`.
        sha256: its SHA-256, or the beginning of it; None for any.

    Raises:
        DataError: the file is missing, broken, or has other arrays or another checksum.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), got=str(error), expected="a .npz file of strokes") from error
    checksum = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not checksum.startswith(sha256):
        raise DataError(
            str(path),
            got=f"SHA-256 {checksum[: len(sha256)]}",
            expected=sha256,
            fix="Bring the file back as it was, or leave sha256 out in a new folder.",
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            str(path),
            got=str(error),
            expected="a .npz file of strokes, without Python objects",
            fix="Save arrays of numbers: numpy.savez(path, strokes=points, lengths=lengths).",
        ) from error
    if {"strokes", "lengths"} <= held.keys():
        drawings = _cut(path, held["strokes"], held["lengths"])
        if len(drawings) < 3:
            raise DataError(str(path), got=f"{len(drawings)} drawings", expected="at least 3")
        return split_at_random(drawings), checksum[:16]
    names = [f"{part}_{kind}" for part in _SPLITS.values() for kind in ("strokes", "lengths")]
    absent = [name for name in names if name not in held]
    if absent:
        raise DataError(
            str(path),
            got=f"the arrays {', '.join(sorted(held)) or '(none)'}",
            expected=f"strokes and lengths, or {', '.join(names)}",
        )
    return {
        split: _cut(path, held[f"{part}_strokes"], held[f"{part}_lengths"])
        for split, part in _SPLITS.items()
    }, checksum[:16]


def _cut(path: Path, strokes: np.ndarray, lengths: np.ndarray) -> list[Num[np.ndarray, "_ 3"]]:
    """Return drawings from their points, one after the other."""
    numbers = strokes.dtype.kind in "iuf" and lengths.dtype.kind in "iu"
    if not numbers or strokes.ndim != 2 or strokes.shape[1] != 3 or lengths.ndim != 1:
        raise DataError(
            str(path),
            got=f"strokes {strokes.dtype} {strokes.shape}, lengths {lengths.dtype} {lengths.shape}",
            expected="strokes (points, 3), and whole lengths (drawings,)",
        )
    if len(lengths) == 0 or int(lengths.min()) < 1 or int(lengths.sum()) != len(strokes):
        raise DataError(
            str(path),
            got=f"{len(lengths)} lengths, from {lengths.min(initial=0)}, of {lengths.sum()} points "
            f"for {len(strokes)}",
            expected="lengths of at least 1 whose sum is the number of points",
        )
    ends = np.cumsum(lengths.astype(np.int64))[:-1]
    return [part.astype(np.float32) for part in np.split(strokes, ends)]


def _normalised(drawings: Sequences, grid: bool) -> tuple[Sequences, float]:
    """Return drawings whose movements have a deviation of 1 in training, and the divisor."""
    moves = np.concatenate(drawings["training"])[:, :2].astype(np.float64)
    scale = float(moves.std())
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(
            "movements of the training drawings",
            got=f"a standard deviation of {scale:.4g}",
            expected="above 0, and finite",
        )
    cell = _cell(moves) if grid else 0.0
    found: dict[Split, list[np.ndarray]] = {}
    for split, given in drawings.items():
        random = generator(0, split)
        found[split] = []
        for drawing in given:
            noise = cell * (random.random((len(drawing), 2)) - 0.5)
            pen = drawing[:, 2:]
            found[split].append(
                np.concatenate([(drawing[:, :2] + noise) / scale, pen], 1).astype(np.float32)
            )
    return found, scale


def _cell(moves: np.ndarray) -> float:
    """Return the width of the grid that all movements lie on; 0 for none."""
    if not np.array_equal(moves, np.rint(moves)):
        return 0.0
    return float(np.gcd.reduce(np.abs(moves).astype(np.int64).ravel()))


def _path(file: str | None, data_dir: str | None) -> Path:
    if file is not None:
        return Path(data_dir or "", file).expanduser()
    folder = data_folder(data_dir, "pen_strokes", ())
    path = found(folder, "pen_strokes", OMNIGLOT)
    if path is None:
        raise DataError(
            f"no drawings in {folder}",
            got=f"no {OMNIGLOT}",
            expected="it there or in its subfolder pen_strokes, or file=PATH",
            fix="The task polygons needs no file. Drawings of your own: numpy.savez(path, "
            "strokes=points, lengths=lengths), and pen-strokes:file=PATH.",
        )
    return path
