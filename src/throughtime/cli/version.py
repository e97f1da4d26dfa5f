"""`throughtime version`: the versions of what results depend on."""

import dataclasses
import platform
import sys
from collections.abc import Sequence

from throughtime.cli.arguments import flag, parse
from throughtime.cli.output import show_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show the versions of throughtime, torch and Python, the devices, and the engines."""

    json: bool = flag("Print one JSON object.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "version", words)

    import torch

    from throughtime.engines import ENGINES
    from throughtime.training.reproducibility import package_version

    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    found = {
        "throughtime": package_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": devices,
        "engines": [*ENGINES],
    }
    if arguments.json:
        show_json(found)
        return 0
    for name, value in found.items():
        text = ", ".join(value) if isinstance(value, list) else value
        sys.stdout.write(f"{name:<12} {text}\n")
    return 0
