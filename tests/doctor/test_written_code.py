"""Code to copy: it has the effect of the change that was trained."""

from typing import Any

import pytest
import torch
from doctor.faulty_models import WIDTH, Chunked, Classifier, cross_entropy, first_steps
from torch import Tensor, nn

import throughtime as tt
from throughtime.doctor.changes import CHANGES, Change
from throughtime.doctor.remedies import make_condition
from throughtime.doctor.subject import Subject
from throughtime.doctor.written_code import carry_out, path_of, written
from throughtime.foreign.sites import find_recurrent

LAG = 5


def change(name: str) -> Change:
    (found,) = [c for c in CHANGES if c.name.startswith(name)]
    return found


class Stepping(nn.Module):
    """A cell in the model's own loop, under another name."""

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.inner = nn.ModuleList([cell])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = self.inner[0](x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def model_of(kind: Any, **options) -> nn.Module:
    if "Cell" in kind.__name__:
        return Stepping(kind(WIDTH, 6))
    return Classifier(kind(WIDTH, 6, batch_first=True, **options))


def the_same_draws(patch: pytest.MonkeyPatch) -> None:
    """Let numbers at random be those of a fixed row, whatever was drawn before."""

    def uniform(self, low=0.0, high=1.0, generator=None):
        return self.copy_(torch.linspace(low, high, self.numel()).reshape(self.shape))

    def normal(self, mean=0.0, std=1.0, generator=None):
        return self.copy_((torch.arange(1.0, 1 + self.numel()) ** 2).sin().reshape(self.shape))

    patch.setattr(Tensor, "uniform_", uniform)
    patch.setattr(Tensor, "normal_", normal)


STACKED = {"num_layers": 2, "bidirectional": True}
INITIAL = [c for c in CHANGES if c.apply is not None and not c.name.startswith("the other order")]


KINDS = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)


@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, options) for kind in KINDS for options in ({}, STACKED)), (tt.RNN, {"lags": (1, 5)})],
)
def test_initial_weights_are_those_of_the_trained_copy(kind, options, monkeypatch) -> None:
    """From the same draws every parameter of every level and direction is the same."""
    subject = Subject(model_of(kind, **options), first_steps(4), cross_entropy, 6.0)
    layer, module = find_recurrent(subject.copy())
    the_same_draws(monkeypatch)
    for one in (c for c in INITIAL if c.fits(module)):
        code = written(one.code, subject, layer, LAG)
        assert code, one.name
        trained = make_condition(subject, layer, one, LAG).model
        copied = subject.copy()
        carry_out(code, {"model": copied})
        for name, parameter in trained.named_parameters():
            torch.testing.assert_close(copied.get_parameter(name), parameter, msg=one.name)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_skip_is_the_one_that_was_trained(kind, batch_first: bool) -> None:
    """The loss is the same at first, and with the same weights of the skip later."""
    model = Classifier(kind(WIDTH, 6, batch_first=batch_first))
    subject = Subject(model, first_steps(4), cross_entropy, 6.0)
    condition = make_condition(subject, "layer", change("a skip"), LAG)
    batch = subject.training[0]
    before = condition.loss(batch)
    weight = condition.parameters()[-1]
    copied = subject.copy()
    carry_out(written(change("a skip").code, subject, "layer", LAG), {"model": copied})
    torch.testing.assert_close(subject.loss(copied, batch), before)
    with torch.no_grad():
        weight.normal_()
        copied.get_parameter("layer.weight_ih_l0")[:, WIDTH:] = weight
    torch.testing.assert_close(subject.loss(copied, batch), condition.loss(batch))
    assert not torch.allclose(condition.loss(batch), before)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_last_valid_step_is_read(kind, batch_first: bool) -> None:
    """The outputs are those of each sequence alone, without its padding."""
    lengths = [4, 12, 7, 12]
    for options in ({}, {"bidirectional": True}, STACKED):
        layer = kind(WIDTH, 6, batch_first=batch_first, **options)
        model = Classifier(layer)
        x = torch.randn(4, 12, WIDTH)
        for k, length in enumerate(lengths):
            x[k, length:] = 0
        given = x if batch_first else x.transpose(0, 1)
        subject = Subject(model, [given], lambda m, x: m.layer(x)[0].square().mean(), 6.0)
        code = written(change("the answer read").code, subject, "layer", LAG)
        own: Any = subject.copy()
        names = {"model": own, "x": given, "lengths": torch.tensor(lengths)}
        last = carry_out(code, {**names, "output": own.layer(given)[0]})["last"]
        for k, length in enumerate(lengths):
            alone, final = own.layer(given.select(0 if batch_first else 1, k)[:length])
            h_n = final[0] if isinstance(final, tuple) else final
            expected = torch.cat([h_n[-2], h_n[-1]]) if options else alone[-1]
            torch.testing.assert_close(last[k], expected)


