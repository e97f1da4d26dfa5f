"""MIDI files: a round trip, notes by hand, and files that are broken."""

import builtins

import numpy as np
import pytest

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks import TASKS, read_midi, write_midi

mido = pytest.importorskip("mido")


def song() -> np.ndarray:
    frames = (np.random.default_rng(0).random((12, 88)) < 0.1).astype(np.float32)
    frames[0, 3] = frames[-1, 5] = 1
    return frames


def test_frames_survive_a_file(tmp_path):
    for frames_per_beat in (1, 2, 4):
        write_midi(song(), tmp_path / "song.mid", frames_per_beat=frames_per_beat)
        found = read_midi(tmp_path / "song.mid", frames_per_beat)
        assert np.array_equal(found, song())


def test_notes_by_hand(tmp_path):
    """Two tracks, a note_on of velocity 0, drums, a note below the piano, one that never ends."""
    file = mido.MidiFile(ticks_per_beat=100)
    first = [
        mido.Message("note_on", note=60, velocity=9, time=200),
        mido.Message("note_on", note=60, velocity=0, time=100),
        mido.Message("note_on", note=20, velocity=9, time=0),
        mido.Message("note_on", note=64, velocity=9, channel=9, time=0),
        mido.Message("note_off", note=20, time=100),
    ]
    second = [
        mido.Message("note_on", note=108, velocity=9, time=260),
        mido.MetaMessage("text", text="x", time=90),
    ]
    file.tracks += [mido.MidiTrack(first), mido.MidiTrack(second)]
    file.save(tmp_path / "hand.mid")
    found = read_midi(tmp_path / "hand.mid", 2)
    assert found.shape == (3, 88)
    assert np.argwhere(found).tolist() == [[0, 39], [1, 39], [1, 87], [2, 87]]


@pytest.mark.parametrize("content", [b"", b"MThd", b"no midi", b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk"])
def test_a_broken_file(tmp_path, content):
    (tmp_path / "broken.mid").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.mid.*whole MIDI file"):
        read_midi(tmp_path / "broken.mid", 2)


def test_files_without_notes_and_frames_of_other_widths(unchecked, tmp_path):
    write_midi(np.zeros((3, 88)), tmp_path / "empty.mid")
    with pytest.raises(DataError, match="no notes"):
        read_midi(tmp_path / "empty.mid", 2)
    with pytest.raises(DataError, match="MIDI"):
        read_midi(tmp_path / "absent.mid", 2)
    with pytest.raises(DataError, match="can be written"):
        write_midi(song(), tmp_path / "no" / "folder.mid")
    with pytest.raises(ConfigurationError, match="88"):
        write_midi(np.zeros((3, 3)), tmp_path / "wide.mid")


def test_a_folder_of_files_is_a_task(tmp_path):
    for k in range(4):
        write_midi(np.roll(song(), k, axis=1), tmp_path / f"{k}.mid")
    task = TASKS.build(f"midi:folder={tmp_path},samples=1")
    assert {split: len(each) for split, each in task.sequences.items()} == {
        "validation": 1,
        "test": 1,
        "training": 2,
    }
    assert len(task.sha256) == 16
    again = TASKS.build(f"midi:folder={tmp_path},sha256={task.sha256}")
    assert again.chance_loss == task.chance_loss
    write_midi(song()[:5], tmp_path / "0.mid")
    with pytest.raises(DataError, match="SHA-256"):
        TASKS.build(f"midi:folder={tmp_path},sha256={task.sha256}")


def test_folders_that_are_no_task(tmp_path):
    with pytest.raises(ConfigurationError, match="folder=PATH"):
        TASKS.build("midi")
    with pytest.raises(DataError, match="no such folder"):
        TASKS.build(f"midi:folder={tmp_path / 'absent'}")
    write_midi(song(), tmp_path / "one.mid")
    with pytest.raises(DataError, match="1 MIDI files"):
        TASKS.build(f"midi:folder={tmp_path}")


def test_without_the_package(tmp_path, monkeypatch):
    plain = builtins.__import__

    def absent(name, *rest, **options):
        if name == "mido":
            raise ImportError(name)
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigurationError, match=r"throughtime\[music\]"):
        read_midi(tmp_path / "song.mid", 2)
