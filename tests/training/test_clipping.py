"""Clipping against its formula, written with NumPy in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor
from training.tiny import tiny

from throughtime.training import Clipping, gradient_norm, read_metrics, train


def gradients(scale: float = 1.0) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 1, 2)]
    return [scale * torch.randn(shape, generator=random) for shape in shapes]


def flat(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in tensors])


def clip(clipping: Clipping, tensors: list[Tensor]) -> bool:
    norm, largest = clipping.measure(tensors).tolist()
    return clipping.clip(tensors, norm, largest)


def reference(g: np.ndarray, norm: float | None, value: float | None) -> np.ndarray:
    if value is not None:
        g = np.array([max(-value, min(value, element)) for element in g])
    if norm is not None:
        length = np.sqrt(sum(element**2 for element in g))
        if length > norm:
            g = g * norm / length
    return g


@pytest.mark.parametrize("value", [None, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("norm", [None, 0.01, 1.0, 100.0])
def test_formula(norm: float | None, value: float | None) -> None:
    tensors = gradients()
    before = flat(tensors)
    clipped = clip(Clipping(norm, value), tensors)
    np.testing.assert_allclose(flat(tensors), reference(before, norm, value), rtol=1e-6, atol=0)
    assert clipped == bool((flat(tensors) != before).any())


def test_at_the_bound_nothing_changes() -> None:
    tensors = [torch.tensor([3.0, -4.0])]
    assert not clip(Clipping(norm=5.0, value=4.0), tensors)
    assert tensors[0].tolist() == [3.0, -4.0]
    assert clip(Clipping(norm=2.5), tensors)
    assert tensors[0].tolist() == [1.5, -2.0]


def test_measure_is_of_the_gradient_as_it_came() -> None:
    tensors = gradients()
    norm, largest = Clipping(norm=0.1, value=0.1).measure(tensors).tolist()
    assert norm == pytest.approx(np.sqrt((flat(tensors) ** 2).sum()), rel=1e-12)
    assert largest == np.abs(flat(tensors)).max()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_exploding_and_vanishing_gradients(scale: float) -> None:
    """Squares of these overflow, or vanish, in float32."""
    tensors = gradients(scale)
    before = flat(tensors)
    expected = np.sqrt(((before / scale) ** 2).sum()) * scale
    assert gradient_norm(tensors).item() == pytest.approx(expected, rel=1e-12)
    clip(Clipping(norm=scale / 10), tensors)
    np.testing.assert_allclose(flat(tensors), before * (scale / 10 / expected), rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_norm_shows_what_is_not_finite(bad: float) -> None:
    tensors = gradients()
    tensors[1][2] = bad
    assert not gradient_norm(tensors).isfinite()


@pytest.mark.parametrize("bound", ["clip_norm", "clip_value"])
def test_clip_rate_of_a_run(bound: str, tmp_path) -> None:
    """The rate in the result and the metrics is the number of updates that were clipped, in all."""
    none = {"clip_norm": None, "clip_value": None, "log_every": 1, "learning_rate": 1e-9}
    train(tiny(**none), tmp_path / "free")
    norms = [r["gradient_norm"] for r in read_metrics(tmp_path / "free") if r["kind"] == "train"]
    threshold = sum(sorted(norms)[8:10]) / 2  # above 9 of 12; the weights all but stand still
    if bound == "clip_value":
        threshold = 1e-30
    result = train(tiny(**{**none, bound: threshold}), tmp_path / "clipped")
    rows = [r for r in read_metrics(tmp_path / "clipped") if r["kind"] == "train"]
    expected = [1.0 if bound == "clip_value" else float(norm > threshold) for norm in norms]
    assert [row["clip_rate"] for row in rows] == expected
    assert result.clip_rate == (1.0 if bound == "clip_value" else 3 / 12)
    result = train(tiny(**{**none, bound: threshold, "log_every": 5}), tmp_path / "intervals")
    rows = [r for r in read_metrics(tmp_path / "intervals") if r["kind"] == "train"]
    means = [sum(expected[a:b]) / (b - a) for a, b in ((0, 5), (5, 10), (10, 12))]
    assert [(row["step"], row["clip_rate"]) for row in rows] == list(
        zip((5, 10, 12), means, strict=True)
    )
