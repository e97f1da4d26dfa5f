"""Drawn sequences of frames as SVG files: pen strokes, piano rolls, curves."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Num

from throughtime.core.errors import ShapeError
from throughtime.tasks.kinds import Frames

_CELL, _PAD = 96, 10  # pixels of a drawing, and around it
_KEY, _FRAME = 3, 5  # pixels of a key and of a frame in a piano roll
_BLACK_KEYS = (1, 4, 6, 9, 11)  # from A, the lowest key
_WIDTH, _HEIGHT = 640, 110  # pixels of the curves of one sequence
_COLOURS = ("#1f5fa8", "#c4522d", "#2f8f4e", "#7a4fa3", "#8a6d1f", "#3c7d8c")


def frames_svg(sequences: Sequence[Num[np.ndarray, "_ width"]], kind: Frames) -> str:
    """Return the picture of sequences that suits their kind: strokes, piano rolls or curves.

    Arguments:
        sequences: frames.
        kind: kind of the frames.

    Raises:
        ShapeError: no sequence, or frames of different widths.

    Example:
        >>> frames_svg([np.eye(3)], Frames(3, binary=True)) == piano_roll_svg([np.eye(3)])
        True
    """
    draw = strokes_svg if kind.pen else piano_roll_svg if kind.binary else curves_svg
    return draw(sequences)


def strokes_svg(drawings: Sequence[Num[np.ndarray, "_ 3"]]) -> str:
    """Return drawings side by side, each as large as its place allows.

    A drawing is a list of movements (dx, dy, pen); the first one, and each one after a lifted pen,
    draws nothing. y goes down.

    Arguments:
        drawings: movements; pen is 1 where the pen is lifted after the movement.

    Raises:
        ShapeError: no drawing, or frames of another width.

    Example:
        >>> square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 1]])
        >>> "M10.0 10.0 L86.0 10.0 L86.0 86.0" in strokes_svg([square])
        True
    """
    _check("drawings", drawings, 3)
    across = math.ceil(math.sqrt(len(drawings)))
    parts: list[str] = []
    for number, drawing in enumerate(drawings):
        row, column = divmod(number, across)
        path = _path(np.asarray(drawing, dtype=np.float64), column * _CELL, row * _CELL)
        parts.append(
            f'<path d="{path}" fill="none" stroke="{_COLOURS[0]}" stroke-width="1.5" '
            'stroke-linecap="round" stroke-linejoin="round"/>'
        )
    rows = math.ceil(len(drawings) / across)
    return _svg(across * _CELL, rows * _CELL, f"{len(drawings)} drawings", parts)


def piano_roll_svg(pieces: Sequence[Num[np.ndarray, "_ keys"]]) -> str:
    """Return piano rolls, one below the other: time goes to the right, low keys are below.

    Arguments:
        pieces: keys that sound in each frame, 0 and 1; the lowest of 88 keys is an A.

    Raises:
        ShapeError: no piece, or frames of different widths.

    Example:
        >>> piano_roll_svg([np.eye(3)]).count('fill="#1f5fa8"')
        3
    """
    keys = pieces[0].shape[-1] if len(pieces) else 0
    _check("pieces of music", pieces, keys)
    high = keys * _KEY + _PAD
    wide = max(len(piece) for piece in pieces) * _FRAME
    parts: list[str] = []
    for number, piece in enumerate(pieces):
        top = number * high + _PAD // 2
        for key in range(keys):
            if keys == 88 and key % 12 in _BLACK_KEYS:
                y = top + (keys - 1 - key) * _KEY
                parts.append(_rect(0, y, wide, _KEY, "#eef1f5"))
        parts += [
            _rect(
                first * _FRAME,
                top + (keys - 1 - key) * _KEY,
                (last - first) * _FRAME - 1,
                _KEY,
                _COLOURS[0],
            )
            for key, first, last in notes(piece)
        ]
    return _svg(wide, len(pieces) * high, f"piano rolls of {len(pieces)} pieces", parts)


def curves_svg(sequences: Sequence[Num[np.ndarray, "_ width"]]) -> str:
    """Return sequences of real numbers, one below the other, a curve for each value of a frame.

    Arguments:
        sequences: frames.

    Raises:
        ShapeError: no sequence, or frames of different widths.

    Example:
        >>> curves_svg([np.zeros((5, 2))]).count("<path")
        2
    """
    width = sequences[0].shape[-1] if len(sequences) else 0
    _check("sequences", sequences, width)
    whole = np.concatenate([np.asarray(each, dtype=np.float64) for each in sequences])
    low, high = float(whole.min()), float(whole.max())
    longest = max(map(len, sequences))
    parts: list[str] = []
    for number, frames in enumerate(sequences):
        top = number * (_HEIGHT + _PAD) + _PAD / 2
        x = _PAD + np.arange(len(frames)) * (_WIDTH - 2 * _PAD) / max(1, longest - 1)
        for value in range(width):
            y = top + (high - frames[:, value]) / (high - low or 1.0) * _HEIGHT
            colour = _COLOURS[value % len(_COLOURS)]
            parts.append(f'<path d="{_line(x, y)}" fill="none" stroke="{colour}"/>')
    height = len(sequences) * (_HEIGHT + _PAD)
    return _svg(_WIDTH, height, f"{len(sequences)} sequences", parts)


def notes(piece: Num[np.ndarray, "_ keys"]) -> Iterator[tuple[int, int, int]]:
    """Yield key, first frame and the frame after the last, of each note of a piece.

    A key that sounds in frames in turn is one note.

    Arguments:
        piece: keys that sound in each frame, 0 and 1.

    Example:
        >>> list(notes(np.array([[1], [1], [0], [1]])))
        [(0, 0, 2), (0, 3, 4)]
    """
    edge = np.zeros((1, piece.shape[1]))
    changes = np.diff(np.concatenate([edge, piece, edge]), axis=0)
    for key in range(piece.shape[1]):
        starts, ends = (np.flatnonzero(changes[:, key] == sign) for sign in (1, -1))
        for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
            yield key, first, last


def _path(moves: np.ndarray, left: float, top: float) -> str:
    places = moves[:, :2].cumsum(0)
    low, size = places.min(0), float(np.ptp(places, axis=0).max()) or 1.0
    points = (places - low) * ((_CELL - 2 * _PAD) / size) + np.array([left, top]) + _PAD
    after_lift = np.concatenate([[True], moves[:-1, 2] > 0.5])
    return " ".join(
        f"{'M' if up else 'L'}{x:.1f} {y:.1f}"
        for up, (x, y) in zip(after_lift, points, strict=True)
    )


def _line(x: np.ndarray, y: np.ndarray) -> str:
    points = (f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return "M" + " L".join(points)


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    back = _rect(0, 0, width, height, "#ffffff")
    body = "\n".join([f"<title>{title}</title>", back, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">\n{body}\n</svg>\n'


def _check(name: str, sequences: Sequence[np.ndarray], width: int) -> None:
    shapes = [each.shape for each in sequences]
    if not shapes or any(len(s) != 2 or s[0] == 0 or s[1] != width for s in shapes):
        raise ShapeError(
            name,
            got=f"shapes {shapes}",
            expected=f"one at least, (frames, {width}) each",
        )
