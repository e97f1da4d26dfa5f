"""Custom cells in a user's own loop: found by their calls, equal to their registered form."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime import errors
from throughtime.doctor import diagnose
from throughtime.foreign.adapters import Steps, registered
from throughtime.foreign.found_cells import cells_found
from throughtime.foreign.sites import find_recurrent, recurrent_layers
from throughtime.instruments import gradient_flow


class Gated(nn.Module):
    """A GRU of linear layers, in several forms."""

    def __init__(self, form: str = "state"):
        super().__init__()
        self.form, self.hidden_size = form, 5
        self.gate, self.new = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if state is None:
            state = x.new_zeros(len(x), 5)
            state = (state, state) if self.form == "pair" else state
        h = state[0] if self.form == "pair" else state
        both = torch.cat([x, h], 1)
        z = self.gate(both).sigmoid()
        h = (1 - z) * h + z * self.new(both).tanh()
        if self.form == "pair":
            return h, state[1] + h
        return (h.cos(), h) if self.form == "output" else h


class Loop(nn.Module):
    """A model that steps its cell through time."""

    def __init__(self, cell: nn.Module, start: Callable[[Tensor], Any], *, carry: bool = True):
        super().__init__()
        self.cell, self.start, self.carry = cell, start, carry
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        state, output = self.start(x), x
        for t in range(x.shape[1]):
            result = self.cell(x[:, t], state if self.carry else self.start(x))
            output, state = result if getattr(self.cell, "form", "") == "output" else (None, result)
        shown = state[0] if isinstance(state, tuple) else state
        return self.head(shown if output is None else output)


def none(x: Tensor) -> None:
    del x


def zeros(x: Tensor) -> Tensor:
    return x.new_zeros(len(x), 5)


def ones(x: Tensor) -> Tensor:
    return x.new_ones(len(x), 5)


def pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return zeros(x), zeros(x)


X = torch.randn(6, 7, 3)


def loss(model: nn.Module) -> Tensor:
    return model(X).square().mean()


@pytest.mark.parametrize(
    ("form", "start"),
    [
        *(("state", none), ("state", zeros), ("state", ones), ("pair", none), ("pair", pair)),
        *(("output", none), ("output", zeros)),
    ],
)
def test_a_found_cell_is_the_registered_one(form: str, start: Callable[[Tensor], Any]) -> None:
    model = Loop(Gated(form), start)
    returns: Any = "output and state" if form == "output" else "state"

    def initial(size: int) -> Any:
        given = start(torch.ones(size, 3))
        if given is None:
            return (torch.zeros(size, 5),) * 2 if form == "pair" else torch.zeros(size, 5)
        return given

    with registered({Gated: lambda cell: Steps(cell.forward, initial, returns)}):
        expected = gradient_flow(model, lambda: loss(model))
    assert not recurrent_layers(model)
    with cells_found(model, loss):
        assert find_recurrent(model)[0] == "cell"
        found = gradient_flow(model, lambda: loss(model))
        again = gradient_flow(model, lambda: model(X[:2]).square().mean())  # of another batch
    torch.testing.assert_close(found.norm, expected.norm)
    assert again.norm.shape == found.norm.shape
    assert not recurrent_layers(model)  # nothing stays


def test_the_model_itself_may_be_the_cell() -> None:
    """As in torch's tutorial on names: the loop is in the loss."""

    def stepped(model: Any) -> Tensor:
        state, output = torch.zeros(6, 5), X
        for t in range(7):
            output, state = model(X[:, t], state)
        return output.square().mean()

    model = Gated("output")
    with cells_found(model, stepped):
        assert find_recurrent(model) == ("", model)


