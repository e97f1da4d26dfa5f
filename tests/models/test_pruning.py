"""Tests of dependence against mutual information by enumeration, and pruning of a known source."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.models import GroupedNetwork, build_model, dependence, prune
from throughtime.models.binary_density import BinaryDensity
from throughtime.tasks.kinds import Likelihood, Pixels
from throughtime.testing import DensityConformance


def built(spec: str, size: int) -> BinaryDensity:
    torch.manual_seed(0)
    model = build_model(spec, Pixels(1, size), Likelihood()).double()
    assert isinstance(model, BinaryDensity)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def conditional_information(joint: dict[tuple[int, ...], float], i: int, j: int) -> float:
    """I(x_i; x_j | the other inputs) of a law over vectors, by its definition."""

    def mass(x: tuple[int, ...], left_out: set[int]) -> float:
        kept = [k for k in range(len(x)) if k not in left_out]
        return sum(p for y, p in joint.items() if all(y[k] == x[k] for k in kept))

    found = 0.0
    for x, p in joint.items():
        ratio = mass(x, {i, j}) * p / (mass(x, {i}) * mass(x, {j}))
        found += p * math.log(ratio)
    return found


@pytest.mark.parametrize("spec", ["bengio-bengio:hidden=3", "nade:hidden=3,orderings=1", "fvsbn"])
def test_the_mean_gain_is_the_conditional_mutual_information(spec: str) -> None:
    model, size = built(spec, 4), 4
    ordering = model.orderings[0].tolist()
    every = [*itertools.product((0, 1), repeat=size)]
    p = model.log_prob(torch.tensor(every)).exp().tolist()
    gains = [dependence(model, torch.tensor([x])).gain for x in every]
    gain = sum(weight * each for weight, each in zip(p, gains, strict=True))
    for position, i in enumerate(ordering):
        before = ordering[:position]
        joint: dict[tuple[int, ...], float] = {}
        for x, weight in zip(every, p, strict=True):
            part = tuple(x[k] for k in (*before, i))
            joint[part] = joint.get(part, 0.0) + weight
        for column, j in enumerate(before):
            expected = conditional_information(joint, position, column)
            assert gain[i, j].item() == pytest.approx(expected, abs=1e-9)
        others = [j for j in range(size) if j not in before]
        assert not gain[i, others].any()


def source(count: int, seed: int) -> Tensor:
    """x_2 is x_0 xor x_1, x_3 is x_2 and x_5 is x_3, each with a tenth turned; x_4 is alone."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(2, (count, 6), generator=random)
    turned = (torch.rand(count, 6, generator=random) < 0.1).long()
    x[:, 2] = x[:, 0] ^ x[:, 1] ^ turned[:, 2]
    x[:, 3] = x[:, 2] ^ turned[:, 3]
    x[:, 5] = x[:, 3] ^ turned[:, 5]
    return x


def trained(model: GroupedNetwork, x: Tensor, steps: int) -> None:
    adam = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(steps):
        loss = -model.log_prob(x).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def test_kept_inputs_are_those_of_the_source() -> None:
    """Pairs (0, 2) and (1, 2) are independent; 0 and 3 are not, but are given 2."""
    torch.manual_seed(0)
    model = GroupedNetwork(Pixels(1, 6), 4)
    trained(model, source(1000, 0), 200)
    new = source(2000, 1)
    kept = prune(model, new)
    assert {tuple(pair) for pair in kept.nonzero().tolist()} == {(2, 0), (2, 1), (3, 2), (5, 3)}
    trained(model, source(1000, 0), 100)
    turned = torch.stack(
        [new[:, 2] ^ new[:, 0] ^ new[:, 1], new[:, 3] ^ new[:, 2], new[:, 5] ^ new[:, 3]]
    )
    share = turned.double().mean().item()
    best = 3 * math.log(2) - 3 * (share * math.log(0.1) + (1 - share) * math.log(0.9))
    assert -model.log_prob(new).mean().item() == pytest.approx(best, abs=0.05)


def test_a_conditional_reads_kept_inputs_alone() -> None:
    model = built("bengio-bengio:hidden=3", 6)
    assert isinstance(model, GroupedNetwork)
    model.kept.copy_(torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.5)
    x = torch.rand(6, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda x: model.logits(x[None], model.orderings[0])[0])(x)
    assert torch.equal(jacobian != 0, model.kept.tril(-1))


class TestPruned(DensityConformance):
    def make_model(self, kind: Pixels) -> torch.nn.Module:
        model = build_model("bengio-bengio:hidden=3", kind, Likelihood())
        assert isinstance(model, GroupedNetwork)
        random = torch.Generator().manual_seed(2)
        model.kept.copy_(torch.rand(model.kept.shape, generator=random) < 0.5)
        return model


def test_what_is_refused() -> None:
    model = GroupedNetwork(Pixels(1, 3), 2)
    for level in (0.0, 0.5, -1.0):
        with pytest.raises(ConfigurationError, match="level"):
            prune(model, torch.zeros(4, 3), level=level)
    with pytest.raises(ConfigurationError, match="1 vectors"):
        prune(model, torch.zeros(1, 3))
    with pytest.raises(ConfigurationError, match="not binary"):
        prune(model, torch.full((4, 3), 0.5))
    with pytest.raises(ShapeError):
        prune(model, torch.zeros(4, 2))
    with pytest.raises(ConfigurationError, match="2 orderings"):
        prune(GroupedNetwork(Pixels(1, 3), 2, orderings=2), torch.zeros(4, 3))
    assert model.kept.all()
