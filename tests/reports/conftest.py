"""Result folders written by hand, as training and studies write them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from reports.pages import Page

from throughtime.reports import read_comparison
from throughtime.reports.page import render_report

TASK = {
    "spec": "digits",
    "description": "Handwritten digits, 8x8, read one pixel at a time.",
    "length": 64,
    "dependency_length": 63,
    "answer": "class",
    "chance": 0.1,
    "chance_loss": math.log(10),
    "criterion": "test accuracy of at least 97 % (our choice).",
}
# label: final accuracy, decay of the gradient per step of lag, parameters
MODELS = {
    "rnn": (0.48, 0.78, 5_002),
    "irnn": (0.81, 0.97, 5_002),
    "lstm": (0.937, 0.96, 17_546),
    "gru": (0.951, 0.985, 13_322),
    "skip-rnn": (0.88, 0.93, 9_098),
}


def write_run(
    folder: Path,
    label: str,
    seed: int,
    *,
    status: str = "completed",
    steps: int = 1000,
    length: int = 64,
) -> None:
    accuracy, decay, parameters = MODELS[label]
    final = accuracy + 0.012 * (seed - 1)
    folder.mkdir(parents=True)
    config = {
        "schema_version": 1,
        "task": "digits",
        "model": label,
        "seed": seed,
        "steps": steps,
        "batch_size": 64,
        "optimizer": "Adam",
        "learning_rate": 0.003,
        "optimizer_options": {},
        "schedule": "cosine",
        "clip_norm": 1.0,
        "device": "cpu",
        "threads": 1,
    }
    diverged = status == "diverged"
    last = steps // 3 if diverged else steps
    rows = []
    for step in range(50, last + 1, 50):
        part = 1 - math.exp(-4 * step / steps)
        value = 0.1 + (final - 0.1) * part / (1 - math.exp(-4))
        rows.append({"step": step, "kind": "train", "loss": 1.0, "gradient_norm": 1.0})
        loss = 2.3 - 2.2 * value
        rows.append({"step": step, "kind": "validation", "loss": loss, "accuracy": value})
    result = {
        "schema_version": 1,
        "status": status,
        "step": last,
        "seconds": 17.3 + seed,
        "parameters": parameters,
        "clip_rate": 0.02,
        "validation": None if diverged else {"loss": 0.3, "accuracy": final},
        "test": None if diverged else {"loss": 2.3 - 2.2 * final, "accuracy": final},
        "diverged": {"step": last, "quantity": "loss"} if diverged else None,
        "environment": {
            "throughtime": "0.1.0",
            "torch": "2.13.0",
            "numpy": "2.4.6",
            "python": "3.11.2",
            "platform": "Linux-x86_64",
            "device": "cpu",
            "threads": 1,
            "engines": ["eager"],
            "commit": None,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps(result))
    if not diverged:
        norms = [
            0.02 * (decay + 0.002 * seed) ** lag * (1 + 0.2 * math.sin(lag))
            for lag in range(length)
        ]
        flow = {
            "schema_version": 1,
            "start": gradient([norm * 0.8**lag for lag, norm in enumerate(norms)]),
            "trained": gradient(norms),
            "dependency_length": 63,
        }
        (folder / "gradient_flow.json").write_text(json.dumps(flow))


def gradient(norms: list[float]) -> dict[str, object]:
    reach = max(lag for lag, norm in enumerate(norms) if norm >= 0.01 * max(norms))
    return {"norm_by_lag": norms, "contribution_by_lag": norms, "reach": reach}


WriteComparison = Callable[..., Path]


@pytest.fixture
def write_comparison(tmp_path: Path) -> WriteComparison:
    """A function that writes a comparison: its task, and the status of runs by (label, seed)."""

    def write(
        *,
        seeds: int = 3,
        labels: tuple[str, ...] = tuple(MODELS),
        statuses: dict[tuple[str, int], str] | None = None,
        task: dict[str, object] | None = None,
        descriptions: dict[str, str] | None = None,
        command: str = "throughtime compare digits --models rnn,irnn,lstm,gru,skip-rnn --seeds 3",
        steps: int = 1000,
    ) -> Path:
        models = []
        for label in labels:
            spec = "skip-rnn:lag=8" if label == "skip-rnn" else label
            models.append(
                {
                    "label": label,
                    "spec": spec,
                    "description": (descriptions or {}).get(label, f"A network called {label}."),
                    "folder": label,
                }
            )
            for seed in range(seeds):
                write_run(
                    tmp_path / label / f"seed-{seed}",
                    label,
                    seed,
                    status=(statuses or {}).get((label, seed), "completed"),
                    steps=steps,
                )
        study = {
            "schema_version": 1,
            "command": command,
            "request": {"task": "digits"},
            "task": {**TASK, **(task or {})},
            "models": models,
            "seeds": list(range(seeds)),
        }
        (tmp_path / "compare.json").write_text(json.dumps(study))
        return tmp_path

    return write


@pytest.fixture
def page(write_comparison: WriteComparison) -> Page:
    """Of a comparison one of whose runs diverged."""
    folder = write_comparison(statuses={("irnn", 1): "diverged"})
    return Page(render_report(read_comparison(folder)))
