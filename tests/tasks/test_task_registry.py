"""The registry of tasks: what `throughtime list` shows, and what a wrong text is told."""

import inspect

import pytest

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.tasks import TASKS, DialogueTask, FrameDensity, PixelDensity, Task, TreeLabels
from throughtime.tasks.kinds import Bits

NEEDS_FILES = {
    *("babi", "binarized-mnist", "binary-density", "characters", "dailydialog", "dialogue"),
    *("dynamic-mnist", "jsb-chorales", "midi", "mnist", "mnist-images", "multi30k", "nottingham"),
    *("pen-strokes", "penn-treebank", "permuted-mnist", "sentiment", "text", "text8"),
    *("translation", "treebank", "vectors", "warped-mnist"),
}


def test_names():
    assert list(TASKS) == [
        "adding",
        "associative-recall",
        "babi",
        "binarized-mnist",
        "binary-density",
        "both-sides",
        "characters",
        "chords",
        "copy-bits",
        "copy-sequence",
        "copying",
        "counting",
        "counting-dialogue",
        "dailydialog",
        "dialogue",
        "digit-images",
        "digits",
        "distant-brackets",
        "dynamic-mnist",
        "jsb-chorales",
        "latch",
        "linear-gaussian",
        "midi",
        "mnist",
        "mnist-images",
        "multi30k",
        "multiplication",
        "noisy-walk",
        "nottingham",
        "one-shot-strokes",
        "parity",
        "pen-strokes",
        "penn-treebank",
        "permuted-digits",
        "permuted-mnist",
        "polarity",
        "polygons",
        "priority-sort",
        "questions",
        "repeat-copy",
        "reverse",
        "sentiment",
        "spelling",
        "tagging",
        "temporal-order",
        "text",
        "text8",
        "thresholded-digits",
        "translation",
        "treebank",
        "two-sequence",
        "vectors",
        "warped-digits",
        "warped-mnist",
        "wave",
    ]


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_has_one_line_and_plain_options(name):
    line = TASKS.describe(name)
    assert 20 < len(line) <= 100
    assert line.endswith(".")
    for default in TASKS.options(name).values():
        assert default is None or isinstance(default, int | float | str)


@pytest.mark.parametrize("name", sorted(set(TASKS) - NEEDS_FILES))
def test_every_task_states_what_it_is(name):
    task = TASKS.build(name)
    assert isinstance(task, Task)
    assert task.name == name
    named = {metric.name: metric for metric in task.metrics}
    assert named["loss"].chance > 0
    if not isinstance(task, DialogueTask | FrameDensity | PixelDensity | TreeLabels):
        assert [name for name in named if name != "wrong_bits"][:2] == ["accuracy", "loss"]
        assert (next(iter(named)) == "wrong_bits") == isinstance(task.answers, Bits)
        assert 0 < named["accuracy"].chance < 1
    assert task.length > task.dependency_length > 0
    assert task.criterion
    known = "Source:" in inspect.getdoc(type(task)) or "our choice" in task.criterion
    assert known or task.criterion == "none: the best loss is not known"


def test_texts():
    assert TASKS.build("adding:length=50,form=unit").length == 50
    assert TASKS.build("temporal-order:symbols=3").answers.count == 8
    assert TASKS.build("digits:pixels-per-step=8").length == 8
    assert TASKS.options("mnist")["data_dir"] is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("addding", UnknownNameError, r"unknown task: got 'addding', .*Did you mean 'adding'"),
        ("adding:lenght=5", UnknownNameError, r"option of task 'adding': got 'lenght'.*'length'"),
        ("adding:length=five", ConfigurationError, r"got 'five', expected a whole number"),
    ],
)
def test_wrong_texts(text, error, message):
    with pytest.raises(error, match=message):
        TASKS.build(text)
