"""`throughtime chat`: a dialogue with a trained model in the terminal."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence

from throughtime.cli.arguments import number, option, parse, position, whole_number

_RESET = "/reset"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Talk to a run on dialogues, such as one on the task dailydialog. Each line that you type is
    an utterance, and gives a reply; empty lines are skipped. The dialogue so far is the context.
    /reset starts a new dialogue; the end of the input (Ctrl-D) ends. The same lines and seed give
    the same replies."""

    run: str = position("RUN", "The folder of a run of throughtime train or compare.")
    temperature: float = option(
        "T", "Divisor of the logits; 0 for the likeliest symbol.", number, default=1.0, usual="1.0"
    )
    top_k: int | None = option("K", "Number of symbols that are kept.", whole_number, usual="all")
    top_p: float = option(
        "P", "Probability that the kept symbols have together.", number, default=1.0, usual="1.0"
    )
    min_p: float = option(
        "P",
        "Least probability of a kept symbol, relative to the likeliest one.",
        number,
        default=0.0,
        usual="0.0",
    )
    beam: int | None = option(
        "WIDTH", "Width of a beam search, in place of draws.", whole_number, usual="draws"
    )
    length_penalty: float = option(
        "P", "Exponent of the length in the scores of the beam.", number, default=0.0, usual="0.0"
    )
    steps: int = option(
        "N", "Symbols of a reply at most, its end included.", whole_number, default=60, usual="60"
    )
    seed: int = option("N", "Seed of the draws.", whole_number, default=0, usual="0")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "chat", words)

    from throughtime.cli.translate import other_use
    from throughtime.core.errors import ConfigurationError, RunError
    from throughtime.core.escaping import escaped
    from throughtime.models import Beam, DialogueModel, Sampling, reply
    from throughtime.training import load_generator

    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p, arguments.min_p)
    beam = None if arguments.beam is None else Beam(arguments.beam, arguments.length_penalty)
    if arguments.steps < 1:
        raise ConfigurationError("--steps", got=arguments.steps, expected="at least 1")
    model, vocabularies, _ = load_generator(arguments.run)
    if not isinstance(model, DialogueModel) or "dialogue" not in vocabularies:
        raise RunError(
            f"{arguments.run} does not talk",
            got=type(model).__name__,
            expected="a run on dialogues, such as one on the task dailydialog",
            fix=other_use(arguments.run, model, vocabularies),
        )
    vocabulary = vocabularies["dialogue"]
    spoken: list[str] = []
    for line in _lines():
        if line == _RESET:
            spoken = []
            continue
        spoken.append(line)
        seed = arguments.seed + len(spoken)  # each reply has draws of its own
        (answer,) = reply(
            model, vocabulary, [spoken], beam or sampling, steps=arguments.steps, seed=seed
        )
        sys.stdout.write(f"{escaped(answer)}\n")
        sys.stdout.flush()
        spoken.append(answer)
    return 0


def _lines() -> Iterator[str]:
    """Yield the lines of the input that are not empty; on a terminal, after a prompt."""
    from throughtime.core.errors import DataError

    shown = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        while True:
            if shown:
                sys.stdout.write("> ")
                sys.stdout.flush()
            line = sys.stdin.readline()
            if not line:
                break
            if line.strip():
                yield line.strip()
    except UnicodeDecodeError as error:
        raise DataError("standard input", got=str(error), expected="text in UTF-8") from error
    if shown:
        sys.stdout.write("\n")
