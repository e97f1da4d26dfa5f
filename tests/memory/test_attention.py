"""Attention beside naive loops in float64, and the cell around any other."""

import math

import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.cells import ElmanCell, GRUCell, LSTMCell
from throughtime.core.state import State, map_state
from throughtime.memory import AdditiveAttention, Attention, AttentionCell, DotAttention
from throughtime.testing import CellConformance
from throughtime.wiring import StackedCell, ZoneoutCell


@torch.no_grad()
def naive(attention: Attention, q: Tensor, values: Tensor, covered: Tensor) -> list[float]:
    """The weights of one query over one sequence, one number at a time."""
    scores = []
    for j, m in enumerate(values):
        if isinstance(attention, DotAttention):
            key = m if attention.key is None else attention.key.weight @ m
            scores.append(float(sum(a * b for a, b in zip(q, key, strict=True))) * attention.scale)
            continue
        assert isinstance(attention, AdditiveAttention)
        inner = attention.query.weight @ q + attention.key.weight @ m + attention.key.bias
        if attention.covered is not None:
            inner = inner + attention.covered * covered[j]
        scores.append(
            sum(float(v) * math.tanh(a) for v, a in zip(attention.vector, inner, strict=True))
        )
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


KINDS = {
    "additive": lambda: AdditiveAttention(4, 3, 5),
    "coverage": lambda: AdditiveAttention(4, 3, 5, coverage=True),
    "dot": lambda: DotAttention(3, 3),
    "plain dot": lambda: DotAttention(3, 3, scaled=False),
    "general": lambda: DotAttention(4, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_context_are_the_equations(kind: str) -> None:
    attention = KINDS[kind]().double()
    lengths = torch.tensor([5, 1, 3])
    values = torch.randn(3, 5, 3, dtype=torch.float64)
    queries = torch.randn(2, 3, attention.query_size, dtype=torch.float64)
    covered = torch.rand(3, 5, dtype=torch.float64)
    memory = attention.memory(values, lengths)
    context, weights = attention(queries, memory, covered if attention.coverage else None)
    assert weights.shape == (2, 3, 5)
    for t in range(2):
        for b, n in enumerate(lengths.tolist()):
            expected = naive(attention, queries[t, b], values[b, :n], covered[b])
            torch.testing.assert_close(weights[t, b, :n], torch.tensor(expected).double())
            mean = sum(w * m for w, m in zip(expected, values[b], strict=False))
            torch.testing.assert_close(context[t, b], mean)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_weight_zero_and_no_gradient(kind: str) -> None:
    attention = KINDS[kind]()
    lengths = torch.tensor([4, 2])
    values = torch.randn(2, 4, 3)
    values[1, 2:] = torch.nan
    values.requires_grad_()
    context, weights = attention(
        torch.randn(2, attention.query_size), attention.memory(values, lengths)
    )
    assert (weights[1, 2:] == 0).all()
    context.square().sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert (values.grad[1, 2:] == 0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())


def test_a_source_without_a_position_is_refused() -> None:
    attention = DotAttention(3, 3)
    with pytest.raises(tt.errors.LengthsError, match=r"got \[2, 0\], expected 2 whole"):
        attention.memory(torch.ones(2, 4, 3), torch.tensor([2, 0]))
    with pytest.raises(tt.errors.ShapeError, match=r"expected \(batch, source, 3\)"):
        attention.memory(torch.ones(2, 4, 2))


def test_options_that_do_not_fit_are_refused(unchecked: None) -> None:
    with pytest.raises(tt.errors.ConfigurationError, match="queries of 4 and a memory of 3"):
        DotAttention(4, 3, projected=False)
    with pytest.raises(tt.errors.ConfigurationError, match="size: got 0"):
        AdditiveAttention(4, 3, 0)
    with pytest.raises(tt.errors.OptionTypeError, match="attention: got Linear"):
        AttentionCell(GRUCell(2, 3), torch.nn.Linear(2, 2))
    with pytest.raises(tt.errors.ConfigurationError, match="a cell of input 3 and output 5"):
        AttentionCell(GRUCell(3, 5), DotAttention(5, 3))


class Wider(tt.Cell):
    """An attention cell whose initial state has three positions, the last of them padding in part.

    Of one position, the weight is 1 whatever its score.
    """

    def __init__(self, cell: AttentionCell):
        super().__init__()
        self.cell = cell
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.output_size, self.streams = cell.output_size, cell.streams

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        state = self.cell.initial_state(batch_size, dtype=dtype, device=device)
        names = self.cell.supplied
        return state._replace(**{n: getattr(state, n).repeat_interleave(3, 1) for n in names})

    def project(self, x: Tensor) -> Tensor:
        return self.cell.project(x)

    def step(self, projected: Tensor, state: State, streams: tuple[Tensor, ...] = ()):
        return self.cell.step(projected, state, *((streams,) if streams else ()))

    def draw_streams(self, steps: Tensor, **rest):
        return self.cell.draw_streams(steps, **rest)


def attended(
    p: dict[str, Tensor], prefix: str, x: Tensor, state: State, step
) -> tuple[Tensor, State]:
    """The equation of the cell as a loop; `step` is that of the cell within."""
    name = f"{prefix}attention."
    outputs, inner, covered = [], state.inner, getattr(state, "covered", None)
    for x_t in x:
        rows = []
        for b in range(len(x_t)):
            q = p[f"{name}query.weight"] @ inner.h[b]
            compared = q + state.keys[b]
            if covered is not None:
                compared = compared + covered[b][:, None] * p[f"{name}covered"]
            e = torch.tanh(compared) @ p[f"{name}vector"] + state.mask[b]
            rows.append(torch.exp(e - e.max()) / torch.exp(e - e.max()).sum())
        weights = torch.stack(rows)
        context = (weights[:, :, None] * state.values).sum(1)
        inner = step(torch.cat([x_t, context], 1), inner)
        outputs.append(torch.cat([inner.h, context], 1))
        covered = None if covered is None else covered + weights
    after = state._replace(h=outputs[-1], inner=inner)
    if covered is not None:
        after = after._replace(covered=covered)
    return torch.stack(outputs), after


def elman_step(p: dict[str, Tensor], prefix: str):
    def step(x: Tensor, state: State) -> State:
        w = {n: p[f"{prefix}cell.{n}"] for n in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")}
        total = x @ w["weight_ih"].T + w["bias_ih"] + state.h @ w["weight_hh"].T + w["bias_hh"]
        return type(state)(total.tanh())

    return step


class TestAttentionCell(CellConformance):
    def make_cell(self, input_size, hidden_size):
        return AttentionCell(
            ElmanCell(input_size + 4, hidden_size), AdditiveAttention(hidden_size, 4, 3)
        )

    def reference(self, parameters, x, state):
        return attended(parameters, "", x, state, elman_step(parameters, ""))


class TestAttentionOverThreePositions(CellConformance):
    def make_cell(self, input_size, hidden_size):
        attention = AdditiveAttention(hidden_size, 4, 3, coverage=True)
        return Wider(AttentionCell(ElmanCell(input_size + 4, hidden_size), attention))

    def reference(self, parameters, x, state):
        step = elman_step(parameters, "cell.")
        return attended(parameters, "cell.", x, state, step)


def batched(state: State) -> State:
    return map_state(lambda s: s[None], state)


@pytest.mark.parametrize(
    "cell",
    [
        GRUCell(2 + 3, 4),
        LSTMCell(2 + 3, 4),
        StackedCell([LSTMCell(2 + 3, 5), LSTMCell(5, 4)]),
        ZoneoutCell(LSTMCell(2 + 3, 4)),
    ],
    ids=lambda cell: type(cell).__name__,
)
@pytest.mark.parametrize("coverage", [False, True])
def test_three_sources_in_a_batch_give_what_each_gives_alone(cell: tt.Cell, coverage: bool) -> None:
    attending = AttentionCell(cell, AdditiveAttention(4, 3, 5, coverage=coverage)).double()
    layer = tt.Recurrent(attending).eval()
    values, x = torch.randn(3, 6, 3).double(), torch.randn(5, 3, 2).double()
    sizes, steps = torch.tensor([6, 1, 4]), torch.tensor([2, 5, 3])
    start = attending.attend(values, sizes)
    outputs, state = layer(x, batched(start), lengths=steps)
    weights = attending.weights(outputs, start)
    for b, (n, t) in enumerate(zip(sizes.tolist(), steps.tolist(), strict=True)):
        own = attending.attend(values[b : b + 1, :n])
        alone, end = layer(x[:t, b : b + 1], batched(own))
        torch.testing.assert_close(outputs[:t, b : b + 1], alone)
        torch.testing.assert_close(state.inner.h[:, b : b + 1], end.inner.h)
        torch.testing.assert_close(weights[:t, b : b + 1, :n], attending.weights(alone, own))
        assert (weights[:, b, n:] == 0).all()


def test_the_weights_are_those_that_made_the_contexts() -> None:
    cell = AttentionCell(GRUCell(2 + 3, 4), AdditiveAttention(4, 3, 5, coverage=True))
    start = cell.attend(torch.randn(2, 7, 3), torch.tensor([7, 3]))
    outputs, state = tt.Recurrent(cell)(torch.randn(4, 2, 2), batched(start))
    weights = cell.weights(outputs, start)
    torch.testing.assert_close(
        torch.einsum("tbs,bsm->tbm", weights, start.values), outputs[..., 4:]
    )
    torch.testing.assert_close(state.covered[0], weights.sum(0))


def test_a_run_goes_on_from_its_state_and_a_reset_forgets_the_memory() -> None:
    cell = AttentionCell(GRUCell(2 + 3, 4), DotAttention(4, 3)).double()
    layer = tt.Recurrent(cell)
    start, x = batched(cell.attend(torch.randn(2, 7, 3).double())), torch.randn(6, 2, 2).double()
    whole, _ = layer(x, start)
    first, between = layer(x[:2], start)
    second, _ = layer(x[2:], between)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[3, 1] = True
    torch.testing.assert_close(layer(x, start, reset=reset)[0][3:, 1], layer(x[3:])[0][:, 1])


def test_a_state_whose_memory_does_not_fit_is_refused() -> None:
    cell = AttentionCell(GRUCell(2 + 3, 4), DotAttention(4, 3))
    layer, x = tt.Recurrent(cell), torch.ones(1, 2, 2)
    start = batched(cell.attend(torch.ones(2, 7, 3)))
    for field, shape in (("keys", (1, 2, 6, 4)), ("mask", (1, 2, 1)), ("values", (1, 2, 7, 4))):
        with pytest.raises(tt.errors.StateError, match=f"hx.{field}: got shape"):
            layer(x, start._replace(**{field: torch.ones(shape)}))


def test_no_engine_takes_the_memory_of_one_call_for_that_of_all() -> None:
    cell = AttentionCell(GRUCell(2 + 3, 4), DotAttention(4, 3))
    layer = tt.Recurrent(cell)
    assert "its state has fields of a size that each call decides" in str(layer.explain())
    for source in (1, 2, 5):
        start = batched(cell.attend(torch.randn(2, source, 3)))
        for steps in (1, 3):
            x = torch.randn(steps, 2, 2)
            expected = tt.Recurrent(cell, engine="eager")(x, start)[0]
            with torch.no_grad():
                torch.testing.assert_close(layer(x, start)[0], expected)


def test_second_parameters_survive_a_copy_of_the_layer() -> None:
    cell = AttentionCell(GRUCell(2 + 3, 4), AdditiveAttention(4, 3, 5))
    layer = tt.Recurrent(cell)
    again = tt.Recurrent(AttentionCell(GRUCell(2 + 3, 4), AdditiveAttention(4, 3, 5)))
    again.load_state_dict(layer.state_dict())
    x, start = torch.randn(3, 2, 2), batched(cell.attend(torch.randn(2, 5, 3)))
    assert torch.equal(layer(x, start)[0], again(x, start)[0])
