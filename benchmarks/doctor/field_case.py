"""The program of a field case, its data and training, and its check on two seeds.

`python -m benchmarks.doctor.field_case NAME ...` trains the faulty and the healthy program of each
case and prints their scores. Without a name it checks all cases of all folders.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

VERDICTS = frozenset(
    """healthy|no long dependency|no dependence found|time and batch swapped|state leak
samples mixed|padding read|gradient cut|forgetting|vanishing gradient|exploding gradient|saturated
dead units|undertrained|answers do not fit the loss|target meets other answers|target seen
answer at the wrong step|inputs not scaled|one-step sequences|not trained|gradients not zeroed
step size|weight decay|dropout|inconclusive""".replace("\n", "|").split("|")
)

Loss = Callable[[nn.Module, Any], Tensor]


def no_options(model: nn.Module) -> dict[str, Any]:
    """No further arguments of diagnose."""
    return {}


@dataclass(frozen=True)
class Case:
    """A program that a user brings, and the verdicts that are right for it.

    Attributes:
        model: The user's module.
        batches: The training data, 16 to 48 batches.
        loss: The function (model, batch) that returns a scalar.
        fit: The function that trains a model as the user does, mistakes included.
        score: The function that scores a model on data that are not in the batches.
        chance: The score of a guess.
        good: The score that the healthy program reaches; below chance where the score is a loss.
        accept: The verdicts. For a healthy program a set; for a faulty one the sets of "right" and
            "partly".
        options: The function (model) that returns further arguments of diagnose.
    """

    model: nn.Module
    batches: list[Any]
    loss: Loss
    fit: Callable[[nn.Module], None]
    score: Callable[[nn.Module], float]
    chance: float
    good: float
    accept: set[str] | dict[str, set[str]]
    options: Callable[[nn.Module], dict[str, Any]] = no_options

    def __post_init__(self) -> None:
        named = (
            set[str]().union(*self.accept.values())
            if isinstance(self.accept, dict)
            else self.accept
        )
        if unknown := named - VERDICTS:
            raise ValueError(f"got {unknown}, expected verdicts of VERDICTS")

    def good_enough(self, score: float) -> bool:
        """Return True if a healthy program may have the score."""
        return score >= self.good if self.good > self.chance else score <= self.good

    def poor_enough(self, score: float) -> bool:
        """Return True if the score lies on chance's side of the middle of chance and good."""
        middle = (self.chance + self.good) / 2
        return not score >= middle if self.good > self.chance else not score <= middle


def build(name: str, faulty: bool, seed: int) -> Case:
    """Return the program of a case from a seed, which fixes its data and its initial weights."""
    torch.manual_seed(seed)
    return folder_of(name).load(name).make(faulty)


def folders() -> tuple[ModuleType, ...]:
    """Return the packages that hold field cases."""
    from benchmarks.doctor import (
        field,
        field_development,
        field_fourth,
        field_second,
        field_third,
    )

    return field, field_second, field_third, field_fourth, field_development


def folder_of(name: str) -> ModuleType:
    """Return the package that holds the case of a name."""
    for folder in folders():
        if name in folder.NAMES:
            return folder
    raise ValueError(f"got {name!r}, expected the name of a field case")


def batched(*tensors: Tensor, size: int = 32) -> list[Any]:
    """Return tuples of `size` samples each; an incomplete last one is left out."""
    count = len(tensors[0]) // size
    return [tuple(t[i * size : (i + 1) * size] for t in tensors) for i in range(count)]


