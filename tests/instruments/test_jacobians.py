import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
import torch
from instruments.jacobian_runs import CELLS, linear, recorded

import throughtime as tt
from throughtime import errors
from throughtime.instruments import Dynamics, products, record
from throughtime.instruments.jacobians import _lags, jacobians
from throughtime.instruments.products import linearise, log_singular_values


def moves(recording, sequence):
    """s_t as a function of s_{t-1} for each t, and s_{t-1} itself."""
    dynamics = Dynamics(recording.cell)
    for t in range(recording.time):
        x = recording.inputs[t, sequence][None]
        streams = tuple(s[sequence][None] for s in recording.streams_at(t))
        start = dynamics.flatten(recording.before(t))[sequence]
        yield (lambda s, x=x, v=streams: dynamics(s[None], x, v)[0]), start


@pytest.mark.parametrize("name", CELLS)
def test_a_step_s_jacobian_is_what_finite_differences_say(name):
    recording = recorded(name)
    run = linearise(recording, 1)
    gated = isinstance(recording.cell, tt.GatedCell) and name != "rolling"
    assert type(run.jacobian).__name__ == ("GatedJacobian" if gated else "GeneralJacobian")
    matrices = run.dense(slice(0, 7))
    for t, (move, start) in enumerate(moves(recording, 1)):
        for j in range(run.size):
            aside = 1e-6 * torch.eye(run.size, dtype=torch.float64)[j]
            slope = (move(start + aside) - move(start - aside)) / 2e-6
            torch.testing.assert_close(matrices[t, :, j], slope, rtol=1e-6, atol=1e-8)
    vectors = torch.randn(4, 3, run.size, dtype=torch.float64)
    at = slice(2, 5)
    torch.testing.assert_close(
        run.pullback(at, vectors), torch.einsum("tij,kti->ktj", matrices[at], vectors)
    )
    torch.testing.assert_close(
        run.pushforward(at, vectors), torch.einsum("tij,ktj->kti", matrices[at], vectors)
    )


@pytest.mark.parametrize("name", CELLS)
def test_products_are_jacobians_of_an_unrolled_run(name):
    recording = recorded(name)
    result = jacobians(recording, sequence=1)
    assert result.lags.tolist() == [1, 2, 3, 4, 5, 6, 7]
    steps = list(moves(recording, 1))
    for lag in range(1, 8):

        def run(s, lag=lag):
            for move, _ in steps[-lag:]:
                s = move(s)
            return s

        matrix = torch.autograd.functional.jacobian(run, steps[-lag][1])
        values = torch.linalg.svdvals(matrix)
        seen = values > 1e-9 * values[0]  # the reference's own small ones are rounding
        found = result.log_products[lag - 1].exp()
        torch.testing.assert_close(found[seen], values[seen], rtol=1e-6, atol=0.0)
        assert bool((found[~seen] <= 1e-9 * values[0]).all())


def exterior(matrix, order):
    """The matrix of all minors of an order: its norm is the product of as many singular values."""
    rows = list(itertools.combinations(range(len(matrix)), order))

    def minor(m):
        if not m:
            return Fraction(1)
        return sum(
            (-1) ** j * m[0][j] * minor([r[:j] + r[j + 1 :] for r in m[1:]]) for j in range(len(m))
        )

    return [[minor([[matrix[i][j] for j in b] for i in a]) for b in rows] for a in rows]


def times(a, b):
    columns = list(zip(*b, strict=True))
    return [[sum(x * y for x, y in zip(row, c, strict=True)) for c in columns] for row in a]


def exact_log_singular_values(matrix):
    sums = [0.0]
    for order in range(1, len(matrix) + 1):
        minors = exterior(matrix, order)
        largest = max(abs(entry) for row in minors for entry in row)
        scaled = torch.tensor(
            [[float(e / largest) for e in r] for r in minors], dtype=torch.float64
        )
        log = math.log(largest.numerator) - math.log(largest.denominator)
        sums.append(log + float(torch.linalg.matrix_norm(scaled, 2).log()))
    return torch.tensor([b - a for a, b in itertools.pairwise(sums)], dtype=torch.float64)


