import math

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime import errors
from throughtime.cells import ChoGRUCell, ElmanCell, ProjectedLSTMCell
from throughtime.instruments import record
from throughtime.instruments.lyapunov import lyapunov_exponents, lyapunov_spectrum
from throughtime.instruments.products import linearise


def near(spectrum, expected, errors_allowed=4.0, floor=0.0):
    distance = (spectrum.exponents - torch.tensor(expected, dtype=torch.float64)).abs()
    assert bool((distance <= errors_allowed * spectrum.standard_errors + floor).all()), distance


def test_the_logistic_map_doubles_errors():
    """r = 4 is conjugate to the tent map, whose slope is 2 everywhere."""
    start = torch.tensor([0.3], dtype=torch.float64)
    spectrum = lyapunov_exponents(lambda x: 4 * x * (1 - x), start, 4000)
    near(spectrum, [math.log(2)])
    assert float(spectrum.standard_errors) < 0.02
    assert spectrum.kaplan_yorke == 1.0  # there is no more room on a line
    # a stable orbit of period 2 at r = 3.2: log |f'(a) f'(b)| / 2 = log |4 + 2 r - r^2| / 2
    spectrum = lyapunov_exponents(lambda x: 3.2 * x * (1 - x), start, 416, burn_in=400)
    assert float(spectrum.exponents) == pytest.approx(math.log(0.16) / 2, abs=1e-12)
    assert float(spectrum.standard_errors) == pytest.approx(0.0, abs=1e-12)
    assert spectrum.kaplan_yorke == 0.0


def test_the_henon_map():
    def henon(s):
        return torch.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]])

    start = torch.zeros(2, dtype=torch.float64)
    spectrum = lyapunov_exponents(henon, start, 12000)
    near(spectrum, [0.419, -1.623], floor=0.001)
    # the area shrinks by the same factor at every step
    assert float(spectrum.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-9)
    assert float(spectrum.standard_errors.max()) < 0.01
    first, second = spectrum.exponents.tolist()
    assert spectrum.kaplan_yorke == pytest.approx(1 + first / -second)
    assert spectrum.kaplan_yorke == pytest.approx(1.258, abs=0.01)
    assert spectrum.history.shape == (200, 2)
    assert spectrum.history_steps[-1] == spectrum.steps == 12000
    assert (spectrum.history_steps.diff() > 0).all()
    torch.testing.assert_close(spectrum.history[-1], spectrum.exponents)
    leading = lyapunov_exponents(henon, start, 300, top=1)
    assert leading.kaplan_yorke is None
    assert float(leading.exponents) == pytest.approx(
        float(lyapunov_exponents(henon, start, 300).exponents[0]), abs=1e-12
    )


def test_a_map_wider_than_64_is_turned_vector_by_vector():
    slopes = torch.linspace(1.5, 0.1, 70, dtype=torch.float64)
    start = 1e-9 * torch.ones(70, dtype=torch.float64)
    spectrum = lyapunov_exponents(lambda s: (slopes * s).sin(), start, 5, burn_in=0, top=70)
    assert spectrum.size == 70
    # the volume knows nothing of directions
    assert float(spectrum.exponents.sum()) == pytest.approx(float(slopes.log().sum()), abs=1e-9)
    slopes = 0.8 ** torch.arange(70, dtype=torch.float64)
    spectrum = lyapunov_exponents(lambda s: (slopes * s).tanh(), 0 * start, 20, burn_in=60, top=3)
    torch.testing.assert_close(spectrum.exponents, slopes[:3].log(), rtol=0, atol=1e-9)


