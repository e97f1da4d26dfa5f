"""The planted faults are what their names say, before any training; and the counting is right."""

import dataclasses
import itertools
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # the benchmarks are no installed package

from benchmarks.doctor import checking, matrix
from benchmarks.doctor.cases import FAMILIES, Case, cases, recipes
from benchmarks.doctor.models import Network
from benchmarks.doctor.recipes import (
    BATCH,
    Recipe,
    batches,
    build_model,
    collate,
    fast_twin,
    loss_of,
    step_of,
    unpack,
)
from benchmarks.doctor.tasks import TASKS, without_far_inputs

FIRST = {
    f"{case.family}: {case.name}": case
    for family in FAMILIES
    for case in cases(family).values()
    if case.seed == 0
}
RECIPES = {name: case.healthy for name, case in FIRST.items() if case.fault is None}
KINDS = {(r.design.cell, r.design.loop, r.design.packed): n for n, r in RECIPES.items()}
"""One recipe of each kind of network."""


def planted(*faults: str) -> list[str]:
    """The first seed of a case of each of some faults, in each family and kind of answer."""
    found = {}
    for name, case in FIRST.items():
        if case.fault is not None and f"{case.cause}/{case.fault.name}" in faults:
            found.setdefault((case.family, case.fault.name, TASKS[case.healthy.task].answer), name)
    return list(found.values())


def answer(recipe: Recipe, model: Network, batch: object) -> torch.Tensor:
    inputs, lengths, _ = unpack(batch)
    out = model(inputs) if lengths is None else model(inputs, lengths)
    return out[0] if recipe.design.stateful else out


def sample(recipe: Recipe, out: torch.Tensor, index: int) -> torch.Tensor:
    """The answer of one sample."""
    per_step = TASKS[recipe.task].answer == "steps"
    return out[:, index] if per_step and not recipe.design.data_batch_first else out[index]


def moves_another_sample(recipe: Recipe) -> bool:
    """Whether the answer to the last sample changes when other samples do."""
    model = build_model(recipe, 0)
    generator = torch.Generator().manual_seed(1)
    one = TASKS[recipe.task].draw(generator, BATCH)
    two = TASKS[recipe.task].draw(generator, BATCH)
    if one.lengths is not None:
        two = dataclasses.replace(two, lengths=one.lengths)
    mixed = two.inputs.clone()
    mixed[-1] = one.inputs[-1]
    outs = []
    for inputs in (one.inputs, mixed):
        model.kept = None
        batch = collate(recipe, dataclasses.replace(one, inputs=inputs))
        outs.append(sample(recipe, answer(recipe, model, batch), -1).detach())
    return bool((outs[0] - outs[1]).abs().max() > 1e-5)


@pytest.mark.parametrize("name", KINDS.values())
def test_healthy_network_keeps_samples_apart(name: str) -> None:
    assert not moves_another_sample(RECIPES[name])


@pytest.mark.parametrize(
    "name",
    planted(
        "TIME_BATCH_SWAPPED/batch-first",
        "STATE_LEAK/reshape",
        "STATE_LEAK/view",
        "STATE_LEAK/softmax-axis",
    ),
)
def test_mixed_axes_mix_samples(name: str) -> None:
    assert moves_another_sample(FIRST[name].recipe)


@pytest.mark.parametrize("name", planted("STATE_LEAK/kept-state"))
def test_kept_state_remembers_the_last_batch(name: str) -> None:
    recipe = FIRST[name].recipe
    model = build_model(recipe, 0)
    stream = batches(recipe, 0)
    batch = next(stream)
    first = answer(recipe, model, batch)
    assert not torch.equal(first, answer(recipe, model, batch))


def early_gradient(recipe: Recipe) -> float:
    """Largest gradient of the last answer with respect to the first input, of float tasks."""
    model = build_model(recipe, 0).double()
    inputs, lengths, _ = unpack(next(batches(recipe, 0)))
    inputs = inputs.double().requires_grad_()
    out = model(inputs) if lengths is None else model(inputs, lengths)
    out = out[0] if recipe.design.stateful else out
    if TASKS[recipe.task].answer == "steps":
        out = out[:, -1] if recipe.design.data_batch_first else out[-1]
    (gradient,) = torch.autograd.grad(out.square().sum(), inputs)
    first = gradient[:, 0] if recipe.design.data_batch_first else gradient[0]
    return float(first.abs().max())


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in planted(
            "GRADIENT_CUT/detach",
            "GRADIENT_CUT/detach-once",
            "GRADIENT_CUT/no-grad",
            "FORGETTING/zeroed",
        )
        if not TASKS[FIRST[name].healthy.task].tokens
        and FIRST[name].healthy.design.read in ("last", "final", "steps")
    ],
)
def test_no_gradient_comes_back_past_a_cut(name: str) -> None:
    case = FIRST[name]
    assert early_gradient(case.recipe) == 0
    assert early_gradient(case.healthy) > 0


