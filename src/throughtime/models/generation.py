"""Text from a language model: each symbol is drawn, and read by the next step."""

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.core.sampling import Sampling
from throughtime.layers.stepper import Stepper
from throughtime.models.readout import LanguageModel


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt: Int[Tensor, "time batch"],
    steps: int,
    sampling: Sampling | None = None,
    *,
    lengths: Int[Tensor, " batch"] | None = None,
    seeds: Sequence[int] | None = None,
) -> Int[Tensor, "steps batch"]:
    """Return symbols that continue each prompt.

    The model is run in its mode: call `model.eval()` first where it has dropout. Each sequence has
    random numbers of its own, so that a result does not depend on the batch around it. A gated cell
    on the CPU runs all steps in one compiled call; any other cell runs step by step.

    Arguments:
        model: The model.
        prompt: Symbols, at least one a sequence.
        steps: The number of symbols to draw.
        sampling: The way of drawing; by default from the softmax.
        lengths: The number of symbols of each prompt; None where all fill the time axis.
        seeds: A seed for each sequence; by default drawn from torch's generator.

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
    layer, readout = model.recurrent, model.readout
    _check(prompt, steps, layer.input_size)
    time, batch = prompt.shape
    ends = torch.full((batch,), time) if lengths is None else lengths.cpu()
    if ends.shape != (batch,) or int(ends.min()) < 1 or int(ends.max()) > time:
        raise ShapeError("lengths", got=str(ends.tolist()), expected=f"{batch} from 1 to {time}")
    if seeds is None:
        seeds = torch.randint(2**62, (batch,)).tolist()
    if len(seeds) != batch:
        raise ShapeError("seeds", got=f"{len(seeds)}", expected=f"{batch}, one for each sequence")
    generators = [torch.Generator().manual_seed(operator.index(seed)) for seed in seeds]
    uniform = torch.stack(
        [torch.rand(steps, generator=g, dtype=torch.float64) for g in generators], dim=1
    )
    stepper = layer.stepper(batch)
    _read(stepper, model, prompt, ends)
    first = prompt.gather(0, ends.to(prompt.device)[None] - 1)[0]
    return stepper.generate(first, uniform, sampling or Sampling(), readout)


def _check(prompt: Tensor, steps: int, alphabet: int) -> None:
    if prompt.dim() != 2 or not prompt.numel() or prompt.is_floating_point():
        raise ShapeError(
            "prompt",
            got=f"{prompt.dtype} of shape {tuple(prompt.shape)}",
            expected="whole numbers (time, batch), at least one a sequence",
            fix="Start with a symbol that begins a text, such as a line break.",
        )
    least, most = (int(v) for v in prompt.aminmax())
    if least < 0 or most >= alphabet:
        raise ConfigurationError(
            "prompt", got=f"symbols from {least} to {most}", expected=f"0 to {alphabet - 1}"
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ConfigurationError("steps", got=repr(steps), expected="a whole number of at least 0")


def _read(stepper: Stepper, model: LanguageModel, prompt: Tensor, ends: Tensor) -> None:
    """Set the state to that before the last symbol of each prompt."""
    before = ends - 1
    if int(before.max()) == 0:
        return
    layer = model.recurrent
    x = F.one_hot(prompt[:-1], layer.input_size).to(model.readout.weight.dtype)
    if layer.batch_first:
        x = x.transpose(0, 1)
    stepper.state = layer(x, lengths=before.clamp(min=1))[1]
    if int(before.min()) == 0:
        stepper.reset(before == 0)
