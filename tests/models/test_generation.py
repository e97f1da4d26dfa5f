"""Generation: compiled calls equal a loop of the model, whatever the batch around a sequence."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import throughtime as tt
from throughtime import Sampling, generate
from throughtime.core.errors import ConfigurationError, ShapeError, ThroughtimeError
from throughtime.core.state import state_tensors
from throughtime.engines.cpp.compiler import find_compiler
from throughtime.models import LanguageModel, build_model, stream
from throughtime.tasks.kinds import Likelihood, Tokens

needs_compiler = pytest.mark.skipif(isinstance(find_compiler(), str), reason="no C++ compiler")
SAMPLINGS = [Sampling(), Sampling(0.0), Sampling(0.7, top_k=4), Sampling(top_p=0.8, min_p=0.05)]


def naive(model, prompt, steps, sampling, seed):
    """Each symbol from the model's answers to all symbols before it."""
    uniform = torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    text = list(prompt)
    for u in uniform:
        logits = model(torch.tensor(text)[:, None])[0][-1, 0].double()
        if sampling.temperature == 0:
            text.append(int(logits.argmax()))
            continue
        p = (logits / sampling.temperature).softmax(-1)
        ranked = sorted(range(len(p)), key=lambda v: (-float(p[v]), v))[: sampling.top_k]
        total = sum(float(p[v]) for v in ranked)
        kept, mass = [], 0.0
        for v in ranked:
            if mass < sampling.top_p * total:
                kept.append(v)
            mass += float(p[v])
        kept = sorted(v for v in kept if p[v] >= sampling.min_p * p.max())
        left = float(u) * sum(float(p[v]) for v in kept)
        for v in kept:
            left -= float(p[v])
            if left < 0:
                break
        text.append(v)
    return text[len(prompt) :]


