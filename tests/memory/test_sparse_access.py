"""DAM and SAM beside naive loops in float64, over single words."""

import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.core.state import State, map_state
from throughtime.engines import Request, run
from throughtime.memory import DAMCell, SAMCell, sparse_run
from throughtime.testing import MemoryConformance
from throughtime.testing.compare import gradients


def controlled(p: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor, heads: int, width: int):
    """The controller's h_t and c_t, and each head's q, a, beta, alpha and gamma, of one row."""
    u = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ h + p["bias_hh"]
    n = len(c)
    i, f, g, o = u[:n], u[n : 2 * n], u[2 * n : 3 * n], u[3 * n :]
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    rows = p["weight_heads"] @ h + p["bias_heads"]
    found = []
    for k in range(heads):
        row = rows[k * (2 * width + 3) :]
        b, alpha, gamma = row[2 * width], row[2 * width + 1], row[2 * width + 2]
        strength = 1 + torch.log(1 + torch.exp(b))
        of_head = row[:width], row[width : 2 * width], strength
        found.append((*of_head, 1 / (1 + torch.exp(-alpha)), 1 / (1 + torch.exp(-gamma))))
    return h, c, found


def similar(q: Tensor, m: Tensor) -> Tensor:
    return (q @ m) / torch.sqrt((q @ q + 1e-6) * (m @ m + 1e-6))


def value(number: Tensor) -> float:
    return number.detach().item()


def softmax(scores: list[Tensor]) -> list[Tensor]:
    total = sum(torch.exp(s) for s in scores)
    return [torch.exp(s) / total for s in scores]


def written_memory(memory: list[Tensor], least: list[int], before, heads) -> tuple:
    """The memory after the write, and the weights of the write of each head, by word."""
    weights = []
    for k, (_, _, _, alpha, gamma) in enumerate(heads):
        own = {j: alpha * gamma * w for j, w in before[k].items()}
        own[least[k]] = own.get(least[k], zero) + alpha * (1 - gamma)
        weights.append(own)
    after = []
    for j, m in enumerate(memory):
        row = torch.zeros_like(m) if j in least else m
        for k, (_, a, _, _, _) in enumerate(heads):
            if j in weights[k]:
                row = row + weights[k][j] * a
        after.append(row)
    return after, weights


def naive_dam(cell: DAMCell, p: dict[str, Tensor], x: Tensor, state: State):
    """A row at a time, a word at a time."""
    rows = []
    for b in range(x.shape[1]):
        h, c, memory = state.h[b], state.c[b], list(state.memory[b])
        before = [dict(enumerate(w)) for w in state.weights[b]]
        usage, outputs = list(state.usage[b]), []
        for x_t in x[:, b]:
            h, c, heads = controlled(p, x_t, h, c, cell.read_heads, cell.memory_width)
            order = sorted(range(cell.memory_words), key=lambda j: value(usage[j]))
            memory, written = written_memory(memory, order[: cell.read_heads], before, heads)
            before, reads = [], []
            for q, _, strength, _, _ in heads:
                w = softmax([strength * similar(q, m) for m in memory])
                before.append(dict(enumerate(w)))
                reads.append(sum(a * m for a, m in zip(w, memory, strict=True)))
            for j in range(cell.memory_words):
                used = sum(w.get(j, zero) for w in written) + sum(w[j] for w in before)
                usage[j] = cell.decay * usage[j] + used
            h = torch.cat([h, *reads])
            outputs.append(h)
        weights = torch.stack([torch.stack(list(w.values())) for w in before])
        end = (h, c, torch.stack(memory), weights, torch.stack(usage))
        rows.append((torch.stack(outputs), end))
    outputs = torch.stack([o for o, _ in rows], 1)
    return outputs, type(state)(*(torch.stack(f) for f in zip(*(e for _, e in rows), strict=True)))


def naive_sam(cell: SAMCell, p: dict[str, Tensor], x: Tensor, state: State):
    """A row at a time, a word at a time, with sorts of Python's lists."""
    rows = []
    for b in range(x.shape[1]):
        h, c, memory = state.h[b], state.c[b], list(state.memory[b])
        before = [
            dict(zip(places.tolist(), weights, strict=True))
            for places, weights in zip(state.places[b], state.weights[b], strict=True)
        ]
        accessed, outputs = state.accessed[b].tolist(), []
        for x_t in x[:, b]:
            h, c, heads = controlled(p, x_t, h, c, cell.read_heads, cell.memory_width)
            order = sorted(range(cell.memory_words), key=lambda j: (accessed[j], j))
            memory, written = written_memory(memory, order[: cell.read_heads], before, heads)
            before, reads = [], []
            for q, _, strength, _, _ in heads:
                scores = [similar(q, m) for m in memory]
                best = sorted(range(cell.memory_words), key=lambda j: (-value(scores[j]), j))
                best = best[: cell.reads]
                w = softmax([strength * scores[j] for j in best])
                before.append(dict(zip(best, w, strict=True)))
                reads.append(sum(a * memory[j] for a, j in zip(w, best, strict=True)))
            now = max(accessed) + 1
            for j in range(cell.memory_words):
                if value(sum(w.get(j, zero) for w in (*written, *before))) > cell.threshold:
                    accessed[j] = now
            h = torch.cat([h, *reads])
            outputs.append(h)
        places = torch.tensor([list(w) for w in before])
        weights = torch.stack([torch.stack(list(w.values())) for w in before])
        end = (h, c, torch.stack(memory), places, weights, torch.tensor(accessed))
        rows.append((torch.stack(outputs), end))
    outputs = torch.stack([o for o, _ in rows], 1)
    return outputs, type(state)(*(torch.stack(f) for f in zip(*(e for _, e in rows), strict=True)))


