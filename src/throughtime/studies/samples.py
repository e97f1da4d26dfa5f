"""Outputs of a trained run: texts, attention, sheets of images, drawn frames, memories."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.errors import ConfigurationError
from throughtime.foreign.sites import recurrent_layers
from throughtime.instruments import alignment, memory_accesses, record
from throughtime.instruments.word_influence import source_words, words_of
from throughtime.layers import RecurrentLayer
from throughtime.memory import MemoryCell
from throughtime.models import DialogueModel, EncoderDecoder, reply, stream
from throughtime.reports.frame_drawings import frames_svg
from throughtime.reports.sheet import image_sheet
from throughtime.results.atomic import read_json, write_json
from throughtime.results.samples import (
    AttentionSample,
    DrawingSample,
    ImageSample,
    MemorySample,
    Samples,
    TextSample,
)
from throughtime.tasks.dialogues import DialogueTask
from throughtime.tasks.frames import FrameDensity
from throughtime.tasks.kinds import Frames
from throughtime.tasks.pairs import PairBatch, PairSet, PairTask, collated, greedy
from throughtime.tasks.pixel_densities import PixelBatch, PixelDensity
from throughtime.tasks.spelling import Spelling
from throughtime.tasks.stories import StoryBatch, StoryQuestions
from throughtime.tasks.task import Task
from throughtime.tasks.texts import Text
from throughtime.tasks.vocabulary import CharacterVocabulary
from throughtime.training import RunFolder, load_model
from throughtime.training.generator import vocabularies_of
from throughtime.training.reproducibility import reproducible

_COUNT = 4  # samples of a run
_MAPS = 2  # of them with the attention
_PROMPT, _STEPS = 10, 60  # words of a text that are read, and drawn
_CHARACTERS = 5  # of a word, with the blank behind it
_STORIES, _SENTENCES = 128, 24  # validation questions that are looked through; sentences of a map
_IMAGES, _COMPLETED = 64, 6
_MUSIC, _STROKES = (4, 100), (64, 30)  # sequences and frames
_WORDS = 1024  # of a memory, the most of which all states are kept
COMPLETIONS = 8
"""The completions of each image."""


def write_samples(folder: Path) -> None:
    """Draw outputs of a trained run and write samples.json, unless it is there for this step.

    Arguments:
        folder: Folder of the run.

    Raises:
        RunLockedError: another process writes the run now.
        RunError: the folder holds no trained run, or cannot be written.
    """
    file, step = folder / "samples.json", RunFolder(folder).latest_step()
    if file.exists() and read_json(file).get("step") == step:
        return
    with RunFolder(folder).locked():
        config, task, model = load_model(folder)
        with reproducible(torch.device("cpu"), config.threads, config.seed), torch.no_grad():
            found = samples(model.eval(), task)
        if found is not None:
            write_json(file, {"step": step, **dataclasses.asdict(found)})


def samples(model: nn.Module, task: Task) -> Samples | None:
    """Return some outputs of a model, and the accesses of its memories; None where it has neither.

    Arguments:
        model: Trained model, in evaluation mode.
        task: Its task.

    Example:
        >>> from throughtime.models import build_model
        >>> task = Text.of("to be or not to be " * 60, length=10)
        >>> found = samples(build_model("gru:hidden=4", task.inputs, task.answers), task)
        >>> len(found.texts), found.texts[0].source[-5:]
        (4, 'r not')
    """
    found, memories = _generated(model, task), _memories(model, task)
    if not memories:
        return found
    return dataclasses.replace(found or Samples(), memories=memories)


def _memories(model: nn.Module, task: Task) -> tuple[MemorySample, ...]:
    """Return the accesses of each memory of words that is small enough for a picture."""
    found: list[MemorySample] = []
    for name, layer in recurrent_layers(model).items():
        if not isinstance(layer, RecurrentLayer):
            continue
        for number, cell in enumerate(layer.cells()):
            if not isinstance(cell, MemoryCell) or cell.memory_words > _WORDS:
                continue
            batch = next(iter(task.batches("validation", 1)))
            level, direction = divmod(number, layer.num_directions)
            recording = record(
                model,
                lambda batch=batch: task.score(model, batch).loss,
                layer=name,
                level=level,
                direction=direction,
            )
            if bool(recording.states.memory.isfinite().all()):  # of a model that did not diverge
                accesses = memory_accesses(recording, sequences=1)
                found.append(MemorySample(_rows(accesses.read), _rows(accesses.written)))
    return tuple(found)


def _rows(weights: Float[Tensor, "sequences time heads words"]) -> tuple[tuple[float, ...], ...]:
    """Return the largest weights of the heads in the first sequence, to three digits."""
    rows = weights[0].amax(1)
    rows = rows[~rows.isnan().any(1)].tolist()
    return tuple(tuple(round(weight, 3) for weight in row) for row in rows)


def _generated(model: nn.Module, task: Task) -> Samples | None:
    if isinstance(task, Text) and isinstance(model, NextSymbol):
        return Samples(_continued(model, task))
    if isinstance(task, PairTask) and isinstance(model, EncoderDecoder):
        return _answers(model, task)
    if isinstance(task, DialogueTask) and isinstance(model, DialogueModel):
        return _replies(model, task)
    if isinstance(task, StoryQuestions):
        return _questions(model, task)
    if isinstance(task, PixelDensity) and hasattr(model, "sample_and_log_prob"):
        return Samples(images=_sheets(model, task))
    if isinstance(task, FrameDensity) and hasattr(model, "sample"):
        return Samples(drawings=_drawings(model, task))
    return None


def _drawings(model: Any, task: FrameDensity) -> tuple[DrawingSample, ...]:
    """Return a picture of drawn sequences; none where a model that diverged draws no number."""
    kind = task.inputs
    usual = _STROKES if kind.pen else _MUSIC
    steps = min(usual[1], task.length)  # no more than the longest training sequence
    drawn = drawn_frames(model, kind, count=16 if kind.pen else None, steps=steps)
    if not all(np.isfinite(frames).all() for frames in drawn):
        return ()
    return (DrawingSample(f"{len(drawn)} draws", frames_svg(drawn, kind)),)


def drawn_frames(
    model: Any,
    kind: Frames,
    *,
    count: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> list[Float64[np.ndarray, "steps width"]]:
    """Return sequences of frames from a trained model.

    Arguments:
        model: Model of frames, with `sample`.
        kind: Kind of the frames.
        count: Number of sequences; None for 4, and for 64 drawings.
        steps: Number of frames; None for 100, and for 30 movements of a pen.
        seed: Seed of the draws.

    Raises:
        ConfigurationError: numbers below 1.
    """
    usual = _STROKES if kind.pen else _MUSIC
    count = usual[0] if count is None else count
    steps = usual[1] if steps is None else steps
    drawn = model.sample(count, steps, random=torch.Generator().manual_seed(seed))
    return list(drawn.double().transpose(0, 1).numpy())


def _questions(model: Any, task: StoryQuestions) -> Samples:
    """Return answers to the last questions of some validation stories, and the sentences read."""
    words = task.vocabulary
    many = cast(StoryBatch, next(task.batches("validation", _STORIES)))
    before = (many.lengths > 0).sum(0)
    last = before[1:] <= before[:-1]  # a new story follows
    rows = torch.cat([last, last.new_ones(1)]).nonzero()[:_COUNT, 0]
    batch = StoryBatch(*(field[..., rows] for field in many))
    given = model(batch).argmax(-1).tolist()
    weights = model.attention(batch) if hasattr(model, "attention") else None
    texts: list[TextSample] = []
    maps: list[AttentionSample] = []
    for b, count in enumerate(before[rows].tolist()):
        lengths = batch.lengths[:count, b].tolist()
        told = [words.decode(batch.sentences[i, :n, b].tolist()) for i, n in enumerate(lengths)]
        question = words.decode(batch.question[: batch.question_lengths[b], b].tolist()) + "?"
        answer, right = (words.symbols[k] for k in (given[b], int(batch.targets[b])))
        texts.append(TextSample(". ".join([*told, question]), answer, right))
        if weights is not None and b < _MAPS:
            own = weights[:, :count, b][:, -_SENTENCES:].tolist()
            hops = tuple(f"hop {k}" for k in range(1, len(own) + 1))
            shown = tuple(told[-_SENTENCES:])
            maps.append(AttentionSample(shown, hops, tuple(map(tuple, own)), question))
    return Samples(tuple(texts), tuple(maps))


def _replies(model: DialogueModel, task: DialogueTask) -> Samples:
    """Return the greedy replies to some validation dialogues."""
    dialogues = task.spoken("validation")[:_COUNT]
    contexts = [dialogue[:-1] for dialogue in dialogues]
    given = reply(model, vocabularies_of(task)["dialogue"], contexts)
    rows = zip(contexts, given, dialogues, strict=True)
    return Samples(tuple(TextSample(" \u2192 ".join(c), text, d[-1]) for c, text, d in rows))


def completed(
    model: Any, x: Int[Tensor, "images channels height width"], random: torch.Generator
) -> tuple[Int[Tensor, "images shown channels height width"], Float[Tensor, "images completions"]]:
    """Return images, their first halves, and completions of these, with their log-probabilities.

    The upper half of an image is given; of an image of one row, the left half.

    Arguments:
        model: Model of images, with `sample_and_log_prob`.
        x: Images.
        random: Source of the random numbers.

    Returns:
        The image, its half, in which the other pixels are -1, and the completions; and the
        log-probabilities of the completions in nats, given the half.

    Raises:
        ConfigurationError: the first half does not come first in the model's ordering.
    """
    known, (height, width) = x.clone(), x.shape[2:]
    if height > 1:
        known[:, :, (height + 1) // 2 :] = -1
    else:
        known[..., (width + 1) // 2 :] = -1
    every = known.repeat_interleave(COMPLETIONS, 0)
    drawn, log_prob = model.sample_and_log_prob(len(every), known=every, random=random)
    rows = (x[:, None], known[:, None], drawn.view(len(x), COMPLETIONS, *x.shape[1:]))
    return torch.cat(rows, 1), log_prob.view(len(x), COMPLETIONS)


def _sheets(model: Any, task: PixelDensity) -> tuple[ImageSample, ...]:
    """Return a sheet of draws, and one of completed validation images where the model can."""
    levels, random = task.kind.levels, torch.Generator().manual_seed(0)
    drawn = image_sheet(model.sample(_IMAGES, random=random).numpy(), levels)
    sheets = [ImageSample("draws", base64.b64encode(drawn).decode())]
    batch = cast(PixelBatch, next(task.batches("validation", _COMPLETED)))
    try:
        shown, _ = completed(model, batch.x, random)
    except ConfigurationError:  # its ordering does not begin with the half
        return tuple(sheets)
    rows = image_sheet(shown.flatten(0, 1).numpy(), levels, columns=2 + COMPLETIONS)
    title = "a validation image, its given half, and completions"
    return *sheets, ImageSample(title, base64.b64encode(rows).decode())


def _continued(model: Any, task: Text) -> tuple[TextSample, ...]:
    """Return texts that go on after the beginning of the validation text."""
    vocabulary = task.vocabulary
    factor = _CHARACTERS if isinstance(vocabulary, CharacterVocabulary) else 1
    prompt = task.codes["validation"][: _PROMPT * factor].long()
    return tuple(
        TextSample(
            vocabulary.decode(prompt.tolist()),
            vocabulary.decode([*stream(model, prompt, _STEPS * factor, seed=seed)]),
        )
        for seed in range(_COUNT)
    )


def _answers(model: EncoderDecoder, task: PairTask) -> Samples:
    """Return the greedy answers to some validation sources, and the attention that gave them."""
    if isinstance(task, PairSet):
        batch = collated(task.pairs["validation"][:_COUNT], task.begin, task.end)
    else:
        batch = cast(PairBatch, next(task.batches("validation", _COUNT)))
    names = vocabularies_of(task)
    state = model.encode(batch.source, batch.source_lengths)
    most = 2 * len(batch.targets) + 10
    given = greedy(model, state, batch.size, begin=task.begin, end=task.end, most=most)
    true = [[n for n in row if n >= 0][:-1] for row in batch.targets.T.tolist()]
    if isinstance(task, Spelling):
        sources = [task.number(vector) for vector in batch.source]
    else:
        sources = [_text(words) for words in source_words(batch, names)]
    texts = tuple(
        TextSample(source, *(_text(words_of(row, names.get("target"))) for row in rows))
        for source, *rows in zip(sources, given, true, strict=True)
    )
    if model.context not in ("attention", "attention-after"):
        return Samples(texts)
    assert batch.source_lengths is not None
    lengths = batch.source_lengths.tolist()
    own = [(batch.source[: lengths[k], k].numpy(), row) for k, row in enumerate(given)]
    shown = collated(own, task.begin, task.end)
    found = alignment(model, shown, pairs=_MAPS, vocabularies=names)
    rows = zip(found.source_words, found.target_words, found.weights, strict=True)
    return Samples(
        texts,
        tuple(
            AttentionSample(
                source, target, tuple(map(tuple, weights[: len(target), : len(source)].tolist()))
            )
            for source, target, weights in rows
        ),
    )


def _text(words: Sequence[str]) -> str:
    return " ".join(words)