def model_of(spec: str, seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    model = build_model(spec, Tokens(7), Likelihood())
    assert isinstance(model, LanguageModel)
    with torch.no_grad():
        model.readout.weight.mul_(8)  # answers that differ from each other
    return model.eval().double()


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("spec", ["lstm:layers=2", "skip-rnn:lag=3", "urnn", "gru:engine=eager"])
@torch.no_grad()
def test_symbols_equal_those_of_the_whole_text_read_again(spec, sampling) -> None:
    model = model_of(f"{spec},hidden=9" if ":" in spec else f"{spec}:hidden=9")
    prompts, seeds = [[3, 1, 4, 0], [5], [2, 6]], [5, 6, 2**61]
    padded = torch.full((4, 3), 1)
    for b, prompt in enumerate(prompts):
        padded[: len(prompt), b] = torch.tensor(prompt)
    lengths = torch.tensor([4, 1, 2])
    found = generate(model, padded, 12, sampling, lengths=lengths, seeds=seeds)
    for b, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        assert found[:, b].tolist() == naive(model, prompt, 12, sampling, seed)


@needs_compiler
@pytest.mark.parametrize("steps", [1, 6, 7])
@pytest.mark.parametrize("embedded", [False, True])
@torch.no_grad()
def test_one_compiled_call_equals_steps_and_leaves_their_state(steps, embedded) -> None:
    """More symbols than a vector has lanes, several rows, two levels."""
    torch.manual_seed(1)
    layer = tt.GRU(5 if embedded else 37, 11, 2)
    readout = nn.Linear(11, 37)
    readout.weight.mul_(5)
    table = torch.randn(37, 5) if embedded else None
    stepper, other = layer.stepper(3), layer.stepper(3)
    first, uniform = torch.tensor([36, 0, 17]), torch.rand(steps, 3, dtype=torch.float64)
    found = stepper.generate(first, uniform, Sampling(), readout, table)
    assert stepper.engine == "native"
    for t in range(steps):
        x = F.one_hot(first, 37).float() if table is None else table[first]
        first = Sampling().draw(readout(other(x)), uniform[t])
        assert torch.equal(found[t], first)
    for a, b in zip(state_tensors(stepper.state), state_tensors(other.state), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_more_sequences_than_a_compiled_call_takes() -> None:
    model = model_of("lstm:hidden=6")
    prompt = torch.randint(7, (3, 40))
    found = generate(model, prompt, 5, seeds=range(40))
    few = generate(model, prompt[:, 30:], 5, seeds=range(30, 40))
    assert torch.equal(found[:, 30:], few)


def test_seeds_come_from_torchs_generator_where_there_are_none() -> None:
    model, prompt = model_of("gru:hidden=6"), torch.zeros(1, 2, dtype=torch.int64)
    torch.manual_seed(3)
    found = generate(model, prompt, 20)
    assert not torch.equal(found, generate(model, prompt, 20))
    torch.manual_seed(3)
    assert torch.equal(found, generate(model, prompt, 20))
    assert not found.requires_grad
    assert generate(model, prompt, 0).shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompt": torch.zeros(0, 1, dtype=torch.int64)}, ShapeError, "prompt"),
        ({"prompt": torch.zeros(2, dtype=torch.int64)}, ShapeError, "prompt"),
        ({"prompt": torch.zeros(2, 1)}, ShapeError, "prompt"),
        ({"prompt": torch.tensor([[7]])}, ConfigurationError, "symbols from 7 to 7"),
        ({"prompt": torch.tensor([[-1]])}, ConfigurationError, "prompt"),
        ({"steps": -1}, ConfigurationError, "steps"),
        ({"lengths": torch.tensor([0])}, ShapeError, "lengths"),
        ({"lengths": torch.tensor([3])}, ShapeError, "lengths"),
        ({"seeds": [1, 2]}, ShapeError, "seeds"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, change, error, message) -> None:
    model = model_of("gru:hidden=3")
    given = {"prompt": torch.zeros(2, 1, dtype=torch.int64), "steps": 3} | change
    with pytest.raises(error, match=message):
        generate(model, **given)


def test_a_readout_or_symbols_of_another_size_are_refused(unchecked) -> None:
    stepper = tt.GRU(4, 3).stepper(2)
    first, uniform = torch.tensor([0, 1]), torch.rand(2, 2)
    for readout, symbols in ((nn.Linear(3, 5), first), (nn.Linear(4, 4), first)):
        with pytest.raises(ShapeError):
            stepper.generate(symbols, uniform, Sampling(), readout)
    with pytest.raises(ShapeError, match="first"):
        stepper.generate(first[:1], uniform, Sampling(), nn.Linear(3, 4))
    with pytest.raises(ConfigurationError, match="first"):
        stepper.generate(torch.tensor([0, 4]), uniform, Sampling(), nn.Linear(3, 4))


@pytest.mark.parametrize("engine", ["auto", "eager"])
@torch.no_grad()
def test_logits_that_are_nan_are_refused_and_excluded_symbols_never_drawn(engine) -> None:
    model = model_of(f"gru:hidden=3,engine={engine}")
    prompt = torch.zeros(1, 1, dtype=torch.int64)
    model.readout.bias[1:6] = -torch.inf
    assert set(generate(model, prompt, 30)[:, 0].tolist()) <= {0, 6}
    model.readout.bias[2] = torch.nan
    with pytest.raises(ThroughtimeError, match="NaN"):
        generate(model, prompt, 3)


@pytest.mark.parametrize("spec", ["gru:hidden=6", "urnn:hidden=6,engine=eager"])
def test_an_end_stops_and_fills(spec) -> None:
    """Up to its end, each sequence is as without one; the steps are those of the longest."""
    model = model_of(spec)
    prompt, seeds = torch.randint(7, (2, 5)), range(5)
    endless = generate(model, prompt, 80, seeds=seeds)
    found = generate(model, prompt, 80, end=3, seeds=seeds)
    longest = 0
    for b in range(5):
        text = endless[:, b].tolist()
        length = text.index(3) + 1 if 3 in text else 80
        assert found[:length, b].tolist() == text[:length]
        assert set(found[length:, b].tolist()) <= {3}
        longest = max(longest, length)
    assert len(found) == longest


@torch.no_grad()
def test_steps_of_a_model_equal_those_of_a_stepper() -> None:
    """From a given state, and by a strategy of the user's: no compiled call."""

    class Drawn:
        def draw(self, logits, uniform):
            return Sampling(0.7).draw(logits, uniform)

    model, prompt = model_of("gru:hidden=6,layers=2"), torch.randint(7, (4, 3))
    lengths, seeds = torch.tensor([4, 1, 3]), [1, 2, 3]
    expected = generate(model, prompt, 9, Sampling(0.7), lengths=lengths, seeds=seeds)
    assert torch.equal(generate(model, prompt, 9, Drawn(), lengths=lengths, seeds=seeds), expected)
    _, state = model(prompt[:2])
    rest = generate(model, prompt[2:], 9, state=state, seeds=seeds)
    assert torch.equal(rest, generate(model, prompt, 9, seeds=seeds))
    assert list(stream(model, prompt[:, 0], 9, seed=1)) == rest[:, 0].tolist()
    shown = list(stream(model, prompt[:, 0], 9, seed=1, end=int(rest[4, 0])))
    assert shown == rest[: rest[:, 0].tolist().index(int(rest[4, 0])), 0].tolist()


@torch.no_grad()
def test_samples_have_the_probabilities_of_the_model() -> None:
    """Chi-square of two drawn symbols: 49 cells, 3,000 sequences of seeds 0 to 2,999."""
    model = model_of("rnn:hidden=4")
    model.readout.weight.div_(6)
    prompt = torch.zeros(1, 3000, dtype=torch.int64)
    found = generate(model, prompt, 2, seeds=range(3000))
    first = model(prompt[:, :1])[0][-1, 0].softmax(-1)
    texts = torch.stack([torch.zeros(7, dtype=torch.int64), torch.arange(7)])
    second = model(texts)[0][-1].softmax(-1)
    expected = 3000 * (first[:, None] * second).flatten()
    counts = torch.bincount(found[0] * 7 + found[1], minlength=49).double()
    statistic = float(((counts - expected).square() / expected).sum())
    assert expected.min() > 5
    assert statistic < 84  # the 99.9 % point of 48 degrees of freedom
