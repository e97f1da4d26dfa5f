"""Random masks of zeros and ones, drawn fast."""

import math

import numpy as np
import torch
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.capture import capturing


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
