"""Loops over time that are written out in one forward: found, and run by steps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.foreign.found_cells import cells_found
from throughtime.foreign.sites import recurrent_layers
from throughtime.instruments import gradient_flow, record

TIME, BATCH, WIDTH = 7, 4, 5
X = torch.randn(BATCH, TIME, 3, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """A tanh network; its subclasses write the loop in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.h = nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.i(x) + self.h(h))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
        return self.head(h)


class TimeFirst(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = None
        outputs = []
        for row in x.transpose(0, 1):
            if h is None:
                h = torch.zeros(len(row), WIDTH, dtype=x.dtype)
            h = self.step(row, h)
            outputs.append(self.head(h))
        return torch.stack(outputs, 1)


class Assigned(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        outputs = x.new_zeros(len(x), x.shape[1], WIDTH)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h)
            outputs[:, t] = h
        return self.head(outputs.mean(1))


class Projected(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        for a in self.i(x).unbind(1):
            h = torch.tanh(a + self.h(h))
        return self.head(h)


class Masked(Plain):
    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.arange(len(x)) + 3
        h = x.new_zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            h = torch.where((t < lengths)[:, None], self.step(x[:, t], h), h)
        return self.head(h)


class Kept(Plain):
    """The state is kept in the module."""

    state: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.state = x.new_zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            self.state = self.step(x[:, t], self.state)
        return self.head(self.state)


class Gated(Plain):
    """An LSTM of nn.Parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 4 * WIDTH))
        self.u = nn.Parameter(torch.randn(WIDTH, 4 * WIDTH) / 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), WIDTH)
        hs = []
        for t in range(x.shape[1]):
            i, f, g, o = (x[:, t, :] @ self.w + h @ self.u).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            hs.append(h.unsqueeze(1))
        return self.head(torch.cat(hs, 1)[:, -1])


class Stacked(Plain):
    """Two layers, one loop each."""

    def __init__(self) -> None:
        super().__init__()
        self.i2 = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for first in (self.i, self.i2):
            h = x.new_zeros(len(x), WIDTH)
            outputs = []
            for t in range(x.shape[1]):
                h = torch.tanh(first(x[:, t]) + self.h(h))
                outputs.append(h)
            x = torch.stack(outputs, 1)
        return self.head(x[:, -1])


def loss(model: nn.Module) -> Tensor:
    return model(X.to(next(model.parameters()).dtype)).square().sum()


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind().eval()


class _Steep(torch.autograd.Function):
    """A step function with the derivative 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Spiking(Plain):
    """A state that an autograd function of the user makes."""

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return _Steep.apply(self.i(x) + self.h(h))


@pytest.mark.parametrize("kind", [Plain, TimeFirst, Assigned, Projected, Masked, Kept, Spiking])
def test_the_states_are_those_of_the_loop(kind) -> None:
    model = made(kind)
    with cells_found(model, loss):
        assert [*recurrent_layers(model)] == [""]
        recording = record(model, lambda: loss(model))
    h = torch.zeros(BATCH, WIDTH)
    lengths = torch.arange(BATCH) + 3 if kind is Masked else torch.full((BATCH,), TIME)
    for t in range(TIME):
        h = torch.where((t < lengths)[:, None], model.step(X[:, t], h), h)
        torch.testing.assert_close(recording.states.h[t], h)
    assert recording.links == ("fresh",)


@pytest.mark.parametrize("kind", [Plain, TimeFirst, Assigned, Masked, Spiking])
def test_the_gradient_is_that_of_autograd(kind) -> None:
    """dL/dx_t = (dL/da_t) W_i, in which a step's part of the gradient of the bias is dL/da_t."""
    model = made(kind).double()
    with cells_found(model, loss):
        flow = gradient_flow(model, lambda: loss(model))
    hs: list[Tensor] = []
    own = model.step

    def step(x: Tensor, h: Tensor) -> Tensor:
        hs.append(own(x, h))
        return hs[-1]

    model.step = step
    gradients = torch.autograd.grad(loss(model), hs)
    if kind is not Masked:  # whose state is not what step returns
        torch.testing.assert_close(flow.norm, torch.stack([g.norm() for g in gradients]))
    read = flow.answer.sum(1) > 0
    assert int(read.sum()) == (TIME if kind in (TimeFirst, Assigned) else 1)


def test_a_state_of_two_tensors_and_loops_on_top_of_each_other() -> None:
    model = made(Gated)
    with cells_found(model, loss):
        recording = record(model, lambda: loss(model))
        assert recording.states._fields == ("h", "c")
        torch.testing.assert_close(model.head(recording.states.h[-1]), model(X))
    stacked = made(Stacked)
    with cells_found(stacked, loss):
        low, high = (record(stacked, lambda: loss(stacked), level=k) for k in (0, 1))
        torch.testing.assert_close(high.inputs, low.states.h)
        torch.testing.assert_close(stacked.head(high.states.h[-1]), stacked(X))


class Tokens(nn.Module):
    """Embeds within the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.map = nn.Embedding(6, 3), nn.Linear(3 + WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            h = torch.tanh(self.map(torch.cat([self.embed(x[:, t]), h], 1)))
        return h


def test_tokens_come_as_their_vectors() -> None:
    model, tokens = made(Tokens), torch.randint(6, (BATCH, TIME))
    with cells_found(model, lambda m: m(tokens).sum()):
        recording = record(model, lambda: model(tokens).sum())
    torch.testing.assert_close(recording.inputs, model.embed(tokens).transpose(0, 1))


class FirstApart(Plain):
    """Its first step is another."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.i(x[:, 0]).tanh()
        for t in range(1, x.shape[1]):
            h = self.step(x[:, t], h)
        return self.head(h)


class Numbered(Plain):
    """Its steps depend on their number."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), WIDTH)
        for t in range(x.shape[1]):
            h = self.step(x[:, t], h) / (t + 1)
        return self.head(h)


class Feedforward(Plain):
    """It slices, and carries no state."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack([self.i(x[:, t]).tanh() for t in range(x.shape[1])]).mean(0))


@pytest.mark.parametrize("kind", [FirstApart, Numbered, Feedforward])
def test_what_is_no_such_loop_is_not_taken_for_one(kind) -> None:
    model = made(kind)
    with cells_found(model, loss):
        assert not recurrent_layers(model)


def test_nothing_is_known_afterwards() -> None:
    model = made(Plain)
    with cells_found(model, loss):
        pass
    assert not recurrent_layers(model)
