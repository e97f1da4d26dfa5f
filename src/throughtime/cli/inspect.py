"""`throughtime inspect`: instruments on a model, each result as text and on one page."""

import dataclasses
from collections.abc import Sequence

from throughtime.cli.arguments import flag, option, parse, position, whole_number
from throughtime.cli.output import remark, show, show_json, show_place


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure a recurrent network with instruments and write one page with all results. The model
    is not changed."""

    source: str = position(
        "RUN|FILE:FUNCTION",
        "The folder of a run of throughtime train or compare; or my_project.py:make, a function "
        "that returns (model, batches, loss).",
    )
    instruments: str | None = option(
        "NAMES",
        "Names with commas between them: gradient_flow, gradient_noise, gates, jacobians, "
        "lyapunov, forward_memory, decoding, input_influence, fixed_points, basins, cliffs, "
        "word_influence, memory_accesses, alignment; or all.",
        usual="gradient_flow,gates,jacobians,lyapunov,forward_memory,decoding; "
        "word_influence,alignment for an encoder-decoder",
    )
    layer: str | None = option(
        "NAME",
        "Name of the recurrent layer within the model.",
        usual="the only one, or the encoder's",
    )
    lag: int | None = option(
        "STEPS",
        "Steps back to the inputs that the answer depends on, marked in the figures.",
        whole_number,
        usual="the task's",
    )
    seed: int = option(
        "N", "Seed of the instruments' random numbers.", whole_number, default=0, usual="0"
    )
    out: str | None = option(
        "FILE", "The page; a file that ends in .json holds the results.", usual="inspection.html"
    )
    json: bool = flag("Print the results as one JSON object on stdout; no page but that of --out.")


def run(words: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    arguments = parse(Arguments, "inspect", words)

    from throughtime.doctor.inspection import INSTRUMENTS, check_names, inspect, usual
    from throughtime.doctor.sources import exits_refused, from_text

    names: list[str] = []
    if arguments.instruments == "all":
        names = list(INSTRUMENTS)
    elif arguments.instruments is not None:
        names = [name.strip() for name in arguments.instruments.split(",") if name.strip()]
    if arguments.instruments is not None:
        check_names(names)  # before a model is loaded or made
    given = from_text(arguments.source, "inspect")
    layer = arguments.layer if arguments.layer is not None else given.options.get("layer")
    names = names or [*usual(given.model, layer)]
    if not arguments.json:
        remark(f"measuring {arguments.source} with {', '.join(names)} ...")
    lag = arguments.lag if arguments.lag is not None else given.options.get("lag")
    with exits_refused():
        found = inspect(
            given.model,
            given.batches,
            given.loss_fn,
            instruments=names,
            layer=layer,
            lag=lag,
            source=arguments.source,
            seed=arguments.seed,
            vocabularies=given.vocabularies,
        )
    if arguments.json:
        show_json(found.to_json())
        if arguments.out is not None:
            found.save(arguments.out)
        return 0

    from throughtime.reports.inspection import inspection_table

    out = arguments.out or "inspection.html"
    found.save(out)
    show(inspection_table(found))
    show("")
    show_place("results" if out.endswith(".json") else "page", out)
    return 0
