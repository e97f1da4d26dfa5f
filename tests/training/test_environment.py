import dataclasses
import platform
import subprocess
from pathlib import Path

import numpy
import pytest
import torch

from throughtime.core.errors import ConfigurationError, DeviceError
from throughtime.training import current_environment, reproducibility
from throughtime.training.reproducibility import reproducible, run_device, source_commit

pytestmark = pytest.mark.without_compiler

CPU = torch.device("cpu")


def test_environment_is_this_process() -> None:
    environment = current_environment(CPU, 3, ["vendor", "eager", "vendor"])
    assert environment.torch == torch.__version__
    assert environment.numpy == numpy.__version__
    assert environment.python == platform.python_version()
    assert environment.device.startswith("cpu (")
    assert environment.threads == 3
    assert environment.engines == ["eager", "vendor"]


def test_differences() -> None:
    environment = current_environment(CPU, 1)
    assert environment.differences(environment) == []
    other = dataclasses.replace(
        environment, torch="1.0", threads=2, commit="x", platform="x", python="x", engines=["x"]
    )
    assert environment.differences(other) == [
        f"torch {torch.__version__} instead of 1.0",
        "threads 1 instead of 2",
    ]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    file = tmp_path / "package" / "module.py"
    file.parent.mkdir()
    file.write_text("1")
    assert source_commit(file) is None, "no checkout"
    git(tmp_path, "init", "--quiet")
    assert source_commit(file) is None, "no commit"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "One")
    git(tmp_path, "tag", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert source_commit(file) == head
    file.write_text("2")
    assert source_commit(file) == f"{head}-dirty"
    stranger = tmp_path / "stranger.py"
    stranger.write_text("3")
    assert source_commit(stranger) is None, "somebody else's checkout"


def test_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducibility.shutil, "which", lambda name: None)
    assert source_commit(Path(__file__)) is None


def test_git_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(reproducibility.shutil, "which", lambda name: "/bin/git")
    monkeypatch.setattr(reproducibility.subprocess, "run", hang)
    assert source_commit(Path(__file__)) is None


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cpu:x", "cuda:-2"])
def test_no_such_kind_of_device(name: str) -> None:
    message = f"device of the run: got '{name}', expected cpu, cuda or cuda:N"
    with pytest.raises(ConfigurationError, match=message):
        run_device(name)


def test_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert run_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"got 'cuda:2', expected one of .*: cpu, cuda:0, cuda:1"):
        run_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match=r"got 'cuda', expected one of this torch's \(.*\): cpu"):
        run_device("cuda")


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.get_rng_state().numpy().tobytes(),
    )


@pytest.mark.parametrize("warn_only", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_settings_are_put_back(deterministic: bool, warn_only: bool) -> None:
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    try:
        before = settings()
        threads = torch.get_num_threads() + 1
        inside: list[object] = []

        def fail() -> None:
            with reproducible(CPU, threads, 5):
                inside.extend(settings())
                inside.append(torch.rand(3))
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert inside[:5] == [threads, True, False, False, False]
        assert torch.equal(inside[-1], torch.rand(3, generator=torch.Generator().manual_seed(5)))
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(False)
