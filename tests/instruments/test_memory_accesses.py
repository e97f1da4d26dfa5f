"""Accesses of a memory: of a tape whose reads and writes are known, and of every memory cell."""

import math
from typing import Any

import pytest
import torch
from instruments.tapes import WORDS, Tape, tape_input
from torch import Tensor

import throughtime as tt
from throughtime.core.errors import ConfigurationError
from throughtime.instruments import MemoryAccesses, memory_accesses, record
from throughtime.memory import DAMCell, NTMCell, SAMCell

EAST, NORTH, DIAGONAL = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
STEPS = [
    tape_input(0, EAST, None),
    tape_input(1, NORTH, 0),
    tape_input(0, EAST, None),  # alike what word 0 holds: no item
    tape_input(0, NORTH, 1),  # overwrites the first item
    tape_input(2, DIAGONAL, 2),
    tape_input(None, EAST, 1),
]


def accesses(rows: list[list[list[float]]], **options: Any) -> MemoryAccesses:
    """Return the accesses of a tape over sequences of rows."""
    layer = tt.Recurrent(Tape())
    x = torch.tensor(rows).transpose(0, 1)
    how = {name: options.pop(name) for name in ("lengths", "reset") if name in options}
    return memory_accesses(record(layer, lambda: layer(x, **how)[0].sum()), **options)


def test_items_of_a_tape() -> None:
    found = accesses([STEPS])
    assert found.step.tolist() == [0, 1, 3, 4]
    assert found.word.tolist() == [0, 1, 0, 2]
    assert found.head.tolist() == [0] * 4
    assert found.overwritten.tolist() == [3, -1, -1, -1]
    # the read at step 4 of the word that is written at step 4 fetches nothing older
    assert found.fetched.tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(found.before, torch.tensor([0.0, 0.0, 1.0, math.sqrt(0.5)]).double())
    gone = math.sqrt(0.5)  # the diagonal is what is nearest to the east then
    expected = [
        [1.0, 1.0, 1.0, 0.0, gone, gone],
        [1.0, 1.0, 1.0, 1.0, 1.0, math.nan],
        [1.0, 1.0, 1.0, *[math.nan] * 3],
        [1.0, 1.0, *[math.nan] * 4],
    ]
    torch.testing.assert_close(found.similarity, torch.tensor(expected).double(), equal_nan=True)


def test_horizon_is_that_of_half_of_the_items() -> None:
    found = accesses([STEPS])
    torch.testing.assert_close(found.retrievable(), torch.tensor([1, 1, 1, 0.5, 0.5, 0]).double())
    assert found.horizon() == 4
    medians = [1, 1, 1, 0.5, 0.5 + math.sqrt(0.125), math.sqrt(0.5)]
    torch.testing.assert_close(found.quantiles[1], torch.tensor(medians).double())
    lasting = accesses([STEPS[:3]])
    assert lasting.horizon() == 2


def test_weights_are_those_of_the_steps() -> None:
    found = accesses([STEPS])
    x = torch.tensor(STEPS).double()
    assert torch.equal(found.written[0, :, 0], x[:, :WORDS])
    assert torch.equal(found.read[0, :, 0], x[:, -WORDS:])


def test_padding_has_no_accesses_and_no_items() -> None:
    alone = accesses([STEPS[:3]])
    found = accesses([STEPS, STEPS], lengths=[6, 3])
    short = found.sequence == 1
    assert found.step[short].tolist() == alone.step.tolist()
    assert found.overwritten[short].tolist() == [-1, -1]
    assert found.read[1, 3:].isnan().all()
    assert found.written[1, 3:].isnan().all()
    assert found.similarity[short][:, 3:].isnan().all()
    assert torch.equal(found.read[1, :3], alone.read[0])


def test_a_reset_overwrites_all_items() -> None:
    reset = torch.tensor([False, False, True, False])[:, None]
    rows = [STEPS[0], STEPS[1], tape_input(0, EAST, None), tape_input(None, EAST, 0)]
    found = accesses([rows], reset=reset)
    # the word was empty again, so that the same content is an item; the first item is in word 0 too
    assert found.step.tolist() == [0, 1, 2]
    assert found.overwritten.tolist() == [-1, 2, -1]
    assert found.before.tolist() == [0.0, 0.0, 0.0]


