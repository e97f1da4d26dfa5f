"""The suite that every model of the next symbol inherits: language models and decoders."""

import abc
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.decoding import NextSymbol
from throughtime.core.state import state_tensors
from throughtime.models import Beam, Sampling, beam_search, generate
from throughtime.testing.compare import close

_ROWS = 3


class NextSymbolConformance(abc.ABC):
    """The rules of models of the next symbol. Inherit it, supply both methods, and run pytest.

    The model is run in float64 on the CPU, in evaluation mode, on three sequences.

    Attributes:
        tolerance: largest difference.

    Example:
        class TestMyModel(NextSymbolConformance):
            def make_model(self):
                return MyLanguageModel(alphabet=7)

            def start(self, model):
                return None
    """

    tolerance = 1e-10

    @abc.abstractmethod
    def make_model(self) -> nn.Module:
        """Return a small model."""

    @abc.abstractmethod
    def start(self, model: Any) -> Any:
        """Return the state of three sequences before their first symbol; None for no state.

        Arguments:
            model: model of `make_model`.
        """

    def test_protocol(self) -> None:
        """It is a model of the next symbol, of its own alphabet."""
        model = self._model()
        logits, _ = model(self._symbols(model, 5), self.start(model))
        assert isinstance(model, NextSymbol)
        assert logits.shape == (5, _ROWS, model.alphabet)

    def test_no_symbol_is_read_before_its_step(self) -> None:
        """The logits of a step depend on the symbols up to it alone."""
        model = self._model()
        state, inputs = self.start(model), self._symbols(model, 5)
        logits, _ = model(inputs, state)
        for t in range(1, 5):
            later = inputs.clone()
            later[t:] = (later[t:] + 1) % model.alphabet
            found, _ = model(later, state)
            close([found[:t]], [logits[:t]], self.tolerance)
            assert not torch.equal(found[t], logits[t]), f"symbol {t} is not read"

    def test_steps_apart_equal_steps_together(self) -> None:
        """A state goes on as if there had been no cut, and is not changed in place."""
        model = self._model()
        start, inputs = self.start(model), self._symbols(model, 5)
        logits, end = model(inputs, start)
        state, found = start, []
        for t in range(5):
            step, state = model(inputs[t : t + 1], state)
            found.append(step)
        close([torch.cat(found)], [logits], self.tolerance)
        close(state_tensors(state), state_tensors(end), self.tolerance)
        close([model(inputs, start)[0]], [logits], 0)

    def test_weights_of_one_symbol_are_this_symbol(self) -> None:
        """Symbols may be given as weights: gradients go through them."""
        model = self._model()
        start, inputs = self.start(model), self._symbols(model, 4)
        weights = nn.functional.one_hot(inputs, model.alphabet).double().requires_grad_()
        logits, _ = model(weights, start)
        close([logits], [model(inputs, start)[0]], self.tolerance)
        (gradient,) = torch.autograd.grad(logits.square().sum(), [weights])
        assert bool(gradient.abs().sum(-1).all()), "no gradient at the weights of a symbol"

    def test_losses_are_those_of_the_logits(self) -> None:
        """Losses are in nats, and 0 where none is due."""
        model = self._model()
        state, inputs, targets = self.start(model), self._symbols(model, 4), self._symbols(model, 4)
        targets[3, 1] = -1
        logits, end = model(inputs, state)
        nll, after = model.losses(inputs, targets, state)
        expected = -logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        close([nll], [torch.where(targets >= 0, expected, 0.0)], self.tolerance)
        close(state_tensors(after), state_tensors(end), self.tolerance)

    def test_selected_rows_go_on_by_themselves(self) -> None:
        """Rows of a state in another order, some of them twice."""
        model = self._model()
        _, state = model(self._symbols(model, 2), self.start(model))
        rows, inputs = torch.tensor([2, 0, 0, 1]), self._symbols(model, 3)
        expected, _ = model(inputs, state)
        found, _ = model(inputs[:, rows], model.select(state, rows))
        close([found], [expected[:, rows]], self.tolerance)

    def test_scores_of_a_beam_are_log_probabilities(self) -> None:
        """Each hypothesis of each sequence, scored again from its first symbol."""
        model = self._model()
        start, prompt = self.start(model), self._symbols(model, 2)
        found = beam_search(model, prompt, 5, Beam(4), state=start, end=1)
        assert [len(each) for each in found] == [4] * _ROWS
        for row, hypotheses in enumerate(found):
            for one in hypotheses:
                text = torch.cat([prompt[:, row], torch.tensor(one.symbols)])
                inputs, targets = text[:-1, None], text[1:, None].clone()
                targets[: len(prompt) - 1] = -1
                own = None if start is None else model.select(start, torch.tensor([row]))
                nll = model.losses(inputs, targets, own)[0].detach()
                assert abs(float(nll.sum()) + one.log_prob) <= 1e-5, f"row {row}: {one}"

    def test_a_beam_of_one_is_the_greedy_choice(self) -> None:
        """Symbol by symbol."""
        model = self._model()
        start, prompt = self.start(model), self._symbols(model, 1)
        greedy = generate(model, prompt, 6, Sampling(temperature=0), state=start)
        found = beam_search(model, prompt, 6, Beam(1), state=start)
        for row, (one,) in enumerate(found):
            assert list(one.symbols) == greedy[:, row].tolist()

    def _model(self) -> Any:
        torch.manual_seed(0)
        return self.make_model().double().eval()

    def _symbols(self, model: Any, time: int) -> Tensor:
        return torch.randint(model.alphabet, (time, _ROWS))
