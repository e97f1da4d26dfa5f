"""The suite that every model of a target, given a source, inherits."""

from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.testing.compare import close
from throughtime.testing.next_symbol import NextSymbolConformance


class EncoderDecoderConformance(NextSymbolConformance):
    """The rules of models with `encode`. Inherit it, supply `make_model`, and run pytest.

    They are those of models of the next symbol, and of the source. Sources are symbols below
    `source_alphabet`, of 6, 1 and 4 positions.

    Attributes:
        source_alphabet: number of symbols of a source.

    Example:
        class TestMyModel(EncoderDecoderConformance):
            source_alphabet = 9

            def make_model(self):
                return MyModel(source=9, target=7)
    """

    source_alphabet: int

    @final
    def start(self, model: Any) -> Any:
        """Return the state behind the sources.

        Arguments:
            model: model of `make_model`.
        """
        return model.encode(*self._sources())

    def test_pairs_in_a_batch_give_what_each_gives_alone(self) -> None:
        """Logits, losses and gradients, whatever the lengths of the neighbours."""
        model, source, lengths = self._given()
        inputs, targets = self._symbols(model, 5), self._symbols(model, 5)
        steps = (2, 5, 3)
        for b, t in enumerate(steps):
            targets[t:, b] = -1
        state = model.encode(source, lengths)
        logits, _ = model(inputs, state)
        nll, _ = model.losses(inputs, targets, state)
        nll.sum().backward()
        together = _gradients(model)
        for b, (n, t) in enumerate(zip(lengths.tolist(), steps, strict=True)):
            own = model.encode(source[:n, b : b + 1], torch.tensor([n]))
            alone, _ = model(inputs[:t, b : b + 1], own)
            close([logits[:t, b : b + 1]], [alone], self.tolerance)
            losses, _ = model.losses(inputs[:t, b : b + 1], targets[:t, b : b + 1], own)
            close([nll[:t, b : b + 1]], [losses], self.tolerance)
            assert not bool(nll[t:, b].any()), "a loss where no target is due"
            losses.sum().backward()
        close(together, _gradients(model), self.tolerance)

    def test_padding_is_never_read(self) -> None:
        """Symbols beyond the length of a source change nothing."""
        model, source, lengths = self._given()
        beyond = torch.arange(len(source))[:, None] >= lengths
        other = torch.where(beyond, (source + 1) % self.source_alphabet, source)
        inputs = self._symbols(model, 4)
        first, second = (model(inputs, model.encode(s, lengths))[0] for s in (source, other))
        assert torch.equal(first, second), "padding of the source is read"

    def test_the_source_is_read(self) -> None:
        """Each position changes the logits."""
        model, source, lengths = self._given()
        inputs = self._symbols(model, 4)
        logits, _ = model(inputs, model.encode(source, lengths))
        for position in range(len(source)):
            other = source.clone()
            other[position, 0] = (other[position, 0] + 1) % self.source_alphabet
            changed, _ = model(inputs, model.encode(other, lengths))
            assert not torch.equal(changed[:, 0], logits[:, 0]), f"position {position} is not read"

    def _given(self) -> tuple[Any, Tensor, Tensor]:
        return self._model(), *self._sources()

    def _sources(self) -> tuple[Tensor, Tensor]:
        return torch.randint(self.source_alphabet, (6, 3)), torch.tensor([6, 1, 4])


def _gradients(model: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters, and clear them."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad()
    return found