def linear_record(weight, time):
    """A network that is nothing but its recurrent matrix."""
    size = weight.shape[0]
    model = tt.RNN(1, size, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.copy_(weight)
    return record(model, lambda: model(torch.zeros(time, 1, 1, dtype=torch.float64))[0].sum())


def test_linear_networks_have_the_logarithms_of_their_eigenvalues():
    values = torch.tensor([1.2, 0.9, 0.5, 0.1, 1e-3], dtype=torch.float64)
    basis = torch.randn(5, 5, dtype=torch.float64)
    triangular = values.diag() + 2 * torch.randn(5, 5, dtype=torch.float64).triu(1)
    cases = {
        "normal": values.diag(),
        "similar": basis @ values.diag() @ torch.linalg.inv(basis),
        "far from normal": triangular,
    }
    for name, weight in cases.items():
        spectrum = lyapunov_spectrum(linear_record(weight, 250), burn_in=150)
        torch.testing.assert_close(spectrum.exponents, values.log(), rtol=0, atol=1e-8), name
        assert float(spectrum.standard_errors.max()) < 1e-7
        assert (spectrum.steps, spectrum.burn_in, spectrum.first) == (100, 150, 0)
    # ln 1.2 + ln 0.9 > 0 and ln 1.2 + ln 0.9 + ln 0.5 < 0
    expected = 2 + math.log(1.2 * 0.9) / math.log(2)
    assert spectrum.kaplan_yorke == pytest.approx(expected)


def test_complex_eigenvalues_share_their_modulus():
    rotation = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    shear = torch.tensor([[1.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    weight = 0.7 * shear @ rotation @ torch.linalg.inv(shear)
    spectrum = lyapunov_spectrum(linear_record(weight, 1000))
    torch.testing.assert_close(
        spectrum.exponents, torch.full((2,), math.log(0.7)).double(), rtol=0, atol=5e-3
    )
    assert float(spectrum.exponents.sum()) == pytest.approx(2 * math.log(0.7), abs=1e-9)


def test_directions_that_are_lost():
    spectrum = lyapunov_spectrum(linear_record(torch.tensor([[0.0]]).double(), 40))
    assert spectrum.exponents.tolist() == [-math.inf]
    assert spectrum.kaplan_yorke == 0.0
    # to rounding: the second direction of a matrix of rank one
    spectrum = lyapunov_spectrum(linear_record(torch.tensor([[0.5, 0.5], [0.5, 0.5]]).double(), 40))
    assert float(spectrum.exponents[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(spectrum.exponents[1]) < -30


LAYERS = {
    "RNN": lambda size: tt.RNN(2, size),
    "LSTM": lambda size: nn.LSTM(2, size),
    "GRU": lambda size: nn.GRU(2, size),
    "lags": lambda size: tt.Recurrent(ElmanCell, 2, size, lags=(1, 3)),
    "projection": lambda size: tt.Recurrent(ProjectedLSTMCell, 2, size, proj_size=2),
    "Cho": lambda size: tt.Recurrent(ChoGRUCell, 2, size),
}


@pytest.mark.parametrize("name", LAYERS)
def test_all_exponents_sum_to_the_volume_s_rate(name):
    """Whatever the directions, log |det J_t| is the sum of the local exponents."""
    model = LAYERS[name](6)
    x = torch.randn(150, 2, 2)
    recording = record(model, lambda: model(x)[0].sum())
    spectrum = lyapunov_spectrum(recording, sequence=1)
    assert spectrum.burn_in == 15
    matrices = linearise(recording, 1).dense(slice(15, 150))
    volume = torch.linalg.slogdet(matrices)[1].mean()
    torch.testing.assert_close(spectrum.exponents.sum(), volume, rtol=1e-8, atol=0)
    assert bool((spectrum.exponents.diff() <= 0).all())
    leading = lyapunov_spectrum(recording, sequence=1, top=2)
    torch.testing.assert_close(leading.exponents, spectrum.exponents[:2], rtol=0, atol=1e-9)


def test_the_leading_part_of_a_large_spectrum_is_that_of_the_full_one():
    model = nn.LSTM(2, 40)
    x = torch.randn(90, 1, 2)
    recording = record(model, lambda: model(x)[0].sum())
    full = lyapunov_spectrum(recording, top=80)
    some = lyapunov_spectrum(recording)
    assert full.exponents.shape == (80,)
    assert some.exponents.shape == (16,)
    torch.testing.assert_close(some.exponents, full.exponents[:16], rtol=0, atol=1e-9)
    assert some.kaplan_yorke == full.kaplan_yorke == 0.0
    matrices = linearise(recording, 0).dense(slice(9, 90))
    volume = torch.linalg.slogdet(matrices)[1].mean()
    torch.testing.assert_close(full.exponents.sum(), volume, rtol=1e-8, atol=0)


def test_a_chaotic_network_agrees_with_two_trajectories_that_part():
    """Neighbours of a wild random network part at the rate of the leading exponent."""
    torch.manual_seed(3)
    model = tt.RNN(1, 50, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.normal_(0, 2.5 / 50**0.5)
    x = torch.zeros(2000, 1, 1, dtype=torch.float64)
    start = torch.randn(1, 1, 50, dtype=torch.float64)
    recording = record(model, lambda: model(x, start)[0].sum())
    spectrum = lyapunov_spectrum(recording, top=8)
    assert float(spectrum.exponents[0]) > 5 * float(spectrum.standard_errors[0])
    weight, total = model.weight_hh_l0.detach(), 0.0
    aside = 1e-7 * torch.nn.functional.normalize(torch.randn(50, dtype=torch.float64), dim=0)
    for t, h in enumerate(recording.states.h[:-1, 0]):
        apart = (weight @ (h + aside)).tanh() - (weight @ h).tanh()
        total += float((apart.norm() / 1e-7).log()) if t >= 199 else 0.0
        aside = 1e-7 * apart / apart.norm()
    assert total / 1800 == pytest.approx(float(spectrum.exponents[0]), abs=0.002)


def test_standard_errors_are_those_of_blocks():
    """Local exponents of the tent map with unequal slopes are independent draws."""

    def skewed(x):
        return torch.where(x < 0.3, x / 0.3, (1 - x) / 0.7)

    spectra = [
        lyapunov_exponents(skewed, torch.tensor([s], dtype=torch.float64), 640, burn_in=50)
        for s in torch.linspace(0.11, 0.91, 12).tolist()
    ]
    exact = -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    spread = math.log(0.7 / 0.3) * (0.3 * 0.7 / 640) ** 0.5
    found = torch.stack([s.standard_errors for s in spectra]).mean()
    assert float(found) == pytest.approx(spread, rel=0.2)
    mean = torch.stack([s.exponents for s in spectra]).mean()
    assert abs(float(mean) - exact) < 4 * spread / 12**0.5
    short = lyapunov_exponents(skewed, torch.tensor([0.1], dtype=torch.float64), 15)
    assert short.standard_errors.isnan().all()


def test_the_longest_stretch_without_a_reset_is_taken():
    model = tt.GRU(2, 4, dtype=torch.float64)
    x = torch.randn(40, 2, 2, dtype=torch.float64)
    resets = torch.zeros(40, 2, dtype=torch.bool)
    resets[[0, 5, 31], 0] = True
    recording = record(model, lambda: model(x, reset=resets)[0].sum())
    spectrum = lyapunov_spectrum(recording, burn_in=0)
    assert (spectrum.first, spectrum.steps) == (5, 26)
    alone = record(model, lambda: model(x[5:31, :1])[0].sum())
    torch.testing.assert_close(
        spectrum.exponents, lyapunov_spectrum(alone, burn_in=0).exponents, rtol=0, atol=1e-10
    )
    assert lyapunov_spectrum(recording, sequence=1, burn_in=0).steps == 40


def test_nothing_is_changed_and_the_seed_decides():
    model = nn.LSTM(2, 4)
    x = torch.randn(30, 1, 2)
    recording = record(model, lambda: model(x)[0].sum())
    random, states = torch.get_rng_state(), recording.states.c.clone()
    once = lyapunov_spectrum(recording, seed=1)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(recording.states.c, states)
    assert torch.equal(once.exponents, lyapunov_spectrum(recording, seed=1).exponents)
    assert not torch.equal(once.exponents, lyapunov_spectrum(recording, seed=2).exponents)
    for tensor in (once.exponents, once.standard_errors, once.history):
        assert tensor.dtype == torch.float64
    start = torch.ones(3, requires_grad=True)
    spectrum = lyapunov_exponents(lambda s: start.detach() * s.cos(), start, 20)
    assert not spectrum.exponents.requires_grad
    assert start.grad is None


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments():
    model = tt.GRU(2, 4)
    recording = record(model, lambda: model(torch.ones(9, 2, 2))[0].sum())
    for options, words in (
        ({"sequence": -1}, "sequence: got -1"),
        ({"top": 5}, "top: got 5, expected from 1 to the state's size, 4"),
        ({"burn_in": 9}, "burn_in: got 9, expected fewer than the 9 steps"),
        ({"burn_in": -1}, "burn_in: got -1"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            lyapunov_spectrum(recording, **options)
    start = torch.ones(2)
    for arguments, words in (
        ((torch.sin, torch.ones(2, 2), 5), "start: got"),
        ((torch.sin, torch.ones(2, dtype=torch.int64), 5), "start: got"),
        ((torch.sin, start, 0), "steps: got 0"),
        ((lambda s: s[:1], start, 5), "step: got a result of shape"),
        ((lambda s: s * 1e20, start, 50), "step: got a trajectory that is not finite"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            lyapunov_exponents(*arguments)
