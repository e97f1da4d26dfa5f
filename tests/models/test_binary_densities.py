"""Distributions of binary vectors against sums over all vectors, and the rules of each model."""

import itertools
import math

import pytest
import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import FVSBN, MADE, NADE, GroupedNetwork, OrderlessNADE, build_model
from throughtime.models.binary_density import BinaryDensity
from throughtime.tasks.kinds import Classes, Likelihood, Pixels, Vectors
from throughtime.testing import DensityConformance


class Conformance(DensityConformance):
    spec: str

    def make_model(self, kind: Pixels) -> torch.nn.Module:
        return build_model(self.spec, kind, Likelihood())


class TestFVSBN(Conformance):
    spec = "fvsbn"


class TestFVSBNOfThreeOrderings(Conformance):
    spec = "fvsbn:orderings=3"


class TestGroupedNetwork(Conformance):
    spec = "bengio-bengio:hidden=3"


class TestGroupedNetworkOfTwoOrderings(Conformance):
    spec = "bengio-bengio:hidden=3,orderings=2"


class TestNADE(Conformance):
    spec = "nade:hidden=7"


class TestNADEInARandomOrder(Conformance):
    spec = "nade:hidden=7,orderings=1"


class TestNADEOfThreeOrderings(Conformance):
    spec = "nade:hidden=7,orderings=3"


class TestMADE(Conformance):
    spec = "made:hidden=9"


class TestMADEOfThreeOrderings(Conformance):
    spec = "made:hidden=9,layers=2,orderings=3,direct=true"


class TestColours(Conformance):
    kind, small = Pixels(1, 3, 3), Pixels(1, 2, 3)
    spec = "nade:hidden=7"


class TestOrderlessNADE(Conformance):
    spec = "nade:hidden=7,orderless=true,orderings=2"

    def test_known_values_stay_and_the_others_follow_from_them(self) -> None:
        """The law is that of an ordering in which the known values come first."""


SPECS = [
    *("fvsbn:orderings=2", "bengio-bengio:hidden=3,orderings=2", "nade:hidden=4,orderings=2"),
    *(
        "nade:hidden=4,orderless=true,orderings=2",
        "made:hidden=40,layers=2,orderings=2,direct=true",
    ),
]


def built(spec: str, size: int = 6) -> BinaryDensity:
    torch.manual_seed(0)
    model = build_model(spec, Pixels(1, size), Likelihood()).double()
    assert isinstance(model, BinaryDensity)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    return model


def every(size: int) -> torch.Tensor:
    return torch.tensor([*itertools.product([0, 1], repeat=size)])


@pytest.mark.parametrize("spec", SPECS)
def test_each_logit_depends_on_all_earlier_inputs_and_on_no_later_one(spec: str) -> None:
    model = built(spec)
    for ordering in model.orderings:
        x = torch.rand(1, 6).double().requires_grad_()
        jacobian = torch.autograd.functional.jacobian(
            lambda x, o=ordering: model.logits(x, o)[0], x
        )[:, 0]
        ordered = jacobian[ordering][:, ordering]
        below = torch.ones(6, 6).tril(-1).bool()
        assert torch.equal(ordered != 0, below)


@pytest.mark.parametrize("spec", SPECS)
def test_a_mixture_averages_probabilities(spec: str) -> None:
    model, x = built(spec), every(6)
    p = torch.zeros(len(x)).double()
    for ordering in model.orderings:
        chances = model.logits(x.double(), ordering).sigmoid()
        p += torch.where(x == 1, chances, 1 - chances).prod(1) / len(model.orderings)
    torch.testing.assert_close(model.log_prob(x).exp(), p)


@pytest.mark.parametrize("spec", SPECS)
def test_draws_in_turn_have_the_logits_of_one_pass(spec: str) -> None:
    model, x = built(spec), every(6)[::7].double()
    for ordering in model.orderings:
        columns, found = torch.zeros(6, len(x)).double(), torch.zeros(6, len(x)).double()
        steps = model._conditionals(ordering, columns)
        for place, logit in zip(ordering.tolist(), steps, strict=True):
            found[place] = logit.detach()
            columns[place] = x[:, place]
        torch.testing.assert_close(found.T, model.logits(x, ordering))


def test_nade_is_its_equation() -> None:
    model = built("nade:hidden=4,orderings=1")
    x, o = every(6)[11].double(), model.orderings[0].tolist()
    a = model.hidden_bias
    for place in o:
        expected = model.bias[place] + model.readout[place] @ a.sigmoid()
        torch.testing.assert_close(model.logits(x[None], model.orderings[0])[0, place], expected)
        a = a + x[place] * model.weight[place]


def test_the_grouped_network_is_its_equation() -> None:
    model = built("bengio-bengio:hidden=3")
    x = every(6)[11].double()
    groups = [torch.tanh(model.hidden_bias[j] + model.weight[j, :, :j] @ x[:j]) for j in range(6)]
    for i in range(6):
        expected = model.bias[i] + sum(model.readout[i, j] @ groups[j] for j in range(i + 1))
        torch.testing.assert_close(model.logits(x[None], torch.arange(6))[0, i], expected)


