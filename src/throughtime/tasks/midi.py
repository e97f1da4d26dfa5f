"""MIDI files as frames of 88 piano keys, and back, by mido (an extra)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from throughtime.core.errors import ConfigurationError, DataError

KEYS = 88
"""The number of keys of a piano."""

_LOWEST = 21  # MIDI number of the lowest key of a piano
_DRUMS = 9
_TICKS = 480  # of a quarter note, in a written file
_VELOCITY = 80


def read_midi(path: Path, frames_per_beat: int) -> Num[np.ndarray, "time 88"]:
    """Return the keys that sound in each frame, 0 and 1, from the first note to the last.

    Notes begin and end at the nearest frame, and last at least one. Drums are left out, and so are
    notes outside the 88 keys of a piano.

    Arguments:
        path: MIDI file.
        frames_per_beat: frames of a quarter note.

    Raises:
        DataError: the file cannot be read, is no MIDI file, is cut short, or has no notes.
        ConfigurationError: mido is not installed.
    """
    mido = _mido()
    try:
        song = mido.MidiFile(path)
        notes = [note for track in song.tracks for note in _notes(track)]
        ticks = song.ticks_per_beat / frames_per_beat
        places = [
            (key, round(start / ticks), max(round(start / ticks) + 1, round(end / ticks)))
            for key, start, end in notes
            if 0 <= key < KEYS
        ]
    except Exception as error:
        raise DataError(
            str(path), got=f"{type(error).__name__}: {error}", expected="a whole MIDI file"
        ) from error
    if not places:
        raise DataError(str(path), got="no notes", expected="notes of the 88 keys of a piano")
    first, last = min(start for _, start, _ in places), max(end for _, _, end in places)
    frames = np.zeros((last - first, KEYS), np.float32)
    for key, start, end in places:
        frames[start - first : end - first, key] = 1
    return frames


def write_midi(
    frames: Num[np.ndarray, "time 88"], path: Path, *, frames_per_beat: int = 2, tempo: int = 100
) -> None:
    """Write frames of 88 keys as a MIDI file. A key that sounds in frames in turn is one note.

    Arguments:
        frames: keys that sound in each frame, 0 and 1.
        path: file.
        frames_per_beat: frames of a quarter note.
        tempo: quarter notes a minute.

    Raises:
        ConfigurationError: mido is not installed, or a frame has not 88 keys.
        DataError: the file cannot be written.
    """
    mido = _mido()
    if frames.ndim != 2 or frames.shape[1] != KEYS:
        raise ConfigurationError(
            "frames of a MIDI file", got=f"shape {frames.shape}", expected=f"(time, {KEYS})"
        )
    edge = np.zeros((1, KEYS))
    changes = np.diff(np.concatenate([edge, frames, edge]), axis=0)
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
    ticks, before = _TICKS // frames_per_beat, 0
    for t, change in enumerate(changes):
        for key in np.flatnonzero(change):
            kind = "note_on" if change[key] > 0 else "note_off"
            track.append(
                mido.Message(
                    kind,
                    note=int(key) + _LOWEST,
                    velocity=_VELOCITY,
                    time=(t - before) * ticks,
                )
            )
            before = t
    song = mido.MidiFile(ticks_per_beat=_TICKS)
    song.tracks.append(track)
    try:
        song.save(path)
    except OSError as error:
        raise DataError(str(path), got=str(error), expected="a file that can be written") from error


def _notes(track: Any) -> list[tuple[int, int, int]]:
    """Return the key, the first tick and the last tick of each note of a track."""
    time, sounding, found = 0, dict[tuple[int, int], int](), list[tuple[int, int, int]]()
    for message in track:
        time += message.time
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        place = (message.channel, message.note)
        if place in sounding:  # a second note_on ends the note, too
            found.append((message.note - _LOWEST, sounding.pop(place), time))
        if message.type == "note_on" and message.velocity > 0:
            sounding[place] = time
    found += [(note - _LOWEST, start, time) for (_, note), start in sounding.items()]
    return found


def mido_installed() -> bool:
    """Return True if MIDI files can be read and written."""
    return importlib.util.find_spec("mido") is not None


def _mido() -> Any:
    try:
        import mido
    except ImportError:
        raise ConfigurationError(
            "MIDI files",
            got="no package mido",
            expected="it is installed",
            fix="pip install 'throughtime[music]'",
        ) from None
    return mido
