"""The ways of learning of 1993 and 1994: against their formulas, and on a bit that is stored."""

import itertools

import pytest
import torch
from cells.library import CELLS
from learning.test_learners import BATCH, HIDDEN, WIDTH, chunk_of, learnt, model_of, squared
from torch import Tensor, nn

import throughtime as tt
from throughtime.cells import ThresholdCell
from throughtime.core.cell import bind
from throughtime.core.errors import ConfigurationError, LearnerRefusalError
from throughtime.core.state import map_state
from throughtime.learning import BPTT, Chunk, StepwiseModel
from throughtime.learning.curvature import PseudoNewton
from throughtime.learning.learner import Learner
from throughtime.learning.target_propagation import (
    DiscreteErrorPropagation,
    TargetPropagation,
)

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


def by_copies(model: StepwiseModel, chunk: Chunk, copies: list[dict[str, Tensor]]) -> Tensor:
    """The cost where each step has weights of its own."""
    batch = chunk.inputs.shape[1]
    cost, state = torch.zeros((), dtype=torch.float64), None
    for t, weights in enumerate(copies):
        own = bind(model, weights)
        fresh = own.cell.initial_state(batch, dtype=torch.float64, device=torch.device("cpu"))
        starts = torch.ones_like(chunk.resets[t]) if t == 0 else chunk.resets[t]
        state = map_state(
            lambda f, s, r=starts: torch.where(r[:, None], f, s), fresh, state or fresh
        )
        output, state = own.cell.step(own.cell.project(chunk.inputs[t]), state)
        losses = squared(own.readout(output), chunk.targets[t])
        cost = cost + (chunk.weights[t] * losses).sum() / batch
    return cost


@pytest.mark.parametrize("make", [tt.cells.ElmanCell, tt.cells.LSTMCell], ids=["tanh", "lstm"])
def test_curvatures_are_second_differences_in_the_weights_of_one_step(make) -> None:
    model, chunk = model_of(make(WIDTH, 2)), chunk_of(3)
    learner = PseudoNewton(mu=0.3, at_once=7)
    state = learner.init(model, BATCH)
    found = learner.instances(model, state, chunk)
    copies = [
        {name: p.detach().clone() for name, p in model.named_parameters()}
        for _ in range(len(chunk))
    ]
    middle = by_copies(model, chunk, copies)
    torch.testing.assert_close(found.cost, middle)
    step = 1e-4
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for name, total in expected.items():
        for t, copy in enumerate(copies):
            for i, kept in enumerate(copy[name].flatten().tolist()):
                values = []
                for moved in (kept + step, kept - step):
                    copy[name].view(-1)[i] = moved
                    values.append(by_copies(model, chunk, copies))
                copy[name].view(-1)[i] = kept
                slope = (values[0] - values[1]) / (2 * step)
                curvature = (values[0] - 2 * middle + values[1]) / step**2
                where = (found.slope[name][t].flatten()[i], found.curvature[name][t].flatten()[i])
                torch.testing.assert_close(where[0], slope, rtol=1e-6, atol=1e-7)
                torch.testing.assert_close(where[1], curvature, rtol=1e-5, atol=1e-6)
                total.view(-1)[i] += slope / (curvature.abs() + 0.3)
    loss, gradients, _ = learner.update(model, state, chunk)
    torch.testing.assert_close(loss, middle)
    for name, total in expected.items():
        torch.testing.assert_close(gradients[name], total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["UnitaryCell", "skip RNN", "RecurrentDropoutGRUCell"])
def test_where_mu_is_large_the_pseudo_newton_step_is_the_gradients(name: str) -> None:
    model, chunk = model_of(CELLS[name](WIDTH, HIDDEN)), chunk_of(4)
    assert_scaled(learnt(PseudoNewton(1e9), model, chunk), learnt(BPTT(), model, chunk))


def test_the_size_of_outputs_counts_at_every_step() -> None:
    """Whatever the weights of the losses."""
    model, chunk = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN)), chunk_of(4)
    model.sparsity = 0.3
    expected = BPTT().update(model, BPTT().init(model, BATCH), chunk)
    learner = PseudoNewton(1.0)
    found = learner.instances(model, learner.init(model, BATCH), chunk)
    torch.testing.assert_close(found.cost, expected.loss)
    for name, slope in found.slope.items():
        torch.testing.assert_close(slope.sum(0), expected.gradients[name])


def test_an_unasked_target_may_be_anything() -> None:
    chunk = chunk_of(6)
    weights = torch.zeros_like(chunk.weights)
    weights[-1] = 1
    odd = chunk.targets.clone()
    odd[4] = torch.nan
    for cell, learner in (
        (tt.cells.FlipFlopCell(WIDTH, HIDDEN), TargetPropagation()),
        (ThresholdCell(WIDTH, HIDDEN), DiscreteErrorPropagation()),
    ):
        model = model_of(cell)
        found, expected = (
            learner.update(
                model, learner.init(model, BATCH), Chunk(chunk.inputs, targets, None, weights)
            )
            for targets in (odd, chunk.targets)
        )
        for name, gradient in expected.gradients.items():
            assert torch.equal(found.gradients[name], gradient)


