"""`throughtime translate`: a trained encoder-decoder on the lines of a file."""

import dataclasses
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

from throughtime.cli.arguments import number, option, parse, position, whole_number

_AT_ONCE = 32  # lines; one on a terminal, so that each answer comes at once


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Translate lines of text from standard input by a run of an encoder-decoder, such as one on
    the task translation. Each line gives a line."""

    run: str = position("RUN", "The folder of a run of throughtime train or compare.")
    beam: int = option(
        "N", "Beginnings that the search keeps.", whole_number, default=1, usual="1, greedy"
    )
    length_penalty: float = option(
        "P",
        "Exponent of the length that log-probabilities are divided by.",
        number,
        default=0.0,
        usual="0",
    )
    steps: int = option(
        "N",
        "Symbols of a translation at most, its end included.",
        whole_number,
        default=100,
        usual="100",
    )


def run(words: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    arguments = parse(Arguments, "translate", words)

    from throughtime.core.errors import ConfigurationError, RunError
    from throughtime.models import Beam, EncoderDecoder, translate
    from throughtime.training import load_generator

    beam = Beam(arguments.beam, arguments.length_penalty)
    if arguments.steps < 1:
        raise ConfigurationError("--steps", got=arguments.steps, expected="at least 1")
    model, vocabularies, _ = load_generator(arguments.run)
    if not isinstance(model, EncoderDecoder) or not {"source", "target"} <= vocabularies.keys():
        raise RunError(
            f"{arguments.run} does not translate",
            got=type(model).__name__,
            expected="a run of an encoder-decoder on text, such as one on the task translation",
            fix=other_use(arguments.run, model, vocabularies),
        )
    source, target = vocabularies["source"], vocabularies["target"]
    for lines in _parts(sys.stdin, 1 if sys.stdin.isatty() else _AT_ONCE):
        for line in translate(model, source, target, lines, beam, steps=arguments.steps):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


def other_use(run: str, model: object, vocabularies: Collection[str]) -> str:
    """Return what a run can be used for, in words: the command, or the calls in Python.

    Arguments:
        run: folder of the run.
        model: its model.
        vocabularies: names of its vocabularies.
    """
    from throughtime.core.density import Density, LatentDensity
    from throughtime.models import EncoderDecoder

    if "text" in vocabularies:
        return f"A language model writes text: throughtime sample {run}."
    if "dialogue" in vocabularies:
        return f"A model of dialogues talks: throughtime chat {run}."
    if "story" in vocabularies:
        return "It answers questions: throughtime compare shows answers in its report."
    if isinstance(model, Density | LatentDensity):
        return f"A density draws items of its own: throughtime sample {run}."
    if not isinstance(model, EncoderDecoder):
        return f"This run can be measured: throughtime inspect {run}."
    if "source" in vocabularies:
        return f"It translates lines of text: throughtime translate {run} < FILE."
    return (
        "Its sources are no text. In Python: state = model.encode(source), then "
        "throughtime.beam_search with this state."
    )


def _parts(file: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield up to `size` lines at a time, as soon as they are there."""
    from throughtime.core.errors import DataError

    lines: list[str] = []
    try:
        for line in file:
            lines.append(line.rstrip("\n"))
            if len(lines) == size:
                yield lines
                lines = []
    except UnicodeDecodeError as error:
        raise DataError("standard input", got=str(error), expected="text in UTF-8") from error
    if lines:
        yield lines
