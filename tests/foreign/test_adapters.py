"""Registered classes: in all forms equal to the layer that they are, and wrong ones found."""

import copy

import pytest
import torch
import torch.nn.utils.prune as prune
from torch import nn

from throughtime import errors
from throughtime.foreign.adapters import Steps, register
from throughtime.foreign.sites import find_recurrent
from throughtime.instruments import Dynamics, gradient_flow, record

# torch scripts its forward-mode decompositions when the first Jacobian is taken
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is dep:DeprecationWarning")


def h_of(state):
    return state[0] if isinstance(state, tuple) else state


def loop(cell, x):
    """What users write."""
    state, outputs = None, []
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(h_of(state))
    return torch.stack(outputs)


class GRUByHand(nn.Module):
    """torch's GRU, in the forms that others write."""

    def __init__(self, form="state", input_size=3, hidden_size=5):
        super().__init__()
        self.form, self.hidden_size = form, hidden_size
        self.weight_ih = nn.Parameter(0.5 * torch.randn(3 * hidden_size, input_size).double())
        self.weight_hh = nn.Parameter(0.5 * torch.randn(3 * hidden_size, hidden_size).double())
        self.bias_ih = nn.Parameter(0.5 * torch.randn(3 * hidden_size).double())
        self.bias_hh = nn.Parameter(0.5 * torch.randn(3 * hidden_size).double())

    def one(self, x, h):
        a = (x @ self.weight_ih.T + self.bias_ih).chunk(3, -1)
        b = (h @ self.weight_hh.T + self.bias_hh).chunk(3, -1)
        r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
        return (1 - z) * torch.tanh(a[2] + r * b[2]) + z * h

    def zeros(self, batch):
        return self.weight_hh.new_zeros(batch, self.hidden_size)

    def forward(self, x, state=None):
        if self.form == "state":
            return self.one(x, self.zeros(len(x)) if state is None else state)
        if self.form == "tuple":
            return (self.one(x, self.zeros(len(x)) if state is None else state[0]),)
        if self.form == "output and state":
            h = self.one(x, self.zeros(len(x)) if state is None else state)
            return h, h
        x = x.transpose(0, 1) if "batch" in self.form else x
        h = self.zeros(x.shape[1]) if state is None else state
        if "stacked" in self.form:
            h = self.zeros(x.shape[1]) if state is None else state[0]
        outputs = []
        for x_t in x:
            h = self.one(x_t, h)
            outputs.append(h)
        outputs = torch.stack(outputs, 1 if "batch" in self.form else 0)
        return outputs, h[None] if "stacked" in self.form else h


def by_hand(module):
    if module.form == "tuple":
        return Steps(module.forward, lambda batch: (module.zeros(batch),))
    if module.form in ("state", "output and state"):
        return Steps(module.forward, module.zeros, returns=module.form)
    return Steps(
        module.one,
        module.zeros,
        forward="batch first" if "batch" in module.form else "time first",
        stacked="stacked" in module.form,
    )


register(GRUByHand, by_hand)


def step_through(cell, x, form):
    state, outputs = None, []
    for x_t in x:
        given = cell(x_t, state)
        h, state = given if form == "output and state" else (h_of(given), given)
        outputs.append(h)
    return torch.stack(outputs)


FORMS = ["state", "tuple", "output and state", "time first", "batch first", "time first stacked"]


@pytest.mark.parametrize("form", FORMS)
def test_a_registered_class_equals_the_layer_that_it_is(form):
    model, layer = nn.ModuleDict({"r": GRUByHand(form)}), nn.GRU(3, 5, dtype=torch.float64)
    layer.load_state_dict({f"{n}_l0": p for n, p in model["r"].named_parameters()})
    x = torch.randn(7, 2, 3, dtype=torch.float64)

    def run():
        if "first" not in form:
            return step_through(model["r"], x, form)
        if form == "batch first":
            return model["r"](x.transpose(0, 1))[0].transpose(0, 1)
        outputs, state = model["r"](x[:4])
        return torch.cat([outputs, model["r"](x[4:], state=state)[0]])

    torch.testing.assert_close(run(), layer(x)[0])
    flow = gradient_flow(model, lambda: run()[[2, 6]].square().sum())
    theirs = gradient_flow(layer, lambda: layer(x)[0][[2, 6]].square().sum())
    torch.testing.assert_close(flow.norm, theirs.norm)
    torch.testing.assert_close(flow.answer, theirs.answer, rtol=1e-7, atol=1e-12)
    assert flow.answer.any(1).nonzero().flatten().tolist() == [2, 6]
    assert set(flow.links[1:]) <= {"connected"}
    assert flow.layer == "r"
    ours, theirs = record(model, lambda: run().sum()), record(layer, lambda: layer(x)[0].sum())
    torch.testing.assert_close(ours.states.h, theirs.states.h)
    torch.testing.assert_close(ours.outputs, theirs.outputs)
    states, inputs = torch.randn(2, 5, dtype=torch.float64), x[0]
    torch.testing.assert_close(
        Dynamics(ours.cell).jacobian(states, inputs),
        Dynamics(theirs.cell).jacobian(states, inputs),
    )
    single = ours.to(torch.float32)
    assert single.states.h.dtype == torch.float32
    torch.testing.assert_close(single.states.h.double(), theirs.states.h, rtol=1e-4, atol=1e-5)