def test_shared_and_frozen_weights_have_their_instances_too() -> None:
    model, chunk = model_of(tt.cells.ElmanCell(WIDTH, WIDTH)), chunk_of(3)
    model.readout.weight = model.cell.weight_hh
    model.cell.weight_ih.requires_grad_(False)
    learner = PseudoNewton(1e9)
    found = learner.update(model, learner.init(model, BATCH), chunk)
    expected = BPTT().update(model, BPTT().init(model, BATCH), chunk)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(1e9 * found.gradients[name], gradient, rtol=1e-6, atol=1e-8)


def assert_scaled(found, expected) -> None:
    torch.testing.assert_close(found[0], expected[0])
    for name, gradient in expected[1].items():
        torch.testing.assert_close(1e9 * found[1][name], gradient, rtol=1e-6, atol=1e-7)


def asked_by_loss(model: StepwiseModel, h: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Of one state by one loss."""
    h = h.detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.losses(h[None], target[None])[0], h)
    return -weight * slope / slope.abs().max()


def walked(model: StepwiseModel, chunk: Chunk, start: Tensor, b: int):
    """Of one sequence: a_t, h_{t-1}, h_t and what each loss asks, step by step."""
    cell, h = model.cell, start[b]
    a, before, after, asked = [], [], [], []
    with torch.no_grad():
        for t in range(len(chunk)):
            before.append(torch.zeros_like(h) if chunk.resets[t, b] else h)
            a.append(
                cell.weight_ih @ chunk.inputs[t, b]
                + cell.bias_ih
                + cell.bias_hh
                + cell.weight_hh @ before[-1]
            )
            state = cell.initial_state(1, dtype=h.dtype, device=h.device)
            x = cell.project(chunk.inputs[t, b : b + 1])
            h = cell.step(x, state._replace(h=before[-1][None]))[0][0]
            after.append(h)
    for t, h in enumerate(after):
        asked.append(asked_by_loss(model, h, chunk.targets[t, b], chunk.weights[t, b]))
    return a, before, after, asked


def assert_perceptron(model, chunk, found, terms) -> None:
    """The cell's gradients are minus the sums of change times what it is the change of."""
    expected = {name: torch.zeros_like(p) for name, p in model.cell.named_parameters()}
    for t, b, change, before in terms:
        expected["weight_ih"] -= torch.outer(change, chunk.inputs[t, b]) / BATCH
        expected["weight_hh"] -= torch.outer(change, before) / BATCH
        expected["bias_ih"] -= change / BATCH
        expected["bias_hh"] -= change / BATCH
    for name, gradient in expected.items():
        torch.testing.assert_close(found.gradients[f"cell.{name}"], gradient, msg=name)
    assert found.gradients["cell.weight_ih"].abs().max() > 0.1


def two_chunks(learner: Learner, model: StepwiseModel):
    """A chunk in the middle of a stream, the state before it, and what it teaches."""
    model.cell.weight_ih.data *= 2
    first, chunk = chunk_of(5), chunk_of(12)
    state = learner.update(model, learner.init(model, BATCH, seed=5), first).state
    return chunk, state, learner.update(model, state, chunk)


def test_targets_go_back_by_the_shares_of_blame() -> None:
    model = model_of(tt.cells.FlipFlopCell(WIDTH, 3))
    chunk, state, found = two_chunks(TargetPropagation(), model)
    matrix, terms = model.cell.weight_hh.detach(), []
    for b in range(BATCH):
        a, before, after, asked = walked(model, chunk, state.cell.h, b)
        fresh = [t == 0 or bool(chunk.resets[t, b]) for t in range(len(chunk))]
        shares, changes = torch.zeros(len(chunk), 3), torch.zeros(len(chunk), 3)
        shares, changes = shares.double(), changes.double()
        wanted_before = [h.clone() for h in before]
        for t in reversed(range(len(chunk))):
            for i in range(3):
                held, at = [], t  # the steps that held without a break, up to t
                while abs(a[at][i]) < 1:
                    held.append(at)
                    if fresh[at]:
                        break
                    at -= 1
                was_set = abs(a[at][i]) >= 1
                for k in held:
                    shares[k, i] += asked[t][i] * (0.5 if was_set else 1.0) / len(held)
                if was_set:
                    shares[at, i] += asked[t][i] * (0.5 if held else 1.0)
                if shares[t, i] * after[t][i] < 0:
                    changes[t, i] = shares[t, i]
                    if t + 1 < len(chunk) and not fresh[t + 1]:
                        wanted_before[t + 1][i] = -after[t][i]
            if not fresh[t]:
                for i, j in itertools.product(range(3), range(3)):
                    part = matrix[j, i] / matrix[j].abs().sum()
                    asked[t - 1][i] += changes[t, j] * part
        terms += [(t, b, changes[t], wanted_before[t]) for t in range(len(chunk))]
    assert_perceptron(model, chunk, found, terms)
    same_forward(model, chunk, state, found)


def same_forward(model, chunk, state, found) -> None:
    """Loss, state and the read-out's gradients are those of backpropagation."""
    expected = BPTT().update(model, state._replace(memory=()), chunk)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.state.cell.h, expected.state.cell.h)
    for name in ("readout.weight", "readout.bias"):
        torch.testing.assert_close(found.gradients[name], expected.gradients[name])


