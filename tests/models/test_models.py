import pickle

import pytest
import torch

from throughtime import GatedCell, errors
from throughtime.cells import LSTMCell
from throughtime.core.registry import CELLS
from throughtime.models import MODELS, SequenceModel, build_model
from throughtime.tasks.kinds import Classes, Likelihood, Pairs, Tokens, Vectors

OF_CELLS = list(CELLS)


@pytest.mark.parametrize("name", OF_CELLS)
@pytest.mark.parametrize("per_step", [False, True])
def test_every_model_answers_and_learns(name, per_step):
    model = build_model(f"{name}:hidden=5", Vectors(2), Classes(3, per_step=per_step))
    outputs = model(torch.randn(7, 4, 2), torch.tensor([7, 1, 3, 2]))
    assert outputs.shape == ((7, 4, 3) if per_step else (4, 3))
    outputs.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert MODELS.describe(name).endswith(".")


@pytest.mark.parametrize("name", OF_CELLS)
def test_every_model_has_layers_and_survives_pickling(name: str) -> None:
    model = build_model(f"{name}:hidden=4,layers=2", Vectors(2), Classes(3, per_step=True))
    x = torch.randn(3, 2, 2)
    again = pickle.loads(pickle.dumps(model.eval()))
    torch.testing.assert_close(again(x), model(x))


@pytest.mark.parametrize("text", ["lstm:bidirectional=true,layers=2", "gru", "skip-rnn:lag=3"])
def test_the_answer_is_read_at_the_last_valid_step(text):
    model = build_model(text, Vectors(2), Classes(3))
    x = torch.randn(7, 3, 2)
    lengths = torch.tensor([7, 2, 5])
    together = model(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone = model(x[:length, b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone)


def test_both_directions_are_read_at_their_ends():
    model = build_model("lstm:bidirectional=true", Vectors(2), Classes(3))
    x = torch.randn(7, 4, 2)
    outputs, _ = model.recurrent(x)
    width = outputs.shape[-1] // 2
    ends = torch.cat([outputs[-1, :, :width], outputs[0, :, width:]], -1)
    torch.testing.assert_close(model(x), model.readout(ends))


def test_unknown_models_are_named():
    with pytest.raises(errors.UnknownNameError, match="Did you mean 'lstm'"):
        build_model("lsmt", Vectors(1), Classes(1))


def test_a_model_is_a_module_of_layer_and_readout():
    model = build_model("irnn:hidden=4", Vectors(1), Classes(2))
    assert isinstance(model, SequenceModel)
    assert torch.equal(model.recurrent.weight_hh_l0, torch.eye(4))


def test_the_latch_unit_is_the_papers():
    """h_t = tanh(w h_{t-1} + v x_t + n_t), its own answer, with w and v alone to be learned."""
    model = build_model("latch-unit:weight=1.5", Vectors(3), Classes(1, per_step=True))
    x = torch.randn(6, 2, 3)
    v = model.recurrent.weight_ih_l0[0]
    h = torch.zeros(2)
    for step, answer in zip(x, model(x), strict=True):
        h = torch.tanh(1.5 * h + step[:, :2] @ v + step[:, 2])
        torch.testing.assert_close(answer[:, 0], h)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 3


def test_a_family_is_named_with_its_cell():
    kinds = Vectors(2), Classes(3)
    torch.manual_seed(5)
    by_cell = build_model("lstm-coupled:hidden=4,peepholes=true,layers=2", *kinds)
    torch.manual_seed(5)
    by_family = build_model("readout:layers=2,cell=lstm-coupled,peepholes=true,hidden=4", *kinds)
    x = torch.randn(6, 2, 2)
    assert torch.equal(by_family(x), by_cell(x))
    assert type(build_model("readout", *kinds).recurrent.cells()[0]) is LSTMCell


def test_a_cell_is_a_model_once_it_is_registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CELLS, "_builders", dict(CELLS._builders))

    @CELLS.register("mine")
    class Mine(GatedCell):
        """A cell of my own."""

        gates = 1

        def pointwise(self, x, u, state):
            return (x[0] + u[0]).tanh()

    assert MODELS.describe("mine") == "A cell of my own."
    model = build_model("mine:hidden=4,layers=2,bidirectional=true", Vectors(2), Classes(3))
    assert model(torch.randn(5, 2, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rnn:forget_bias=1", "forget_bias of ElmanCell: got a cell without a gate that remembers"),
        ("mgu:chrono=9", "chrono of MinimalGatedUnitCell: got a cell without a gate"),
        ("indrnn:init=orthogonal", "parameter of IndRNNCell: got 'weight_hh'"),
        ("lstm:hidden=8,projection=4,init=identity", "identity: got a block of shape"),
        ("gru-layer-norm:forget_bias=1", "bias_ih of LayerNormGRUCell: got 128 rows"),
        ("lstm:bias=false,forget_bias=1", "parameter of LSTMCell: got 'bias_ih'"),
        ("latch-unit:hidden=3", "unknown option of model 'latch-unit': got 'hidden'"),
        ("gru:projection=3", "unknown option of model 'gru': got 'projection'"),
        ("readout:cell=lsmt", "unknown cell: got 'lsmt'.*Did you mean 'lstm'"),
        ("readout:cell=gru,cell=lstm", "got cell twice"),
        ("readout:hiden=3", "got .hiden., expected one of: bias, bidirectional, cell,"),
    ],
)
def test_an_option_that_a_cell_cannot_take_is_refused(spec: str, words: str):
    with pytest.raises(errors.ThroughtimeError, match=words):
        build_model(spec, Vectors(2), Classes(3))


def test_a_task_that_no_family_fits_is_refused():
    with pytest.raises(errors.ConfigurationError, match=r"for a task: got .*Likelihood"):
        build_model("lstm", Vectors(2), Likelihood())
    with pytest.raises(errors.ConfigurationError, match="model 'latch-unit': got Tokens"):
        build_model("latch-unit", Tokens(3), Classes(2))


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        ("language-model:cell=gru,hidden=4,embedding=4,tied=true", Tokens(5)),
        ("encoder-decoder:cell=lstm,hidden=4", Pairs(Tokens(5), Tokens(6))),
        ("attention:cell=gru,hidden=4", Pairs(Tokens(5), Tokens(6))),
    ],
)
def test_all_weights_from_one_range(spec, inputs) -> None:
    torch.manual_seed(0)
    weights = [*build_model(f"{spec},uniform=0.02", inputs, Likelihood()).parameters()]
    assert all(float(w.detach().abs().max()) <= 0.02 for w in weights)
    assert (
        sum(float(w.detach().abs().sum()) for w in weights) / sum(map(torch.numel, weights)) > 0.008
    )
    with pytest.raises(errors.ConfigurationError, match="uniform"):
        build_model(f"{spec},uniform=-1", inputs, Likelihood())
