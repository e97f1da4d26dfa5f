"""Sequences of frames from a trained model: strokes, piano rolls and MIDI files, curves."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.output import show_json, show_place

if TYPE_CHECKING:
    from throughtime.tasks.kinds import Frames


def sample_frames(
    model: Any,
    kind: "Frames",
    place: Path,
    *,
    count: int | None,
    steps: int | None,
    seed: int,
    json: bool,
) -> int:
    """Write a picture of drawn sequences, MIDI files of music, and return the exit code.

    Arguments:
        model: The trained model.
        kind: The kind of its frames.
        place: The path of the SVG file; MIDI files stand beside it.
        count: The number of sequences; None for 4, and for 64 drawings.
        steps: The number of frames; None for 100, and for 30 of drawings.
        seed: The seed of the draws.
        json: If True, one JSON object is printed: the paths, and the frames.
    """
    from throughtime.core.errors import ConfigurationError
    from throughtime.reports.frame_drawings import frames_svg
    from throughtime.results.atomic import write_whole
    from throughtime.studies.samples import drawn_frames
    from throughtime.tasks.midi import KEYS, mido_installed, write_midi

    if count is not None and count < 1:
        raise ConfigurationError("--count", got=count, expected="1 or more")
    if place.suffix != ".svg":
        raise ConfigurationError("--out", got=place.name, expected="a name that ends in .svg")
    drawn = drawn_frames(model, kind, count=count, steps=steps, seed=seed)
    write_whole(place, frames_svg(drawn, kind).encode())
    songs: list[Path] = []
    if kind.binary and kind.width == KEYS:
        if mido_installed():
            songs = [place.with_name(f"{place.stem}-{k + 1}.mid") for k in range(len(drawn))]
            for frames, path in zip(drawn, songs, strict=True):
                write_midi(frames, path)
        else:
            sys.stderr.write("No MIDI files: pip install 'throughtime[music]'.\n")
    if json:
        document = {
            "schema_version": 1,
            "picture": str(place),
            "midi": [str(path) for path in songs],
            "frames": [frames.tolist() for frames in drawn],
        }
        show_json(document)
        return 0
    show_place(f"{len(drawn)} {'drawings' if kind.pen else 'sequences'}", place)
    if songs:
        show_place(f"MIDI files of {len(songs)} pieces", songs[0].parent)
    return 0