def test_errors_go_back_one_by_one() -> None:
    model, learner = model_of(ThresholdCell(WIDTH, 3)), DiscreteErrorPropagation()
    chunk, state, found = two_chunks(learner, model)
    generator = torch.Generator()
    generator.set_state(state.random)
    chances = [torch.rand(3, BATCH, 3, generator=generator).double() for _ in range(len(chunk))]
    assert torch.equal(found.state.random, generator.get_state())
    matrix, terms, passed = model.cell.weight_hh.detach(), [], 0
    for b in range(BATCH):
        a, before, after, asked = walked(model, chunk, state.cell.h, b)
        for t in reversed(range(len(chunk))):
            change, (error_by, pass_by, choose_by) = torch.zeros(3).double(), chances[t][:, b]
            for j in range(3):
                d = asked[t][j]
                if d * after[t][j] >= 0 or error_by[j] >= abs(d):
                    continue
                e = d.sign()
                first = t == 0 or bool(chunk.resets[t, b])
                # a unit before helps where it now works against what is wanted
                against = {
                    i: 2 * abs(matrix[j, i])
                    for i in range(3)
                    if not first and matrix[j, i] * before[t][i] * e < 0
                }
                if pass_by[j] * abs(a[t][j]) >= sum(against.values()):
                    change[j] = e
                    continue
                passed += 1
                left = choose_by[j] * sum(against.values())
                for i, help_of_i in against.items():
                    left -= help_of_i
                    if left < 0:
                        asked[t - 1][i] -= before[t][i]
                        break
            terms.append((t, b, change, before[t]))
    assert passed > 3
    assert_perceptron(model, chunk, found, terms)
    same_forward(model, chunk, state, found)


def epochs_to_store(cell: tt.Cell, learner: Learner, rate: float, seed: int) -> int | None:
    """After how many updates, of 40, five batches running have the bit of 40 steps ago right.

    Its sign is the first input; then there is uniform noise of half its size.
    """
    model = StepwiseModel(cell, nn.Identity(), squared)
    random = torch.Generator().manual_seed(seed)
    time, batch, right = 40, 20, 0
    weights = torch.zeros(time, batch)
    weights[-1] = 1
    carried = learner.init(model, batch, seed).random
    for epoch in range(40):
        bits = torch.randint(2, (batch,), generator=random) * 2.0 - 1
        inputs = torch.rand(time, batch, 1, generator=random) - 0.5
        inputs[0, :, 0] = bits
        chunk = Chunk(inputs, bits[None, :, None].expand(time, batch, 1), None, weights)
        state = learner.init(model, batch)._replace(random=carried)
        loss, gradients, after = learner.update(model, state, chunk)
        carried = after.random
        right = right + 1 if loss < 0.2 else 0
        if right == 5:
            return epoch
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= rate * gradients[name]
    return None


@pytest.mark.parametrize(
    ("make", "learner", "rate"),
    [
        (tt.cells.FlipFlopCell, TargetPropagation(), 0.5),
        (ThresholdCell, DiscreteErrorPropagation(), 0.5),
        (tt.cells.ElmanCell, BPTT(), 3.0),  # the best of 0.1, 0.3, 1 and 3
    ],
    ids=["targets", "errors", "gradients"],
)
def test_a_bit_is_stored_over_more_steps_than_by_gradients(unchecked, make, learner, rate) -> None:
    found = []
    for seed in range(6):
        torch.manual_seed(seed)
        found.append(epochs_to_store(make(1, 1), learner, rate, seed))
    print("FOUND", found)
    solved = sum(epochs is not None for epochs in found)
    if make is tt.cells.ElmanCell:
        assert solved <= 3, found
    else:
        assert solved == 6, found


def test_other_cells_and_bad_numbers_are_refused() -> None:
    elman = model_of(tt.cells.ElmanCell(WIDTH, HIDDEN))
    late = model_of(tt.cells.FlipFlopCell(WIDTH, HIDDEN, lags=(1, 2)))
    for model in (elman, late, model_of(ThresholdCell(WIDTH, HIDDEN))):
        with pytest.raises(LearnerRefusalError, match=r"FlipFlopCell of lag 1.*BPTT\(\)"):
            TargetPropagation().init(model, BATCH)
    for model in (elman, late):
        with pytest.raises(LearnerRefusalError, match=r"ThresholdCell of lag 1.*BPTT\(\)"):
            DiscreteErrorPropagation().init(model, BATCH)
    with pytest.raises(ConfigurationError, match="mu: got 0"):
        PseudoNewton(0.0)
    with pytest.raises(ConfigurationError, match="at_once"):
        PseudoNewton(1.0, at_once=0)
