"""A result of each type of the instruments, made by hand or measured on something small."""

import functools
import math
from typing import Any

import torch
from torch import nn

from throughtime.cells import ElmanCell
from throughtime.instruments import (
    Alignment,
    DepthFlow,
    WordInfluence,
    basins,
    fixed_points,
    gate_activity,
    latch_survival,
    loss_along,
    one_unit_bifurcation,
    one_unit_fixed_points,
    one_unit_map,
    phase_line,
    record,
    scalar_cycles,
)
from throughtime.instruments.decoding import MemoryDecoding
from throughtime.instruments.forward_memory import PerturbationSurvival
from throughtime.instruments.gradient_flow import GradientFlow, GradientNorms
from throughtime.instruments.input_influence import InputInfluence
from throughtime.instruments.jacobians import Jacobians
from throughtime.instruments.length_extrapolation import LengthExtrapolation
from throughtime.instruments.lyapunov import LyapunovSpectrum
from throughtime.instruments.memory_accesses import MemoryAccesses

LAGS = torch.arange(5)
ONES = torch.ones(5, dtype=torch.float64)


def halving(rate: float = 0.5, n: int = 5) -> torch.Tensor:
    return rate ** torch.arange(n, dtype=torch.float64)


def flow(norm: torch.Tensor) -> GradientFlow:
    """Of three units, the last of them silent; norms by time step."""
    unit = torch.stack([norm, norm / 2, norm * 0], 1)
    return GradientFlow(
        layer="rnn",
        level=0,
        per_unit=unit,
        per_gate={"input": norm, "forget": norm * 0},
        norm=norm,
        contribution=norm,
        answer=torch.stack([norm, norm * 3], 1),
        calls=(len(norm),),
        links=("fresh",),
    )


JACOBIANS = Jacobians(
    layer="rnn",
    level=0,
    sequence=0,
    size=4,
    norms=ONES * 0.9,
    measured=torch.tensor([0, 4]),
    singular_values=torch.ones(2, 4).double(),
    spectral_radius=torch.tensor([0.8, 0.7]).double(),
    non_normality=None,
    lags=LAGS + 1,
    log_products=torch.stack([halving(0.5, 4).log() * n for n in range(1, 6)]) - 0.1,
    uncertainty=ONES * 0,
    log_norm_bound=ONES * 2,
    log_power_bound=None,
    log_hochreiter_bound=ONES * 3,
    cut=None,
)
SPECTRUM = LyapunovSpectrum(
    exponents=torch.tensor([-0.2, -math.inf]).double(),
    standard_errors=torch.tensor([0.01, math.nan]).double(),
    kaplan_yorke=0.0,
    size=2,
    steps=100,
    burn_in=10,
    first=0,
    history_steps=torch.tensor([1, 100]),
    history=torch.tensor([[-0.3, -1.0], [-0.2, -1.1]]).double(),
)
DECODING = MemoryDecoding(
    layer="rnn",
    level=0,
    direction=0,
    lags=LAGS,
    r2=torch.stack([halving(), halving() * 0.8], 1),
    null_level=ONES * 0.02,
    penalty=torch.ones(5, 2).double(),
    samples=100,
    size=8,
)
SURVIVAL = PerturbationSurvival(
    layer="rnn",
    level=0,
    direction=0,
    geometric_mean=halving(),
    quantiles=torch.stack([halving() / 2, halving(), halving() * 2]),
    erased=ONES * 0,
    count=LAGS,
)
INFLUENCE = InputInfluence(
    layer="rnn",
    level=0,
    direction=0,
    lags=LAGS,
    loss=0.5,
    scrambled=0.5 + halving(),
    standard_error=ONES * 0.1,
    output_change=ONES,
    output_change_error=ONES,
    p_values=torch.tensor([0.001, 0.002, 0.5, 0.5, 0.5]).double(),
    permutations=9,
)
LENGTHS = LengthExtrapolation(
    lengths=(10, 20, 40),
    trained=10,
    losses=torch.tensor([[1.0, 1.2], [1.1, 1.1], [5.0, 5.2]]).double(),
    p_values=torch.tensor([math.nan, 0.5, 0.001]).double(),
    level=0.05,
)
NORMS = GradientNorms(norm=torch.tensor([1.0, 100.0, 2.0, math.nan, 3.0]).double(), loss=ONES)

