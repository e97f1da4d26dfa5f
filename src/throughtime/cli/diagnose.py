"""`throughtime diagnose`: why a model does not remember, and what helps."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from throughtime.cli.arguments import option, parse
from throughtime.cli.output import error_console, show, show_json
from throughtime.doctor import diagnose
from throughtime.doctor.sources import from_text


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Find out why a recurrent network does not remember, try what helps on copies, and write a
    report. Nothing of the model is changed."""

    source: Annotated[tyro.conf.Positional[str], option("SOURCE", "")]
    """my_project.py:make, a function that returns (model, batches, loss); or the folder of a run of
    throughtime train or compare."""
    layer: Annotated[str | None, option("NAME", "the only one")] = None
    """Name of the recurrent layer within the model."""
    lag: Annotated[int | None, option("STEPS", "measured")] = None
    """How many steps back the answer depends on its inputs."""
    budget: Annotated[str, option("TIME", "60s")] = "60s"
    """How long it may take: 60s, 2min."""
    no_remedies: Annotated[bool, option(None, "")] = False
    """Do not train copies with changes."""
    seed: Annotated[int, option("N", "0")] = 0
    """Seed of the doctor's own random numbers."""
    out: Annotated[Path, option("FILE", "diagnosis.html")] = Path("diagnosis.html")
    """The report."""
    json: Annotated[bool, option(None, "")] = False
    """Print the diagnosis as one JSON object on stdout; no report but where --out names one."""


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "diagnose", words)
    patient = from_text(arguments.source)
    options = dict(patient.options)
    if arguments.lag is not None:
        options["lag"] = arguments.lag
    if arguments.layer is not None:
        options["layer"] = arguments.layer
    if not arguments.json:
        error_console().print(f"examining {arguments.source} for about {arguments.budget} ...")
    diagnosis = diagnose(
        patient.model,
        patient.batches,
        patient.loss_fn,
        budget=arguments.budget,
        remedies=not arguments.no_remedies,
        seed=arguments.seed,
        **options,
    )
    if arguments.json:
        show_json(diagnosis.to_json())
        if "--out" in words:
            diagnosis.save(arguments.out)
        return 0
    diagnosis.save(arguments.out)
    show(diagnosis)
    show(f"report: {arguments.out}")
    return 0
