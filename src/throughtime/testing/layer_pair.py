"""A recurrent layer beside its reference: what the suites of layers are run on."""

import abc
import copy
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.layers.layer import RecurrentLayer

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
