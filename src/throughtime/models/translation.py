"""Lines of text translated by an encoder-decoder."""

from collections.abc import Sequence

import torch

from throughtime.core.errors import ConfigurationError
from throughtime.models.beam import Beam, beam_search
from throughtime.models.encoder_decoder import EncoderDecoder
from throughtime.tasks.pairs import collated
from throughtime.tasks.vocabulary import Vocabulary


def translate(
    model: EncoderDecoder,
    source: Vocabulary,
    target: Vocabulary,
    lines: Sequence[str],
    beam: Beam | None = None,
    *,
    steps: int = 100,
) -> list[str]:
    """Return the translation of each line.

    A translation does not depend on the lines beside it. A line of blanks alone gives an empty one.

    Arguments:
        model: model in evaluation mode.
        source: vocabulary of the lines.
        target: vocabulary of the translations, with symbols that begin and end one.
        lines: lines of text.
        beam: the search; greedy decoding, a beam of one, if None.
        steps: largest number of symbols of a translation, its end included.

    Raises:
        ConfigurationError: no step, vocabularies that do not fit the model, or a character that the
            source's has no symbol for.

    Example:
        >>> from throughtime.models import build_model
        >>> from throughtime.tasks.kinds import Likelihood, Pairs, Tokens
        >>> from throughtime.tasks.vocabulary import CharacterVocabulary
        >>> letters = CharacterVocabulary.of("abc", ends=True)
        >>> kinds = Pairs(Tokens(len(letters)), Tokens(len(letters)))
        >>> model = build_model("attention:cell=gru,hidden=4", kinds, Likelihood()).eval()
        >>> len(translate(model, letters, letters, ["cab", ""], steps=3))
        2
    """
    if steps < 1:
        raise ConfigurationError("steps of a translation", got=steps, expected="at least 1")
    if target.begin is None or target.end is None or len(target) != model.alphabet:
        raise ConfigurationError(
            "vocabulary of the target",
            got=f"{len(target)} symbols",
            expected=f"the model's {model.alphabet}, with one that begins and one that ends a line",
        )
    found = [""] * len(lines)
    symbols = [source.encode(line.strip(), prompt=True) for line in lines]
    rows = [k for k, line in enumerate(lines) if line.strip() and symbols[k]]
    if not rows:
        return found
    device = next(model.parameters()).device
    batch = collated([(symbols[k], []) for k in rows], target.begin, target.end).to(device)
    with torch.no_grad():
        state = model.encode(batch.source, batch.source_lengths)
        hypotheses = beam_search(
            model, batch.inputs[:1], steps, beam or Beam(1), state=state, end=target.end
        )
    for k, own in zip(rows, hypotheses, strict=True):
        best = own[0]
        found[k] = target.decode(best.symbols[:-1] if best.ended else best.symbols)
    return found