PAIR = {
    "source_words": (("le", "<b>chat</b>", "\n"), (" ",)),
    "target_words": (("the", "cat"), ("<eos>",)),
}
NAN = math.nan
WORDS = WordInfluence(
    norms=torch.tensor(
        [[[0.1, 0.2, 0.3], [0.0, 0.1, 0.2]], [[0.5, NAN, NAN], [NAN, NAN, NAN]]]
    ).double(),
    steps=torch.tensor([[[3, 2, 1], [4, 3, 2]], [[1, -1, -1], [-1, -1, -1]]]),
    **PAIR,
)
WEIGHTS = Alignment(
    weights=torch.tensor(
        [[[0.2, 0.2, 0.6], [0.4, 0.3, 0.3]], [[1.0, NAN, NAN], [NAN, NAN, NAN]]]
    ).double(),
    **PAIR,
)
ACCESSES = MemoryAccesses(
    layer="memory",
    level=0,
    direction=0,
    read=torch.tensor(
        [
            [[[0.9, 0.1, 0.0]], [[0.2, 0.4, 0.4]], [[0.0, 0.0, 1.0]]],
            [[[0.5] * 3]] + [[[NAN] * 3]] * 2,
        ]
    ).double(),
    written=torch.ones(2, 3, 2, 3).double() / 3,
    alike=0.9,
    sequence=torch.tensor([0, 0, 1]),
    step=torch.tensor([0, 1, 0]),
    head=torch.tensor([0, 1, 0]),
    word=torch.tensor([2, 0, 1]),
    overwritten=torch.tensor([2, -1, -1]),
    fetched=torch.tensor([0.4, 0.0, 0.0]).double(),
    before=torch.tensor([0.1, 0.5, 0.2]).double(),
    similarity=torch.tensor([[1.0, 0.95, 0.3], [1.0, 0.8, NAN], [1.0, NAN, NAN]]).double(),
)


def lstm_gates():
    model = nn.LSTM(1, 6)
    return gate_activity(record(model, lambda: model(torch.ones(9, 2, 1))[0].sum()))


def cliff():
    model = nn.RNN(1, 1).double()
    x = torch.linspace(-1, 1, 20).double().reshape(10, 2, 1)
    return loss_along(
        model,
        lambda: model(x)[0][-1].square().mean(),
        distances=torch.linspace(-1, 1, 9).double(),
        per_example=lambda: model(x)[0][-1].square().mean(-1),
    )


@functools.cache
def results() -> dict[str, Any]:
    """One result of each type, by the name of the type."""
    model = nn.LSTM(1, 6)
    recording = record(model, lambda: model(torch.ones(9, 2, 1))[0].sum())
    gates = gate_activity(recording)
    assert gates.gates is not None
    cell = ElmanCell(1, 2, bias=False)
    with torch.no_grad():
        cell.weight_hh.copy_(1.5 * torch.eye(2))
    points = fixed_points(cell, starts=50)
    tanh = one_unit_map(2.0)
    made = [
        flow(halving()),
        DepthFlow(("0", "1"), *torch.tensor([[0.5, 1.0], [2.0, 3.0]]).double()),
        NORMS,
        SURVIVAL,
        DECODING,
        SPECTRUM,
        JACOBIANS,
        INFLUENCE,
        LENGTHS,
        WORDS,
        WEIGHTS,
        ACCESSES,
        cliff(),
        gates,
        gates.gates["forget"],
        recording,
        points,
        basins(cell, points, resolution=(6, 6)),
        latch_survival(1.25, "gaussian", 0.5, 40, runs=200),
        one_unit_fixed_points(2.0),
        phase_line(tanh, -3.0, 3.0),
        scalar_cycles(lambda x: 3.2 * x * (1 - x), 2, 0.01, 0.99),
        one_unit_bifurcation(torch.linspace(0.5, 1.5, 11).double(), input=0.0),
    ]
    return {type(result).__name__: result for result in made}