@pytest.mark.parametrize("name", planted("PADDING_READ/last-step", "PADDING_READ/not-packed"))
def test_padding_is_read_with_the_fault_alone(name: str) -> None:
    case = FIRST[name]
    examples = TASKS[case.healthy.task].draw(torch.Generator().manual_seed(0), BATCH)
    assert examples.lengths is not None
    padding = torch.arange(examples.inputs.shape[1]) >= examples.lengths[:, None]
    assert bool(padding.any())
    other = examples.inputs.clone()
    other[padding] = 1
    for recipe, same in ((case.healthy, True), (case.recipe, False)):
        model = build_model(recipe, 0)
        outs = [
            answer(recipe, model, collate(recipe, dataclasses.replace(examples, inputs=inputs)))
            for inputs in (examples.inputs, other)
        ]
        assert torch.equal(*outs) == same


@pytest.mark.parametrize("name", KINDS.values())
def test_training_on_throughtimes_layers_is_training_on_torchs(name: str) -> None:
    """After two updates the weights agree: the quick layers change nothing but the time."""
    recipe = dataclasses.replace(RECIPES[name], optimizer="sgd", rate=0.1)
    model = build_model(recipe, 3)
    quick = fast_twin(recipe, model)
    start = [weight.clone() for weight in model.parameters()]
    for network in (model, quick):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        stream = batches(recipe, 5)
        for _ in range(2):
            step_of(recipe)(network, optimizer, next(stream))
    for one, other in zip(model.parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_exchange_touches_far_inputs_alone(name: str) -> None:
    examples = TASKS[name].draw(torch.Generator().manual_seed(0), BATCH)
    other = without_far_inputs(examples)
    changed = examples.inputs != other.inputs
    changed = changed.any(-1) if changed.dim() == 3 else changed
    far = torch.zeros_like(changed).scatter(1, examples.far, True)
    assert bool(changed.any())
    assert not bool((changed & ~far).any())


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_every_cause_can_be_planted(family: str) -> None:
    found: dict[str, list[Case]] = {}
    for case in cases(family).values():
        found.setdefault(case.cause, []).append(case)
        assert case.cause in case.acceptable
    assert set(found) == set(matrix.CAUSES)
    assert len(found["HEALTHY"]) >= 150
    assert sum(len(group) for cause, group in found.items() if cause != "HEALTHY") >= 200


def test_families_share_no_task_and_no_network() -> None:
    own = {family: {(r.task, r.design) for r in recipes(family).values()} for family in FAMILIES}
    for one, two in itertools.combinations(own.values(), 2):
        assert not {task for task, _ in one} & {task for task, _ in two}
        assert not {design for _, design in one} & {design for _, design in two}


def test_a_trained_case_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CACHE", tmp_path)
    recipe = dataclasses.replace(RECIPES["development: HEALTHY/latch-32/tanh/0"], updates=3)
    first, optimizer, losses = checking.trained(recipe, 0)
    monkeypatch.setattr(checking, "train", None)  # a second training would fail
    again, other, same = checking.trained(recipe, 0)
    assert losses == same
    assert len(losses) == 3
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    batch = next(batches(recipe, 1))
    for model, one in ((first, optimizer), (again, other)):
        step_of(recipe)(model, one, batch)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(loss_of(recipe)(first, batch), loss_of(recipe)(again, batch))


@pytest.mark.parametrize("trials", [1, 7, 150])
def test_bound_of_a_probability(trials: int) -> None:
    assert matrix.upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials), abs=1e-12)
    assert matrix.upper_bound(trials - 1, trials) == pytest.approx(0.95 ** (1 / trials), abs=1e-12)
    assert matrix.upper_bound(trials, trials) == 1
    if trials > 5:
        p = matrix.upper_bound(5, trials)
        exact = sum(math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(6))
        assert exact == pytest.approx(0.05, abs=1e-9)


def test_verdicts_are_counted() -> None:
    def verdict(cause: str, said: str, *acceptable: str, seconds: float = 1.0) -> dict:
        return {
            "cause": cause,
            "verdict": said,
            "right": said in (cause, *acceptable),
            "seconds": seconds,
            "told": ["lag"],
            "unchanged": True,
        }

    summary = matrix.summarise(
        [
            verdict("HEALTHY", "HEALTHY"),
            verdict("HEALTHY", "INCONCLUSIVE"),
            verdict("HEALTHY", "VANISHING", seconds=9.0),
            verdict("VANISHING", "FORGETTING", "FORGETTING"),
            verdict("SATURATED", "ERROR"),
        ]
    )
    assert summary.recall == {"HEALTHY": 1 / 3, "VANISHING": 1, "SATURATED": 0}
    assert summary.exact["VANISHING"] == 0
    assert summary.inconclusive == pytest.approx(1 / 5)
    assert summary.accuracy_where_decided == pytest.approx(2 / 4)
    assert (summary.false_alarms, summary.healthy, summary.errors) == (1, 3, 1)
    assert summary.faulty_recall == pytest.approx(1 / 2)
    assert (summary.median_seconds, summary.longest_seconds) == (1.0, 9.0)
    assert any("at most 86.5%" in line for line in matrix.lines(summary))
