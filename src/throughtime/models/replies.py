"""Replies to dialogues as text: by a model, or the nearest ones of the training dialogues."""

import importlib
from collections.abc import Sequence
from typing import Any, final

import torch

from throughtime.core.errors import ConfigurationError
from throughtime.core.sampling import Sampling
from throughtime.models.beam import Beam, beam_search
from throughtime.models.dialogue import DialogueModel
from throughtime.models.generation import generate
from throughtime.tasks.dialogues import collated
from throughtime.tasks.vocabulary import Vocabulary

_AT_ONCE = 32  # dialogues of a batch


@torch.no_grad()
def reply(
    model: DialogueModel,
    vocabulary: Vocabulary,
    contexts: Sequence[Sequence[str]],
    strategy: Sampling | Beam | None = None,
    *,
    steps: int = 60,
    seed: int = 0,
) -> list[str]:
    """Return a reply to each dialogue. It does not depend on the dialogues beside it.

    Arguments:
        model: model in evaluation mode.
        vocabulary: its words.
        contexts: the utterances of each dialogue, at least one.
        strategy: draws, or a search; greedy decoding, a beam of one, if None.
        steps: largest number of symbols of a reply, its end included.
        seed: seed of the draws, of a latent variable too. Equal dialogues have equal replies.

    Raises:
        ConfigurationError: no step, a dialogue without an utterance, or a vocabulary that does not
            fit the model.

    Example:
        >>> from throughtime.models import build_model
        >>> from throughtime.tasks import CountingDialogue
        >>> task = CountingDialogue()
        >>> model = build_model("hred:cell=gru,hidden=4", task.inputs, task.answers).eval()
        >>> len(reply(model, task.vocabulary, [["two cups", "nine hats"], ["one egg"]], steps=3))
        2
    """
    if steps < 1:
        raise ConfigurationError("steps of a reply", got=steps, expected="at least 1")
    begin, end = vocabulary.begin, vocabulary.end
    if begin is None or end is None or len(vocabulary) != model.alphabet:
        raise ConfigurationError(
            "vocabulary of the dialogues",
            got=f"{len(vocabulary)} symbols",
            expected=f"the model's {model.alphabet}, with one that begins and one that ends a text",
        )
    if not all(contexts):
        raise ConfigurationError("a dialogue", got="no utterance", expected="at least one")
    found: list[str] = []
    device = next(model.parameters()).device
    for first in range(0, len(contexts), _AT_ONCE):
        part = [
            [vocabulary.encode(text, prompt=True) for text in context]
            for context in contexts[first : first + _AT_ONCE]
        ]
        batch = collated(part, end).to(device)
        seeds = [seed] * batch.size
        state = model.encode(batch.symbols, batch.lengths, random=torch.tensor(seeds))
        prompt = torch.full((1, batch.size), begin, device=device)
        if isinstance(strategy, Sampling):
            drawn = generate(model, prompt, steps, strategy, state=state, end=end, seeds=seeds)
            texts = drawn.T.tolist()
        else:
            searched = beam_search(model, prompt, steps, strategy or Beam(1), state=state, end=end)
            texts = [list(hypotheses[0].symbols) for hypotheses in searched]
        for text in texts:
            found.append(vocabulary.decode(text[: text.index(end)] if end in text else text))
    return found


@final
class NearestReplies:
    """Replies of the training dialogues whose contexts are most similar: TF-IDF and the cosine.

    The context of a reply is the text of all utterances before it. Of equally similar contexts, the
    first one counts.

    Arguments:
        dialogues: texts of the utterances of each training dialogue.

    Raises:
        ConfigurationError: scikit-learn is not installed, or there is no reply or no word.

    Source:
        The retrieval baseline of Serban et al. 2017; scikit-learn's TF-IDF is our choice.
    """

    def __init__(self, dialogues: Sequence[Sequence[str]]):
        package = _scikit_learn()
        self._replies = [each for dialogue in dialogues for each in dialogue[1:]]
        contexts = [
            " ".join(dialogue[:turn]) for dialogue in dialogues for turn in range(1, len(dialogue))
        ]
        self._vectors = package.TfidfVectorizer()
        try:
            self._contexts = self._vectors.fit_transform(contexts)
        except ValueError as error:  # no text, or no word in it
            raise ConfigurationError(
                "training dialogues", got=str(error), expected="replies to texts with words"
            ) from error

    def __call__(self, contexts: Sequence[Sequence[str]]) -> list[str]:
        """Return the reply to the most similar training context.

        Arguments:
            contexts: the utterances of each dialogue.
        """
        found: list[str] = []
        for first in range(0, len(contexts), _AT_ONCE):
            texts = [" ".join(context) for context in contexts[first : first + _AT_ONCE]]
            cosines = (self._vectors.transform(texts) @ self._contexts.T).toarray()
            found += [self._replies[k] for k in cosines.argmax(1)]
        return found


def _scikit_learn() -> Any:
    try:
        return importlib.import_module("sklearn.feature_extraction.text")
    except ImportError as error:
        raise ConfigurationError(
            "retrieval needs the package scikit-learn",
            got=str(error),
            fix="Run: pip install 'throughtime[retrieval]'.",
        ) from error
