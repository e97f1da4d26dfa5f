"""The suite that every model of a target, given a source, inherits."""

import abc
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.state import state_tensors
from throughtime.testing.compare import close


class EncoderDecoderConformance(abc.ABC):
    """The rules of models with `encode`. Inherit it, supply `make_model`, and run pytest.

    The model is run in float64 on the CPU, in evaluation mode. Sources are symbols below
    `source_alphabet`, of 6, 1 and 4 positions.

    Attributes:
        source_alphabet: number of symbols of a source.
        tolerance: largest difference.

    Example:
        class TestMyModel(EncoderDecoderConformance):
            source_alphabet = 9

            def make_model(self):
                return MyModel(source=9, target=7)
    """

    source_alphabet: int
    tolerance = 1e-10

    @abc.abstractmethod
    def make_model(self) -> nn.Module:
        """Return a small model."""

    def test_protocol(self) -> None:
        """It is a model of the next symbol, of its own alphabet."""
        model, source, lengths = self._given()
        symbols = self._symbols(model, 5)
        logits, _ = model(symbols, model.encode(source, lengths))
        assert isinstance(model, NextSymbol)
        assert logits.shape == (5, 3, model.alphabet)

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

    def test_no_symbol_is_read_before_its_step(self) -> None:
        """The logits of a step depend on the symbols up to it alone."""
        model, source, lengths = self._given()
        state, inputs = model.encode(source, lengths), self._symbols(model, 5)
        logits, _ = model(inputs, state)
        for t in range(1, 5):
            later = inputs.clone()
            later[t:] = (later[t:] + 1) % model.alphabet
            close([model(later, state)[0][:t]], [logits[:t]], self.tolerance)

    def test_steps_apart_equal_steps_together(self) -> None:
        """A state goes on as if there had been no cut, and is not changed in place."""
        model, source, lengths = self._given()
        start, inputs = model.encode(source, lengths), self._symbols(model, 5)
        logits, end = model(inputs, start)
        state, found = start, []
        for t in range(5):
            step, state = model(inputs[t : t + 1], state)
            found.append(step)
        close([torch.cat(found)], [logits], self.tolerance)
        close(state_tensors(state), state_tensors(end), self.tolerance)
        close([model(inputs, start)[0]], [logits], 0)

    def test_losses_are_those_of_the_logits(self) -> None:
        """Losses are in nats, and 0 where none is due."""
        model, source, lengths = self._given()
        state, inputs, targets = (
            model.encode(source, lengths),
            self._symbols(model, 4),
            self._symbols(model, 4),
        )
        targets[3, 1] = -1
        logits, end = model(inputs, state)
        nll, after = model.losses(inputs, targets, state)
        expected = -logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        close([nll], [torch.where(targets >= 0, expected, 0.0)], self.tolerance)
        close(state_tensors(after), state_tensors(end), self.tolerance)

    def test_selected_rows_go_on_by_themselves(self) -> None:
        """Rows of a state in another order, some of them twice."""
        model, source, lengths = self._given()
        _, state = model(self._symbols(model, 2), model.encode(source, lengths))
        rows, inputs = torch.tensor([2, 0, 0, 1]), self._symbols(model, 3)
        expected, _ = model(inputs, state)
        found, _ = model(inputs[:, rows], model.select(state, rows))
        close([found], [expected[:, rows]], self.tolerance)

    def _given(self) -> tuple[Any, Tensor, Tensor]:
        torch.manual_seed(0)
        model = self.make_model().double().eval()
        return model, torch.randint(self.source_alphabet, (6, 3)), torch.tensor([6, 1, 4])

    def _symbols(self, model: Any, time: int) -> Tensor:
        return torch.randint(model.alphabet, (time, 3))


def _gradients(model: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters, and clear them."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad()
    return found
