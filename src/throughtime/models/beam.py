"""The likeliest sequences of a model of the next symbol, by beam search."""

import dataclasses
import math
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError
from throughtime.core.sampling import refuse_logits
from throughtime.models.generation import by_length, check_prompt


class Hypothesis(NamedTuple):
    """A sequence that a search found.

    Attributes:
        symbols: The symbols, without the prompt; the end symbol is the last one, if it came.
        log_prob: The sum of the symbols' log-probabilities.
        score: log_prob / length^p, p the length penalty.
        ended: True if the end symbol came within the largest number of steps.
    """

    symbols: tuple[int, ...]
    log_prob: float
    score: float
    ended: bool


@final
@dataclasses.dataclass(frozen=True)
class Beam:
    """A search that keeps the likeliest beginnings.

        score(y) = log p(y) / |y|^length_penalty        |y| with the end symbol

    Each step extends all beginnings by all symbols, and keeps the likeliest `width` of the results.
    One that ends keeps its place, so that fewer go on; the search is over when none does. So a
    width of 1 is the greedy choice, and no rule of early stopping is needed.

    Arguments:
        width: The number of beginnings.
        length_penalty: The exponent p; 0 compares log-probabilities, 1 their means over symbols.

    Raises:
        ConfigurationError: A width below 1, or a penalty below 0.
    """

    width: int = 5
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.width, int) or isinstance(self.width, bool) or self.width < 1:
            raise ConfigurationError(
                "width of the beam", got=repr(self.width), expected="a whole number of at least 1"
            )
        if not 0 <= self.length_penalty < math.inf:
            raise ConfigurationError(
                "length_penalty", got=repr(self.length_penalty), expected="a number of at least 0"
            )

    def score(self, log_prob: float, length: int) -> float:
        """Return the score of a sequence.

        Arguments:
            log_prob: Sum of the log-probabilities.
            length: Number of symbols, at least 1.
        """
        return log_prob / length**self.length_penalty


@torch.no_grad()
def beam_search(
    model: NextSymbol,
    prompt: Int[Tensor, "time batch"],
    steps: int,
    beam: Beam | None = None,
    *,
    state: Any = None,
    end: int | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
) -> list[list[Hypothesis]]:
    """Return the sequences that a beam search finds for each prompt, the best score first.

    Arguments:
        model: The model.
        prompt: Symbols, at least one a sequence.
        steps: The largest number of symbols, at least 1.
        beam: The width, and the penalty of length.
        state: The state before the prompt, as a decoder's `encode` returns it; None at the start.
        end: The symbol that ends a sequence; None for none.
        lengths: The number of symbols of each prompt; None where all fill the time axis.

    Returns:
        For each prompt at most `width` hypotheses; those that did not end within the steps are
        among them.

    Raises:
        ShapeError: The prompt is empty or has other axes, or the lengths do not fit.
        ConfigurationError: A symbol is outside the alphabet, or steps is below 1.
        ThroughtimeError: A logit is NaN or infinite.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models import LanguageModel
        >>> found = beam_search(LanguageModel(GRU(5, 8)), torch.tensor([[0, 4]]), 7, Beam(3), end=1)
        >>> len(found), len(found[0])
        (2, 3)
    """
    ends = check_prompt(model, prompt, steps, end, lengths)
    if steps < 1:
        raise ConfigurationError("steps", got=steps, expected="a whole number of at least 1")
    found: list[list[Hypothesis]] = [[] for _ in ends]
    for length, rows in by_length(ends):
        chosen = rows.to(prompt.device)
        before = None if state is None else model.select(state, chosen)
        parts = _search(model, prompt[:length, chosen], before, steps, beam or Beam(), end)
        for row, part in zip(rows.tolist(), parts, strict=True):
            found[row] = part
    return found


def _search(
    model: NextSymbol, prompt: Tensor, state: Any, steps: int, beam: Beam, end: int | None
) -> list[list[Hypothesis]]:
    """Search for all sequences at once: K places each, -inf where a place is empty."""
    batch, device = prompt.shape[1], prompt.device
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    places = torch.full((batch,), beam.width, device=device)  # that have not ended
    live = torch.zeros(batch, 1, dtype=torch.float64, device=device)  # log-probabilities
    texts = torch.zeros(batch, 1, 0, dtype=torch.int64, device=device)
    symbols = prompt
    for step in range(1, steps + 1):
        logits, state = model(symbols, state)
        last = logits[-1].double()
        if not bool((last < math.inf).all()):
            refuse_logits()
        alphabet = last.shape[-1]
        total = live[..., None] + last.log_softmax(-1).view(*live.shape, alphabet)
        # stable: of equally likely results the first beginning and symbol come first, as for argmax
        ranked = total.flatten(1).sort(dim=-1, descending=True, stable=True)
        count = min(beam.width, ranked.values.shape[1])
        values, order = ranked.values[:, :count], ranked.indices[:, :count]
        kept = (torch.arange(count, device=device) < places[:, None]) & (values > -math.inf)
        parents, new = order // alphabet, order % alphabet
        texts = torch.cat(
            [texts.gather(1, parents[..., None].expand(-1, -1, step - 1)), new[..., None]], -1
        )
        over = kept & (new == end) if end is not None else torch.zeros_like(kept)
        whole = kept if step == steps else over
        for b, k in whole.nonzero().tolist():
            log_prob = float(values[b, k])
            score = beam.score(log_prob, step)
            text = tuple(texts[b, k].tolist())
            found[b].append(Hypothesis(text, log_prob, score, bool(over[b, k])))
        places = places - over.sum(1)
        live = values.masked_fill(~kept | over, -math.inf)
        if not bool((live > -math.inf).any()):
            break
        rows = parents + torch.arange(batch, device=device)[:, None] * total.shape[1]
        state = model.select(state, rows.flatten())
        symbols = new.flatten()[None]
    for part in found:
        part.sort(key=lambda one: -one.score)
    return found