def test_the_orderless_estimate_is_the_mean_over_all_orderings() -> None:
    """Over all sets of known inputs, each with its probability, and by draws."""
    model = built("nade:hidden=4,orderless=true", 4)
    x = every(4)[[5, 14]].double()
    orders = [torch.tensor(o) for o in itertools.permutations(range(4))]
    expected = torch.stack([model._in_order(x, o).sum(1) for o in orders]).mean(0)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = model.estimate(x.repeat(40_000, 1), random=random).view(-1, 2)
    error = drawn.std(0) / math.sqrt(len(drawn))
    assert bool(((drawn.mean(0) - expected).abs() < 4 * error).all())


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "orderless" not in spec])
def test_the_estimate_is_that_of_one_ordering(spec: str) -> None:
    model, x = built(spec), every(6)[::5]
    expected = torch.stack([model._in_order(x.double(), o).sum(1) for o in model.orderings])
    random = torch.Generator().manual_seed(0)
    found = torch.stack([model.estimate(x, random=random) for _ in range(20)])
    which = (found[:, None] - expected).abs().sum(2).argmin(1)
    torch.testing.assert_close(found, expected[which])
    assert len(set(which.tolist())) == 2
    assert bool((expected.mean(0) <= model.log_prob(x)).all())


@pytest.mark.parametrize("spec", ["nade:hidden=4", "made:hidden=9,orderings=2"])
def test_known_inputs_after_unknown_ones_are_weighed(spec: str) -> None:
    model, x = built(spec), every(6)
    known = torch.tensor([-1, 1, -1, -1, 0, -1])
    fits = ((x == known) | (known < 0)).all(1)
    p = torch.where(fits, model.log_prob(x).exp(), 0.0)
    p = p / p.sum()
    random = torch.Generator().manual_seed(0)
    drawn, log_prob = model.sample_and_log_prob(50_000, known=known, random=random)
    codes = (drawn.flatten(1) * 2 ** torch.arange(5, -1, -1)).sum(1)
    torch.testing.assert_close(log_prob, p.log()[codes])
    counts = codes.bincount(minlength=64) / 50_000
    assert bool(((counts - p).abs() <= 4.5 * (p * (1 - p) / 50_000).sqrt()).all())


def test_the_orderless_model_fills_in_whatever_is_unknown() -> None:
    """The mixture of its orderings, with the known inputs moved to their front."""
    model, x = built("nade:hidden=4,orderless=true,orderings=2"), every(6)
    known = torch.tensor([-1, 1, -1, -1, 0, -1])
    fits = ((x == known) | (known < 0)).all(1)
    p = torch.zeros(64).double()
    for o in model.orderings.tolist():
        first = [d for d in o if known[d] >= 0] + [d for d in o if known[d] < 0]
        p += model._in_order(x.double(), torch.tensor(first)).sum(1).exp()
    p = torch.where(fits, p, 0.0) / p[fits].sum()
    random = torch.Generator().manual_seed(0)
    drawn, log_prob = model.sample_and_log_prob(50_000, known=known, random=random)
    codes = (drawn.flatten(1) * 2 ** torch.arange(5, -1, -1)).sum(1)
    torch.testing.assert_close(log_prob, p.log()[codes])
    counts = codes.bincount(minlength=64) / 50_000
    assert bool(((counts - p).abs() <= 4.5 * (p * (1 - p) / 50_000).sqrt()).all())


def test_too_many_unknown_inputs_before_a_known_one() -> None:
    known = torch.full((20,), -1)
    known[13] = 1
    message = "got 13 unknown ones before a known one.*orderless=true"
    with pytest.raises(ConfigurationError, match=message):
        built("fvsbn", 20).sample(2, known=known)
    drawn = built("nade:hidden=4,orderless=true", 20).sample(2, known=known)
    assert drawn[:, 0, 0, 13].tolist() == [1, 1]


def test_one_input() -> None:
    for spec in ("fvsbn", "bengio-bengio:hidden=2", "nade:hidden=2", "made:hidden=2,layers=2"):
        model = built(spec, 1)
        total = model.log_prob(every(1)).detach().exp().sum()
        torch.testing.assert_close(total, torch.ones(()).double())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NADE(Pixels(1, 3, levels=4), 2), "binary vectors: got 4 levels"),
        (lambda: NADE(Pixels(1, 3), 0), "hidden: got 0"),
        (lambda: OrderlessNADE(Pixels(1, 3), 0), "hidden: got 0"),
        (lambda: OrderlessNADE(Pixels(1, 3), 2, orderings=0), "orderings: got 0"),
        (lambda: FVSBN(Pixels(1, 3), orderings=-1), "orderings: got -1"),
        (lambda: GroupedNetwork(Pixels(1, 3), 0), "hidden: got 0"),
        (lambda: MADE(Pixels(1, 3), 0), "hidden: got 0"),
        (lambda: MADE(Pixels(1, 3), 2, layers=0), "layers: got 0"),
        (lambda: build_model("made", Vectors(3), Classes(2)), "model 'made': got Vectors"),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
