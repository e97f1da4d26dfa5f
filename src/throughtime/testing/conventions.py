"""The conventions of torch.nn's layers that code relies on beside their results."""

import abc
import contextlib
import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from throughtime.core import errors
from throughtime.core.state import state_tensors
from throughtime.layers import RecurrentLayer
from throughtime.testing.compare import close, floating

WIDTH = 3
"""The width of the inputs that the suites draw."""


class LayerPair(abc.ABC):
    """A layer, and the layer of torch.nn that it stands for, or its own eager run.

    Attributes:
        tolerance: relative or absolute, between the results of the two.
    """

    tolerance = 1e-10

    @abc.abstractmethod
    def make(self, **options: Any) -> RecurrentLayer:
        """The layer, of input width `WIDTH`.

        Arguments:
            options: Options of the constructor: `dtype`, `device`, `batch_first`.
        """

    def reference(self, **options: Any) -> nn.Module | None:
        """The layer of torch.nn with the same arguments and names of parameters, or None.

        Arguments:
            options: The options of `make`.
        """
        del options
        return None

    def pair(self, **options: Any) -> tuple[RecurrentLayer, nn.Module]:
        """The layer and its reference, with the same weights; in evaluation mode.

        Arguments:
            options: The options of `make`; `dtype` is float64 if it is left out.
        """
        options = {"dtype": torch.float64, **options}
        ours, theirs = self.make(**options).eval(), self.reference(**options)
        if theirs is None:
            theirs = copy.deepcopy(ours)
            theirs.engine = "eager"
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs.eval()

    def input(self, time: int = 5, batch: int = 2) -> Tensor:
        """Inputs of a fixed draw, (time, batch, WIDTH), float64, with gradient."""
        generator = torch.Generator().manual_seed(time)
        x = torch.randn(time, batch, WIDTH, generator=generator, dtype=torch.float64)
        return x.requires_grad_()