class Separate(nn.Module):
    """h and c as arguments of their own."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.gates = 5, nn.Linear(8, 10)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        keep, new = self.gates(torch.cat([x, h], 1)).chunk(2, 1)
        c = keep.sigmoid() * c + new.tanh()
        return c.tanh(), c


class Apart(nn.Module):
    """A loop over such a cell."""

    def __init__(self):
        super().__init__()
        self.cell = Separate()

    def forward(self, x: Tensor) -> Tensor:
        h, c = pair(x)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], h, c=c)
        return h


def register_line(error: Exception) -> Any:
    """Return what the line of an error registers."""
    line = next(line for line in str(error).splitlines() if "register(" in line)
    made: dict[type, Any] = {}

    def register(kind: type, adapter: Any) -> None:
        made[kind] = adapter

    exec(line.strip(), {"register": register, "Steps": Steps, "torch": torch, **globals()})
    return made


def test_tensors_of_the_state_as_arguments_of_their_own() -> None:
    """Found, and registered by the line that the error prints, it has autograd's gradients."""
    model = Apart()
    with pytest.raises(errors.ConfigurationError) as error:
        find_recurrent(model, "cell")
    with registered(register_line(error.value)):
        expected = gradient_flow(model, lambda: loss(model))
    with cells_found(model, loss):
        found = gradient_flow(model, lambda: loss(model))
    torch.testing.assert_close(found.norm, expected.norm)
    given = X.clone().requires_grad_()
    (at_input,) = torch.autograd.grad(model(given).square().mean(), given)
    assert found.norm.shape == (7,)
    assert (found.norm > 0).tolist() == (at_input.norm(dim=(0, 2)) > 0).tolist()


class Scaled(nn.Module):
    """Takes two arguments, and is no step: its result has another width."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(5, 4)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.map(h) * x.mean(1, keepdim=True)


class Counting(Gated):
    """No pure step: it keeps a tensor."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        self.kept = x
        return super().forward(x, state)


class WholeRNN(nn.Module):
    """The loop is in the forward, of linear layers."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            h = self.map(torch.cat([x[:, t], h], 1)).tanh()
        return h


def test_what_is_no_step_is_not_taken_for_one() -> None:
    for model in (Loop(Counting(), zeros), WholeRNN()):
        with cells_found(model, loss):
            assert [*recurrent_layers(model)] == [""]  # the whole forward, whose steps are alike

    def twice(model: Any) -> Tensor:
        return (model(X[:, 0], zeros(X)) + model(X[:, 1], zeros(X))).mean()

    other = Scaled()
    with cells_found(other, twice):
        assert not recurrent_layers(other)

    def raising(model: Any) -> Tensor:
        raise ValueError("boom")

    with cells_found(Gated(), raising):
        assert not recurrent_layers(Gated())


def test_a_layer_that_is_known_stays_the_only_one() -> None:
    model = nn.ModuleDict({"a": nn.GRUCell(3, 5), "b": Loop(Gated(), zeros)})
    with cells_found(model, lambda m: loss(m.get_submodule("b"))):
        assert [*recurrent_layers(model)] == ["a"]


def test_the_error_has_the_line_for_this_class() -> None:
    with pytest.raises(errors.ConfigurationError) as one:
        find_recurrent(Loop(Counting(), zeros), "cell")
    line = (
        "register(Counting, lambda cell: Steps(cell.forward, lambda n: "
        "torch.zeros(n, cell.hidden_size)))"
    )
    assert line in str(one.value)
    with pytest.raises(errors.ConfigurationError) as two:
        find_recurrent(nn.ModuleDict({"rnn": type("SepCell", (Separate,), {})()}))
    assert (
        "register(SepCell, lambda cell: Steps(lambda x, state: cell(x, *state), lambda n: "
        "(torch.zeros(n, cell.hidden_size), torch.zeros(n, cell.hidden_size))))"
    ) in str(two.value)
    with pytest.raises(errors.ConfigurationError, match="move one step into a module of its own"):
        find_recurrent(WholeRNN())


def test_the_line_works_as_it_is_printed() -> None:
    model = Loop(Gated("state"), zeros)
    with pytest.raises(errors.ConfigurationError) as error:
        find_recurrent(model, "cell")
    with registered(register_line(error.value)):
        assert gradient_flow(model, lambda: loss(model)).norm.shape == (7,)


def test_a_custom_cell_is_diagnosed() -> None:
    """The state that is dropped between the calls is the fault."""
    data = [(torch.randn(16, 7, 3),) for _ in range(8)]
    data = [(x, (x[:, 0, 0] > 0).long()) for (x,) in data]
    model = Loop(Gated(), zeros, carry=False)
    options: Any = {"budget": "2s", "remedies": False}
    found = diagnose(model, data, nn.CrossEntropyLoss(), **options)
    assert found.verdict.value == "forgetting"
    assert "cell" in found.model
