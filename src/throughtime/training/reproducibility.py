"""The conditions of a run: its environment, as a record; seeds, deterministic algorithms and thread
counts, set for the run and put back after it."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError, DeviceError, RunMismatchError


def run_device(name: str) -> torch.device:
    """The device of a run.

    Raises:
        ConfigurationError: not the name of a CPU or a CUDA device.
        DeviceError: this machine or this torch has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigurationError(
            "device of the run", got=repr(name), expected="cpu, cuda or cuda:N"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            "device of the run",
            got=repr(name),
            expected=f"one of this torch's ({torch.__version__}): cpu"
            + "".join(f", cuda:{index}" for index in range(torch.cuda.device_count())),
        )
    return device


@contextlib.contextmanager
def reproducible(device: torch.device, threads: int, seed: int) -> Iterator[None]:
    """Within the block torch is seeded, deterministic and uses so many threads; as before after it.

    The filling of uninitialised memory, which torch's deterministic algorithms switch on to find
    faults, and which costs time, is off.
    """
    filling: Any = importlib.import_module("torch.utils.deterministic")  # its types lack the flag
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill: bool = filling.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    previous_threads = torch.get_num_threads()
    with preserved_randomness(device):
        try:
            if device.type == "cuda":
                # cuBLAS is deterministic with a fixed workspace alone, and reads this at first use.
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            torch.default_generator.manual_seed(seed)
            torch.use_deterministic_algorithms(True)
            filling.fill_uninitialized_memory = False
            torch.backends.cudnn.benchmark = False
            torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(previous_threads)
            torch.backends.cudnn.benchmark = benchmark
            filling.fill_uninitialized_memory = fill
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@contextlib.contextmanager
def preserved_randomness(device: torch.device) -> Iterator[None]:
    """Put torch's generators back after the block to where they were before it."""
    states = random_states(device)
    try:
        yield
    finally:
        restore_random_states(states, device)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that a run on this device draws from, by device type."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `random_states` returned, those of this device that are among it."""
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


# A run goes on to the same bits where these agree. The engines are compared once one has run.
_DECIDE_THE_BITS = ("throughtime", "torch", "numpy", "device", "threads")


@dataclasses.dataclass(frozen=True)
class Environment:
    """The environment in which a run ran.

    Attributes:
        throughtime, torch, numpy, python: versions.
        platform: system and processor, from Python's `platform`.
        device: "cpu" with the instruction set that torch uses on it, or the GPU's name.
        threads: number of CPU threads that torch used.
        engines: names of the engines in a training step, sorted; empty before the first.
        commit: commit of the checkout that throughtime runs from, with "-dirty" if it was changed
            since; None where it runs from no checkout, or there is no git.
    """

    throughtime: str
    torch: str
    numpy: str
    python: str
    platform: str
    device: str
    threads: int
    engines: list[str]
    commit: str | None

    def differences(self, other: "Environment") -> list[str]:
        """Return the differences from another environment that may change the bits of a run."""
        return [
            f"{name} {getattr(self, name)} instead of {getattr(other, name)}"
            for name in _DECIDE_THE_BITS
            if getattr(self, name) != getattr(other, name)
        ]


def current_environment(
    device: torch.device, threads: int, engines: Sequence[str] = ()
) -> Environment:
    """The environment of this process.

    Arguments:
        device: device of the run.
        threads: number of threads that torch is set to use.
        engines: names of the engines that have run so far.
    """
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    else:
        device_name = f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return Environment(
        throughtime=package_version(),
        torch=torch.__version__,
        numpy=numpy.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        device=device_name,
        threads=threads,
        engines=sorted(set(engines)),
        commit=source_commit(Path(__file__)),
    )


def package_version() -> str:
    """The installed package's version, or "not installed" where a folder of sources runs."""
    try:
        return importlib.metadata.version("throughtime")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def source_commit(file: Path) -> str | None:
    """The commit of the git checkout that tracks a file, with "-dirty" if the checkout has changes.

    Arguments:
        file: a file that the checkout must track: a package that is installed below somebody else's
            checkout is none of its sources.

    Returns:
        None where git is not installed, fails, or does not track the file.
    """
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        try:
            # A list of arguments, none from input, and no shell.
            answer = subprocess.run(  # noqa: S603
                [git, "-C", str(file.parent), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    if not ask("ls-files", "--error-unmatch", file.name):
        return None
    return ask("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None


def check_environment(folder: Path, environment: Environment, stored: Environment) -> None:
    """Check that a run goes on to the same bits in another environment.

    Arguments:
        folder: folder of the run.
        environment: environment of this process.
        stored: environment in which the run was written.

    Raises:
        RunMismatchError: they differ in what decides the results.
    """
    differences = environment.differences(stored)
    if differences:
        raise RunMismatchError(
            f"{folder} was written in another environment",
            got=", ".join(differences),
            expected="the same, since results may differ",
            fix="Choose another folder, or allow the mismatch.",
        )
