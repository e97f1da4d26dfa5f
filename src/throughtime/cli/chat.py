"""`throughtime chat`: a dialogue with a trained model in the terminal."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence

from throughtime.cli.arguments import option, parse, position, whole_number
from throughtime.cli.drawing import DrawingOptions

_RESET = "/reset"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(DrawingOptions):
    """Talk to a run on dialogues, such as one on the task dailydialog. Each line that you type is
    an utterance, and gives a reply; empty lines are skipped. The dialogue so far is the context.
    /reset starts a new dialogue; the end of the input (Ctrl-D) ends. The same lines and seed give
    the same replies."""

    run: str = position("RUN", "The folder of a run of throughtime train or compare.")
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
    from throughtime.models import DialogueModel, reply
    from throughtime.training import load_generator

    strategy = arguments.strategy()
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
        (answer,) = reply(model, vocabulary, [spoken], strategy, steps=arguments.steps, seed=seed)
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
