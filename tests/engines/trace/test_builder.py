"""Simplified programs are smaller and compute the same, the signs of zeros included."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from throughtime.engines.trace.builder import Builder
from throughtime.engines.trace.program import OPERATIONS, Key, Node, Program, evaluate

KEYS = [Key("gate", "", i) for i in range(3)]
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, math.inf, -math.inf, math.nan)


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[tuple], list[int]]:
    """Any operations on inputs and special constants: each with its arguments, and the outputs."""
    values: list[tuple] = draw(st.lists(st.sampled_from(SPECIAL).map(lambda c: (c,)), max_size=5))
    kinds = ["real"] * (len(KEYS) + len(values))
    for name in draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=12)):
        operation = OPERATIONS[name]
        choices = [[i for i, k in enumerate(kinds) if k == kind] for kind in operation.arguments]
        if all(choices):
            values.append((name, *(draw(st.sampled_from(c)) for c in choices)))
            kinds.append(operation.result)
    real = [i for i, kind in enumerate(kinds) if kind == "real"]
    return values, draw(st.lists(st.sampled_from(real[3:] or real), max_size=4))


def written(values: list[tuple], outputs: list[int]) -> Program:
    """A program with nothing simplified."""
    nodes = [Node("input", key=key) for key in KEYS]
    for first, *rest in values:
        constant = isinstance(first, float)
        nodes.append(Node("constant", constant=first) if constant else Node(first, tuple(rest)))
    return Program(tuple(nodes), tuple(outputs))


def simplify(program: Program) -> Program:
    """The program, built anew."""
    builder = Builder()
    place = builder.copy(program.nodes, program.outputs, {})
    return builder.program(place[i] for i in program.outputs)


def signed(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers from which -0.0 and 0.0 are told apart."""
    return torch.where(tensor == 0, torch.copysign(torch.tensor(1e-300).double(), tensor), tensor)


@given(drawn=programs())
def test_simplified_program_computes_the_same(drawn) -> None:
    program = written(*drawn)
    grid = torch.tensor((*SPECIAL, 0.3, -2.5, 7.0), dtype=torch.float64)
    inputs = dict(zip(KEYS, torch.meshgrid(grid, grid, grid, indexing="ij"), strict=True))
    small = simplify(program)
    assert len(small.nodes) <= len(program.nodes) + 2  # a known mask is a comparison of constants
    for before, after in zip(
        evaluate(program, inputs.__getitem__, grid),
        evaluate(small, inputs.__getitem__, grid),
        strict=True,
    ):
        before, after = torch.broadcast_tensors(before.double(), after.double())
        torch.testing.assert_close(
            signed(after), signed(before), rtol=1e-14, atol=0, equal_nan=True
        )
    assert simplify(small) == small


def lines(build, *, of_gradient: bool = False) -> list[str]:
    """The program of what is built from two inputs."""
    builder = Builder()
    builder.of_gradient = of_gradient
    a, b = (builder.input(key) for key in KEYS[:2])
    return str(builder.program([build(builder, a, b)])).splitlines()


@pytest.mark.parametrize(
    "build",
    [
        lambda p, a, b: p.add("mul", a, p.constant(1)),
        lambda p, a, b: p.add("div", a, p.constant(1)),
        lambda p, a, b: p.add("add", a, p.constant(-0.0)),
        lambda p, a, b: p.add("sub", a, p.constant(0.0)),
        lambda p, a, b: p.add("neg", p.add("neg", a)),
        lambda p, a, b: p.add("mul", p.constant(-1), p.add("neg", a)),
        lambda p, a, b: p.add("where", p.add("lt", a, b), a, a),
        lambda p, a, b: p.add("where", p.add("lt", p.constant(1), p.constant(2)), a, b),
        lambda p, a, b: p.add(
            "where", p.add("logical_not", p.add("eq", *[p.constant(2)] * 2)), b, a
        ),
    ],
)
def test_what_is_the_input_itself(build) -> None:
    assert lines(build) == ["v0 = gate[0]", "return v0"]


@pytest.mark.parametrize(
    "build",
    [
        lambda p, a, b: p.add("mul", a, p.constant(0)),
        lambda p, a, b: p.add("add", a, p.constant(0)),
        lambda p, a, b: p.add("sub", a, p.constant(-0.0)),
        lambda p, a, b: p.add("sub", a, a),
        lambda p, a, b: p.add("div", a, a),
        lambda p, a, b: p.add("minimum", a, p.constant(math.inf)),
    ],
)
def test_what_is_not_known(build) -> None:
    """It may be nan, or -0.0."""
    assert any(line[5:8] in build_names for line in lines(build))


build_names = {"mul", "add", "sub", "div", "min"}


def test_zero_of_a_gradient_goes() -> None:
    assert lines(lambda p, a, b: p.add("add", p.constant(0), a), of_gradient=True) == [
        "v0 = gate[0]",
        "return v0",
    ]
    assert lines(lambda p, a, b: p.add("sub", p.constant(0), a), of_gradient=True)[1:] == [
        "v1 = neg(v0)",
        "return v1",
    ]


def test_equal_values_are_computed_once() -> None:
    def build(p, a, b):
        return p.add("add", p.add("mul", a, b), p.add("mul", b, a))

    assert lines(build)[2:] == ["v2 = mul(v0, v1)", "v3 = add(v2, v2)", "return v3"]


def test_order_stays_where_it_matters() -> None:
    assert len(lines(lambda p, a, b: p.add("sub", p.add("sub", a, b), p.add("sub", b, a)))) == 6


def test_constants_are_told_apart_by_their_bits() -> None:
    builder = Builder()
    zeros = {builder.constant(c) for c in (0.0, -0.0, math.nan, math.nan, 0)}
    assert len(zeros) == 3
    assert Node("constant", constant=math.nan) == Node("constant", constant=math.nan)
    assert Node("constant", constant=0.0) != Node("constant", constant=-0.0)


def test_constants_are_folded_in_double_precision() -> None:
    def build(p, a, b):
        third = p.add("div", p.constant(1), p.constant(3))
        return p.add("mul", a, p.add("exp", third))

    assert f"v1 = {math.exp(1 / 3)!r}" in lines(build)


def test_division_by_a_power_of_two_is_a_product() -> None:
    assert "v1 = 0.25" in lines(lambda p, a, b: p.add("div", a, p.constant(4)))
    assert "v2 = div(v0, v1)" in lines(lambda p, a, b: p.add("div", a, p.constant(3)))


def test_program_in_words() -> None:
    def build(p, a, b):
        parameter = p.input(Key("parameter", "alpha", 1))
        return p.add("where", p.add("gt", a, p.input(Key("state", "c"))), parameter, b)

    assert lines(build) == [
        "v0 = gate[0]",
        "v1 = gate[1]",
        "v2 = parameter[alpha, 1]",
        "v3 = state[c]",
        "v4 = gt(v0, v3)",
        "v5 = where(v4, v2, v1)",
        "return v5",
    ]
