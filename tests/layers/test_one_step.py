"""Calls of one step with gradient: equal to the eager engine in all that autograd can ask for."""

import threading

import pytest
import torch
from torch.func import functional_call

import throughtime as tt
from throughtime.engines import recording
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.layers import one_step

pytestmark = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")


@pytest.fixture
def nodes(monkeypatch) -> list[int]:
    """The number of levels of each call that ran as compiled steps with gradient."""
    found: list[int] = []
    run = one_step._with_gradient

    def counted(steps, x, given):
        found.append(len(steps))
        return run(steps, x, given)

    monkeypatch.setattr(one_step, "_with_gradient", counted)
    return found


def pair(kind, levels=1, batch_first=False):
    layers = [
        kind(5, 19, levels, dtype=torch.float64, batch_first=batch_first, engine=engine)
        for engine in ("auto", "eager")
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers


def fields(state):
    return state if isinstance(state, tuple) else (state,)


def results(layer, x, hx):
    """The results of a call with their first and second derivatives by everything."""
    y, state = layer(x, hx)
    parts = [y, *fields(state)]
    loss = sum(
        (i + 1) * (t * torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view_as(t)).sum()
        + (t**2).sum()
        for i, t in enumerate(parts)
    )
    by = [x, *layer.parameters(), *([] if hx is None else fields(hx))]
    first = torch.autograd.grad(loss, by, create_graph=True)
    second = torch.autograd.grad(
        sum((g**2).sum() for g in first), by, materialize_grads=True, allow_unused=True
    )
    return [*parts, *first, *second]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("kind", [tt.LSTM, tt.GRU, tt.RNN])
def test_values_and_two_derivatives(kind, levels, batch_first, nodes) -> None:
    ours, reference = pair(kind, levels, batch_first)
    shape = (3, 1, 5) if batch_first else (1, 3, 5)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    given = [torch.randn(levels, 3, 19, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for hx in (None, tuple(given) if kind is tt.LSTM else given[0]):
        found, expected = (results(layer, x, hx) for layer in (ours, reference))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    assert nodes == [levels] * 2


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_loss_of_one_result_alone(part, nodes) -> None:
    x = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in pair(tt.LSTM):
        y, state = layer(x)
        loss = (y, *state)[part].square().sum()
        by = [x, *layer.parameters()]
        found.append(torch.autograd.grad(loss, by, allow_unused=True, materialize_grads=True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    assert nodes == [1]


@pytest.mark.parametrize("levels", [1, 2])
def test_gradients_in_batches(levels, nodes) -> None:
    x = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in pair(tt.LSTM, levels):
        y, (h, c) = layer(x)
        above = [
            torch.eye(38, dtype=torch.float64).view(38, 1, 2, 19),
            *[torch.ones(38, *h.shape)] * 2,
        ]
        by = [x, *layer.parameters()]
        above = [a.double() for a in above]
        found.append(torch.autograd.grad([y, h, c], by, above, is_grads_batched=True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    assert nodes == [levels]


def test_results_may_be_changed_in_place_before_the_backward_pass(nodes) -> None:
    x = torch.randn(1, 2, 5, dtype=torch.float64)
    found = []
    for layer in pair(tt.GRU):
        y, h = layer(x)
        y.mul_(2)
        h.add_(1)
        found.append(torch.autograd.grad(y.square().sum() + h.square().sum(), layer.parameters()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    assert nodes == [1]


def test_weights_changed_before_the_backward_pass_are_noticed(nodes) -> None:
    layer, _ = pair(tt.GRU)
    y, _ = layer(torch.randn(1, 2, 5, dtype=torch.float64))
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()
    y, _ = layer(torch.randn(1, 2, 5, dtype=torch.float64))
    old = layer.weight_hh_l0.data
    layer.weight_hh_l0.data = torch.full_like(old, torch.nan)
    del old
    y.sum().backward()  # of the weights as they are now, as torch.nn's
    assert nodes == [1, 1]


def test_changes_of_the_layer_take_effect_at_once(nodes) -> None:
    layer, reference = pair(tt.LSTM)
    x = torch.randn(1, 2, 5, dtype=torch.float64)
    layer(x)
    changed = {n: torch.randn_like(p) for n, p in layer.named_parameters()}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(changed[name])
    reference.load_state_dict(changed)
    torch.testing.assert_close(layer(x)[0], reference(x)[0])
    layer.weight_ih_l0 = torch.nn.Parameter(-changed["weight_ih_l0"])
    reference.weight_ih_l0 = torch.nn.Parameter(-changed["weight_ih_l0"])
    torch.testing.assert_close(layer(x)[0], reference(x)[0])
    assert nodes == [1] * 3
    # the same memory with another history
    shared = {n: p.detach().requires_grad_() for n, p in layer.named_parameters()}
    y, _ = functional_call(layer, shared, (x,))
    gradients = torch.autograd.grad(y.sum(), list(shared.values()))
    expected = torch.autograd.grad(reference(x)[0].sum(), reference.parameters())
    for a, b in zip(gradients, expected, strict=True):
        torch.testing.assert_close(a, b)
    layer.engine = "eager"
    layer(x)
    layer.engine = "native"
    layer.weight_ih_l0.requires_grad_(False)
    y, _ = layer(x)
    y.sum().backward()
    assert layer.weight_ih_l0.grad is None
    assert layer.weight_hh_l0.grad is not None


def test_the_engine_is_recorded(nodes) -> None:
    layer, _ = pair(tt.GRU)
    with recording() as names:
        layer(torch.zeros(1, 1, 5, dtype=torch.float64))
    assert names == ["native"]
    assert nodes == []


def test_threads_train_one_layer_at_once() -> None:
    layer, reference = pair(tt.GRU)
    inputs = torch.randn(8, 1, 2, 5, dtype=torch.float64)
    parameters = list(reference.parameters())
    expected = [torch.autograd.grad(reference(x)[0].sum(), parameters) for x in inputs]
    wrong: list[int] = []

    def train(i: int) -> None:
        for _ in range(20):
            found = torch.autograd.grad(layer(inputs[i])[0].sum(), list(layer.parameters()))
            equal = all(map(torch.allclose, found, expected[i]))
            wrong.extend([] if equal else [i])

    threads = [threading.Thread(target=train, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