def fit(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Loss,
    epochs: int,
    lr: float = 0.01,
    optimizer: torch.optim.Optimizer | None = None,
    clip: float = 1.0,
) -> None:
    """Train with Adam, or with the given optimiser, and with clipped gradients."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(epochs):
        for i in torch.randperm(len(batches)).tolist():
            optimizer.zero_grad()
            loss(model, batches[i]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """The cross-entropy of (*inputs, target), with the classes on the last axis of the answers."""
    *inputs, target = batch
    answers = model(*inputs)
    return F.cross_entropy(answers.reshape(-1, answers.shape[-1]), target.reshape(-1))


def squared_error(model: nn.Module, batch: Any) -> Tensor:
    """The mean squared error of (*inputs, target)."""
    *inputs, target = batch
    return F.mse_loss(model(*inputs), target)


def answers(model: nn.Module, batches: Iterable[Any]) -> list[tuple[Tensor, Tensor]]:
    """Return (answer, target) of each batch (*inputs, target), in evaluation mode."""
    training = model.training
    model.eval()
    with torch.no_grad():
        pairs = [(model(*inputs), target) for *inputs, target in batches]
    model.train(training)
    return pairs


def accuracy(model: nn.Module, batches: Iterable[Any], ignore: int = -100) -> float:
    """Return the share of right classes; targets equal to `ignore` do not count."""
    right = total = 0
    for answer, target in answers(model, batches):
        counted = target != ignore
        right += int(((answer.argmax(-1) == target) & counted).sum())
        total += int(counted.sum())
    return right / total


def explained(model: nn.Module, batches: Iterable[Any]) -> float:
    """Return the share of the targets' variance that the answers explain: 0 is the mean's."""
    pairs = answers(model, batches)
    answer, target = (torch.cat([p[i].reshape(-1) for p in pairs]) for i in (0, 1))
    return 1 - float((answer - target).square().mean() / target.var(unbiased=False))


def cued(
    count: int, steps: int, classes: int = 2, at: int = 0, noise: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return noise of (sequence, step, feature) whose step `at` alone shows the class, and it."""
    x, y = noise * torch.randn(count, steps, max(4, classes)), torch.randint(classes, (count,))
    x[:, at] = 0
    x[torch.arange(count), at, y] = 3
    return x, y


def classifier(
    model: nn.Module,
    train: Sequence[Any],
    test: Sequence[Any],
    accept: set[str] | dict[str, set[str]],
    epochs: int = 10,
    classes: int = 2,
    lr: float = 0.01,
    good: float = 0.9,
    options: Callable[[nn.Module], dict[str, Any]] = no_options,
) -> Case:
    """Return the case of a classifier with cross-entropy and Adam, scored by its accuracy."""
    return Case(
        model,
        list(train),
        cross_entropy,
        lambda m: fit(m, train, cross_entropy, epochs, lr),
        lambda m: accuracy(m, test),
        1 / classes,
        good,
        accept,
        options,
    )


def forecaster(
    model: nn.Module,
    train: Sequence[Any],
    test: Sequence[Any],
    accept: set[str] | dict[str, set[str]],
    epochs: int = 10,
    loss: Loss = squared_error,
    lr: float = 0.01,
    good: float = 0.9,
    options: Callable[[nn.Module], dict[str, Any]] = no_options,
) -> Case:
    """Return the case of a regression with Adam, scored by the share of variance explained."""
    return Case(
        model,
        list(train),
        loss,
        lambda m: fit(m, train, loss, epochs, lr),
        lambda m: explained(m, test),
        0.0,
        good,
        accept,
        options,
    )


def digits() -> tuple[Tensor, Tensor]:
    """Return the 8x8 digits, in [0, 1], in an order that the seed draws, and their classes."""
    with np.load(str(resources.files("throughtime") / "tasks/data/digits.npz")) as archive:
        images, classes = (torch.as_tensor(archive[key]) for key in ("images", "labels"))
    order = torch.randperm(len(classes))
    return images.reshape(-1, 8, 8)[order].float() / 16, classes[order].long()


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(text: str, length: int) -> list[int]:
    """Return the letters as 1 to 26, all else as 27, cut or filled up with 0 to the length."""
    numbers = [LETTERS.find(c) + 1 or 27 for c in text.lower()[:length]]
    return numbers + [0] * (length - len(numbers))


def prose(count: int) -> Tensor:
    """Return the first characters of Python's own reference as 1 to 26 and 27 for all else."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics.values()).split())
    return torch.tensor(letters(text, count))


def main(names: Sequence[str]) -> int:
    """Check the named cases, print a line for each program, and return 1 if one fails."""
    torch.set_num_threads(1)
    failed: list[str] = []
    for name in names or [name for folder in folders() for name in folder.NAMES]:
        for faulty in (True, False):
            for seed in (0, 1):
                start = time.process_time()
                case = build(name, faulty, seed)
                case.fit(case.model)
                score = case.score(case.model)
                passed = case.poor_enough(score) if faulty else case.good_enough(score)
                failed += [] if passed else [name]
                kind = "faulty " if faulty else "healthy"
                print(
                    f"{name:32} {kind} seed {seed} score {score:.3f} chance {case.chance:.3f} "
                    f"good {case.good:.3f} {time.process_time() - start:5.1f} s"
                    f" {len(case.batches)} batches{'' if passed else '  FAILED'}",
                    flush=True,
                )
    print("failed:", *sorted(set(failed))) if failed else print("all pass")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
