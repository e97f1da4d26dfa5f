"""Settings of every test: examples repeat in CI, seeds are fixed, annotations may be checked."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# What tests compile is kept for the next run, beside the package rather than in the user's cache.
os.environ.setdefault("THROUGHTIME_CACHE", str(Path(__file__).parents[1] / "build" / "tests"))

import jaxtyping
import pytest
import torch
from examples import NIGHTLY
from hypothesis import settings

# CHECKED=1: every annotation of the package is checked at every call, which takes a third longer.
# This comes before the first import of throughtime; torch.compile cannot trace the checks: its
# tests run in a process of their own.
if os.environ.get("CHECKED"):
    jaxtyping.install_import_hook("throughtime", "checked.checked")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

# Python's own handler, also where this process was started with the signal ignored (nohup, or `&`
# in a script): what is tested here and in child processes counts on it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("nightly", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("nightly" if NIGHTLY else "ci" if "CI" in os.environ else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what runs at night alone."""
    if not NIGHTLY:
        items[:] = [item for item in items if item.get_closest_marker("nightly") is None]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same generator state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of annotations: for tests of what a user sees, who does not have them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
