"""A user's whole recipe: a task, a network, a loader, a way of training; and how it is run."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.doctor.models import Design, Mistakes, Network, detached
from benchmarks.doctor.tasks import TASKS, Examples, Task, without_far_inputs

BATCH = 32
EVALUATION_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a user does.

    Attributes:
        task: name of a task.
        design, mistakes: of the network.
        loader: "tuple" or "dict": what a batch is.
        optimizer: "adam" or "sgd".
        rate: size of the step.
        clip: largest norm of the gradient; 0 for no clipping.
        updates: number of steps of the optimiser.
        window: steps of a window of truncated back-propagation in the user's step; 0 for none.
        scale, offset: factor on float inputs, and what is added to them.
        damage: name of what is done to the initial weights; empty for nothing.
    """

    task: str
    design: Design
    mistakes: Mistakes = dataclasses.field(default_factory=Mistakes)
    loader: str = "tuple"
    optimizer: str = "adam"
    rate: float = 1e-2
    clip: float = 1.0
    updates: int = 300
    window: int = 0
    scale: float = 1.0
    offset: float = 0.0
    damage: str = ""


DAMAGES: dict[str, Callable[[Network], None]] = {}


def damage(name: str) -> Callable[[Callable[[Network], None]], Callable[[Network], None]]:
    """Decorator: enter a way of spoiling initial weights."""

    def enter(function: Callable[[Network], None]) -> Callable[[Network], None]:
        DAMAGES[name] = function
        return function

    return enter


def build_model(recipe: Recipe, seed: int) -> Network:
    """The network with its initial weights, damage included; the global generator is unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network(TASKS[recipe.task], recipe.design, recipe.mistakes)
    if recipe.damage:
        with torch.no_grad():
            DAMAGES[recipe.damage](model)
    return model


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The user's optimiser."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=recipe.rate)
    return torch.optim.Adam(model.parameters(), lr=recipe.rate)


def collate(recipe: Recipe, examples: Examples) -> Any:
    """What the user's loader gives."""
    inputs, targets = examples.inputs, examples.targets
    if not TASKS[recipe.task].tokens:
        inputs = recipe.scale * inputs + recipe.offset
    if not recipe.design.data_batch_first:
        inputs = inputs.transpose(0, 1)
        targets = targets.transpose(0, 1) if targets.dim() == 2 else targets
    if recipe.loader == "dict":
        batch = {"inputs": inputs, "targets": targets}
        return batch if examples.lengths is None else {**batch, "lengths": examples.lengths}
    if examples.lengths is not None:
        return inputs, examples.lengths, targets
    return inputs, targets


def batches(recipe: Recipe, seed: int) -> Iterator[Any]:
    """Endless batches."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield collate(recipe, TASKS[recipe.task].draw(generator, BATCH))


def unpack(batch: Any) -> tuple[Tensor, Tensor | None, Tensor]:
    """Inputs, lengths or None, targets."""
    if isinstance(batch, dict):
        return batch["inputs"], batch.get("lengths"), batch["targets"]
    if len(batch) == 3:
        return batch
    return batch[0], None, batch[1]


def loss_of(recipe: Recipe) -> Callable[[nn.Module, Any], Tensor]:
    """The user's loss of a batch."""
    task, design = TASKS[recipe.task], recipe.design

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        inputs, lengths, targets = unpack(batch)
        answer = model(inputs) if lengths is None else model(inputs, lengths)
        if design.stateful:
            answer = answer[0]
        return answer_loss(task, design, answer, targets)

    return loss_fn


def answer_loss(task: Task, design: Design, answer: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, or the mean squared error."""
    if task.answer == "value":
        return F.mse_loss(answer.squeeze(-1), targets)
    if design.head == "log_softmax":
        return F.nll_loss(answer.flatten(0, -2), targets.flatten())
    return F.cross_entropy(answer.flatten(0, -2), targets.flatten())


def step_of(recipe: Recipe) -> Callable[[nn.Module, torch.optim.Optimizer, Any], Tensor]:
    """The user's training step: model, optimiser, batch -> loss."""
    loss_fn = loss_of(recipe)

    def finish(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if recipe.clip:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        finish(model, optimizer)
        return loss.detach()

    def windowed(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        task, design = TASKS[recipe.task], recipe.design
        inputs, _, targets = unpack(batch)
        axis = 1 if design.data_batch_first else 0
        optimizer.zero_grad()
        state, answers = None, []
        for chunk in inputs.split(recipe.window, axis):
            answer, state = model(chunk, state=None if state is None else detached(state))
            answers.append(answer)
        answer = torch.cat(answers, axis) if task.answer == "steps" else answers[-1]
        loss = answer_loss(task, design, answer, targets)
        loss.backward()
        finish(model, optimizer)
        return loss.detach()

    return windowed if recipe.window else step


def fast_twin(recipe: Recipe, model: Network) -> Network:
    """The same network on throughtime's layers, with the same weights: only its speed differs."""
    fast = Network(TASKS[recipe.task], recipe.design, recipe.mistakes, fast=True)
    carry_weights(model, fast)
    return fast


def carry_weights(source: Network, target: Network) -> None:
    """Copy all weights, whatever the two recurrent layers are called."""
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    with torch.no_grad():
        for one, other in pairs:
            other.copy_(one)


def train(recipe: Recipe, seed: int) -> tuple[Network, torch.optim.Optimizer, list[float]]:
    """Train as the user did; returns torch's network, its optimiser, and the losses.

    Where weights stop being finite, the training ends with the last ones that were.
    """
    model = build_model(recipe, seed)
    fast = fast_twin(recipe, model)
    optimizer = build_optimizer(recipe, fast)
    step = step_of(recipe)
    losses = []
    stream = batches(recipe, 1000 + seed)
    for _ in range(recipe.updates):
        checkpoint = [weight.detach().clone() for weight in fast.parameters()]
        losses.append(float(step(fast, optimizer, next(stream))))
        if not all(bool(weight.isfinite().all()) for weight in fast.parameters()):
            with torch.no_grad():
                for weight, kept in zip(fast.parameters(), checkpoint, strict=True):
                    weight.copy_(kept)
            break
    carry_weights(fast, model)
    own = build_optimizer(recipe, model)
    own.load_state_dict(optimizer.state_dict())
    return model, own, losses


@torch.no_grad()
def evaluate(recipe: Recipe, model: Network, *, scrambled: bool = False) -> float:
    """Loss over fresh batches as a share of the baseline; NaN counts as infinite."""
    task = TASKS[recipe.task]
    fast = fast_twin(recipe, model).eval()
    loss_fn = loss_of(recipe)
    generator = torch.Generator().manual_seed(99)
    total = 0.0
    for _ in range(EVALUATION_BATCHES):
        examples = task.draw(generator, BATCH)
        if scrambled:
            examples = without_far_inputs(examples)
        total += float(loss_fn(fast, collate(recipe, examples)))
    share = total / EVALUATION_BATCHES / task.baseline
    return share if math.isfinite(share) else math.inf
