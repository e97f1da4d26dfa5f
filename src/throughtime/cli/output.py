"""Where a command's output goes: results to stdout, progress and remarks to stderr."""

import json
import sys
from collections.abc import Mapping

from rich.console import Console, RenderableType


def show(result: RenderableType) -> None:
    """Print a result for people."""
    Console(highlight=False).print(result)


def show_json(result: Mapping[str, object]) -> None:
    """Print a result for machines: one JSON object, and nothing else on stdout."""
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False, default=str) + "\n")


def error_console() -> Console:
    """The console of progress and remarks."""
    return Console(stderr=True, highlight=False)
