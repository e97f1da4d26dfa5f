"""Every optimiser of torch trains, is checked, and goes on from a checkpoint to the same bits."""

from pathlib import Path

import pytest
import torch
from torch import nn
from training.tiny import tiny, trained, weights

from throughtime.core.errors import ConfigurationError, RunInterrupted, UnknownNameError
from throughtime.training import Event, Progress, build_optimizer, optimizer_names, train
from throughtime.training import run as run_module
from throughtime.training.checkpoint import (
    Checkpoint,
    RunState,
    load_checkpoint,
    save_checkpoint,
)
from throughtime.training.optimizers import check_optimizer
from throughtime.training.reproducibility import current_environment

VARIANTS = [
    *((name, {}) for name in optimizer_names()),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "fused": True}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adam", {"amsgrad": True, "betas": (0.5, 0.75)}),
    ("Adam", {"fused": True}),
    ("Adam", {"foreach": True}),
    ("Adadelta", {"maximize": True}),
]


def model_of_matrices() -> nn.Module:
    """Matrices alone, as Muon wants."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))


def update(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    model(inputs).square().sum().backward()
    optimizer.step()


def test_names_are_those_of_torch() -> None:
    classes = {n for n, c in vars(torch.optim).items() if isinstance(c, type) and n != "Optimizer"}
    assert set(optimizer_names()) == classes - {"LBFGS", "SparseAdam"} | {"Nesterov", "Rescaled"}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_state_round_trip(name: str, options: dict[str, object], tmp_path: Path) -> None:
    """Ten updates are five, a checkpoint on disk, and five more by new objects: bit for bit."""
    model = model_of_matrices()
    optimizer = build_optimizer(name, model.parameters(), 0.01, options)
    for step in range(5):
        update(model, optimizer, step)
    environment = current_environment(torch.device("cpu"), 1)
    random = {"cpu": torch.get_rng_state()}
    checkpoint = Checkpoint(
        RunState(step=5), model.state_dict(), optimizer.state_dict(), random, environment
    )
    save_checkpoint(checkpoint, tmp_path)

    loaded = load_checkpoint(tmp_path)
    other = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    other.load_state_dict(loaded.model)
    others = build_optimizer(name, other.parameters(), 0.01, options)
    others.load_state_dict(dict(loaded.optimizer))
    start = [p.clone() for p in model.parameters()]
    for step in range(5, 10):
        update(model, optimizer, step)
        update(other, others, step)
    for before, one, two in zip(start, model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(before, one), "it moved"
    assert str(others.state_dict()) == str(optimizer.state_dict())


@pytest.mark.parametrize("name", [n for n in optimizer_names() if n != "Muon"])
def test_run_taken_up_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_SECONDS", 0.0)
    config = tiny(optimizer=name, steps=6, learning_rate=0.01)
    train(config, tmp_path / "whole")

    def press_ctrl_c(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 3:
            import signal

            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterrupted):
        train(config, tmp_path / "halves", observer=press_ctrl_c)
    train(config, tmp_path / "halves")
    assert trained(tmp_path / "halves") == trained(tmp_path / "whole")
    train(tiny(optimizer=name, steps=1, learning_rate=0.01), tmp_path / "one")
    one, six = weights(tmp_path / "one"), weights(tmp_path / "whole")
    assert all(not torch.equal(one[key], six[key]) for key in one), "every weight is trained"


def test_sgd_is_its_formula(tmp_path: Path) -> None:
    """v <- m v + g; w <- w - lr v."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer("SGD", model.parameters(), 0.5, {"momentum": 0.25})
    with torch.no_grad():
        model.weight.fill_(1.0)
    weight, velocity = 1.0, 0.0
    for gradient in (2.0, -1.0, 4.0):
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        velocity = 0.25 * velocity + gradient
        weight -= 0.5 * velocity
        assert model.weight.item() == weight


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("LBFGS", "its step needs a closure that evaluates the loss several times. Choose one of"),
        ("SparseAdam", "it takes sparse gradients alone, and recurrent weights have dense ones"),
    ],
)
def test_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} cannot train a run: {reason}"):
        check_optimizer(name, {})


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("SGDM", {}, UnknownNameError, "unknown optimizer: got 'SGDM'.*Did you mean 'SGD'"),
        ("SGD", {"momentun": 0.9}, UnknownNameError, "option of optimizer 'SGD'.*'momentum'"),
        ("SGD", {"lr": 0.9}, ConfigurationError, "lr among .*Set the run's learning_rate instead"),
        ("SGD", {"differentiable": True}, UnknownNameError, "option of optimizer 'SGD'"),
        (
            "SGD",
            {"momentum": float("nan")},
            ConfigurationError,
            "momentum of optimizer 'SGD': got nan, expected a finite number",
        ),
        ("Adam", {"betas": [0.9, None]}, ConfigurationError, "betas of optimizer 'Adam': got"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options(name: str, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_optimizer(name, options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": -1.0}, "optimizer SGD with .*: got Invalid momentum value: -1.0"),
        ("SGD", {"nesterov": True}, "got Nesterov momentum requires a momentum and zero dampening"),
        (
            "Muon",
            {},
            "got Muon only supports 2D parameters.* Change the options, or choose another",
        ),
        ("Adam", {"betas": (0.9,)}, "optimizer Adam with .*: got "),
    ],
)
def test_what_torch_refuses(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_optimizer(name, nn.Linear(2, 2).parameters(), 0.1, options)
