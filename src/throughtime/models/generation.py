"""Sequences from a model of the next symbol: each symbol is drawn, and read by the next step."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol, drawn_symbols
from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.sampling import Sampling
from throughtime.layers.stepper import Stepper
from throughtime.models.language_model import LanguageModel

_CHUNK = 32  # symbols of a compiled call, where an end symbol may stop the generation


@runtime_checkable
class Strategy(Protocol):
    """A way of choosing the next symbol. `Sampling` is one; `Beam` is a search instead."""

    def draw(
        self, logits: Float[Tensor, "batch alphabet"], uniform: Float[Tensor, " batch"]
    ) -> Int[Tensor, " batch"]:
        """Return a symbol for each sequence.

        Arguments:
            logits: The logits of each symbol.
            uniform: A random number in [0, 1) for each sequence.
        """
        ...


@torch.no_grad()
def generate(
    model: NextSymbol,
    prompt: Int[Tensor, "time batch"],
    steps: int,
    strategy: Strategy | None = None,
    *,
    state: Any = None,
    end: int | None = None,
    lengths: Int[Tensor, " batch"] | None = None,
    seeds: Sequence[int] | None = None,
) -> Int[Tensor, "steps batch"]:
    """Return symbols that continue each prompt.

    The model is run in its mode: call `model.eval()` first where it has dropout. Each sequence has
    random numbers of its own, so that a result does not depend on the batch around it. A language
    model of a gated cell on the CPU runs many steps in one compiled call; any other model runs step
    by step.

    Arguments:
        model: The model.
        prompt: Symbols, at least one a sequence.
        steps: The largest number of symbols to draw.
        strategy: The way of choosing symbols; by default a draw from the softmax. For the likeliest
            symbols: `Sampling(temperature=0)`.
        state: The state before the prompt, as a decoder's `encode` returns it; None at the start.
        end: The symbol that ends a sequence, and that fills the rest of it; None for none.
        lengths: The number of symbols of each prompt; None where all fill the time axis.
        seeds: A seed for each sequence; by default drawn from torch's generator.

    Returns:
        (steps, batch) symbols; fewer steps where all sequences have ended before.

    Raises:
        ShapeError: The prompt is empty or has other axes, or lengths or seeds do not fit.
        ConfigurationError: A symbol is outside the alphabet, or steps is below 0.
        ThroughtimeError: A logit is NaN or infinite.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models import LanguageModel
        >>> model = LanguageModel(GRU(5, 8))
        >>> generate(model, torch.tensor([[0, 4], [3, 2]]), 7, seeds=[0, 1]).shape
        torch.Size([7, 2])
    """
    ends = check_prompt(model, prompt, steps, end, lengths)
    batch = prompt.shape[1]
    if seeds is None:
        seeds = torch.randint(2**62, (batch,)).tolist()
    if len(seeds) != batch:
        raise ShapeError("seeds", got=f"{len(seeds)}", expected=f"{batch}, one for each sequence")
    generators = [torch.Generator().manual_seed(operator.index(seed)) for seed in seeds]
    uniform = torch.stack(
        [torch.rand(steps, generator=g, dtype=torch.float64) for g in generators], dim=1
    )
    strategy = strategy or Sampling()
    plain = isinstance(model, LanguageModel) and model.plain and state is None
    if plain and isinstance(model, LanguageModel) and isinstance(strategy, Sampling):
        return _whole(_by_stepper(model, prompt, ends, uniform, strategy, end), prompt, end)
    found = prompt.new_full((steps, batch), -1 if end is None else end)
    longest = 0
    for length, rows in by_length(ends):
        chosen = rows.to(prompt.device)
        before = None if state is None else model.select(state, chosen)
        part = prompt[:length, chosen]
        drawn = _whole(
            drawn_symbols(model, part, before, uniform[:, rows], strategy.draw), part, end
        )
        found[: len(drawn), chosen] = drawn
        longest = max(longest, len(drawn))
    return found[:longest]


@torch.no_grad()
def stream(
    model: NextSymbol,
    prompt: Int[Tensor, " time"],
    steps: int,
    strategy: Strategy | None = None,
    *,
    state: Any = None,
    end: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Yield the symbols that continue one prompt, as they are drawn.

    They are those of `generate` with the same seed, without the end symbol.

    Arguments:
        model: The model.
        prompt: Symbols, at least one.
        steps: The largest number of symbols to draw.
        strategy: The way of choosing symbols; by default a draw from the softmax.
        state: The state before the prompt, of a batch of one; None at the start.
        end: The symbol that ends a sequence; None for none.
        seed: The seed.

    Raises:
        ShapeError, ConfigurationError, ThroughtimeError: As for `generate`.

    Example:
        >>> from throughtime import GRU
        >>> from throughtime.models import LanguageModel
        >>> len(list(stream(LanguageModel(GRU(5, 8)), torch.tensor([0, 3]), 7)))
        7
    """
    check_prompt(model, prompt[:, None] if prompt.dim() == 1 else prompt, steps, end, None)
    generator = torch.Generator().manual_seed(operator.index(seed))
    uniform = torch.rand(steps, generator=generator, dtype=torch.float64)[:, None]
    draw = (strategy or Sampling()).draw
    for symbol in drawn_symbols(model, prompt[:, None], state, uniform, draw):
        if int(symbol) == end:
            return
        yield int(symbol)


