"""Is a planted case right? Its twin without the fault learns, and it does not; kept on disk."""

import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from benchmarks.doctor.cases import Case
from benchmarks.doctor.mechanism import BOUNDS, mechanism, still_there
from benchmarks.doctor.models import Network
from benchmarks.doctor.recipes import Recipe, build_model, build_optimizer, evaluate, train
from benchmarks.doctor.tasks import TASKS
from throughtime.results.atomic import read_json, write_json, write_whole

CACHE = Path(__file__).parents[2] / "build" / "doctor"
SOLVED = 0.35
"""A healthy case has a loss below this share of the baseline."""
LEARNT = 0.5
"""A twin has learnt when its loss on fresh batches is below this share of the baseline."""
NOT_LEARNT = 0.7
"""A faulty model has not learnt when its loss is above this share of the baseline."""
HURT = 0.8
"""Far inputs matter when their exchange between samples brings the loss above this share."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What was measured of a case.

    Attributes:
        right: whether the case counts.
        problem: why it does not; else empty.
        loss: of the case's model, as a share of the baseline.
        twin: of the model without the fault; the same number where there is no fault.
        scrambled: of the twin, after its far inputs were exchanged between samples.
        figures: of `mechanism`, where the cause has one; None for what is not finite.
        seconds, twin_seconds: that the training and measuring of the case and of its twin took.
            Faults of one network, task and seed share the twin.
    """

    right: bool
    problem: str
    loss: float
    twin: float
    scrambled: float
    figures: dict[str, float | None]
    seconds: float
    twin_seconds: float


def key(recipe: Recipe, seed: int) -> str:
    """A name for a recipe with its seed: the same for the same training."""
    text = json.dumps([dataclasses.asdict(recipe), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _weights(model: Network, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    kept = {f"model.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            kept[f"optimizer.{index}.{name}"] = torch.as_tensor(value).contiguous()
    return kept


def trained(recipe: Recipe, seed: int) -> tuple[Network, torch.optim.Optimizer, list[float]]:
    """The trained model of a recipe, its optimiser and its losses; read from disk if it is there.

    The shares of the baseline are measured once and stored beside the weights.
    """
    document = measured(recipe, seed)
    model = build_model(recipe, seed)
    optimizer = build_optimizer(recipe, model)
    tensors = load((CACHE / "models" / f"{key(recipe, seed)}.safetensors").read_bytes())
    model.load_state_dict(
        {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    )
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return model, optimizer, [math.nan if x is None else x for x in document["losses"]]


def measured(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a recipe and measure it, or read what was measured: loss, scrambled, seconds, losses.

    A loss that is not finite is stored as None.
    """
    folder = CACHE / "models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key(recipe, seed)}.json"
    if path.exists():
        return read_json(path)
    started = time.perf_counter()
    model, optimizer, losses = train(recipe, seed)
    loss = evaluate(recipe, model)
    document = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "loss": loss if math.isfinite(loss) else None,
        "scrambled": _finite(evaluate(recipe, model, scrambled=True)),
        "seconds": time.perf_counter() - started,
        "losses": [_finite(x) for x in losses],
    }
    write_whole(path.with_suffix(".safetensors"), save(_weights(model, optimizer)))
    write_json(path, document)  # last: a document promises its weights
    return document


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _share(value: float | None) -> float:
    return math.inf if value is None else value


def check(case: Case) -> Check:
    """Tell whether a case is right, from its training and its twin's; or read what was told."""
    folder = CACHE / "checks" / case.family
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.name.replace('/', '__')}.json"
    made = key(case.recipe, case.seed)
    if path.exists():
        document = read_json(path)
        if document.pop("key") == made:
            return Check(
                **{**document, **{n: _share(document[n]) for n in ("loss", "twin", "scrambled")}}
            )
    result = _check(case)
    document = dataclasses.asdict(result)
    for name in ("loss", "twin", "scrambled"):
        document[name] = _finite(document[name])
    write_json(path, {**document, "key": made})
    return result


def longer(recipe: Recipe) -> Recipe:
    """The same training, three times as long: an obstacle is one that time alone does not clear."""
    return dataclasses.replace(recipe, updates=3 * recipe.updates)


def _check(case: Case) -> Check:
    own = measured(case.recipe, case.seed)
    twin = own if case.fault is None else measured(case.healthy, case.seed)
    loss, healthy = _share(own["loss"]), _share(twin["loss"])
    scrambled = _share(twin["scrambled"])
    problems = []
    if healthy >= (SOLVED if case.fault is None else LEARNT):
        problems.append("the twin does not learn")
    if TASKS[case.healthy.task].long:
        if scrambled <= max(HURT, 2 * healthy):
            problems.append("the twin does not need the far inputs")
    elif scrambled >= max(1.2 * healthy, healthy + 0.05):
        problems.append("the model needs the far inputs")
    figures: dict[str, float | None] = {}
    if case.fault is not None:
        if loss <= NOT_LEARNT:
            problems.append("it learns all the same")
        elif case.cause in BOUNDS:
            model = trained(case.recipe, case.seed)[0]
            figures = {n: _finite(x) for n, x in mechanism(case.recipe, model).items()}
            if not still_there(case.cause, figures):
                problems.append("its mechanism is gone after training")
            elif _share(measured(longer(case.recipe), case.seed)["loss"]) <= NOT_LEARNT:
                problems.append("it learns if it is trained longer")
    return Check(
        right=not problems,
        problem="; ".join(problems),
        loss=loss,
        twin=healthy,
        scrambled=scrambled,
        figures=figures,
        seconds=own["seconds"],
        twin_seconds=twin["seconds"],
    )
