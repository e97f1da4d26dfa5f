"""The suite that every recurrent layer inherits: what torch.nn's layers serve, it serves."""

import torch

from throughtime.testing.compare import close, floating
from throughtime.testing.conventions import LayerConventions
from throughtime.testing.programs import LayerPrograms


class DropInConformance(LayerConventions, LayerPrograms):
    """What holds for every recurrent layer that stands in the place of one of torch.nn.

    Inherit it, supply `make`, and `reference` where torch.nn has such a layer, and run pytest. All
    layers are in float64 and run by engine "auto"; results equal the reference's, or those of the
    same layer run by the eager engine.
    """

    def test_results_and_gradients(self) -> None:
        """Outputs, state and the gradient of the input equal the reference's."""
        ours, theirs = self.pair()
        x = self.input()
        results = [floating(layer(x)) for layer in (ours, theirs)]
        close(results[0], results[1], self.tolerance)
        gradients = [torch.autograd.grad(r[0].square().sum(), x)[0] for r in results]
        close(gradients[:1], gradients[1:], self.tolerance)
