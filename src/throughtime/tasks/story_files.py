"""Files of stories in the form of the bAbI tasks: read, written, and as a task."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.tasks.corpora import read_file
from throughtime.tasks.splits import rows, three_ways
from throughtime.tasks.stories import Line, Story, StoryQuestions, plain
from throughtime.tasks.task import Split

_OWN = "task 'babi'"
_FORM = "NUMBER SENTENCE, or NUMBER QUESTION<TAB>ANSWER<TAB>NUMBERS OF LINES"


def read_stories(name: str, content: str) -> list[list[Line]]:
    """Return the stories of a file's text.

    Each line has a number. Number 1 begins a story. A question has a tab, its answer, a tab, and
    the numbers of the lines that the answer follows from, which may be absent.

    Arguments:
        name: name of the file, for error messages.
        content: text of the file.

    Raises:
        DataError: a line without a number or without words; a number that is neither 1 nor the next
            one; a question before any sentence; an answer that is absent or of several words; a
            supporting line that is no earlier sentence of the story.

    Example:
        >>> text = "1 Anna went to the attic.\\n2 Where is Anna? \\tattic\\t1\\n"
        >>> for line in read_stories("qa.txt", text)[0]:
        ...     print(line)
        Line(text='Anna went to the attic.', answer='', supports=())
        Line(text='Where is Anna?', answer='attic', supports=(1,))
    """
    stories: list[list[Line]] = []
    for place, row in enumerate(content.removesuffix("\n").split("\n"), start=1):
        subject = f"{name}, line {place}"
        found = re.fullmatch(r"\s*(\d{1,9})\s+(\S.*)", row)
        if found is None:
            raise DataError(subject, got=repr(row[:80]), expected=_FORM)
        number, rest = int(found[1]), found[2]
        following = len(stories[-1]) + 1 if stories else 1
        if number == 1:
            stories.append([])
        elif number != following:
            expected = f"{following}, or 1 for a new story" if stories else "1"
            raise DataError(f"number of {subject}", got=number, expected=expected)
        stories[-1].append(_line(subject, rest, stories[-1]))
    return stories


def _line(subject: str, rest: str, before: Sequence[Line]) -> Line:
    """Return a sentence or a question, checked against the lines before it."""
    text, *fields = (part.strip() for part in rest.split("\t"))
    if not plain(text):
        raise DataError(subject, got=repr(text[:80]), expected="words")
    if not fields:
        return Line(text)
    if len(fields) > 2:
        raise DataError(subject, got=f"{len(fields)} tabs", expected="2: " + _FORM)
    if len(fields[0].split()) != 1:
        raise DataError(
            f"answer of {subject}",
            got=repr(fields[0]),
            expected="one word",
            fix="Several words are written as one, with commas: milk,apple.",
        )
    sentences = [k for k, line in enumerate(before, start=1) if not line.answer]
    if not sentences:
        raise DataError(subject, got="a question", expected="a sentence before it")
    supports = fields[1].split() if len(fields) == 2 else []
    for support in supports:
        if not support.isdecimal() or int(support) not in sentences:
            raise DataError(
                f"supporting lines of {subject}",
                got=repr(support),
                expected="numbers of sentences of this story, before the question",
            )
    return Line(text, fields[0], tuple(map(int, supports)))


def write_stories(stories: Iterable[Story]) -> str:
    """Return the text of a file with stories, which `read_stories` reads.

    Arguments:
        stories: stories.

    Example:
        >>> print(write_stories([[Line("It rains."), Line("Does it rain?", "yes", (1,))]]), end="")
        1 It rains.
        2 Does it rain?	yes	1
    """
    lines: list[str] = []
    for story in stories:
        for number, (text, answer, supports) in enumerate(story, start=1):
            fields = [answer, " ".join(map(str, supports))] if answer else []
            lines.append("\t".join([f"{number} {text}", *fields]) + "\n")
    return "".join(lines)


def babi(
    *,
    file: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    sha256: str | None = None,
    data_dir: str | None = None,
) -> StoryQuestions:
    """Questions about stories, of files in the form of the bAbI tasks (Weston et al. 2015).

    Without files of their own, validation and test are 10 % of the stories each, drawn at random,
    the same in every run.

    Arguments:
        file: path of the training file, in UTF-8: qa1_single-supporting-fact_train.txt.
        validation, test: paths of files of held-out stories.
        sha256: SHA-256 of the training file, or its first 16 hexadecimal digits or more; other
            content is refused. A run adds it to its configuration.
        data_dir: folder of the files.

    Raises:
        ConfigurationError: no file, or a checksum that is none.
        DataError: a file that is missing or no text, or has a line that is not as it should be.
    """
    if file is None:
        raise ConfigurationError(
            f"file of {_OWN}",
            got="no file",
            expected="file=FILE",
            fix="Write babi:file=qa1_train.txt,test=qa1_test.txt, or use the task 'questions', "
            "which needs no data.",
        )
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{16,64}", sha256):
        raise ConfigurationError(
            f"sha256 of {_OWN}",
            got=repr(sha256),
            expected="16 to 64 hexadecimal digits in small letters",
        )
    checksum, stories = "", dict[Split, list[list[Line]]]()
    named: dict[Split, str | None] = {"training": file, "validation": validation, "test": test}
    for split, each in named.items():
        if each is not None:
            path = (Path(data_dir or "") / each).expanduser()
            content, sums = read_file(path, sha256 if split == "training" else None)
            checksum = checksum or sums
            stories[split] = read_stories(path.name, content)
    task = StoryQuestions(
        "babi", three_ways(stories, len(stories["training"]), rows, "stories", least=10, part=10)
    )
    task.sha256 = checksum
    return task
