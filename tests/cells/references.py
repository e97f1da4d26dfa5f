"""The equations of the library's cells, written naively: loops over time, gates by slices."""

import torch
from torch import Tensor

from throughtime.core.state import State, state_type


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product = torch.einsum("bi,oi->bo", x, weight)
    return product if bias is None else product + bias


def gate(tensor: Tensor, index: int, hidden: int) -> Tensor:
    return tensor[..., index * hidden : (index + 1) * hidden]


def preactivations(p: dict[str, Tensor], x: Tensor, h: Tensor, count: int) -> list[Tensor]:
    hidden = p["weight_hh"].shape[0] // count
    both = linear(x, p["weight_ih"], p.get("bias_ih")) + linear(h, p["weight_hh"], p.get("bias_hh"))
    return [gate(both, k, hidden) for k in range(count)]


def sigmoid(a: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-a))


def elman(p: dict[str, Tensor], x: Tensor, state: State, f, lags) -> tuple[Tensor, State]:
    history = [state.h, *getattr(state, "past", ())]
    outputs = []
    for x_t in x:
        total = linear(x_t, p["weight_ih"], p.get("bias_ih"))
        if "bias_hh" in p:
            total = total + p["bias_hh"]
        for lag in lags:
            name = "weight_hh" if lag == 1 else f"weight_hh_lag{lag}"
            total = total + linear(history[lag - 1], p[name], None)
        history = [f(total), *history[:-1]]
        outputs.append(history[0])
    fields = (history[0], tuple(history[1:])) if len(history) > 1 else (history[0],)
    return torch.stack(outputs), state_type(*state._fields)(*fields)


def lstm(p: dict[str, Tensor], x: Tensor, state: State, lag: int = 1) -> tuple[Tensor, State]:
    """With a second lag, `weight_hh_lag*` reads the output of so many steps ago."""
    h, c, *past = state
    history, outputs = [h, *(past[0] if past else ())], []
    for x_t in x:
        i, f, g, o = preactivations(p, x_t, h, 4)
        if lag > 1:
            more = linear(history[lag - 1], p[f"weight_hh_lag{lag}"], None).chunk(4, -1)
            i, f, g, o = (a + b for a, b in zip((i, f, g, o), more, strict=True))
        if "peephole_input" in p:
            i = i + p["peephole_input"] * c
            f = f + p["peephole_forget"] * c
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        if "peephole_output" in p:
            o = o + p["peephole_output"] * c
        h = sigmoid(o) * torch.tanh(c)
        if "weight_hr" in p:
            h = linear(h, p["weight_hr"], None)
        outputs.append(h)
        history = [h, *history[:-1]]
    fields = (h, c, tuple(history[1:])) if lag > 1 else (h, c)
    return torch.stack(outputs), state_type(*state._fields)(*fields)


def coupled_lstm(p: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    h, c = state
    outputs = []
    for x_t in x:
        f, g, o = preactivations(p, x_t, h, 3)
        if "peephole_forget" in p:
            f = f + p["peephole_forget"] * c
        keep = sigmoid(f)
        c = keep * c + (1 - keep) * torch.tanh(g)
        if "peephole_output" in p:
            o = o + p["peephole_output"] * c
        h = sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs), state_type("h", "c")(h, c)


def lstm_1997(p: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    h, c = state
    outputs = []
    for x_t in x:
        i, g, o = preactivations(p, x_t, h, 3)
        # g = 4 sigmoid - 2 = 2 tanh(a / 2); h = 2 sigmoid - 1 = tanh(c / 2)
        c = c + sigmoid(i) * 2 * torch.tanh(g / 2)
        h = sigmoid(o) * torch.tanh(c / 2)
        outputs.append(h)
    return torch.stack(outputs), state_type("h", "c")(h, c)


def gru(p: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    (h,) = state
    hidden = h.shape[1]
    outputs = []
    for x_t in x:
        a = linear(x_t, p["weight_ih"], p.get("bias_ih"))
        b = linear(h, p["weight_hh"], p.get("bias_hh"))
        r = sigmoid(gate(a, 0, hidden) + gate(b, 0, hidden))
        z = sigmoid(gate(a, 1, hidden) + gate(b, 1, hidden))
        n = torch.tanh(gate(a, 2, hidden) + r * gate(b, 2, hidden))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return torch.stack(outputs), state_type("h")(h)


def cho_gru(p: dict[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    (h,) = state
    hidden = h.shape[1]
    bias = p.get("bias_hh", torch.zeros(3 * hidden, dtype=h.dtype))
    outputs = []
    for x_t in x:
        a = linear(x_t, p["weight_ih"], p.get("bias_ih"))
        u = [p["weight_hh"][k * hidden : (k + 1) * hidden] for k in range(3)]
        b = [gate(bias, k, hidden) for k in range(3)]
        r = sigmoid(gate(a, 0, hidden) + linear(h, u[0], b[0]))
        z = sigmoid(gate(a, 1, hidden) + linear(h, u[1], b[1]))
        n = torch.tanh(gate(a, 2, hidden) + linear(r * h, u[2], b[2]))
        h = z * h + (1 - z) * n
        outputs.append(h)
    return torch.stack(outputs), state_type("h")(h)


def slstm(p: dict[str, Tensor], x: Tensor, state: State, heads: int) -> tuple[Tensor, State]:
    """Without a stabiliser, head by head; m is the largest exponent of the products so far."""
    h, c, n, m = state
    hidden, outputs = h.shape[1], []
    width = hidden // heads
    scale = torch.exp(m)
    c, n = c * scale, n * scale
    for x_t in x:
        both = linear(x_t, p["weight_ih"], p["bias_ih"]) + p["bias_hh"]
        for k in range(4):
            for j in range(heads):
                rows = slice(k * hidden + j * width, k * hidden + (j + 1) * width)
                own = h[:, j * width : (j + 1) * width]
                add = linear(own, p["weight_hh"][rows], None)
                both = torch.cat(
                    [both[:, : rows.start], both[:, rows] + add, both[:, rows.stop :]], 1
                )
        i, f, z, o = (gate(both, k, hidden) for k in range(4))
        m = torch.where(n == 0, i, torch.maximum(torch.log(sigmoid(f)) + m, i))
        c = sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
        n = sigmoid(f) * n + torch.exp(i)
        h = sigmoid(o) * c / n
        outputs.append(h)
    return torch.stack(outputs), state_type("h", "c", "n", "m")(
        h, c * torch.exp(-m), n * torch.exp(-m), m
    )
