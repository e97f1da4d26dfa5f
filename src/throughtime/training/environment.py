"""The environment of a run: versions, device, threads, engines; and the commit of the code."""

import dataclasses
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

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
