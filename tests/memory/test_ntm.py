"""The neural Turing machine beside loops over words in float64."""

import math

import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.cli.main import main
from throughtime.core.state import State
from throughtime.memory import NTMCell
from throughtime.testing import MemoryConformance


def linear(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
    return torch.stack(rows) + (0 if bias is None else bias)


def sigmoid(a: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-a))


def softplus(a: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(a))


def softmax(a: Tensor) -> Tensor:
    powers = torch.exp(a - a.max())
    return powers / powers.sum()


def addressed(memory, before, k, beta, g, s, gamma):
    """Equations (5) to (9) of the paper, one word at a time."""
    n, words = len(s) // 2, len(memory)
    similar = [(k @ m) / ((k @ k) * (m @ m) + 1e-8).sqrt() for m in memory]
    content = softmax(beta * torch.stack(similar))
    mixed = g * content + (1 - g) * before
    moved = []
    for i in range(words):
        sources = [mixed[(i - j + n) % words] for j in range(2 * n + 1)]
        moved.append(sum(a * b for a, b in zip(s, sources, strict=True)))
    # random states of the suite have negative weights, which count as the smallest number
    positive = torch.stack(moved).clamp_min(torch.finfo(torch.float64).tiny)
    powers = (positive / positive.detach().max()) ** gamma
    return powers / powers.sum()


class NTM(MemoryConformance):
    options: dict = {}  # noqa: RUF012

    def make_cell(self, input_size, hidden_size):
        options = {"words": 5, "width": 3, **self.options}
        self.cell = NTMCell(input_size, hidden_size, **options)
        return self.cell

    def reference(self, parameters, x: Tensor, state: State):
        sequences = []
        for b in range(x.shape[1]):
            sequences.append(self.alone(parameters, x[:, b], [field[b] for field in state]))
        outputs = torch.stack([o for o, _ in sequences], 1)
        fields = zip(*(end for _, end in sequences), strict=True)
        return outputs, type(state)(*(torch.stack(f) for f in fields))

    def alone(self, p, x: Tensor, fields: list[Tensor]):
        cell, n = self.cell, self.cell.hidden_size
        heads, writes, width = cell.read_heads + cell.write_heads, cell.write_heads, 3
        h, *rest, weights, memory = fields
        outputs = []
        for x_t in x:
            total = linear(p["weight_ih"], x_t, p.get("bias_ih"))
            if "bias_hh" in p:
                total = total + p["bias_hh"]
            if cell.controller == "lstm":
                i, f, g, o = (total + linear(p["weight_hh"], h)).split(n)
                c = sigmoid(f) * rest[0] + sigmoid(i) * torch.tanh(g)
                rest, y = [c], sigmoid(o) * torch.tanh(c)
            else:
                y = torch.tanh(total + linear(p["weight_hh"], h[n:]))
            values = iter(linear(p["weight_heads"], y, p["bias_heads"]))

            def take(count, values=values):
                return torch.stack([next(values) for _ in range(count)])

            keys = [torch.tanh(take(width)) for _ in range(heads)]
            added = [torch.tanh(take(width)) for _ in range(writes)]
            gates = sigmoid(take(heads))
            erased = [sigmoid(take(width)) for _ in range(writes)]
            strengths, sharpness = softplus(take(heads)), 1 + softplus(take(heads))
            moves = [softmax(take(2 * cell.shifts + 1)) for _ in range(heads)]
            assert next(values, None) is None
            pieces = (weights, keys, strengths, gates, moves, sharpness)
            found = [addressed(memory, *each) for each in zip(*pieces, strict=True)]
            read = [sum(w * m for w, m in zip(v, memory, strict=True)) for v in found[:-writes]]
            rows = []
            for word, m in enumerate(memory):
                for w, e in zip(found[-writes:], erased, strict=True):
                    m = m * (1 - w[word] * e)
                for w, a in zip(found[-writes:], added, strict=True):
                    m = m + w[word] * a
                rows.append(m)
            memory, weights = torch.stack(rows), torch.stack(found)
            h = torch.cat([y, *read])
            outputs.append(h)
        return torch.stack(outputs), [h, *rest, weights, memory]


class TestNTM(NTM):
    pass


class TestNTMWithSeveralHeads(NTM):
    options = {"reads": 2, "writes": 3, "shifts": 2}  # noqa: RUF012


class TestNTMWithFeedforwardController(NTM):
    options = {"controller": "feedforward", "bias": False, "writes": 2}  # noqa: RUF012


class TestNTMOfOneWord(NTM):
    options = {"words": 1, "shifts": 0}  # noqa: RUF012


def test_parameters_are_as_many_as_the_equations_have() -> None:
    cell = NTMCell(9, 100, words=128, width=20)
    controller = 400 * (9 + 100 + 20) + 2 * 400
    heads = (2 * (20 + 1 + 1 + 1 + 3) + 2 * 20) * (100 + 1)
    assert sum(p.numel() for p in cell.parameters()) == controller + heads


def test_a_head_walks_along_the_memory() -> None:
    """Without content and erasure, a sharp move of one word a step writes word after word."""
    cell = NTMCell(1, 2, words=7, width=2).double()
    keys, added, gates, erased = [0.0] * 4, [1.0, -1.0], [-40.0] * 2, [-40.0] * 2
    strengths, sharpness, moves = [0.0] * 2, [40.0] * 2, [0.0, 0, 40] * 2
    biases = [*keys, *added, *gates, *erased, *strengths, *sharpness, *moves]
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.bias_heads.copy_(torch.tensor(biases))
    _, state = tt.Recurrent(cell)(torch.zeros(9, 1, 1, dtype=torch.float64))
    assert state.weights[0, 0].argmax(-1).tolist() == [9 % 7, 9 % 7]
    visits = torch.tensor([1, 2, 2, 1, 1, 1, 1]).double()
    word = torch.tensor([math.tanh(1), -math.tanh(1)], dtype=torch.float64)
    expected = torch.outer(visits, word) + 1e-6
    torch.testing.assert_close(state.memory[0, 0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reads": 0}, "reads: got 0"),
        ({"writes": 0}, "writes: got 0"),
        ({"width": 0}, "width: got 0"),
        ({"words": 0}, "words: got 0"),
        ({"shifts": -1}, "shifts"),
        ({"words": 4, "shifts": 2}, "shifts: got 2 with 4 words"),
    ],
)
def test_sizes_that_make_no_machine_are_refused(options, message) -> None:
    with pytest.raises(tt.errors.ConfigurationError, match=message):
        NTMCell(2, 3, **options)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_controller_is_refused() -> None:
    with pytest.raises(tt.errors.UnknownNameError, match="unknown controller"):
        NTMCell(2, 3, controller="gru")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ntm:reads=0", "reads: got 0, expected a whole number of at least 1"),
        ("ntm:width=0", "width: got 0, expected a whole number of at least 1"),
        ("ntm:words=2", "shifts: got 1 with 2 words"),
        ("ntm:controller=gru", "expected one of lstm, feedforward"),
    ],
)
def test_the_command_line_tells_what_is_wrong(model, message, tmp_path, capsys) -> None:
    assert main(["train", "copy-bits", model, "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
