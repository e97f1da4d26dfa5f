"""The suite that every model with latent variables inherits."""

import abc
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.core.density import LatentDensity, LatentLaws
from throughtime.testing.compare import close

_REPEATS = 400


class LatentConformance(abc.ABC):
    """The rules of models with latent variables. Inherit it, supply both methods, run pytest.

    The model is run in float64 on the CPU, in evaluation mode. Items are on the second axis, behind
    time. Each item of a batch has a seed of its own.

    Attributes:
        tolerance: largest difference where nothing is drawn.
        deviations: largest difference of means, in standard errors.

    Example:
        class TestMyModel(LatentConformance):
            def make_model(self):
                return MyModel(width=3, latent=2)

            def make_items(self):
                return torch.randn(5, 3, 3), torch.tensor([5, 1, 3])
    """

    tolerance = 1e-10
    deviations = 5.0

    @abc.abstractmethod
    def make_model(self) -> nn.Module:
        """Return a small model."""

    @abc.abstractmethod
    def make_items(self) -> tuple[Tensor, Tensor]:
        """Return three items, (time, 3, width), and their lengths, not all equal."""

    def test_protocols(self) -> None:
        """It has a bound, an importance-weighted estimate, and laws that can be compared."""
        model = self._model()
        assert isinstance(model, LatentDensity)
        assert isinstance(model, LatentLaws)

    def test_the_bound_of_an_item_does_not_depend_on_the_batch(self) -> None:
        """Neither on the items around it, nor on padding, nor on values behind its end."""
        model, x, lengths, seeds = self._case()
        whole = model.bound(x, lengths, random=seeds)
        weighted = model.importance_weighted(x, lengths, samples=3, random=seeds)
        filled = x.clone()
        for row, length in enumerate(lengths.tolist()):
            filled[length:, row] = 7
            one = x[:length, row : row + 1]
            alone = model.bound(one, random=seeds[row : row + 1])
            close([*alone], [part[row : row + 1] for part in whole], self.tolerance)
            own = model.importance_weighted(one, samples=3, random=seeds[row : row + 1])
            close([own], [weighted[row : row + 1]], self.tolerance)
        close([*model.bound(filled, lengths, random=seeds)], [*whole], self.tolerance)

    def test_equal_seeds_give_equal_draws(self) -> None:
        """Draws are functions of the seeds; other seeds, and none, give others."""
        model, x, lengths, seeds = self._case()
        first = model.bound(x, lengths, random=seeds)
        close([*model.bound(x, lengths, random=seeds)], [*first], 0)
        assert not torch.equal(model.bound(x, lengths, random=seeds + 9)[0], first[0])
        drawn = [model.bound(x, lengths, random=torch.Generator().manual_seed(3)) for _ in "ab"]
        close([*drawn[0]], [*drawn[1]], 0)
        torch.manual_seed(0)
        assert not torch.equal(model.bound(x, lengths)[0], model.bound(x, lengths)[0])

    def test_the_divergence_is_the_mean_of_the_log_ratio(self) -> None:
        """KL is at least 0, and one importance-weighted draw has the bound as its mean."""
        model, x, lengths, _ = self._case()
        assert bool((model.bound(x, lengths).kl >= 0).all())
        for row in range(3):
            many, ends, seeds = self._repeated(x, lengths, row)
            bound = model.bound(many, ends, random=seeds)
            one = model.importance_weighted(many, ends, samples=1, random=seeds)
            self._agree(bound.reconstruction - bound.kl - one, 0.0)

    def test_more_draws_raise_the_estimate(self) -> None:
        """The mean of the importance-weighted estimate rises with the number of draws."""
        model, x, lengths, _ = self._case()
        for row in range(3):
            many, ends, seeds = self._repeated(x, lengths, row)
            found = [
                model.importance_weighted(many, ends, samples=k, random=seeds + k)
                for k in (1, 4, 16)
            ]
            for fewer, more in itertools.pairwise(found):
                rise = more - fewer
                error = float(rise.std()) / math.sqrt(_REPEATS)
                assert float(rise.mean()) >= -self.deviations * error

    def test_laws_are_those_of_the_bound(self) -> None:
        """The sum of their divergences is the KL of the batch: padding has none."""
        model, x, lengths, seeds = self._case()
        laws = model.latents(x, lengths, random=seeds)
        assert laws.posterior.mean.dim() == 2
        total = laws.posterior.kl(laws.prior).sum()
        close([total], [model.bound(x, lengths, random=seeds).kl.sum()], self.tolerance)

    def test_all_parameters_have_a_gradient(self) -> None:
        """The draws are differentiable in the posterior's mean and deviation."""
        model, x, lengths, seeds = self._case(gradient=True)
        bound = model.bound(x, lengths, random=seeds)
        (bound.kl - bound.reconstruction).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"no gradient at {name}"
            assert bool(parameter.grad.any()), f"no gradient at {name}"

    def _model(self) -> Any:
        torch.manual_seed(0)
        return self.make_model().double().eval()

    def _case(self, *, gradient: bool = False) -> tuple[Any, Tensor, Tensor, Tensor]:
        model = self._model()
        if not gradient:
            model.requires_grad_(False)
        x, lengths = self.make_items()
        assert len(set(lengths.tolist())) > 1, "make_items: lengths are all equal"
        return model, x.double(), lengths, torch.tensor([3, 1, 2])

    def _repeated(self, x: Tensor, lengths: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
        many = x[:, row : row + 1].expand(-1, _REPEATS, *x.shape[2:])
        return many, lengths[row].expand(_REPEATS), 100 + torch.arange(_REPEATS) * 1000

    def _agree(self, differences: Tensor, expected: float) -> None:
        error = float(differences.std()) / math.sqrt(len(differences))
        found = float(differences.mean())
        assert abs(found - expected) <= self.deviations * error + self.tolerance, (
            f"mean {found}, expected {expected}, standard error {error}"
        )
