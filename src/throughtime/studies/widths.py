"""Hidden sizes that give models as many parameters as another one."""

import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models import MODELS, build_model
from throughtime.studies.specs import spec_text
from throughtime.tasks.task import Task

_LARGEST = 2**14


def matched_widths(specs: list[str], task: Task) -> list[str]:
    """The same models, with hidden=N such that each has as many parameters as the first, or nearly.

    Parameters grow with N, so N is found by bisection: of the last below and the first above, the
    nearer one. Nothing is trained.

    Arguments:
        specs: registry texts; the first is the reference and keeps its size; the others give none.
        task: task that gives the sizes of input and output.

    Raises:
        ConfigurationError: a model other than the first has a hidden size of its own, or has no
            such option, or needs more than 16,384 units.
    """
    reference, *others = specs
    wanted = parameter_count(reference, task)
    return [reference, *(_matched(spec, wanted, task) for spec in others)]


def parameter_count(spec: str, task: Task) -> int:
    """The number of trainable parameters of a model for this task."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(spec, task.inputs, task.answers)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _matched(spec: str, wanted: int, task: Task) -> str:
    name, options = MODELS.parse(spec)
    if "hidden" not in MODELS.options(name):
        raise ConfigurationError(f"model {name!r} has no option 'hidden' to match parameters with")
    if "hidden" in options:
        raise ConfigurationError(
            f"model {spec!r} cannot be matched to the first model's parameters",
            got="a hidden size of its own",
            expected="none",
            fix="Leave its hidden size out, or do not match parameters.",
        )

    def sized(hidden: int) -> str:
        return spec_text(name, {**options, "hidden": hidden})

    def count(hidden: int) -> int:
        return parameter_count(sized(hidden), task)

    above = 1
    while count(above) < wanted:
        above *= 2
        if above > _LARGEST:
            raise ConfigurationError(
                f"model {spec!r} cannot be matched to the first model's parameters",
                got=f"{wanted:,} parameters",
                expected=f"a hidden size of at most {_LARGEST:,}",
                fix="Make the first model smaller.",
            )
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if count(middle) < wanted else (below, middle)
    nearest = (
        above if below == 0 else min(below, above, key=lambda hidden: abs(count(hidden) - wanted))
    )
    return sized(nearest)