def check_prompt(
    model: NextSymbol,
    prompt: Int[Tensor, "time batch"],
    steps: int,
    end: int | None,
    lengths: Int[Tensor, " batch"] | None,
) -> Int[Tensor, " batch"]:
    """Return the number of symbols of each prompt, on the CPU, if it fits the model.

    Arguments:
        model: The model.
        prompt: Symbols, at least one a sequence.
        steps: The largest number of symbols to draw.
        end: The symbol that ends a sequence, or None.
        lengths: The number of symbols of each prompt, or None.

    Raises:
        ShapeError: The prompt is empty or has other axes, or the lengths do not fit.
        ConfigurationError: A symbol is outside the alphabet, or steps is below 0.
    """
    if prompt.dim() != 2 or not prompt.numel() or prompt.is_floating_point():
        raise ShapeError(
            "prompt",
            got=f"{prompt.dtype} of shape {tuple(prompt.shape)}",
            expected="whole numbers (time, batch), at least one a sequence",
            fix="Start with a symbol that begins a text, such as a line break.",
        )
    alphabet = model.alphabet
    least, most = (int(v) for v in prompt.aminmax())
    if least < 0 or most >= alphabet:
        raise ConfigurationError(
            "prompt", got=f"symbols from {least} to {most}", expected=f"0 to {alphabet - 1}"
        )
    if end is not None and not 0 <= end < alphabet:
        raise ConfigurationError("end", got=end, expected=f"a symbol, 0 to {alphabet - 1}")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ConfigurationError("steps", got=repr(steps), expected="a whole number of at least 0")
    time, batch = prompt.shape
    ends = torch.full((batch,), time) if lengths is None else lengths.cpu()
    if ends.shape != (batch,) or int(ends.min()) < 1 or int(ends.max()) > time:
        raise ShapeError("lengths", got=str(ends.tolist()), expected=f"{batch} from 1 to {time}")
    return ends


def by_length(lengths: Int[Tensor, " batch"]) -> Iterator[tuple[int, Int[Tensor, " rows"]]]:
    """Yield each length that occurs, and the numbers of its sequences.

    Arguments:
        lengths: Length of each sequence.
    """
    for length in lengths.unique().tolist():
        yield length, (lengths == length).nonzero()[:, 0]


def _by_stepper(
    model: LanguageModel,
    prompt: Tensor,
    ends: Tensor,
    uniform: Tensor,
    sampling: Sampling,
    end: int | None,
) -> Iterator[Tensor]:
    """Yield the symbols of each step, (batch,); where there is no end symbol, by one call."""
    assert isinstance(model.readout, nn.Linear)
    embedding = None if model.embedding is None else model.embedding.weight
    stepper = model.recurrent.stepper(prompt.shape[1])
    _read(stepper, model, prompt, ends)
    first = prompt.gather(0, ends.to(prompt.device)[None] - 1)[0]
    for part in uniform.split(max(1, len(uniform)) if end is None else _CHUNK):
        drawn = stepper.generate(first, part, sampling, model.readout, embedding)
        yield from drawn
        first = drawn[-1] if len(drawn) else first


def _whole(drawn: Iterator[Tensor], prompt: Tensor, end: int | None) -> Tensor:
    """Return (steps, batch) symbols: up to the last end, and the end behind the end of each."""
    steps: list[Tensor] = []
    over = torch.zeros(prompt.shape[1], dtype=torch.bool, device=prompt.device)
    for symbols in drawn:
        if end is not None:
            symbols = torch.where(over, end, symbols)
            over = over | (symbols == end)
        steps.append(symbols)
        if end is not None and bool(over.all()):
            break
    return torch.stack(steps) if steps else prompt[:0]


def _read(stepper: Stepper, model: LanguageModel, prompt: Tensor, ends: Tensor) -> None:
    """Set the state to that before the last symbol of each prompt."""
    before = ends - 1
    if int(before.max()) == 0:
        return
    layer = model.recurrent
    x = model.embedded(prompt[:-1])
    if layer.batch_first:
        x = x.transpose(0, 1)
    stepper.state = layer(x, lengths=before.clamp(min=1))[1]
    if int(before.min()) == 0:
        stepper.reset(before == 0)