def test_contributions_of_a_registered_class_are_of_all_weights_that_a_step_reads():
    cell = GRUByHand()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    flow = gradient_flow(cell, lambda: loop(cell, x)[-1].square().sum())
    copies, h = [], cell.zeros(2)
    for x_t in x:
        copies.append(copy.deepcopy(cell))
        h = copies[-1](x_t, h)
    h.square().sum().backward()
    expected = [
        torch.stack([own.weight_ih.grad.norm(), own.weight_hh.grad.norm()]).norm() for own in copies
    ]
    torch.testing.assert_close(flow.contribution, torch.stack(expected))


class Doubling(nn.Module):
    """A state of two tensors, one with more axes, and an output that is neither."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.inner = nn.Linear(size, size)

    def forward(self, x, state=None):
        v, m = (x.new_zeros(len(x), self.size), x.new_zeros(len(x), 2, self.size))
        if state is not None:
            v, m = state
        v = torch.tanh(self.inner(v) + x + m.sum(1))
        return torch.cat([v, x], -1), (v, 0.5 * m + torch.stack([v, x], 1))


register(
    Doubling,
    lambda module: Steps(
        module.forward,
        lambda batch: (torch.zeros(batch, module.size), torch.zeros(batch, 2, module.size)),
        returns="output and state",
        memories=("matrix",),
    ),
)


def test_states_of_any_rank_and_outputs_beside_the_state():
    model, x = Doubling(3), torch.randn(6, 2, 3)

    def run(kept=None):
        outputs, state = [], None
        for x_t in x:
            output, state = model(x_t, state)
            assert state[1].shape == (2, 2, 3)
            outputs.append(output)
            if kept is not None:
                kept.append(state[0])
        return torch.stack(outputs)

    recording = record(model, lambda: run().sum())
    torch.testing.assert_close(recording.outputs, run().detach())
    assert recording.states._fields == ("h", "matrix")
    assert recording.states.matrix.shape == (6, 2, 6)
    assert (recording.cell.hidden_size, recording.cell.output_size) == (3, 6)
    kept = []
    expected = torch.autograd.grad(run(kept)[-1].square().sum(), kept)
    flow = gradient_flow(model, lambda: run()[-1].square().sum())
    torch.testing.assert_close(flow.norm.float(), torch.stack([g.norm() for g in expected]))
    assert set(flow.links[1:]) == {"connected"}
    F = Dynamics(recording.cell)
    assert F.size == 9
    s = torch.randn(1, 9)
    expected = torch.autograd.functional.jacobian(lambda v: F(v[None], x[0, :1])[0], s[0])
    torch.testing.assert_close(F.jacobian(s, x[0, :1])[0], expected)


def test_frozen_and_pruned_modules_of_a_registered_class():
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    cell = GRUByHand()
    expected = gradient_flow(cell, lambda: loop(cell, x)[-1].sum())
    cell.requires_grad_(False)
    frozen = gradient_flow(cell, lambda: loop(cell, x)[-1].sum())
    torch.testing.assert_close(frozen.contribution, expected.contribution)
    pruned, plain = GRUByHand(), GRUByHand()
    plain.load_state_dict(pruned.state_dict())
    prune.l1_unstructured(pruned, "weight_hh", 0.4)
    with torch.no_grad():
        plain.weight_hh.copy_(pruned.weight_hh)
    flows = [gradient_flow(m, lambda m=m: loop(m, x)[-1].sum()) for m in (pruned, plain)]
    torch.testing.assert_close(flows[0].norm, flows[1].norm)
    torch.testing.assert_close(flows[0].contribution, flows[1].contribution)


class Wrapping(nn.Module):
    """A module that steps a layer of torch within."""

    def __init__(self):
        super().__init__()
        self.inner = nn.GRU(3, 5)

    def forward(self, x, h=None):
        return self.inner(x[None], None if h is None else h[None])[1][0]


def test_a_layer_of_torch_within_reads_the_weights_of_the_copy():
    class Registered(Wrapping):
        pass

    register(Registered, lambda module: Steps(module.forward, lambda n: torch.zeros(n, 5)))
    model, x = Registered(), torch.randn(5, 2, 3)
    flow = gradient_flow(model, lambda: loop(model, x)[-1].sum())
    assert (flow.contribution > 0).all()
    assert record(model, lambda: loop(model, x).sum()).to(torch.float64).outputs.double().any()
    # without being registered, the layer within is what is found
    assert find_recurrent(Wrapping())[0] == "inner"


def test_adapters_that_are_wrong_are_found_out():
    class Wrong(GRUByHand):
        pass

    x = torch.randn(4, 2, 3, dtype=torch.float64)
    cases = [
        (lambda m: Steps(lambda x, h: 2 * m.one(x, h), m.zeros), "do not give what"),
        (lambda m: Steps(m.forward, lambda n: m.zeros(n) + 1), "do not give what"),
        (lambda m: Steps(lambda x, h: 2 * (m.one(x, h),), m.zeros), "state of Wrong"),
        (lambda m: Steps(m.forward, lambda n: None), "got NoneType"),
        (lambda m: Steps(m.forward, m.zeros, returns="output and state"), "a pair"),
        (lambda m: Steps(m.forward, m.zeros, memories=("c",)), "one name for each"),
        (lambda m: Steps(m.one, m.zeros, forward="time first"), "expected 3"),
    ]
    for adapter, words in cases:
        register(Wrong, adapter)
        model = Wrong()
        with pytest.raises(errors.ConfigurationError, match=words):
            gradient_flow(model, lambda model=model: loop(model, x).sum())
        assert "forward" not in vars(model)


def test_steps_that_are_not_pure_are_refused():
    class Keeping(GRUByHand):
        def forward(self, x, state=None):
            self.held = super().forward(x, state)
            return self.held

    class Counting(GRUByHand):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x, state=None):
            self.count += 1
            return super().forward(x, state)

    x = torch.randn(4, 2, 3, dtype=torch.float64)
    for kind in (Keeping, Counting):
        model = kind()
        with pytest.raises(errors.ConfigurationError, match="expected a pure step"):
            record(model, lambda model=model: loop(model, x).sum())
    assert model.count == 0


def test_a_parameter_under_two_names_is_refused():
    model = GRUByHand()
    model.again = model.weight_hh
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    with pytest.raises(errors.ConfigurationError, match="under the names weight_hh and again"):
        gradient_flow(model, lambda: loop(model, x).sum())


def test_arguments_that_an_adapter_does_not_know_are_refused():
    class Masked(GRUByHand):
        def forward(self, x, state=None, mask=None):
            return super().forward(x, state)

    model, x = Masked(), torch.randn(2, 3, dtype=torch.float64)
    gradient_flow(model, lambda: model(x=x, state=None, mask=None).sum())
    with pytest.raises(errors.ConfigurationError, match="got mask beside"):
        gradient_flow(model, lambda: model(x, None, torch.ones(2)).sum())


def test_steps_that_draw_at_random_are_taken_on_trust():
    class Dropping(GRUByHand):
        def forward(self, x, state=None):
            return nn.functional.dropout(super().forward(x, state), 0.5, self.training)

    model, x, seen = Dropping(), torch.randn(4, 2, 3, dtype=torch.float64), []
    for _ in range(2):
        torch.manual_seed(1)
        seen.append(loop(model, x))
        torch.manual_seed(1)
        recording = record(model, lambda: loop(model, x).sum())
    torch.testing.assert_close(recording.outputs, seen[0].detach())


@pytest.mark.usefixtures("unchecked")
def test_what_can_be_registered():
    for known in (nn.Module, nn.LSTM, nn.GRUCell, 3, Steps):
        with pytest.raises(errors.ConfigurationError, match="register"):
            register(known, by_hand)


def test_modules_are_as_they_were_after_an_exception_and_hooks_run_once_a_step():
    model, x, calls = GRUByHand(), torch.randn(2, 3, dtype=torch.float64), []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    before = set(vars(model))

    def fail():
        model(x, model(x))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradient_flow(model, fail)
    assert len(calls) == 2
    assert set(vars(model)) == before
    handle.remove()
    model.register_forward_pre_hook(lambda _, given: (2 * given[0], *given[1:]))
    recording = record(model, lambda: model(x).sum())
    torch.testing.assert_close(recording.outputs[0], model(x).detach())
    torch.testing.assert_close(recording.inputs[0], 2 * x)
