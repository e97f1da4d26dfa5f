"""The suite that every distribution of images or binary vectors inherits."""

import abc
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, ShapeError
from throughtime.tasks.kinds import Pixels
from throughtime.testing.compare import close

_COUNT = 100_000


class DensityConformance(abc.ABC):
    """The rules of exact distributions. Inherit it, supply `make_model`, and run pytest.

    The model is run in float64 on the CPU, in evaluation mode. Its probabilities are compared with
    those of all vectors, so both kinds are small.

    Attributes:
        kind: Kind of the images whose probabilities are added up.
        small: Kind of the images of which 100,000 are drawn.
        tolerance: Largest difference of log-probabilities.

    Example:
        class TestMyModel(DensityConformance):
            def make_model(self, kind):
                return MyDensity(kind, hidden=5)
    """

    kind = Pixels(2, 5)
    small = Pixels(2, 3)
    tolerance = 1e-10

    @abc.abstractmethod
    def make_model(self, kind: Pixels) -> nn.Module:
        """Return a small model.

        Arguments:
            kind: Kind of its images.
        """

    def test_probabilities_sum_to_one(self) -> None:
        """Over all images."""
        model, every = self._model(self.kind), _every(self.kind)
        with torch.no_grad():
            log_prob = model.log_prob(every)
        total = float(log_prob.exp().sum())
        assert abs(total - 1) < 1e-6, f"probabilities sum to {total}"
        assert float(log_prob.std()) > 1e-3, "all images are as likely"

    def test_a_probability_depends_on_its_image_alone(self) -> None:
        """Neither on the batch, nor on its order."""
        model, every = self._model(self.kind), _every(self.kind)[::37]
        together = model.log_prob(every)
        assert together.shape == (len(every),)
        close([torch.cat([model.log_prob(x[None]) for x in every])], [together], self.tolerance)
        close([model.log_prob(every.flip(0))], [together.flip(0)], self.tolerance)
        assert model.log_prob(every[:0]).shape == (0,)

    def test_every_parameter_has_a_gradient(self) -> None:
        """And the weights learn: a step raises the likelihood."""
        model, every = self._model(self.kind), _every(self.kind)[::37]
        before = model.log_prob(every).mean()
        before.backward()
        for name, p in model.named_parameters():
            assert p.grad is not None, f"{name} has no gradient"
            assert bool(torch.isfinite(p.grad).all())
        with torch.no_grad():
            for p in model.parameters():
                p += 1e-4 * p.grad
            assert model.log_prob(every).mean() > before

    def test_samples_have_the_probabilities(self) -> None:
        """A chi-square test of 100,000 draws."""
        model = self._model(self.small)
        drawn = model.sample(_COUNT, random=_random())
        assert drawn.shape == (_COUNT, *_shape(self.small))
        assert drawn.dtype == torch.int64
        _check_law(drawn, model.log_prob(_every(self.small)).exp(), self.small)

    def test_samples_come_with_their_probability(self) -> None:
        """`sample_and_log_prob` gives the draws of `sample`."""
        model = self._model(self.small)
        drawn, log_prob = model.sample_and_log_prob(50, random=_random())
        close([log_prob], [model.log_prob(drawn)], self.tolerance)
        assert torch.equal(model.sample(50, random=_random()), drawn)
        assert torch.equal(model.sample(7, random=_random()), drawn[:7])
        assert model.sample(0).shape == (0, *_shape(self.small))

    def test_known_values_stay_and_the_others_follow_from_them(self) -> None:
        """The law of the unknown values is the conditional one, for the first row of pixels."""
        model, every = self._model(self.small), _every(self.small)
        known = torch.full(_shape(self.small), -1)
        known[:, 0] = every[len(every) // 3][:, 0]
        self._check_known(model, known)
        self._check_known(model, torch.full(_shape(self.small), -1))
        whole = every[5]
        drawn, log_prob = model.sample_and_log_prob(3, known=whole)
        assert torch.equal(drawn, whole.expand_as(drawn))
        close([log_prob], [torch.zeros(3).double()], 1e-9)

    def test_each_image_has_known_values_of_its_own(self) -> None:
        """Known values may differ from image to image."""
        model, every = self._model(self.small), _every(self.small)
        known = every[:3].clone()
        known[0] = -1
        known[1, :, 1:] = -1
        drawn = model.sample(3, known=known)
        assert bool(((drawn == known) | (known < 0)).all())
        assert torch.equal(drawn[2], known[2])

    def test_a_known_source_is_not_coded_below_its_entropy(self) -> None:
        """Draws from a table cost at least its entropy, less four standard errors."""
        model, every = self._model(self.small), _every(self.small)
        source = torch.rand(len(every), generator=_random()).double().pow(4)
        source /= source.sum()
        rows = torch.multinomial(source, 4096, replacement=True, generator=_random())
        nats = -model.log_prob(every[rows]).detach()
        entropy = float(-(source * source.log()).sum())
        assert float(nats.mean()) >= entropy - 4 * float(nats.std()) / math.sqrt(len(rows))

    def test_bad_images_are_refused(self) -> None:
        """Images of another size, and levels that are none."""
        model, every = self._model(self.small), _every(self.small)[:4]
        for wrong in (every[..., :-1], every[0]):
            with pytest.raises(ShapeError, match="x: got shape"):
                model.log_prob(wrong)
        for level in (self.small.levels, -1):
            wrong = every.clone()
            wrong[1, 0, 0, 0] = level
            with pytest.raises(ConfigurationError, match="x: got"):
                model.log_prob(wrong)
        with pytest.raises(ConfigurationError, match="x: got"):
            model.log_prob(every.double() + 0.5)

    def test_bad_known_values_are_refused(self) -> None:
        """Values of another size or number, and levels that are none."""
        model, every = self._model(self.small), _every(self.small)[:4]
        for wrong in (every[..., :-1], every[:3]):
            with pytest.raises(ShapeError, match="known: got"):
                model.sample(4, known=wrong)
        for level in (self.small.levels, -2):
            wrong = every.clone()
            wrong[1, 0, 0, 0] = level
            with pytest.raises(ConfigurationError, match="known: got"):
                model.sample(4, known=wrong)
        with pytest.raises(ConfigurationError, match="count: got -1"):
            model.sample(-1)

    def _check_known(self, model: Any, known: Tensor) -> None:
        every = _every(self.small)
        fits = ((every == known) | (known < 0)).flatten(1).all(1)
        p = torch.where(fits, model.log_prob(every).exp(), 0.0)
        p = p / p.sum()
        drawn, log_prob = model.sample_and_log_prob(_COUNT // 5, known=known, random=_random())
        close([log_prob[:100]], [p.log()[_codes(drawn[:100], self.small)]], 1e-9)
        _check_law(drawn, p, self.small)

    def _model(self, kind: Pixels) -> Any:
        torch.manual_seed(0)
        model = self.make_model(kind).double().eval()
        with torch.no_grad():  # away from a start at which all images are as likely
            for p in model.parameters():
                p += 0.5 * torch.randn_like(p)
        return model


def _shape(kind: Pixels) -> tuple[int, int, int]:
    return kind.channels, kind.height, kind.width


def _every(kind: Pixels) -> Tensor:
    """Return all images of a kind, in the order of their codes."""
    size = math.prod(_shape(kind))
    assert kind.levels**size <= 2**16, "too many images: choose a smaller kind"
    every = torch.tensor([*itertools.product(range(kind.levels), repeat=size)])
    return every.view(-1, *_shape(kind))


def _codes(images: Tensor, kind: Pixels) -> Tensor:
    size = math.prod(_shape(kind))
    return (images.flatten(1) * kind.levels ** torch.arange(size - 1, -1, -1)).sum(1)


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _check_law(drawn: Tensor, p: Tensor, kind: Pixels) -> None:
    """Compare counts with their expectations: chi-square within five of its deviations."""
    counts = _codes(drawn, kind).bincount(minlength=len(p)).double()
    expected = len(drawn) * p.detach()
    assert float(counts[expected == 0].sum()) == 0, "an image of probability 0 was drawn"
    rare = expected < 5
    pooled = torch.cat([expected[~rare], expected[rare].sum()[None]])
    found = torch.cat([counts[~rare], counts[rare].sum()[None]])
    used = pooled > 0
    chi_square = float(((found - pooled)[used].square() / pooled[used]).sum())
    freedom = max(1, int(used.sum()) - 1)
    limit = freedom + 5 * math.sqrt(2 * freedom)
    assert chi_square < limit, f"chi-square {chi_square:.1f} with {freedom} degrees of freedom"