def test_another_cell_has_the_sizes_and_the_gates() -> None:
    model = nn.Sequential(nn.GRU(WIDTH, 6, 2, batch_first=True, bidirectional=True, dropout=0.5))
    subject = Subject(model, [torch.randn(4, 7, WIDTH)], lambda m, x: m(x)[0].mean(), 6.0)
    copied: Any = subject.copy()
    carry_out(written(change("an LSTM").code, subject, "0", LAG), {"model": copied})
    assert repr(copied[0]) == repr(model[0]).replace("GRU", "LSTM")
    for end in ("l0", "l0_reverse", "l1", "l1_reverse"):
        bias = getattr(copied[0], f"bias_ih_{end}") + getattr(copied[0], f"bias_hh_{end}")
        assert (bias[6:12] >= 0).all()
        assert (bias[6:12] <= torch.tensor(2.0 * LAG).log()).all()
        torch.testing.assert_close(bias[:6], -bias[6:12])


def test_forward_has_to_be_adapted_to_another_state() -> None:
    class Final(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(WIDTH, 6, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[1][-1]

    subject = Subject(Final(), [torch.randn(4, 7, WIDTH)], lambda m, x: m(x).sum(1).mean(), 6.0)
    code = written(change("an LSTM").code, subject, "rnn", LAG)
    assert code.startswith("model.rnn = nn.LSTM(3, 6, batch_first=True)\n")
    assert code.endswith("# its state is (h, c), not h alone: adapt the lines that use it")


@pytest.mark.parametrize("start", ["the graph kept", "the state passed", "a fresh", "one backward"])
def test_lines_of_forward_run(start: str) -> None:
    subject = Subject(Chunked("detach"), first_steps(4), cross_entropy, 6.0)
    code = written(change(start).code, subject, "layer", LAG)
    assert "model.layer(x" in code or "loss_fn(model, batch)" in code


@pytest.mark.parametrize("options", [{}, STACKED])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_lines_are_not_broken_in_a_terminal(kind, options) -> None:
    """A broken line cannot be copied: 80 columns hold the indentation and 78 more."""
    subject = Subject(model_of(kind, **options), first_steps(4), cross_entropy, 6.0)
    _, module = find_recurrent(subject.copy())
    for one in (c for c in CHANGES if c.fits(module)):
        code = written(one.code, subject, "layer", 100)
        assert max(map(len, code.splitlines()), default=0) <= 78, code
        assert "adapt" not in code  # the model does not use the state


def test_paths_and_code_that_cannot_be_written() -> None:
    assert path_of("encoder.layers.0") == "model.encoder.layers[0]"
    chunked = Subject(Chunked("carry"), first_steps(4), cross_entropy, 6.0)
    assert written(change("a skip").code, chunked, "layer", LAG) == ""  # it is called twice

    def broken(target) -> str:
        return f"{target.path}.no_such_parameter.zero_()"

    assert written(broken, chunked, "layer", LAG) == ""
