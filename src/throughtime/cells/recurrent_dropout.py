"""Recurrent dropout: the update of a memory is dropped, never the memory itself."""

import abc
import math
from typing import ClassVar, Literal, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.capture import capturing
from throughtime.core.cell import Streams
from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.core.gated import GatedCell, Gates
from throughtime.core.registry import CELLS
from throughtime.core.state import State


def bernoulli(
    shape: tuple[int, ...], rate: float, *, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Ones with a probability, else zeros, independent of each other.

    A mask for each unit and step is as many numbers as the run itself computes: they are drawn 32
    bits at a time by a generator that is seeded from `generator`, in a fifth of the time of
    `torch.bernoulli`. So the probability is a multiple of 2^-32.

    Arguments:
        shape: shape of the mask.
        rate: the probability of a one, in [0, 1].
        dtype: type of the mask.
        generator: source of randomness, on the CPU.

    Example:
        >>> drawn = bernoulli((1000,), 0.25, dtype=torch.float32, generator=torch.Generator())
        >>> 200 < drawn.sum() < 300
        tensor(True)
    """
    if capturing():  # the program draws anew whenever it runs
        return (torch.rand(shape, device="cpu") < rate).to(dtype)
    mask = lend(shape, dtype)
    below = round(rate * 2**32)
    if below in (0, 2**32):  # nothing is random
        return mask.fill_(float(below > 0))
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    count = math.prod(shape)
    words = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-count // 2)).view(np.int32))
    torch.lt(words[:count].view(shape), below - 2**31, out=mask)
    return mask


Per: TypeAlias = Literal["step", "sequence"]
"""A mask for each step, or one for all steps of a sequence in a call."""


class _Dropped(GatedCell, abc.ABC):
    """A gated cell with a mask on its update."""

    streams = ("kept",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rate: float = 0.25,
        per: Per = "step",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(input_size, hidden_size, bias=bias, device=device, dtype=dtype)
        if not 0 <= rate < 1:
            raise ConfigurationError("rate", got=rate, expected="a probability below 1")
        if per not in ("step", "sequence"):
            raise UnknownNameError("per", str(per), ("step", "sequence"))
        self.rate, self.per = float(rate), per
        self.lasting = self.streams if per == "sequence" else ()

    def draw_streams(
        self,
        steps: Int[Tensor, "time batch"],
        *,
        training: bool,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Streams:
        """Return d in training, (time, batch, hidden); 1 in evaluation, (time, batch, 1)."""
        if not training:
            return (torch.ones(*steps.shape, 1, dtype=dtype, device="cpu"),)
        time, batch = steps.shape
        kept = 1 - self.rate

        def drawn(count: int) -> Tensor:
            shape = (count, batch, self.hidden_size)
            return bernoulli(shape, kept, dtype=dtype, generator=generator).div_(kept)

        if self.per == "step":
            return (drawn(time),)
        # which sequence of its column each step is of: 0 for what goes on from a state
        which = (steps.cpu() == 0).long().cumsum(0)
        most = time if capturing() else int(which.max())
        return (drawn(most + 1)[which, torch.arange(batch, device="cpu")],)


@CELLS.register("lstm-dropout")
@final
class RecurrentDropoutLSTMCell(_Dropped):
    """LSTM with dropout on its update (Semeniuta et al. 2016).

        c_t = f * c_{t-1} + i * d * g        d = Bernoulli(1 - rate) / (1 - rate), a unit each
        h_t = o * tanh(c_t)

    The rest is `LSTMCell`, which it is in evaluation.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        rate: probability that a unit's update is dropped, in [0, 1).
        per: "step": a mask for each step; "sequence": one for all steps of a sequence in a call. A
            reset within the call begins another sequence. A call that goes on from a state draws
            new masks, and so does each chunk of a stream, in every way of learning (our choice).
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or a rate out of range.
        UnknownNameError: an unknown `per`.

    Source: S. Semeniuta, A. Severyn and E. Barth, "Recurrent dropout without memory loss", 2016.
    """

    gates = ("input", "forget", "cell", "output")
    activations = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    memories: ClassVar[tuple[str, ...]] = ("c",)
    remember_gates = ("forget",)
    write_gates = ("input",)

    def pointwise(
        self, x: Gates, u: Gates, state: State, streams: Streams = ()
    ) -> tuple[Tensor, Tensor]:
        """Return h_t and c_t."""
        i, f, g, o = (a + b for a, b in zip(x, u, strict=True))
        c = f.sigmoid() * state.c + i.sigmoid() * streams[0] * g.tanh()
        return o.sigmoid() * c.tanh(), c


@CELLS.register("gru-dropout")
@final
class RecurrentDropoutGRUCell(_Dropped):
    """GRU with dropout on its update (Semeniuta et al. 2016).

        h_t = z * h_{t-1} + (1 - z) * d * n        d = Bernoulli(1 - rate) / (1 - rate), a unit each

    The rest is `GRUCell`, which it is in evaluation.

    Arguments:
        input_size: width of x_t, at least 1.
        hidden_size: number of units, at least 1.
        rate: probability that a unit's update is dropped, in [0, 1).
        per: "step" or "sequence"; see `RecurrentDropoutLSTMCell`.
        bias: If True, there are b_ih and b_hh.
        device, dtype: place and type of the parameters.

    Raises:
        ConfigurationError: a size below 1, or a rate out of range.
        UnknownNameError: an unknown `per`.

    Source: S. Semeniuta, A. Severyn and E. Barth, "Recurrent dropout without memory loss", 2016.
    """

    gates = ("reset", "update", "new")
    activations = ("sigmoid", "sigmoid", "tanh")
    remember_gates = ("update",)

    def pointwise(self, x: Gates, u: Gates, state: State, streams: Streams = ()) -> Tensor:
        """Return h_t."""
        r = (x[0] + u[0]).sigmoid()
        z = (x[1] + u[1]).sigmoid()
        n = (x[2] + r * u[2]).tanh()
        return (1 - z) * streams[0] * n + z * state.h