def test_two_heads_that_write_to_one_word_write_one_item() -> None:
    torch.manual_seed(0)
    layer = tt.Recurrent(NTMCell(2, 3, words=4, width=3, writes=2))
    x = torch.randn(5, 3, 2)
    found = memory_accesses(record(layer, lambda: layer(x)[0].sum()))
    keys = list(zip(found.sequence.tolist(), found.step.tolist(), found.word.tolist(), strict=True))
    assert len(set(keys)) == len(keys) > 0


@pytest.mark.parametrize("kind", [NTMCell, DAMCell, SAMCell])
def test_items_of_every_memory_cell_are_those_of_a_loop(kind: Any) -> None:
    torch.manual_seed(1)
    layer: Any = tt.Recurrent(kind(2, 4, words=6, width=3)).double()
    x = 3 * torch.randn(7, 2, 2).double()
    found = memory_accesses(record(layer, lambda: layer(x)[0].sum()), alike=0.8)
    cell, expected = layer.cells()[0], list[tuple[Any, ...]]()
    states = [cell.initial_state(2, dtype=x.dtype, device=x.device)]
    written: list[Tensor] = []
    with torch.no_grad():
        for row in cell.project(x):
            states.append(cell.step(row, states[-1])[1])
            read, weights = cell.accesses(states[-2], states[-1])
            torch.testing.assert_close(found.read[:, len(written)], read)
            torch.testing.assert_close(found.written[:, len(written)], weights)
            written.append(weights)

    def cosine(a: Tensor, b: Tensor) -> float:
        lengths = float(a.norm() * b.norm())
        return float(a @ b) / lengths if lengths else 0.0

    for b in range(2):
        for t, weights in enumerate(written):
            taken: list[int] = []
            for head, row in enumerate(weights[b]):
                word = int(row.argmax())
                item = states[t + 1].memory[b, word]
                if word in taken or cosine(item, states[t].memory[b, word]) >= 0.8:
                    taken.append(word)
                    continue
                taken.append(word)
                lost = [s for s in range(t, 7) if cosine(states[s + 1].memory[b, word], item) < 0.8]
                nearest = [
                    max(cosine(w, item) for w in states[s + 1].memory[b]) for s in range(t, 7)
                ]
                expected.append((b, t, head, word, lost[0] if lost else -1, nearest))
    rows = zip(found.sequence, found.step, found.head, found.word, found.overwritten, strict=True)
    assert [tuple(map(int, row)) for row in rows] == [row[:-1] for row in expected]
    assert expected
    for got, row in zip(found.similarity, expected, strict=True):
        torch.testing.assert_close(got[: len(row[-1])], torch.tensor(row[-1]).double())


def test_a_memory_that_nothing_is_written_to_has_no_items() -> None:
    found = accesses([[tape_input(None, EAST, 0)] * 3])
    assert len(found.step) == 0
    assert found.horizon() == 0
    assert found.quantiles.isnan().all()
    assert found.retrievable().isnan().all()


def test_a_record_is_read_back(tmp_path: Any) -> None:
    found = accesses([STEPS, STEPS], lengths=[6, 3])
    again: Any = tt.load(found.save(tmp_path / "memory.json"))
    torch.testing.assert_close(again.similarity, found.similarity, equal_nan=True)
    assert torch.equal(again.overwritten, found.overwritten)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="sequences: got 0, expected at least 1"):
        accesses([STEPS], sequences=0)
    with pytest.raises(ConfigurationError, match="alike: got 1"):
        accesses([STEPS], alike=1.0)
    bad = [row[:WORDS] + [math.nan] * 2 + row[-WORDS:] for row in STEPS]
    with pytest.raises(ConfigurationError, match="a memory that is not finite"):
        accesses([bad])
    gru = tt.GRU(2, 3)
    recording = record(gru, lambda: gru(torch.ones(4, 1, 2))[0].sum())
    with pytest.raises(ConfigurationError, match=r"a recording of .*expected one of a cell with a"):
        memory_accesses(recording)
