"""Seeds, deterministic algorithms and thread counts, set for a run and put back after it."""

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from throughtime.core.errors import ConfigurationError, DeviceError


def run_device(name: str) -> torch.device:
    """The device of a run.

    Arguments:
        name: "cpu", "cuda" or "cuda:N".

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

    Arguments:
        device: the only one whose generator is seeded, beside the CPU's.
        threads: number of CPU threads.
        seed: 0 to 2^63 - 1.
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