class LayerConventions(LayerPair):
    """Construction, random numbers, errors, states and dtypes, as of torch.nn's layers."""

    def test_built_in_inference_mode(self) -> None:
        """A layer that is built and run in inference mode equals one that is not."""
        torch.manual_seed(1)
        expected = self.make(dtype=torch.float64).eval()(self.input().detach())
        torch.manual_seed(1)
        with torch.inference_mode():
            got = self.make(dtype=torch.float64).eval()(self.input().detach())
        assert got[0].is_inference()
        close(floating(got), floating(expected), self.tolerance)

    def test_weights_stay_where_conversion_swaps_them(self) -> None:
        """`set_swap_module_params_on_conversion` leaves a new layer its weights."""
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            torch.manual_seed(1)
            swapped = self.make()
            converted = self.make().to(torch.float64)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
        torch.manual_seed(1)
        close(list(swapped.parameters()), list(self.make().parameters()), 0.0)
        output = converted(self.input())[0]
        assert output.dtype == torch.float64
        assert output.isfinite().all()

    def test_evaluation_draws_nothing(self) -> None:
        """A call in evaluation mode, and `explain`, leave the global generator as it is."""
        layer = self.make(dtype=torch.float64).eval()
        before = torch.get_rng_state()
        layer(self.input(), reset=torch.ones(5, 2, dtype=torch.bool))
        layer.explain(self.input())
        layer.train().explain(self.input())
        assert torch.equal(torch.get_rng_state(), before)

    def test_errors_are_those_of_torch(self) -> None:
        """`except` clauses that are written for torch.nn catch ours."""
        layer, x = self.make(dtype=torch.float64), self.input().detach()
        for wrong in (x[:0], x[..., :1], x[None], x.to_sparse()):
            with pytest.raises(RuntimeError, match="input: got"):
                layer(wrong)
        with pytest.raises(ValueError, match=r"input: got dtype torch\.float32"):
            layer(x.float())
        with pytest.raises(RuntimeError, match="input: got device meta"):
            layer(x.to("meta"))
        state = layer(x)[1]
        first = state_tensors(state)[0][:, :1]
        given = first if isinstance(state, torch.Tensor) else type(state)(first, *state[1:])
        with pytest.raises(RuntimeError, match="got shape") as caught:
            layer(x, given)
        assert isinstance(caught.value, errors.StateError)

    def test_state_is_made_anew_as_a_tuple_is(self) -> None:
        """`type(h)(f(t) for t in h)`, as code for torch's (h, c) detaches a state, works."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        state = layer(x)[1]
        if isinstance(state, torch.Tensor):
            return  # as of torch.nn.GRU
        for make in (iter, list, tuple):
            again = type(state)(make(state))
            assert type(again) is type(state)
            assert all(a is b for a, b in zip(again, state, strict=True))
        close(floating(layer(x, type(state)(s for s in state))), floating(layer(x, state)), 0.0)

    def test_reset_and_lengths_may_change_before_the_backward_pass(self) -> None:
        """Gradients are those of the values that the call was given."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input(time=6)
        first = torch.zeros(6, 2, dtype=torch.bool)
        first[3, 0] = True
        found = []
        for change in (False, True):
            reset, lengths = first.clone(), torch.tensor([6, 4])
            output = layer(x, reset=reset, lengths=lengths)[0]
            if change:
                reset.fill_(True)
                lengths.fill_(1)
            found.append(torch.autograd.grad(output.square().sum(), [x, *layer.parameters()]))
        close(found[1], found[0], 0.0)

    def test_results_may_be_changed_in_place(self) -> None:
        """Gradients are those of the values that the call returned."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        wanted = [x, *layer.parameters()]
        calls: list[dict[str, Any]] = [{}, {"return_states": True}, {"lengths": [5, 3]}]
        for more in calls:
            found = []
            for change in (False, True):
                results = floating(layer(x, **more))
                doubled = [r.mul_(2) if change else 2 * r for r in results]
                loss = torch.stack([d.square().sum() for d in doubled]).sum()
                found.append(torch.autograd.grad(loss, wanted))
            close(found[1], found[0], 1e-12)

    def test_flat_weights(self) -> None:
        """`_flat_weights` lists the parameters; a list that is set is run with until conversion."""
        layer, x = self.make(dtype=torch.float64).eval(), self.input()
        reference = self.reference(dtype=torch.float64)
        names, weights = layer._flat_weights_names, layer._flat_weights
        if reference is not None:
            assert names == reference._flat_weights_names
        assert [id(w) for w in weights] == [id(p) for p in layer.parameters()]
        doubled = [(2 * w.detach()).requires_grad_() for w in weights if w is not None]
        named = dict(zip(names, doubled, strict=True))
        expected = torch.func.functional_call(layer, named, x)[0]
        plain = layer(x)[0]
        layer._flat_weights = doubled
        assert all(a is b for a, b in zip(layer._flat_weights, doubled, strict=True))
        assert [id(w) for w in weights] == [id(p) for p in layer.parameters()]
        output = layer(x)[0]
        close([output], [expected], 0.0)
        found = [torch.autograd.grad(o.square().sum(), doubled) for o in (output, expected)]
        close(found[0], found[1], 0.0)
        close([torch.func.functional_call(layer, named, x)[0]], [expected], 0.0)
        layer.to(torch.float64)
        assert [id(w) for w in layer._flat_weights] == [id(p) for p in layer.parameters()]
        close([layer(x)[0]], [plain], 0.0)
        with pytest.raises(errors.ConfigurationError, match="_flat_weights: got 1 tensors"):
            layer._flat_weights = doubled[:1]

    @pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
    @pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
    def test_autocast_gives_dtypes_that_no_engine_changes(self, lower: torch.dtype) -> None:
        """Outputs and state come in the dtypes of torch.nn's layer, by every engine."""
        layer = self.make(dtype=torch.float32).eval()
        reference = self.reference(dtype=torch.float32)
        for dtype in (torch.float32, lower):
            for packed in (False, True):
                x = self.input().detach().to(dtype)
                found: dict[str, list[torch.dtype]] = {}
                with torch.autocast("cpu", lower):
                    given: Any = pack_padded_sequence(x, [5, 3]) if packed else x
                    for engine in ("auto", "eager", "vendor", "scan"):
                        layer.engine = engine
                        with contextlib.suppress(errors.EngineRefusalError):
                            found[engine] = _dtypes(layer(given))
                    if reference is not None:
                        # of float16, torch has no oneDNN kernel
                        with contextlib.suppress(RuntimeError):
                            found["torch.nn"] = _dtypes(reference(given))
                assert len(found) > 1
                assert all(kinds == found["eager"] for kinds in found.values()), found


def _dtypes(result: Any) -> list[torch.dtype]:
    output, state = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output.dtype, *(t.dtype for t in state_tensors(state))]
