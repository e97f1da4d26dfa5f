"""Cells that a user might write: each uses what the library's own cells do not."""

import torch
from torch import nn

import throughtime as tt


class StreamedCell(tt.GatedCell):
    """Zoneout on h by one stream, a clockwork schedule by the other; two memories; unit weights."""

    gates, memories = 2, ("slow", "fast")
    lags = (1, 3)
    streams = ("keep", "tick")

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.alpha = nn.Parameter(torch.full((hidden_size,), 0.3))
        self.beta = nn.Parameter(torch.full((2, hidden_size), 0.2))

    def pointwise(self, x, u, state, streams):
        keep, tick = streams
        slow = tick * (self.alpha * x[0] * u[0]).tanh() + (1 - tick) * state.slow
        fast = state.fast * self.beta[0].sigmoid() + self.beta[1] * (x[1] + u[1])
        h = keep * state.h + (1 - keep) * (slow + fast).tanh()
        return h, slow, fast

    def draw_streams(self, steps, *, training, dtype, generator):
        shape = (*steps.shape, self.hidden_size)
        rate = torch.full(shape, 0.25, dtype=dtype)
        keep = torch.bernoulli(rate, generator=generator) if training else rate
        return keep, (steps % 2 == 0).to(dtype)[..., None]


class MinimalGRU(tt.GatedCell):
    """No recurrent matrix at all (Feng et al. 2024)."""

    gates = ("update", "new")
    lags = ()

    def pointwise(self, x, u, state):
        assert u == ()
        z = x[0].sigmoid()
        return (1 - z) * state.h + z * x[1]


class MultiplicativeIntegration(tt.GatedCell):
    """Wu et al. 2016: the gates of input and past are multiplied, so neither is ever only added."""

    gates = 2
    memories = ("c",)

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.alpha = nn.Parameter(torch.ones(2, hidden_size))
        self.beta = nn.Parameter(torch.full((hidden_size,), 0.5))
        self.register_buffer("rate", torch.linspace(0.1, 0.9, hidden_size))

    def pointwise(self, x, u, state):
        mixed = [a * p * q + self.beta * p + q for a, p, q in zip(self.alpha, x, u, strict=True)]
        c = self.rate * state.c + mixed[0].sigmoid() * mixed[1].tanh()
        return torch.where(c > 0, c, 0.1 * c), c


class LookingBack(tt.GatedCell):
    """Reads the outputs of one and of three steps ago unit by unit, beside its matrices."""

    gates = 1
    lags = (2, 4)

    def pointwise(self, x, u, state):
        return torch.tanh(x[0] + u[0] + 0.3 * state.past[1] - 0.2 * state.h)
