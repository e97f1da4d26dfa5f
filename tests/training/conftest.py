"""Fixtures of the training tests."""

from collections.abc import Iterator

import pytest
from training.fork_server import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Runs in processes of their own."""
    server = ForkServer()
    yield server
    server.close()
