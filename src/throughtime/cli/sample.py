"""`throughtime sample`: text from a language model, as it is drawn; images; sequences of frames."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from throughtime.cli.arguments import flag, option, parse, position, whole_number
from throughtime.cli.drawing import DrawingOptions
from throughtime.cli.output import show_json
from throughtime.cli.sample_frames import sample_frames
from throughtime.cli.sample_images import complete_images, sample_images
from throughtime.cli.translate import other_use

if TYPE_CHECKING:
    from throughtime.tasks.vocabulary import Vocabulary

_USUAL_STEPS, _USUAL_COUNT = 400, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(DrawingOptions):
    """Continue a text with a trained language model: symbols appear as they are drawn. A run on
    images or vectors writes a sheet of images from its model, a run on frames a picture of
    sequences, and MIDI files of music. The same seed gives the same results."""

    source: str = position("RUN", "The folder of a run of a language model, on images or frames.")
    prompt: str | None = option(
        "TEXT", "Beginning of the text.", usual="a line break, or the end of a sentence"
    )
    steps: int | None = option(
        "N",
        "Number of symbols, at most, or of frames.",
        whole_number,
        usual="400 symbols, 100 frames of music, 30 movements of a pen",
    )
    stop: bool = flag("Stop at the end of the first sentence, for vocabularies that have an end.")
    count: int | None = option(
        "N", "Number of images or sequences.", whole_number, usual="64, 4 pieces of music"
    )
    complete: int | None = option(
        "N", "Number of test images whose first half is given, in place of draws.", whole_number
    )
    out: str | None = option(
        "FILE",
        "The sheet of images, or picture.",
        usual="samples.png, completed.png or samples.svg in RUN",
    )
    seed: int = option("N", "Seed of the draws.", whole_number, default=0, usual="0")
    json: bool = flag("Print one JSON object on stdout, when all is drawn.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "sample", words)

    import torch

    from throughtime.core.decoding import NextSymbol
    from throughtime.core.errors import ConfigurationError, RunError
    from throughtime.core.escaping import escaped
    from throughtime.models import Beam, beam_search, stream
    from throughtime.tasks.kinds import Frames, Pixels
    from throughtime.training import load_generator

    strategy = arguments.strategy()
    steps = _USUAL_STEPS if arguments.steps is None else arguments.steps
    if steps < 1:
        raise ConfigurationError("--steps", got=steps, expected="1 or more")
    model, vocabularies, inputs = load_generator(Path(arguments.source))
    if isinstance(inputs, Pixels):
        run, seed, json = Path(arguments.source), arguments.seed, arguments.json
        if arguments.complete is not None:
            place, count = Path(arguments.out or run / "completed.png"), arguments.complete
            return complete_images(model, run, inputs, place, count=count, seed=seed, json=json)
        place = Path(arguments.out or run / "samples.png")
        count = _USUAL_COUNT if arguments.count is None else arguments.count
        return sample_images(model, inputs, place, count=count, seed=seed, json=json)
    if isinstance(inputs, Frames):
        return sample_frames(
            model,
            inputs,
            Path(arguments.out or Path(arguments.source) / "samples.svg"),
            count=arguments.count,
            steps=arguments.steps,
            seed=arguments.seed,
            json=arguments.json,
        )
    if "text" not in vocabularies:
        raise RunError(
            f"{arguments.source} continues no text",
            got=type(model).__name__,
            expected="a run of a language model, such as one on the task text",
            fix=other_use(arguments.source, model, vocabularies),
        )
    assert isinstance(model, NextSymbol)
    vocabulary = vocabularies["text"]
    prompt = _prompt(vocabulary, arguments.prompt)
    end = vocabulary.end if arguments.stop else None
    if isinstance(strategy, Beam):
        given = torch.tensor(prompt)[:, None]
        (found,) = beam_search(model, given, steps, strategy, end=end)
        best = found[0].symbols
        drawn = iter(best[:-1] if found[0].ended else best)
    else:
        drawn = stream(model, torch.tensor(prompt), steps, strategy, end=end, seed=arguments.seed)
    shown = arguments.prompt or ""
    if arguments.json:
        numbers = list(drawn)
        text = "".join(_pieces(vocabulary, prompt, iter(numbers)))
        show_json({"schema_version": 1, "prompt": shown, "text": text, "symbols": numbers})
        return 0
    sys.stdout.write(escaped(shown))
    for piece in _pieces(vocabulary, prompt, drawn):
        sys.stdout.write(escaped(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def _prompt(vocabulary: "Vocabulary", text: str | None) -> list[int]:
    """Return the symbols that the model reads first."""
    from throughtime.core.errors import ConfigurationError

    numbers = vocabulary.encode(text, prompt=True) if text else []
    if text and not numbers:
        raise ConfigurationError("--prompt", got=repr(text), expected="at least one symbol")
    if vocabulary.begin is not None:
        return [vocabulary.begin, *numbers]
    if numbers:
        return numbers
    if vocabulary.end is not None:
        return [vocabulary.end]
    if text is None and "\n" in vocabulary.symbols:
        return vocabulary.encode("\n")
    raise ConfigurationError(
        "--prompt", got="an empty text", expected="at least one symbol that the model can read"
    )


def _pieces(vocabulary: "Vocabulary", prompt: Sequence[int], drawn: Iterator[int]) -> Iterator[str]:
    """Yield what each symbol adds to the text. A symbol may be a part of a character."""
    numbers = [*prompt]
    before = vocabulary.decode(numbers)
    for symbol in drawn:
        numbers.append(symbol)
        now = vocabulary.decode(numbers)
        if now.endswith("\ufffd"):
            continue
        yield now[len(before) :] if now.startswith(before) else now
        before = now
        if len(numbers) > 64:  # the rest has no influence on what comes
            numbers = numbers[-32:]
            before = vocabulary.decode(numbers)