zero = torch.zeros(())


class TestDAM(MemoryConformance):
    def make_cell(self, input_size, hidden_size):
        return DAMCell(input_size, hidden_size, words=5, width=3, heads=2)

    def reference(self, parameters, x, state):
        return naive_dam(self.make_cell(x.shape[-1], state.c.shape[-1]), parameters, x, state)


class TestSAM(MemoryConformance):
    def make_cell(self, input_size, hidden_size):
        return SAMCell(input_size, hidden_size, words=7, width=3, heads=2, reads=2)

    def reference(self, parameters, x, state):
        return naive_sam(self.make_cell(x.shape[-1], state.c.shape[-1]), parameters, x, state)


class TestSAMByInvertedLists(MemoryConformance):
    def make_cell(self, input_size, hidden_size):
        sizes = {"words": 7, "width": 3, "heads": 2, "reads": 2}
        return SAMCell(input_size, hidden_size, index="inverted", check=True, **sizes)

    def reference(self, parameters, x, state):
        return naive_sam(self.make_cell(x.shape[-1], state.c.shape[-1]), parameters, x, state)


class TestSAMOfAllWords(MemoryConformance):
    """Each head reads all words, and each step writes to all."""

    def make_cell(self, input_size, hidden_size):
        return SAMCell(input_size, hidden_size, words=3, width=2, heads=3, reads=3)

    def reference(self, parameters, x, state):
        return naive_sam(self.make_cell(x.shape[-1], state.c.shape[-1]), parameters, x, state)


@pytest.mark.parametrize("kind", [DAMCell, SAMCell])
def test_bad_sizes_are_refused(kind: type, unchecked: None) -> None:
    for option in ("words", "width", "heads"):
        with pytest.raises(tt.errors.ConfigurationError, match=f"{option}: got 0"):
            kind(2, 3, **{option: 0})
        with pytest.raises(tt.errors.OptionTypeError, match=f"{option}: got 1.5"):
            kind(2, 3, **{option: 1.5})
    with pytest.raises(tt.errors.ConfigurationError, match="words: got 3, expected at least 4"):
        kind(2, 3, words=3, heads=4)
    number = "decay" if kind is DAMCell else "threshold"
    with pytest.raises(tt.errors.ConfigurationError, match=f"{number}: got 1"):
        kind(2, 3, **{number: 1})
    with pytest.raises(tt.errors.OptionTypeError, match=f"{number}: got 'much'"):
        kind(2, 3, **{number: "much"})


def test_a_memory_smaller_than_the_reads_is_refused() -> None:
    with pytest.raises(tt.errors.ConfigurationError, match="words: got 3, expected at least 4"):
        SAMCell(2, 3, words=3, heads=1, reads=4)
    with pytest.raises(tt.errors.ConfigurationError, match="reads: got 0"):
        SAMCell(2, 3, reads=0)


def drawn(cell: SAMCell, time: int, batch: int, scale: float = 0.7) -> tuple[Tensor, State]:
    """Inputs and a state of random numbers, in which several words are equally old."""
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn_like(p) * scale)
    cpu = torch.device("cpu")
    state = cell.initial_state(batch, dtype=torch.float64, device=cpu)
    state = map_state(lambda s: torch.randn_like(s) if s.is_floating_point() else s, state)
    places = torch.stack(
        [torch.randperm(cell.memory_words) for _ in range(batch * cell.read_heads)]
    )
    places = places[:, : cell.reads].view(batch, cell.read_heads, cell.reads)
    weights = torch.rand_like(state.weights).softmax(-1)
    accessed = torch.randint(-1, 3, state.accessed.shape)
    inputs = torch.randn(time, batch, cell.input_size, dtype=torch.float64)
    return inputs, state._replace(places=places, weights=weights, accessed=accessed)


