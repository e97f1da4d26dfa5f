"""The ring and the indices beside plain sorts."""

import numpy as np
import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.memory import nearest
from throughtime.memory.nearest import Index, largest
from throughtime.memory.ring import Ring


def test_the_ring_is_a_sort_by_last_access() -> None:
    draws = np.random.default_rng(0)
    accessed = draws.integers(-1, 3, 12)
    expected = accessed.copy()
    ring = Ring(accessed)
    for _ in range(200):
        words = np.flatnonzero(draws.random(12) < draws.random())
        if len(words):
            expected[words] = expected.max() + 1
        ring.access(words.tolist())
        assert accessed.tolist() == expected.tolist()
        assert ring.oldest(12) == sorted(range(12), key=lambda j: (expected[j], j))


def sorted_scores(memory: Tensor, query: Tensor, reads: int) -> list[list[int]]:
    lengths = (memory.square().sum(-1) + 1e-6).sqrt()
    scores = (memory @ query.T).T / lengths
    return [sorted(range(len(memory)), key=lambda j: (-float(s[j]), j))[:reads] for s in scores]


@pytest.mark.parametrize("kind", ["exact", "inverted"])
def test_writes_are_found_at_once(kind: nearest.IndexName) -> None:
    """Among up to 60 words, which are one list; some are set to zeros again."""
    torch.manual_seed(0)
    memory = torch.zeros(2, 60, 4, dtype=torch.float64)
    memory[1, 20:40] = torch.randn(20, 4, dtype=torch.float64)
    index = Index(memory, 3, kind)
    for _ in range(60):
        places = torch.randint(60, (2, 5))
        for b in range(2):
            memory[b, places[b]] = torch.randn(5, 4, dtype=torch.float64)
            memory[b, places[b, 0]] = 0
        index.update(places, torch.stack([memory[b, places[b]] for b in range(2)]))
        index.check()
        query = torch.randn(2, 2, 4, dtype=torch.float64)
        for b, found in enumerate(index.search(query).tolist()):
            assert found == sorted_scores(memory[b], query[b], 3)


def clusters(words: int) -> Tensor:
    """Words around a hundredth as many directions."""
    centres = torch.randn(max(1, words // 100), 16)
    return centres[torch.randint(len(centres), (words,))] + 0.3 * torch.randn(words, 16)


def test_inverted_lists_find_nine_in_ten_after_many_writes() -> None:
    torch.manual_seed(0)
    memory = torch.zeros(1, 6000, 16)
    memory[0, :1000] = clusters(1000)
    index, words = Index(memory, 4, "inverted"), clusters(6000)
    for start in range(0, 6000, 50):  # every word is written or rewritten, most of them new
        places = torch.arange(start, start + 50)
        memory[0, places] = words[places]
        index.update(places[None], words[None, places])
    index.check()
    query = (words[:200] + 0.2 * torch.randn(200, 16))[None]
    found, exact = index.search(query), Index(memory, 4, "exact").search(query)
    hits = (found[..., None] == exact[..., None, :]).any(-1).float().mean()
    assert float(hits) > 0.9


def test_many_words_alike_overflow_into_other_lists() -> None:
    memory = torch.ones(1, 500, 3)
    index = Index(memory, 2, "inverted")
    for start in range(0, 500, 20):
        places = torch.arange(start, start + 20)
        memory[0, places] = torch.tensor([0.0, 1.0, 0.0])
        index.update(places[None], memory[:, places])
        index.check()
    assert (index.search(torch.tensor([[[0.0, 1.0, 0.0]]])) >= 0).all()


def test_auto_takes_lists_for_many_words(monkeypatch) -> None:
    monkeypatch.setattr(nearest, "LARGEST_EXACT", 30)
    memory = torch.zeros(1, 90, 4)
    index = Index(memory, 2)
    for word in range(40):
        memory[0, word] = torch.randn(4)
        index.update(torch.tensor([[word]]), memory[:, word : word + 1])
        assert bool(index._lists) == (word >= 30)
        index.check()


@pytest.mark.parametrize("kind", ["exact", "inverted"])
def test_a_word_changed_without_the_index_is_found_by_check(kind: nearest.IndexName) -> None:
    memory = torch.zeros(1, 9, 2)
    index = Index(memory, 2, kind)
    memory[0, 7] = 1
    with pytest.raises(tt.errors.StateError, match="no entry of the content of word 7 of sequ"):
        index.check()


def test_a_lost_entry_of_a_list_is_found_by_check() -> None:
    memory = torch.randn(1, 200, 2)
    index = Index(memory, 2, "inverted")
    index.check()
    index._lists[0]._remove(17)
    with pytest.raises(tt.errors.StateError, match="no entry of the content of word 17"):
        index.check()


def test_largest_by_blocks_is_topk() -> None:
    scores = torch.randn(2, 3, 5003)
    torch.testing.assert_close(largest(scores, 4), scores.topk(4).indices)
