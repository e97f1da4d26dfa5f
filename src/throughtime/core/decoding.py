"""Models that give the next symbol: their protocol, and their losses after symbols of their own."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from throughtime.core.sampling import Sampling


@runtime_checkable
class NextSymbol(Protocol):
    """A model of the next symbol of a sequence, given those before it.

    A decoder's state holds all that it needs of its source, so that generation, scoring and
    feedback do not depend on the kind of the model.
    """

    @property
    def alphabet(self) -> int:
        """The number of symbols."""
        ...

    def __call__(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "time batch alphabet"], Any]:
        """Return the logits of each next symbol, and the state after the last one.

        Arguments:
            symbols: Symbols that are read; or (time, batch, alphabet) weights of symbols, of which
                the model reads the weighted sum of their vectors.
            state: State before them; None at the start, for a model without a source.
        """
        ...

    def losses(
        self,
        symbols: Int[Tensor, "time batch"] | Float[Tensor, "time batch alphabet"],
        targets: Int[Tensor, "time batch"],
        state: Any,
    ) -> tuple[Float[Tensor, "time batch"], Any]:
        """Return the negative log-likelihood of each target in nats, and the state after the last.

        Arguments:
            symbols: Symbols that are read.
            targets: Symbol that follows each; -1 where none is due: its loss is 0.
            state: State before them.
        """
        ...

    def select(self, state: Any, rows: Int[Tensor, " rows"]) -> Any:
        """Return the state of some sequences of a batch.

        Arguments:
            state: State of the batch.
            rows: Numbers of the sequences, any of them more than once.
        """
        ...


def mixed_losses(
    model: NextSymbol,
    symbols: Int[Tensor, "time batch"],
    targets: Int[Tensor, "time batch"],
    state: Any,
    true: Bool[Tensor, "time batch"],
    random: torch.Generator,
    *,
    straight: bool = False,
) -> tuple[Float[Tensor, "time batch"], Any]:
    """Return the losses of targets after symbols of which some are drawn from the model.

    Steps between two draws run in one call.

    Arguments:
        model: The model.
        symbols: True symbols; the first one is always read.
        targets: Symbol that follows each; -1 where none is due.
        state: State before the symbols.
        true: True where the true symbol is read; its first step is unused.
        random: Source of the random numbers, on the CPU.
        straight: If True, gradients go through the draws; the model reads weights of symbols.
    """
    uniform = torch.rand(symbols.shape, generator=random, dtype=torch.float64)
    drawn_at = (~true[1:]).any(1).nonzero()[:, 0] + 1
    if not len(drawn_at):
        return model.losses(symbols, targets, state)
    true, uniform = true.to(symbols.device), uniform.to(symbols.device)
    places = [0, *drawn_at.tolist(), len(symbols)]
    parts: list[Tensor] = []
    for start, stop in itertools.pairwise(places):
        read = symbols[start:stop]
        if start:
            last = parts[-1][-1]
            drawn = Sampling().draw(last.detach(), uniform[start])
            first = torch.where(true[start], symbols[start], drawn)
            read = torch.cat([first[None], read[1:]])
            if straight:
                weights = F.one_hot(read, model.alphabet).to(last.dtype)
                p = last.softmax(-1) * ~true[start][:, None]
                read = torch.cat([weights[:1] + p - p.detach(), weights[1:]])
        logits, state = model(read, state)
        parts.append(logits)
    logits = torch.cat(parts)
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return losses.view(targets.shape), state


def drawn_symbols(
    model: NextSymbol,
    symbols: Int[Tensor, "time batch"],
    state: Any,
    uniform: Float[Tensor, "steps batch"],
    draw: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[Int[Tensor, " batch"]]:
    """Yield symbols that continue some sequences, a step at a time; each is read by the next step.

    Arguments:
        model: The model.
        symbols: Symbols that are read first, at least one a sequence.
        state: State before them.
        uniform: Random numbers in [0, 1) of each step.
        draw: Function from logits (batch, alphabet) and numbers (batch,) to symbols (batch,).
    """
    for u in uniform.to(symbols.device):
        logits, state = model(symbols, state)
        drawn = draw(logits[-1], u)
        yield drawn
        symbols = drawn[None]
