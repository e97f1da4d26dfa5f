"""What code written for torch.nn's layers relies on beside their results."""

import pytest
import torch

from throughtime.core import errors
from throughtime.core.state import state_tensors
from throughtime.testing.compare import close, floating
from throughtime.testing.layer_pair import LayerPair


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