def test_small_singular_values_of_long_products_are_exact():
    """Powers of matrices of binary fractions, in whole numbers to the last digit."""
    matrices = [
        # triangular, far from normal; eigenvalues from 2 to 1/64
        [[2, 8, -4, 1], [0, 0.5, 3, 2], [0, 0, 0.125, 1], [0, 0, 0, 1 / 64]],
        [[0.5, -0.75, 0, 0], [0.75, 0.5, 1, 0], [0, 0, 0.25, 2], [0.125, 0, 0, -0.5]],
        [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1]],  # one Jordan block
    ]
    for weight in matrices:
        result = jacobians(linear(weight, 300))
        exact = [[Fraction(v) for v in row] for row in weight]
        power = exact
        for lag in range(1, 301):
            if lag in (1, 2, 3, 10, 50, 300):
                torch.testing.assert_close(
                    result.log_products[lag - 1],
                    exact_log_singular_values(power),
                    rtol=1e-10,
                    atol=1e-10,
                )
            power = times(power, exact)


def test_nothing_underflows_or_overflows():
    weights = torch.tensor([1e-5, 1e4, 1.0, 0.5, 1e-5], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    turned = rotation @ weights.diag() @ rotation.T  # which rounds its small ones at 1e-12 of 1e-5
    for weight, rounding in ((weights.diag(), 1e-12), (turned, 1e-6)):
        result = jacobians(linear(weight, 200))
        expected = result.lags[:, None] * weights.sort(descending=True).values.log()
        torch.testing.assert_close(result.log_products, expected, rtol=rounding, atol=rounding)
        torch.testing.assert_close(result.log_norm, result.log_norm_bound)


def test_a_dead_unit_is_minus_infinity():
    model = linear([[0.0, 0.0], [0.0, 0.5]], 6)
    logs = jacobians(model).log_products
    assert logs[:, 1].tolist() == [-math.inf] * 6
    torch.testing.assert_close(logs[:, 0], torch.arange(1.0, 7.0).double() * math.log(0.5))
    assert jacobians(linear([[0.0]], 3)).log_products.tolist() == [[-math.inf]] * 3


@pytest.mark.parametrize("near", [10.0, -1.0])
def test_log_singular_values_by_both_ways(near, monkeypatch):
    """As long as the range is small an ordinary decomposition can tell."""
    monkeypatch.setattr(products, "_NEAR", near)
    for size in (1, 2, 7, 30):
        scale = 3 * torch.randn(5, size, dtype=torch.float64)
        mixing = torch.randn(5, size, size, dtype=torch.float64)
        mixing[1] = torch.eye(size)
        expected = torch.linalg.svdvals(scale.exp()[..., None] * mixing).log()
        torch.testing.assert_close(log_singular_values(scale, mixing), expected, rtol=0, atol=1e-7)
    ties = torch.linalg.qr(torch.randn(1, 9, 9, dtype=torch.float64))[0]
    zeros = log_singular_values(torch.zeros(1, 9, dtype=torch.float64), ties)
    torch.testing.assert_close(zeros, torch.zeros_like(zeros))


def test_measures_of_single_steps():
    normal = [[0.5, -0.5, 0], [0.5, 0.5, 0], [0, 0, 0.9]]
    nilpotent = [[0, 3, 1], [0, 0, 2], [0, 0, 0]]
    result = jacobians(linear(normal, 4))
    torch.testing.assert_close(result.spectral_radius, torch.full((4,), 0.9).double())
    torch.testing.assert_close(result.non_normality, torch.zeros(4).double(), atol=1e-12, rtol=0)
    expected = torch.tensor([0.9, 0.5**0.5, 0.5**0.5], dtype=torch.float64)
    torch.testing.assert_close(result.singular_values, expected.expand(4, 3))
    result = jacobians(linear(nilpotent, 4))
    torch.testing.assert_close(result.non_normality, torch.ones(4).double())
    assert bool((result.spectral_radius < 1e-4).all())
    # ||J||_F^2 = 4 + 1 + 1/4, eigenvalues 2 and 1/2
    result = jacobians(linear([[2, 1], [0, 0.5]], 2))
    torch.testing.assert_close(result.non_normality, torch.full((2,), 1 / 5.25).double())
    torch.testing.assert_close(result.norms, result.singular_values[:, 0])


@pytest.fixture(scope="module")
def wide():
    """A state of 80, which is not treated whole."""
    torch.manual_seed(1)
    model = tt.LSTM(2, 40, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.mul_(4)
    x = torch.randn(60, 1, 2, dtype=torch.float64)
    return record(model, lambda: model(x)[0].sum())


def test_leading_values_of_a_large_state_are_those_of_the_matrices(wide):
    result = jacobians(wide)
    assert result.lags.tolist()[:4] == [1, 2, 3, 4]
    assert result.lags[-1] == 60
    assert result.log_products.shape == (12, 16)
    matrices = linearise(wide, 0).dense(slice(0, 60))
    torch.testing.assert_close(
        result.norms, torch.linalg.matrix_norm(matrices, 2), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(
        result.singular_values, torch.linalg.svdvals(matrices[result.measured])[:, :16]
    )
    assert bool((result.uncertainty <= 1e-6).all())
    whole = jacobians(wide, top=80)
    for k, lag in enumerate(result.lags.tolist()):
        product = torch.linalg.multi_dot([*matrices[60 - lag :].flip(0), torch.eye(80).double()])
        values = torch.linalg.svdvals(product)
        seen = values > 1e-8 * values[0]
        torch.testing.assert_close(
            whole.log_products[k][seen], values[seen].log(), rtol=0, atol=1e-7
        )
        torch.testing.assert_close(
            result.log_products[k], whole.log_products[k, :16], rtol=0, atol=1e-4
        )
        excess = result.log_products[k] - whole.log_products[k, :16]
        assert float(excess.max()) < 1e-9  # seen from a subspace, never more than there is
    # the volume: the sum over all directions is the sum over the steps
    volumes = torch.linalg.slogdet(matrices)[1].flip(0).cumsum(0)[whole.lags - 1]
    torch.testing.assert_close(whole.log_products.sum(1), volumes, rtol=1e-9, atol=1e-6)


def test_a_state_too_wide_for_eigenvalues():
    values = torch.linspace(0.1, 0.9, 520)
    values[[3, 500, 7]] = torch.tensor([3.0, 2.0, 1.5])
    model = tt.RNN(1, 520, nonlinearity="identity", bias=False)
    with torch.no_grad():
        model.weight_hh_l0.copy_(values.diag())
    recording = record(model, lambda: model(torch.zeros(2, 1, 1))[0].sum())
    result = jacobians(recording, top=3)
    assert result.spectral_radius is None
    assert result.non_normality is None
    expected = torch.tensor([3.0, 2.0, 1.5], dtype=torch.float64)
    torch.testing.assert_close(result.norms, expected[:1].expand(2))
    torch.testing.assert_close(result.singular_values, expected.expand(2, 3))
    torch.testing.assert_close(result.log_products, result.lags[:, None] * expected.log())


def test_slow_convergence_is_said(monkeypatch):
    monkeypatch.setattr(products, "_TOLERANCE", 1e-9)
    monkeypatch.setattr(products, "_STEPS", 8)
    model = tt.RNN(1, 520, nonlinearity="identity", bias=False)
    with torch.no_grad():
        model.weight_hh_l0.copy_(torch.linspace(0.9, 0.901, 520).diag())
    run = linearise(record(model, lambda: model(torch.zeros(1, 1, 1))[0].sum()), 0)
    start = products.orthonormal(torch.randn(6, 520, dtype=torch.float64))
    search = products.leading_log_singular_values
    logs, change, _ = search(run, 0, 1, start)
    assert 1e-9 < change < 1e-3
    assert bool((logs < math.log(0.901)).all())


def test_a_step_that_starts_afresh_cuts_the_products():
    recording = recorded("LSTM", time=9)
    resets = torch.zeros(9, 2, dtype=torch.bool)
    resets[2, 0] = resets[5, 0] = True
    model = tt.LSTM(3, 5, dtype=torch.float64)
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    recording = record(model, lambda: model(x, reset=resets)[0].sum())
    result = jacobians(recording)
    # steps 6, 7 and 8 depend on what was before them, and step 5 does not
    assert result.cut == 4
    assert result.lags.tolist() == [1, 2, 3]
    assert (result.norms == 0).tolist() == [t in (2, 5) for t in range(9)]
    assert (result.singular_values[:, 0] == 0).tolist() == [t in (2, 5) for t in range(9)]
    assert result.spectral_radius[5] == 0
    assert result.non_normality[5] == 0
    alone = record(model, lambda: model(x[5:, :1])[0].sum())
    torch.testing.assert_close(result.log_products, jacobians(alone).log_products[:3])
    other = jacobians(recording, sequence=1)
    assert other.cut is None
    assert len(other.lags) == 9
    resets[8, 0] = True
    ended = jacobians(record(model, lambda: model(x, reset=resets)[0].sum()))
    assert ended.cut == 1
    assert ended.log_products.shape == (0, 10)


def test_what_a_model_does_between_calls_ends_the_lags():
    model = tt.GRU(3, 5, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    keep = torch.tensor([0.5, 0.0], dtype=torch.float64)[None, :, None]

    def loss():
        _, h = model(x[:5])
        return model(x[5:], h * keep)[0].sum()

    recording = record(model, loss)
    halved, masked = (jacobians(recording, sequence=k) for k in (0, 1))
    assert halved.cut is None
    assert halved.lags.tolist() == [1, 2, 3]  # to the halved state
    h = 0.5 * recording.states.h[4:5, :1]
    alone = jacobians(record(model, lambda: model(x[5:, :1], h)[0].sum()))
    torch.testing.assert_close(halved.log_products, alone.log_products)
    assert masked.cut == 3
    assert masked.lags.tolist() == [1, 2]
    assert masked.norms[5] == 0


def test_padding_is_not_read():
    model = tt.GRU(3, 5, dtype=torch.float64)
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    lengths = torch.tensor([9, 4])
    result = jacobians(record(model, lambda: model(x, lengths=lengths)[0].sum()), sequence=1)
    alone = jacobians(record(model, lambda: model(x[:4, 1:])[0].sum()))
    torch.testing.assert_close(result.log_products, alone.log_products)
    torch.testing.assert_close(result.norms, alone.norms)


def test_single_precision_is_measured_in_double():
    torch.manual_seed(0)
    model = tt.LSTM(3, 5)
    x = torch.randn(20, 2, 3)
    recording = record(model, lambda: model(x)[0].sum())
    result = jacobians(recording)
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert value.dtype == torch.float64, field.name
    # a run that is double throughout differs by the rounding of its states
    double = jacobians(recording.to(torch.float64))
    torch.testing.assert_close(result.log_products, double.log_products, rtol=1e-4, atol=1e-4)


def test_nothing_is_changed_and_the_seed_decides(wide):
    random = torch.get_rng_state()
    states = wide.states.c.clone()
    once = jacobians(wide, longest=3, seed=3)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(wide.states.c, states)
    assert torch.equal(once.log_products, jacobians(wide, longest=3, seed=3).log_products)
    other = jacobians(wide, longest=3, seed=4)
    assert torch.equal(once.log_products, other.log_products)  # multiplied out
    assert not torch.equal(once.norms, other.norms)


def test_lags_are_every_one_while_that_is_cheap():
    assert jacobians(linear([[0.5]], 300)).lags.tolist() == list(range(1, 301))
    assert jacobians(linear([[0.5]], 300), longest=20).lags.tolist() == list(range(1, 21))
    lags = _lags(784, 64)
    assert lags[0] == 1
    assert lags[-1] == 784
    assert len(lags) == 204
    assert lags[:8] == list(range(1, 9))


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments():
    recording = recorded("LSTM")
    for options, words in (
        ({"sequence": 2}, "sequence: got 2, expected from 0 to 1"),
        ({"top": 11}, "top: got 11, expected from 1 to the state's size, 10"),
        ({"top": 0}, "top: got 0"),
        ({"longest": 0}, "longest: got 0"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            jacobians(recording, **options)
    exploded = linear([[1e200]], 4)
    exploded.states.h[2:] = torch.inf
    with pytest.raises(errors.ConfigurationError, match="not finite at step 3"):
        jacobians(exploded)
