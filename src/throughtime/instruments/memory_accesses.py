"""Accesses of a memory of words: reads and writes over time, and how long written items last."""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, restarted
from throughtime.foreign.recording import Recording
from throughtime.memory.access import Accesses, MemoryCell
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryAccesses(Record):
    """The words that the heads of a memory read and wrote at each step, and the written items.

    An item is the content of a word after a step in which a head wrote to it most, if the word was
    no longer alike what it held before. Two contents are alike if their cosine is at least `alike`.

    Attributes:
        layer: name of the recurrent layer within the model.
        level: level of the cell, from the bottom.
        direction: 0 forward, 1 reverse.
        read: weights of the words that each read head read; NaN beyond a sequence's length.
        written: weights of the words that each write head wrote; NaN beyond a sequence's length.
        alike: least cosine of two contents that are alike.
        sequence: sequence of each item.
        step: step at which each item was written.
        head: write head that wrote it.
        word: word that it was written to.
        overwritten: first later step after which its word is no longer alike the item; -1 for none.
        fetched: largest weight with which a later step read its word before it was overwritten.
        before: cosine of the item and the nearest word before it was written.
        similarity: cosine of the item and the nearest word after k further steps, by k from 0; NaN
            beyond the end of its sequence.
    """

    layer: str
    level: int
    direction: int
    read: Float[Tensor, "sequences time reads words"]
    written: Float[Tensor, "sequences time writes words"]
    alike: float
    sequence: Int[Tensor, " items"]
    step: Int[Tensor, " items"]
    head: Int[Tensor, " items"]
    word: Int[Tensor, " items"]
    overwritten: Int[Tensor, " items"]
    fetched: Float[Tensor, " items"]
    before: Float[Tensor, " items"]
    similarity: Float[Tensor, "items lags"]

    @property
    def quantiles(self) -> Float[Tensor, "3 lags"]:
        """Quantiles of the similarity at 10, 50 and 90 % of the items; NaN where there is none."""
        if len(self.similarity) == 0:
            return self.similarity.new_full((3, self.similarity.shape[1]), torch.nan)
        levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        return self.similarity.nanquantile(levels, 0)

    def retrievable(self) -> Float[Tensor, " lags"]:
        """Return the share of the items that some word is still alike, by lag.

        Of those whose sequence lasts as long; NaN where there is none.
        """
        alike = (self.similarity >= self.alike).double()
        return torch.where(self.similarity.isnan(), torch.nan, alike).nanmean(0)

    def horizon(self) -> int:
        """Return the number of further steps for which half of the items stay retrievable.

        Returns:
            Steps, from 0 to the longest that an item was followed.
        """
        kept = self.retrievable() >= 0.5
        return max(0, int(kept.long().cumprod(0).sum()) - 1)


def memory_accesses(
    recording: Recording, *, sequences: int = 4, alike: float = 0.9
) -> MemoryAccesses:
    """Return the reads and writes of a recorded memory, and the fate of each written item.

        similarity of an item m at lag k = max over words j of cos(m, M_{t+k}(j)),   m = M_t(word)

    It takes time and storage for all words of all steps: record small memories.

    Arguments:
        recording: recording of a cell with a memory of words, as `ntm`, `dam` and `sam`.
        sequences: largest number of sequences of the batch, at least 1; the first ones.
        alike: least cosine of two contents that are alike, in (0, 1).

    Returns:
        Weights and similarities in float64, on the CPU.

    Raises:
        ConfigurationError: a cell without a memory of words, a number out of range, or a memory
            that is not finite.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.foreign.recording import record
        >>> layer = tt.Recurrent(tt.memory.SAMCell(3, 5, words=8, width=4, heads=1, reads=2))
        >>> recording = record(layer, lambda: layer(torch.ones(6, 2, 3))[0].sum())
        >>> found = memory_accesses(recording)
        >>> found.read.shape, found.similarity.shape[1], found.horizon() <= 5
        (torch.Size([2, 6, 1, 8]), 6, True)

    Source:
        Graves, Wayne & Danihelka, "Neural Turing machines", 2014, figure 6, for the maps of reads
        and writes. Items, likeness and horizon are our choice.
    """
    cell = recording.cell
    if not isinstance(cell, MemoryCell):
        raise ConfigurationError(
            "memory_accesses",
            got=f"a recording of {type(cell).__name__}",
            expected="one of a cell with a memory of words",
            fix="Record a layer with such a cell: Recurrent(NTMCell(...)), DAMCell or SAMCell.",
        )
    if sequences < 1:
        raise ConfigurationError("sequences", got=sequences, expected="at least 1")
    if not 0 < alike < 1:
        raise ConfigurationError("alike", got=alike, expected="a cosine between 0 and 1")
    if not bool(recording.states.memory[:, :sequences].isfinite().all()):
        raise ConfigurationError("recording", got="a memory that is not finite", expected="finite")
    count = min(sequences, recording.batch)
    steps = torch.arange(recording.time)[:, None]
    valid = steps < recording.valid_lengths()[:count]
    weights: list[Accesses] = []
    befores: list[Tensor] = []
    with torch.no_grad():
        for t in range(recording.time):
            before, after = _around(recording, cell, t, count)
            weights.append(cell.accesses(before, after))
            befores.append(before.memory)
    read, written = (
        torch.stack([part.double().cpu() for part in parts]) for parts in zip(*weights, strict=True)
    )
    items = _items(
        _directions(recording.states.memory[:, :count]),
        _directions(torch.stack(befores)),
        read,
        written,
        valid,
        alike,
    )
    blank = ~valid[..., None, None]
    return MemoryAccesses(
        layer=recording.layer,
        level=recording.level,
        direction=recording.direction,
        read=read.masked_fill(blank, torch.nan).transpose(0, 1),
        written=written.masked_fill(blank, torch.nan).transpose(0, 1),
        alike=alike,
        **items,
    )