@pytest.mark.parametrize("words", [3, 5, 40])
def test_whole_runs_have_the_gradients_of_dense_loops(words: int) -> None:
    """With equally old words, words that are read and rewritten, and all words in use."""
    torch.manual_seed(words)
    cell = SAMCell(2, 4, words=words, width=3, heads=2, reads=3).double()
    inputs, state = drawn(cell, 15, 2)
    tensors = [inputs, *(s for s in state if s.is_floating_point()), *cell.parameters()]
    for tensor in tensors:
        tensor.requires_grad_()
    result = run(Request(cell, inputs, state), "eager")
    outputs, end = naive_sam(cell, dict(cell.named_parameters()), inputs, state)
    for got, expected in zip((result.outputs, *result.state), (outputs, *end), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    floats = [0, 1, 2, 4]
    ours = gradients([result.outputs, *(result.state[i] for i in floats)], tensors)
    theirs = gradients([outputs, *(end[i] for i in floats)], tensors)
    for got, expected in zip(ours, theirs, strict=True):
        assert float((got - expected).norm() / expected.norm()) < 1e-10


@pytest.mark.parametrize("time", [200, pytest.param(4000, marks=pytest.mark.nightly)])
def test_the_memory_is_equal_to_the_bit_after_all_steps_back(time: int, monkeypatch) -> None:
    torch.manual_seed(0)
    cell = SAMCell(2, 3, words=30, width=4, heads=2, reads=2)
    inputs, state = drawn(cell.double(), time, 1)
    cell = cell.float()
    inputs, state = (
        inputs.float(),
        map_state(lambda s: s.float() if s.is_floating_point() else s, state),
    )
    found: list[Tensor] = []
    gradients_of = sparse_run._Backward.gradients

    def watched(back, needed):
        found.append(back.run.memory.clone())
        return gradients_of(back, needed)

    monkeypatch.setattr(sparse_run._Backward, "gradients", watched)
    result = run(Request(cell, inputs, state), "eager")
    after = result.state.memory.clone()
    result.outputs.square().sum().backward()
    assert torch.equal(found[0], state.memory)
    assert not torch.equal(after, state.memory)
    assert torch.equal(result.state.memory, after)


def test_a_run_can_go_backward_twice_and_its_state_carries_gradients() -> None:
    torch.manual_seed(1)
    cell = SAMCell(2, 3, words=9, width=3, heads=2, reads=2).double()
    inputs, state = drawn(cell, 8, 2)
    inputs.requires_grad_()
    whole = run(Request(cell, inputs, state), "eager").outputs
    first = run(Request(cell, inputs[:5], state), "eager")
    second = run(Request(cell, inputs[5:], first.state), "eager")
    parts = torch.cat([first.outputs, second.outputs])
    (expected,) = torch.autograd.grad(whole.square().sum(), inputs)
    for _ in range(2):
        (got,) = torch.autograd.grad(parts.square().sum(), inputs, retain_graph=True)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_a_memory_that_was_changed_in_place_is_refused() -> None:
    cell = SAMCell(2, 3, words=9, width=3, heads=2, reads=2)
    state = cell.initial_state(1, dtype=torch.float32, device=torch.device("cpu"))
    result = run(Request(cell, torch.ones(4, 1, 2), state), "eager")
    with torch.no_grad():
        result.state.memory.zero_()
    with pytest.raises(tt.errors.StateError, match="words that were changed in place"):
        result.outputs.sum().backward()


def test_a_run_without_gradient_stores_no_changes(monkeypatch) -> None:
    monkeypatch.setattr(sparse_run, "Changes", None)
    cell = SAMCell(2, 3, words=9, width=3, heads=2, reads=2)
    with torch.no_grad():
        tt.Recurrent(cell)(torch.ones(4, 1, 2))


def test_runs_longer_than_the_cap_are_refused(unchecked: None) -> None:
    layer = tt.Recurrent(SAMCell(2, 3, words=9, width=3, heads=2, reads=2, longest=4))
    layer(torch.ones(4, 1, 2))
    with pytest.raises(tt.errors.LengthsError, match="got 5, expected at most 4"):
        layer(torch.ones(5, 1, 2))
    with pytest.raises(tt.errors.ConfigurationError, match="longest: got 0"):
        SAMCell(2, 3, longest=0)
    with pytest.raises(tt.errors.UnknownNameError, match="unknown index: got 'exakt'"):
        SAMCell(2, 3, index="exakt")
    with pytest.raises(tt.errors.OptionTypeError, match="check: got 1"):
        SAMCell(2, 3, check=1)


def test_check_finds_a_change_that_was_not_stored(monkeypatch) -> None:
    cell = SAMCell(2, 3, words=9, width=3, heads=2, reads=2, check=True)
    layer = tt.Recurrent(cell)
    layer(torch.randn(5, 2, 2))[0].sum().backward()
    monkeypatch.setattr(sparse_run.Changes, "exchange", lambda changes, t: None)
    with pytest.raises(tt.errors.StateError, match="other bits than before the run"):
        layer(torch.randn(5, 2, 2))[0].sum().backward()


def test_check_finds_an_entry_that_the_index_lost(monkeypatch) -> None:
    monkeypatch.setattr(sparse_run.Index, "update", lambda index, places, content: None)
    cell = SAMCell(2, 3, words=9, width=3, heads=2, reads=2, check=True)
    with pytest.raises(tt.errors.StateError, match="no entry of the content of word 0"):
        tt.Recurrent(cell)(torch.randn(5, 2, 2))
