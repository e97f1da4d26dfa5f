"""`throughtime judge`: a page on which people compare two models' answers, and its results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from throughtime.cli.arguments import (
    flag,
    number,
    one_of,
    option,
    options,
    parse,
    position,
    whole_number,
)
from throughtime.cli.output import show, show_json, show_place

if TYPE_CHECKING:
    from throughtime.core.sampling import Sampling
    from throughtime.models import Beam
    from throughtime.results.judgement import Answers
    from throughtime.training.dialogue_answers import Contexts

_RETRIEVAL = "tfidf"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write one HTML page, without network or server, on which a person compares the answers of two
    models to the same dialogues: A, B or a tie, in random order, without names. The page saves a
    JSON file. --read prints the wins, losses and ties of such files with 90 % intervals.

    A side is the folder of a run on dialogues; tfidf, the replies to the most similar training
    dialogues (pip install 'throughtime[retrieval]'); or a JSON file of answers, as --answers writes
    it. Then the other side answers the dialogues of this file."""

    first: str | None = position("A", "A run, tfidf or a JSON file of answers.", None)
    second: str | None = position("B", "Another one.", None)
    read: tuple[str, ...] = options("FILE", help="JSON files that the page has saved.")
    out: str = option("FILE", "The page.", default="judge.html", usual="judge.html")
    answers: str | None = option(
        "FOLDER", "Folder for both models' answers, a.json and b.json.", usual="not written"
    )
    contexts: int = option(
        "N", "Dialogues, half of them short.", whole_number, default=100, usual="100"
    )
    long: int | None = option(
        "WORDS",
        "Words of a context from which it counts as long.",
        whole_number,
        usual="more than the median",
    )
    split: str = option(
        "SPLIT",
        "Split of the dialogues: validation or test.",
        one_of("validation", "test"),
        default="test",
        usual="test",
    )
    beam: int = option(
        "WIDTH", "Width of the search for answers.", whole_number, default=5, usual="5"
    )
    temperature: float | None = option(
        "T", "Temperature of draws, in place of the search.", number, usual="the search"
    )
    steps: int = option(
        "N", "Symbols of an answer at most, its end included.", whole_number, default=60, usual="60"
    )
    seed: int = option(
        "N", "Seed of contexts, orders and draws.", whole_number, default=0, usual="0"
    )
    data_dir: str | None = option("FOLDER", "Folder of data files.", usual="that of the run")
    json: bool = flag("With --read, print one JSON object.")


def run(words: Sequence[str]) -> int:
    """Run the command; the exit code."""
    arguments = parse(Arguments, "judge", words)

    from throughtime.core.errors import ConfigurationError

    if arguments.read:
        if arguments.first is not None:
            raise ConfigurationError(
                "judge --read", got=f"{arguments.first} too", expected="files of judgements alone"
            )
        return _table(arguments.read, arguments.json)
    if arguments.first is None or arguments.second is None:
        raise ConfigurationError(
            "judge",
            got="fewer than two sides",
            expected="two runs, or JSON files of answers",
            fix="`throughtime judge --help` lists the forms.",
        )
    return _page(arguments, arguments.first, arguments.second)


def _table(files: Sequence[str], json: bool) -> int:
    from throughtime.reports.judging import preference_table
    from throughtime.results.fields import to_document
    from throughtime.results.judgement import Judgement, preferences

    rows = preferences(Judgement.read(Path(file)) for file in files)
    if json:
        show_json({"schema_version": 1, "preferences": to_document(rows)})
    else:
        show(preference_table(rows))
    return 0


def _page(arguments: Arguments, first: str, second: str) -> int:
    from throughtime.core.errors import ConfigurationError
    from throughtime.core.sampling import Sampling
    from throughtime.models import Beam
    from throughtime.reports.judging import render_judging
    from throughtime.results.atomic import write_json, write_whole

    strategy: Sampling | Beam = Beam(arguments.beam)
    if arguments.temperature is not None:
        strategy = Sampling(arguments.temperature)
    if arguments.steps < 1:
        raise ConfigurationError("--steps", got=arguments.steps, expected="at least 1")
    if not 0 <= arguments.seed < 2**63:
        raise ConfigurationError("--seed", got=arguments.seed, expected="a number of at least 0")
    a, b = _answers(arguments, (first, second), strategy)
    page = render_judging(a, b, seed=arguments.seed, long=arguments.long)
    if arguments.answers is not None:
        folder = Path(arguments.answers)
        folder.mkdir(parents=True, exist_ok=True)
        for name, each in (("a.json", a), ("b.json", b)):
            write_json(folder / name, each.to_json())
        show_place("answers", folder)
    write_whole(Path(arguments.out), page.encode("utf-8", "backslashreplace"))
    show_place("page", arguments.out)
    return 0


def _answers(
    arguments: Arguments, sides: tuple[str, str], strategy: "Sampling | Beam"
) -> "list[Answers]":
    """Return the answers of both sides to the same contexts."""
    from throughtime.core.errors import ConfigurationError
    from throughtime.results.judgement import Answers
    from throughtime.training.dialogue_answers import (
        answers_of,
        contexts_of,
        dialogue_task,
        retrieved,
    )

    given = {side: Answers.read(Path(side)) for side in sides if side.endswith(".json")}
    runs = [side for side in sides if side not in given and side != _RETRIEVAL]
    if not runs and _RETRIEVAL in sides:
        raise ConfigurationError(
            "judge",
            got=f"{_RETRIEVAL} without a run",
            expected="a run, whose training dialogues are searched",
        )
    contexts: Contexts
    if given:
        one = next(iter(given.values()))
        name, contexts = one.task, [each.context for each in one.answers]
        task = dialogue_task(runs[0], arguments.data_dir) if _RETRIEVAL in sides else None
    else:
        task = dialogue_task(runs[0], arguments.data_dir)
        split = "validation" if arguments.split == "validation" else "test"
        name, contexts = task.name, contexts_of(task, split, arguments.contexts, arguments.seed)
    found: list[Answers] = []
    for side in sides:
        if side in given:
            found.append(given[side])
        elif side == _RETRIEVAL:
            assert task is not None
            found.append(retrieved(task, contexts))
        else:
            found.append(
                answers_of(
                    side, contexts, name, strategy, steps=arguments.steps, seed=arguments.seed
                )
            )
    return found
