"""Answers of a run's model, and of retrieval, to dialogues of the run's task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from throughtime.core.errors import ConfigurationError, RunError
from throughtime.core.sampling import Sampling
from throughtime.models.beam import Beam
from throughtime.models.dialogue import DialogueModel
from throughtime.models.replies import NearestReplies, reply
from throughtime.results.judgement import Answer, Answers
from throughtime.tasks.dialogues import DialogueTask
from throughtime.tasks.task import Split
from throughtime.training.config import build_task, read_config
from throughtime.training.generator import load_generator

Contexts: TypeAlias = Sequence[tuple[str, ...]]
"""The texts of the utterances of each dialogue that is to be answered."""


def dialogue_task(folder: str | Path, data_dir: str | None = None) -> DialogueTask:
    """Return the task of a run on dialogues.

    Arguments:
        folder: folder of the run.
        data_dir: local folder of data files; that of the run if None.

    Raises:
        RunError: there is no run, or it is not on dialogues.
        DataError: the task's files are missing.
    """
    config = read_config(Path(folder))
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    task = build_task(config)
    if not isinstance(task, DialogueTask):
        raise RunError(
            f"{folder} has no dialogues", got=f"task {config.task!r}", expected="a run on dialogues"
        )
    return task


def contexts_of(task: DialogueTask, split: Split, count: int, seed: int = 0) -> Contexts:
    """Return beginnings of dialogues of a split, half of them shorter than the others.

    Each dialogue gives one beginning, which ends at a random utterance but the last. Half of the
    contexts are drawn from the shorter half of all, by words, and half from the longer.

    Arguments:
        task: task of dialogues.
        split: held-out data.
        count: number of contexts, at least 2; fewer where the split has fewer.
        seed: seed of the draws.

    Raises:
        ConfigurationError: a number below 2.
    """
    if count < 2:
        raise ConfigurationError("number of contexts", got=count, expected="at least 2")
    random = np.random.Generator(np.random.Philox(key=seed))
    whole = [tuple(dialogue) for dialogue in task.spoken(split)]
    cuts = random.random(len(whole))
    begun = [d[: 1 + int(u * (len(d) - 1))] for d, u in zip(whole, cuts, strict=True)]
    found = sorted(dict.fromkeys(begun), key=lambda d: len(" ".join(d).split()))
    middle, half = len(found) // 2, min(count, len(found)) // 2
    halves = ((0, middle, half), (middle, len(found), min(count, len(found)) - half))
    chosen: list[int] = []
    for first, last, wanted in halves:
        order = random.random(last - first).argsort(kind="stable")
        chosen += sorted((first + order[:wanted]).tolist())
    return [found[k] for k in chosen]


def answers_of(
    folder: str | Path,
    contexts: Contexts,
    task: str,
    strategy: Sampling | Beam | None = None,
    *,
    steps: int = 60,
    seed: int = 0,
) -> Answers:
    """Return the answers of a run's model. Its name is that of the model and the seed of the run.

    Arguments:
        folder: folder of the run.
        contexts: dialogues to be answered.
        task: name of their data set.
        strategy: draws, or a search; greedy decoding if None.
        steps: largest number of symbols of an answer.
        seed: seed of the draws.

    Raises:
        RunError: there is no run, no checkpoint, or no model of dialogues.
    """
    model, vocabularies, _ = load_generator(folder)
    if not isinstance(model, DialogueModel) or "dialogue" not in vocabularies:
        raise RunError(
            f"{folder} answers no dialogues",
            got=type(model).__name__,
            expected="a run on dialogues, such as one on the task dailydialog",
        )
    config = read_config(Path(folder))
    vocabulary = vocabularies["dialogue"]
    texts = reply(model, vocabulary, contexts, strategy, steps=steps, seed=seed)
    return _joined(f"{config.model} seed {config.seed}", task, contexts, texts)


def retrieved(task: DialogueTask, contexts: Contexts) -> Answers:
    """Return the answers of the TF-IDF baseline on the training dialogues of a task.

    Arguments:
        task: task of dialogues.
        contexts: dialogues to be answered.

    Raises:
        ConfigurationError: scikit-learn is not installed.
    """
    texts = NearestReplies(task.spoken("training"))(contexts)
    return _joined("tfidf", task.name, contexts, texts)


def _joined(model: str, task: str, contexts: Contexts, texts: Sequence[str]) -> Answers:
    pairs = zip(contexts, texts, strict=True)
    return Answers(model, task, tuple(Answer(tuple(context), text) for context, text in pairs))
