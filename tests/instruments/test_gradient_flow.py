import contextlib

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime import errors
from throughtime.instruments import gradient_flow


def test_one_linear_unit_is_a_power_of_its_weight():
    """h_t = w h_{t-1} + x_t and L = h_T give dL/dh_t = w^(T-t)."""
    model = tt.RNN(1, 1, nonlinearity="identity", bias=False, dtype=torch.float64)
    x = torch.randn(50, 1, 1, dtype=torch.float64)
    for w in (0.9, 1.1):
        with torch.no_grad():
            model.weight_hh_l0.fill_(w)
        flow = gradient_flow(model, lambda: model(x)[0][-1].sum())
        lags = torch.arange(50, dtype=torch.float64)
        torch.testing.assert_close(flow.norm_by_lag, w**lags)
        with torch.no_grad():
            h = model(x)[0].flatten()
        # dL/dw through step t alone: w^(T-t) h_{t-1}
        expected = w ** lags.flip(0)[1:] * h[:-1].abs()
        torch.testing.assert_close(flow.contribution[1:], expected)
        assert flow.contribution[0] == 0
    assert gradient_flow(model, lambda: model(x)[0][-1].sum()).reach() == 49


def unrolled(layer, x, loss):
    """Total derivatives by an independent loop over torch's own single-step call."""
    state, states, outputs = None, [], []
    for x_t in x:
        _, state = layer(x_t[None], state)
        if isinstance(state, tuple):
            h = state[0].clone()
            state = (h, state[1])
        else:
            h = state = state.clone()
        states.append(h)
        outputs.append(h[-1])
    return torch.autograd.grad(loss(torch.stack(outputs)), states)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_equals_autograd_on_an_unrolled_model(kind):
    layer = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    weights = torch.randn(9, 4, 5, dtype=torch.float64)

    def loss(outputs):
        return (outputs * weights).sum()

    flow = gradient_flow(layer, lambda: loss(layer(x)[0]))
    expected = unrolled(layer, x, loss)
    torch.testing.assert_close(flow.norm, torch.stack([g.norm() for g in expected]))
    torch.testing.assert_close(
        flow.per_unit, torch.stack([g[0].square().sum(0).sqrt() for g in expected])
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_contributions_are_what_each_step_adds_to_the_gradient(kind):
    """A loop in which each step has a copy of the weights of its own."""
    layer = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    flow = gradient_flow(layer, lambda: layer(x)[0][-1].square().sum())
    copies, state = [], None
    for x_t in x:
        own = {n: p.detach().clone().requires_grad_() for n, p in layer.named_parameters()}
        copies.append(own["weight_hh_l0"])
        output, state = torch.func.functional_call(layer, own, (x_t[None], state))
    loss = output[0].square().sum()
    for t, weight in enumerate(copies):
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        torch.testing.assert_close(flow.contribution[t], gradient.norm())


class Model(nn.Module):
    def __init__(self, packed):
        super().__init__()
        self.before = nn.BatchNorm1d(3)
        self.recurrent = nn.LSTM(3, 5, 2, dropout=0.3, bidirectional=True, batch_first=True)
        self.after = nn.Sequential(nn.Dropout(0.5), nn.Linear(10, 2))
        self.packed = packed

    def forward(self, x):
        x = self.before(x.transpose(1, 2)).transpose(1, 2)
        if self.packed:
            x = pack_padded_sequence(x, torch.tensor([4, 8, 1]), True, enforce_sorted=False)
        _, (h, _) = self.recurrent(x)
        return self.after(torch.cat([h[-2], h[-1]], -1))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_changed(packed, training):
    model = Model(packed).train(training)
    x = torch.randn(3, 8, 3)
    model(x).sum().backward()
    model.recurrent.weight_hh_l0.requires_grad_(False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    identities = {n: id(p) for n, p in model.named_parameters()}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    attributes = {n: dict(m.__dict__) for n, m in model.named_modules()}
    random = torch.get_rng_state()
    for call in (lambda: model(x).sum(), lambda: model(x)):
        with contextlib.suppress(errors.ConfigurationError):  # the second loss is no scalar
            gradient_flow(model, call)
        assert torch.equal(torch.get_rng_state(), random)
        assert {n: id(p) for n, p in model.named_parameters()} == identities
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter.grad, gradients[name])
            assert parameter.requires_grad == (name != "recurrent.weight_hh_l0")
        for name, module in model.named_modules():
            assert module.__dict__ == attributes[name]
            assert module.training == training


def test_the_replica_computes_what_the_layer_computes():
    model = Model(True).eval()
    x = torch.randn(3, 8, 3)
    seen = []

    def loss():
        seen.append(model(x))
        return seen[-1].sum()

    gradient_flow(model, loss)
    torch.testing.assert_close(seen[0], model(x), rtol=1e-5, atol=1e-6)


def test_padding_has_no_gradient():
    model = Model(True).eval()
    x = torch.randn(3, 8, 3)
    flow = gradient_flow(model, lambda: model(x)[2].sum())
    assert flow.norm[0] > 0  # the third sequence has one step
    assert not flow.norm[1:].any()


def test_levels_and_names():
    model = nn.ModuleDict({"a": nn.GRU(3, 4, 2), "b": tt.RNN(4, 4)})
    x = torch.randn(6, 2, 3)

    def loss():
        return model["b"](model["a"](x)[0])[0][-1].sum()

    with pytest.raises(errors.ConfigurationError, match="2 recurrent layers: a, b"):
        gradient_flow(model, loss)
    with pytest.raises(errors.UnknownNameError, match="unknown recurrent layer"):
        gradient_flow(model, loss, layer="c")
    with pytest.raises(errors.ConfigurationError, match="level: got 2"):
        gradient_flow(model, loss, layer="a", level=2)
    bottom, top = (gradient_flow(model, loss, layer="a", level=k) for k in (0, 1))
    assert (bottom.level, top.level, top.layer) == (0, 1, "a")
    assert not torch.equal(bottom.norm, top.norm)


def test_bad_losses():
    model, x = nn.GRU(3, 4), torch.randn(6, 2, 3)
    cases = [
        (lambda: model(x)[0], "expected a scalar tensor"),
        (lambda: 1.0, "got float"),
        (lambda: torch.zeros((), requires_grad=True), "does not run the recurrent layer"),
        (lambda: model(x)[0].detach().sum(), "without gradient"),
        (lambda: (model(x)[0].detach() * model.bias_ih_l0[0]).sum(), "do not reach"),
        (lambda: model(x)[0].sum() + model(x[:, :1])[0].sum(), "other numbers of sequences"),
    ]
    for loss, words in cases:
        with pytest.raises(errors.ConfigurationError, match=words):
            gradient_flow(model, loss)
    with pytest.raises(errors.ConfigurationError, match="0 recurrent layers"):
        gradient_flow(nn.Linear(2, 2), lambda: torch.zeros(()))


def test_reach_counts_the_steps_that_matter():
    model = tt.RNN(1, 1, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.fill_(0.5)
    x = torch.randn(20, 1, 1, dtype=torch.float64)
    flow = gradient_flow(model, lambda: model(x)[0][-1].sum())
    assert flow.reach(0.01) == 6  # 0.5^6 = 0.0156, 0.5^7 = 0.0078
    assert flow.reach(0.5) == 1


def test_a_tiny_gradient_does_not_underflow_and_an_infinite_one_reaches():
    model = tt.RNN(1, 5, nonlinearity="identity", bias=False)
    with torch.no_grad():
        model.weight_hh_l0.copy_(0.1 * torch.eye(5))
    flow = gradient_flow(model, lambda: model(torch.ones(40, 1, 1))[0][-1].sum())
    assert flow.norm.dtype == torch.float64
    assert float(flow.norm_by_lag[30]) == pytest.approx(5**0.5 * 1e-30, rel=1e-3)
    with torch.no_grad():
        model.weight_hh_l0.copy_(1e4 * torch.eye(5))
    flow = gradient_flow(model, lambda: model(torch.zeros(40, 1, 1))[0][-1].sum())
    assert flow.reach() == 39


def test_frozen_layers_are_measured_as_if_they_were_not():
    model = nn.ModuleDict({"r": nn.LSTM(3, 4), "o": nn.Linear(4, 1)})
    x = torch.randn(6, 2, 3)

    def loss():
        return model["o"](model["r"](x)[0][-1]).sum()

    expected = gradient_flow(model, loss)
    model["r"].requires_grad_(False)
    frozen = gradient_flow(model, loss)
    torch.testing.assert_close(frozen.norm, expected.norm)
    torch.testing.assert_close(frozen.contribution, expected.contribution)
    assert not any(p.requires_grad for p in model["r"].parameters())


def test_hooks_that_recompute_weights_run_before_they_are_read():
    model = nn.LSTM(3, 4)
    prune.l1_unstructured(model, "weight_hh_l0", 0.3)
    x, seen = torch.randn(6, 2, 3), []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)

    def loss():
        seen.append(model(x)[0])
        return seen[-1][-1].sum()

    gradient_flow(model, loss)
    torch.testing.assert_close(seen[0], model(x)[0])


def test_a_forward_that_is_not_torch_s_is_refused():
    class Scaled(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(x * 100, hx)

    patched = nn.LSTM(3, 4)
    patched.forward = lambda x: nn.LSTM.forward(patched, x)
    for model in (Scaled(3, 4), patched):
        with pytest.raises(errors.ConfigurationError, match="a forward of its own"):
            gradient_flow(model, lambda model=model: model(torch.zeros(5, 1, 3))[0].sum())
    assert "forward" in patched.__dict__


def test_what_the_loss_does_to_the_model_is_undone():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.GRU(3, 4)
            self.register_buffer("h", torch.zeros(1, 2, 4))

        def forward(self, x):
            y, h = self.r(x, self.h)
            self.h = h.detach()
            return y

    model, x = Remembering(), torch.randn(5, 2, 3)
    held = model.h

    def loss():
        model.eval()
        return model(x).sum()

    gradient_flow(model, loss)
    assert model.training
    assert model.h is held
    assert not model.h.any()

    def backward():
        value = model(x).sum()
        value.backward()
        return value

    with pytest.raises(errors.ConfigurationError, match="must not call backward"):
        gradient_flow(model, backward)
    assert all(p.grad is None for p in model.parameters())
