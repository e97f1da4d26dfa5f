"""`throughtime diagnose`: why a model does not remember, and what helps."""

import dataclasses
from collections.abc import Sequence

from throughtime.cli.arguments import flag, one_of, option, parse, position, whole_number
from throughtime.cli.output import remark, show, show_json, show_place


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Find out why a recurrent network does not remember, try what helps on copies, and write a
    report. Nothing of the model is changed."""

    source: str = position(
        "SOURCE",
        "my_project.py:make, a function that returns (model, batches, loss), or also a dict of "
        "further arguments of diagnose, such as training_step, optimizer, unseen, history and "
        "free_running; or "
        "the folder of a run of throughtime train or compare.",
    )
    layer: str | None = option(
        "NAME", "Name of the recurrent layer within the model.", usual="the only one"
    )
    lag: int | None = option(
        "STEPS",
        "Steps back to the inputs that the answer depends on.",
        whole_number,
        usual="measured",
    )
    budget: str = option("TIME", "Time that it may take: 60s, 2min.", default="60s", usual="60s")
    no_remedies: bool = flag("Do not train copies with changes.")
    seed: int = option(
        "N", "Seed of the doctor's own random numbers.", whole_number, default=0, usual="0"
    )
    fail_on: str | None = option(
        "fault",
        "Exit with code 1 if the verdict is a fault, as a check in CI needs it.",
        one_of("fault"),
        usual="0 with any verdict",
    )
    out: str | None = option("FILE", "The report.", usual="diagnosis.html")
    json: bool = flag(
        "Print the diagnosis as one JSON object on stdout; no report but where --out names one."
    )


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "diagnose", words)

    from throughtime.doctor import diagnose
    from throughtime.doctor.sources import exits_refused, from_text
    from throughtime.results.record import check_suffix

    if arguments.out is not None:
        check_suffix(arguments.out)  # before the time is spent
    given = from_text(arguments.source)
    options = dict(given.options)
    if arguments.lag is not None:
        options["lag"] = arguments.lag
    if arguments.layer is not None:
        options["layer"] = arguments.layer
    if not arguments.json:
        remark(f"examining {arguments.source} for about {arguments.budget} ...")
    with exits_refused():
        diagnosis = diagnose(
            given.model,
            given.batches,
            given.loss_fn,
            budget=arguments.budget,
            remedies=not arguments.no_remedies,
            seed=arguments.seed,
            **options,
        )
    code = int(arguments.fail_on == "fault" and diagnosis.faulty)
    if arguments.json:
        show_json(diagnosis.to_json())
        if arguments.out is not None:
            diagnosis.save(arguments.out)
        return code
    out = arguments.out or "diagnosis.html"
    diagnosis.save(out)
    show(diagnosis)
    show_place("report", out)
    return code
