"""The regulariser against its own formula, and the gradient that is cut as in 1997."""

import pytest
import torch
from cells.library import CELLS
from learning.test_learners import BATCH, HIDDEN, TIME, WIDTH, chunk_of, learnt, model_of
from torch import Tensor, nn

from throughtime.cells import ElmanCell, GRUCell, LSTM1997Cell, LSTMCell, UnitaryCell
from throughtime.core.cell import advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import Layout, map_state, restarted, state_tensors
from throughtime.learning import BPTT, Chunk, GradientPropagation, StepwiseModel
from throughtime.learning.learner import draw
from throughtime.learning.propagation import adjoints


def naive(model: StepwiseModel, chunk: Chunk, form: str) -> tuple[float, dict[str, Tensor]]:
    """Omega by loops over steps and sequences, and its gradient by finite differences in W."""
    cell = model.cell
    fresh = cell.initial_state(1, dtype=torch.float64, device=torch.device("cpu"))
    terms = []  # (v, function of s_k, s_k) for each link of each sequence
    for b in range(BATCH):
        state, total = fresh, torch.zeros((), dtype=torch.float64)
        links = []
        for t in range(len(chunk)):
            first = t == 0 or bool(chunk.resets[t, b])
            before = fresh if first else state
            x = cell.project(chunk.inputs[t, b : b + 1])
            output, state = cell.step(x, before)
            # what reads the state reads a copy: h_t is not c_t's way to the loss
            state = map_state(torch.clone, state)
            output = state.h
            loss = model.losses(output, chunk.targets[t, b : b + 1])[0]
            total = total + chunk.weights[t, b] * loss
            if not first:
                links.append((state, t, before))
        for after, t, before in links:
            v = torch.autograd.grad(
                total, list(after), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            terms.append((v, t, b, map_state(torch.Tensor.detach, before)))

    def omega() -> float:
        found = []
        for v, t, b, s in terms:
            s = map_state(lambda a: a.detach().requires_grad_(), s)
            _, after = cell.step(cell.project(chunk.inputs[t, b : b + 1]), s)
            u = torch.autograd.grad(
                list(after), list(s), list(v), allow_unused=True, materialize_grads=True
            )
            above, below = (float(torch.cat(list(p), 1).norm()) for p in (u, v))
            if below**2 > (1e-20 if form == "code" else 0):
                ratio = (above / below) ** (2 if form == "code" else 1)
                found.append((ratio - 1) ** 2)
        return sum(found) / BATCH / (len(found) if form == "code" else 1)

    value, gradients = omega(), {}
    for name, weight in model.named_parameters():
        if ".weight_hh" not in name:
            continue
        gradient = torch.zeros_like(weight)
        for index in range(weight.numel()):
            with torch.no_grad():
                kept = weight.view(-1)[index].clone()
                weight.view(-1)[index] = kept + 1e-6
                high = omega_of(omega)
                weight.view(-1)[index] = kept - 1e-6
                low = omega_of(omega)
                weight.view(-1)[index] = kept
            gradient.view(-1)[index] = (high - low) / 2e-6
        gradients[name] = gradient
    return value, gradients


def omega_of(function) -> float:
    with torch.enable_grad():
        return function()


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize("make", [ElmanCell, LSTMCell], ids=["tanh", "lstm"])
def test_omega_and_its_gradient_are_those_of_the_formula(make, form: str) -> None:
    model, chunk = model_of(make(WIDTH, 3)), chunk_of(5)
    learner = GradientPropagation(1.0, form)
    value, gradients = learner.penalty(model, learner.init(model, BATCH), chunk)
    expected, by_differences = naive(model, chunk, form)
    torch.testing.assert_close(float(value), expected, rtol=1e-9, atol=1e-12)
    assert set(gradients) == set(by_differences)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, by_differences[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", list(CELLS))
def test_what_goes_back_to_a_state_is_the_slope_of_the_loss_by_it(name) -> None:
    """v_k against moving s_k itself and running on from there."""
    model, chunk = model_of(CELLS[name](WIDTH, 4)), chunk_of()
    cell = model.cell
    start = cell.initial_state(BATCH, dtype=torch.float64, device=torch.device("cpu"))
    streams = draw(model, start, chunk.resets, torch.Generator().manual_seed(0))
    before, v = adjoints(model, start, chunk, chunk.resets, streams)
    states = map_state(lambda s: s.unflatten(0, (TIME, BATCH)), before)
    fresh = cell.initial_state(BATCH, dtype=torch.float64, device=torch.device("cpu"))

    def step(state, t: int):
        """The state after, the loss, and the step's output."""
        x = cell.project(chunk.inputs[t])
        output, after = advance(cell, x, state, tuple(stream[t] for stream in streams))
        loss = chunk.weights[t] * model.losses(output, chunk.targets[t])
        return after, loss.sum(), output

    v = v.unflatten(0, (TIME, BATCH))
    for t in range(1, TIME):
        linked = ~chunk.resets[t]
        now, layout = map_state(lambda s, t=t: s[t], states), Layout(start)
        s = layout.flatten(now).requires_grad_()
        state, later = layout.unflatten(s, layout.whole(now)), 0.0
        for k in range(t, TIME):
            state = restarted(chunk.resets[k], fresh, state) if k > t else state
            state, loss, _ = step(state, k)
            later = later + loss
        (expected,) = torch.autograd.grad(later, s)
        # and step t-1's own loss, by its output as the last part of the state that is it
        after, loss, output = step(map_state(lambda s, t=t: s[t - 1], states), t - 1)
        parts = [part for part in state_tensors(after) if part.is_floating_point()]
        if any(part is output for part in parts):
            (slope,) = torch.autograd.grad(loss, output)
            place = max(i for i, part in enumerate(parts) if part is output)
            start_of = sum(part.shape[1] for part in parts[:place])
            expected[:, start_of : start_of + slope.shape[1]] += slope
        torch.testing.assert_close(v[t - 1][linked], expected[linked], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_an_orthogonal_linear_network_has_no_penalty(form: str) -> None:
    cell = ElmanCell(WIDTH, HIDDEN, nonlinearity="identity")
    nn.init.orthogonal_(cell.weight_hh)
    model = StepwiseModel(cell, nn.Linear(HIDDEN, 2), model_of(cell).loss).double()
    nn.init.orthogonal_(cell.weight_hh)
    weights = torch.zeros(TIME, BATCH, dtype=torch.float64)
    weights[-1] = 1.0  # one loss, at the end
    chunk = Chunk(chunk_of().inputs, chunk_of().targets, None, weights)
    learner = GradientPropagation(1.0, form)
    value, gradients = learner.penalty(model, learner.init(model, BATCH), chunk)
    assert float(value) < 1e-20
    assert float(gradients["cell.weight_hh"].abs().max()) < 1e-9


@pytest.mark.parametrize("nonlinearity", ["tanh", "identity"])
def test_frozen_recurrent_weights_have_no_penalty_and_pass_none_to_others(nonlinearity) -> None:
    cell = ElmanCell(WIDTH, HIDDEN, nonlinearity=nonlinearity)
    model, chunk = model_of(cell), chunk_of()
    model.cell.weight_hh.requires_grad_(False)
    expected = learnt(BPTT(), model, chunk)[1]
    found = learnt(GradientPropagation(3.0), model, chunk)[1]
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_it_is_added_to_the_gradient_and_changes_nothing_else() -> None:
    model, chunk = model_of(GRUCell(WIDTH, HIDDEN)), chunk_of()
    plain = learnt(BPTT(), model, chunk)
    learner = GradientPropagation(0.5)
    found = learnt(learner, model, chunk)
    _, gradients = learner.penalty(model, learner.init(model, BATCH, seed=3), chunk)
    torch.testing.assert_close(found[0], plain[0])
    for name, gradient in plain[1].items():
        torch.testing.assert_close(found[1][name], gradient + 0.5 * gradients.get(name, 0.0))
    one = chunk.part(0, 1)  # no link, no term
    assert float(learner.penalty(model, learner.init(model, BATCH), one)[0]) == 0
    # no parameter is called a recurrent weight: all of the cell's
    unitary = model_of(UnitaryCell(WIDTH, HIDDEN))
    _, gradients = learner.penalty(unitary, learner.init(unitary, BATCH), chunk)
    assert all(name.startswith("cell.") for name in gradients)
    with pytest.raises(ConfigurationError, match="at least 0"):
        GradientPropagation(-1.0)


def test_in_1997_errors_go_back_through_memories_alone() -> None:
    """By the recursion of the paper: dc_t/dW = dc_{t-1}/dW + what W does at t, h a constant."""
    model = model_of(LSTM1997Cell(WIDTH, 3))
    chunk = chunk_of(6)
    chunk = Chunk(chunk.inputs, chunk.targets, None, chunk.weights)
    found = learnt(BPTT(cut=("h",)), model, chunk)[1]["cell.weight_hh"]
    weight, size = model.cell.weight_hh, 3
    total = torch.zeros_like(weight)
    for b in range(BATCH):
        h = torch.zeros(size, dtype=torch.float64)
        c, trace = torch.zeros_like(h), torch.zeros(size, 3 * size, size, dtype=torch.float64)
        for t in range(6):
            x = model.cell.project(chunk.inputs[t, b]).detach()
            if model.cell.bias_hh is not None and not model.cell.additive:
                x = x + model.cell.bias_hh.detach()
            a = (x + weight.detach() @ h).requires_grad_()
            i, g, o = a.chunk(3)
            before = c.detach().requires_grad_()
            c_new = before + i.sigmoid() * (4 * g.sigmoid() - 2)
            h_new = o.sigmoid() * (2 * c_new.sigmoid() - 1)
            loss = model.losses(h_new[None], chunk.targets[t, b][None])[0]
            by_a, by_c = torch.autograd.grad(
                chunk.weights[t, b] * loss / BATCH, [a, before], retain_graph=True
            )
            total += by_a[:, None] * h  # at this step
            total += torch.einsum("s,srk->rk", by_c, trace)  # through the memories before it
            for unit in range(size):
                (row,) = torch.autograd.grad(c_new[unit], [a], retain_graph=True)
                trace[unit] += row[:, None] * h
            h, c = h_new.detach(), c_new.detach()
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-10)
    whole = learnt(BPTT(), model, chunk)[1]["cell.weight_hh"]
    assert not torch.allclose(found, whole)
    with pytest.raises(ConfigurationError, match="fields of"):
        BPTT(cut=("memory",)).init(model, 2)
    with pytest.raises(ConfigurationError, match="eager"):
        BPTT("native", cut=("h",))