def _around(recording: Recording, cell: MemoryCell, t: int, count: int) -> tuple[State, State]:
    """Return the states before and after a step, of the first sequences."""
    before = map_state(lambda s: s[:count], recording.before(t))
    if recording.resets is not None and bool(recording.resets[t, :count].any()):
        like = before.h
        fresh = cell.initial_state(count, dtype=like.dtype, device=like.device)
        before = restarted(recording.resets[t, :count], fresh, before)
    return before, map_state(lambda s: s[t, :count], recording.states)


def _directions(memory: Float[Tensor, "*steps width"]) -> Float[Tensor, "*steps width"]:
    """Return words of length 1; one of zeros stays so, and is alike none."""
    return F.normalize(memory.double().cpu(), dim=-1, eps=1e-150)


def _items(
    after: Float[Tensor, "time sequences words width"],
    before: Float[Tensor, "time sequences words width"],
    read: Float[Tensor, "time sequences reads words"],
    written: Float[Tensor, "time sequences writes words"],
    valid: Bool[Tensor, "time sequences"],
    alike: float,
) -> dict[str, Tensor]:
    """Return the fields of a record that have an entry for each item.

    Arguments:
        after, before: directions of the words after and before each step.
        read, written: weights of each step.
        valid: True for steps of a sequence.
        alike: least cosine of two contents that are alike.
    """
    words = written.argmax(-1)  # (time, sequences, writes)
    place = words[..., None].expand(*words.shape, after.shape[-1])
    contents = after.gather(2, place)
    same = (contents * before.gather(2, place)).sum(-1) >= alike
    found = ~same & (contents != 0).any(-1) & valid[..., None]
    for head in range(1, words.shape[-1]):  # a word that two heads write to holds one item
        found[..., head] &= (words[..., :head] != words[..., head : head + 1]).all(-1)
    sequence, step, head = found.transpose(0, 1).nonzero().unbind(1)
    word, content = words[step, sequence, head], contents[step, sequence, head]

    similarity = torch.full((len(step), len(after)), torch.nan, dtype=torch.float64)
    overwritten = torch.full((len(step),), -1)
    first = torch.zeros(len(step), dtype=torch.float64)
    fetched = torch.zeros(len(step), dtype=torch.float64)
    for b in range(after.shape[1]):
        for s in range(int(valid[:, b].sum())):
            new = ((sequence == b) & (step == s)).nonzero()[:, 0]
            first[new] = (content[new] @ before[s, b].T).amax(-1)
            of = ((sequence == b) & (step <= s)).nonzero()[:, 0]
            near = content[of] @ after[s, b].T
            similarity[of, s - step[of]] = near.amax(-1).clamp(-1, 1)
            lost = near.gather(-1, word[of, None])[:, 0] < alike
            overwritten[of] = torch.where(lost & (overwritten[of] < 0), s, overwritten[of])
            weight = read[s, b].amax(0)[word[of]].masked_fill(step[of] == s, 0.0)
            held = overwritten[of] < 0
            fetched[of] = torch.where(held, torch.maximum(fetched[of], weight), fetched[of])
    return {
        "sequence": sequence,
        "step": step,
        "head": head,
        "word": word,
        "overwritten": overwritten,
        "fetched": fetched,
        "before": first.clamp(-1, 1),
        "similarity": similarity,
    }
