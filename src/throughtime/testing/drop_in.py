"""The suite that every recurrent layer inherits: what torch.nn's layers serve, it serves."""

import abc
import copy
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.layers.layer import RecurrentLayer
from throughtime.testing.compare import close, floating

WIDTH = 3
"""The width of the inputs that the suite draws."""


class DropInConformance(abc.ABC):
    """What holds for every recurrent layer that stands in the place of one of torch.nn.

    Inherit it, supply `make`, and `reference` where torch.nn has such a layer, and run pytest. All
    layers are in float64 and run by engine "auto"; results equal the reference's, or those of the
    same layer run by the eager engine.
    """

    tolerance = 1e-10

    @abc.abstractmethod
    def make(self, **options: Any) -> RecurrentLayer:
        """The layer, of input width `WIDTH`.

        Arguments:
            options: of the constructor: `dtype`, `device`, `batch_first`.
        """

    def reference(self, **options: Any) -> nn.Module | None:
        """The layer of torch.nn with the same arguments and names of parameters, or None.

        Arguments:
            options: as of `make`.
        """
        del options
        return None

    def pair(self, **options: Any) -> tuple[RecurrentLayer, nn.Module]:
        """The layer and its reference, with the same weights; in evaluation mode.

        Arguments:
            options: as of `make`; `dtype` is float64 if it is left out.
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

    def test_results_and_gradients(self) -> None:
        """Outputs, state and the gradient of the input equal the reference's."""
        ours, theirs = self.pair()
        x = self.input()
        results = [floating(layer(x)) for layer in (ours, theirs)]
        close(results[0], results[1], self.tolerance)
        gradients = [torch.autograd.grad(r[0].square().sum(), x)[0] for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)
