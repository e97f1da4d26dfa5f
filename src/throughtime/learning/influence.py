"""The influence ds/dtheta with only some entries kept: its pattern, and its recursion in time."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from throughtime.core.cell import Cell, Streams, advance, bind
from throughtime.core.jacobian import (
    Dynamics,
    GatedJacobian,
    GeneralJacobian,
    StepJacobian,
    initial_influence,
)
from throughtime.core.scoring import StepwiseModel
from throughtime.learning.forward import Step, forward_parameters

_ROUNDING = 1000  # differences that are allowed, in units of the largest value's last place
_DRAWS, _ROWS = 4, 4  # of parameters; of states and inputs, each with both signs
_BLOCK = 8  # states whose rows of F_theta are found at once
_FEW = 4  # a dense product is faster where more than one entry in so many is kept


class Pattern(NamedTuple):
    """The entries of an influence that are kept: K of a parameter at most.

    A NamedTuple of tensors, so that it can be saved with the influence itself.

    Attributes:
        rows: (K, count) the states of a parameter's entries; (K, 1), all in order, if K is size.
        kept: (K, count) True for an entry that is there: a parameter may have fewer than K.
        immediate: (K, count) True for an entry of F_theta.
        reads: (size, size) True where F_s may differ from zero.
        colours_s: (size,) colours of the rows of F_s: no column has two of one colour.
        colours_theta: (size,) colours of the rows of F_theta, likewise.
        learnt: True if the initial state depends on the parameters.
    """

    rows: Int[Tensor, "kept #count"]
    kept: Bool[Tensor, "kept count"]
    immediate: Bool[Tensor, "kept count"]
    reads: Bool[Tensor, "size size"]
    colours_s: Int[Tensor, " size"]
    colours_theta: Int[Tensor, " size"]
    learnt: Bool[Tensor, ""]


def reading(model: StepwiseModel) -> Bool[Tensor, "size size"]:
    """Find the states that each state reads: where F_s differs from zero at some of many points.

    A cell's own parameters may hide entries that others would show, as an identity matrix does, or
    a unit that is never active: random ones are tried as well.

    Raises:
        LearnerRefusalError: as `forward_parameters`.
    """
    probes = list(_probes(model))
    eye = torch.eye(probes[0][1].size)
    return torch.stack([(rows_of_s(step, eye) != 0).any(0) for _, step in probes]).any(0)


def reaches_all(reads: Bool[Tensor, "size size"]) -> bool:
    """Return True if some state reaches all others in time: its parameters' entries are dense."""
    reach = reads.float() + torch.eye(len(reads), device=reads.device)
    for _ in range(len(reads).bit_length()):
        reach = (reach @ reach > 0).float()
    return bool(reach.all(0).any())


def pattern_of(
    model: StepwiseModel, reads: Bool[Tensor, "size size"], order: int | None
) -> Pattern:
    """Find the entries by which parameters reach states within some steps.

        M_1 = F_theta or ds_0/dtheta differs from zero        M_n = M_1 or F_s M_{n-1} does

    Arguments:
        order: n, at least 1; None for as many steps as add something.
    """
    size, count = len(reads), sum(p.numel() for p in forward_parameters(model).values())
    immediate, initial = torch.zeros(2, size, count, dtype=torch.bool).to(reads.device)
    for cell, step in _probes(model):
        initial |= initial_influence(cell, step.parameters) != 0
        for states in torch.arange(size).split(_BLOCK):
            seeds = torch.eye(size)[states]
            immediate[states] |= (rows_of_theta(step, seeds) != 0).any(0)
    reached = immediate | initial
    for _ in range(size if order is None else order - 1):
        more = reached | (reads.float() @ reached.float() > 0)
        if torch.equal(more, reached):
            break
        reached = more
    rows, kept = _compressed(reached)
    return Pattern(
        rows,
        kept,
        immediate.gather(0, rows.expand(kept.shape)) & kept,
        reads,
        colours(reads),
        colours(immediate),
        initial.any(),
    )


def whole_pattern(step: StepJacobian) -> Pattern:
    """Return the pattern that leaves nothing out."""
    size, count, device = step.size, step.count, step.s.device
    rows = torch.arange(size, device=device)
    every = torch.ones(size, count, dtype=torch.bool, device=device)
    reads = torch.ones(size, size, dtype=torch.bool, device=device)
    learnt = torch.ones((), dtype=torch.bool, device=device)
    return Pattern(rows[:, None], every, every, reads, rows, rows, learnt)


def colours(pattern: Bool[Tensor, "rows columns"]) -> Int[Tensor, " rows"]:
    """Return a colour for each row, from 0 on, such that no column has two rows of one colour.

    Greedy: each row has the first colour that no row before it makes impossible.
    """
    clash = pattern.float() @ pattern.float().mT > 0
    found: list[int] = []
    for row in clash.tolist():
        taken = {colour for colour, clashes in zip(found, row, strict=False) if clashes}
        found.append(next(c for c in itertools.count() if c not in taken))
    return torch.tensor(found, dtype=torch.int64, device=pattern.device)


def rows_of_s(step: StepJacobian, seeds: Shaped[Tensor, "k size"]) -> Float[Tensor, "batch k size"]:
    """Return v' F_s for k vectors v, the same for each sequence."""
    if isinstance(step, GatedJacobian):  # a matrix product, and few elementwise ones
        return seeds.to(step.s) @ step.dense()
    return step.pull(_for_each(step, seeds)).transpose(0, 1)


def rows_of_theta(
    step: StepJacobian, seeds: Shaped[Tensor, "k size"]
) -> Float[Tensor, "batch k count"]:
    """Return v' F_theta for k vectors v, the same for each sequence."""
    return step.pull_parameters(_for_each(step, seeds)).transpose(0, 1)


def _for_each(step: StepJacobian, seeds: Tensor) -> Tensor:
    return seeds.to(step.s)[:, None].expand(-1, len(step.s), -1)


def _compressed(reached: Bool[Tensor, "size count"]) -> tuple[Tensor, Tensor]:
    """The rows of a pattern, and its entries that are kept."""
    size, count = reached.shape
    most = max(1, int(reached.sum(0).max()))
    if most == size:
        return torch.arange(size, device=reached.device)[:, None], reached
    parameter, state = reached.mT.nonzero(as_tuple=True)
    place = (reached.long().cumsum(0) - 1)[state, parameter]
    rows = torch.zeros(most, count, dtype=torch.int64, device=reached.device)
    kept = torch.zeros(most, count, dtype=torch.bool, device=reached.device)
    rows[place, parameter], kept[place, parameter] = state, True
    return rows, kept


def _probes(model: StepwiseModel) -> Iterator[tuple[Cell, StepJacobian]]:
    """The cell with its own and with random parameters, at random states and inputs."""
    cell, trained = model.cell, forward_parameters(model)
    generator = torch.Generator("cpu").manual_seed(0)
    like, dynamics = next(iter(trained.values())), Dynamics(cell)
    start = cell.initial_state(2 * _ROWS, dtype=dynamics.dtype, device=dynamics.device)
    whole = dynamics.layout.whole(start)

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(shape, dtype=like.dtype, generator=generator, device="cpu")
        return values.to(like.device)

    for number in range(_DRAWS):
        probed, parameters = cell, trained
        if number > 0:
            random = {
                name: drawn(*p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 1.0)
                for name, p in cell.named_parameters()
            }
            probed, parameters = bind(cell, random), {name: random[name] for name in trained}
        s, x = drawn(_ROWS, dynamics.size), drawn(_ROWS, cell.input_size)
        s, x = torch.cat([s, -s]), torch.cat([x, -x])
        ages = torch.arange(number * _ROWS, (number + 1) * _ROWS, device="cpu").repeat(2)
        streams: Streams = ()
        if cell.streams:
            where = {"dtype": like.dtype, "generator": generator}
            every = cell.draw_streams(ages[None], training=number % 2 == 1, **where)
            streams = tuple(stream[0].to(like.device) for stream in every)
        state = dynamics.unflatten(s, whole)
        yield probed, GeneralJacobian(probed, state, x, streams, parameters)
        if whole:  # counts and indices move on, so that the probes meet several of them
            with torch.no_grad():
                after = advance(probed, probed.project(x), state, streams)[1]
            whole = dynamics.layout.whole(after)


def entering(
    step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, "batch kept count"]:
    """Return the kept entries of the influence on the state that a step starts from.

    Arguments:
        influence: the entries after the step before.
    """
    if not bool(step.fresh.any()):
        return influence
    start = torch.zeros_like(influence)
    if bool(pattern.learnt):
        start = initial_entries(step.initial(), len(influence), pattern)
    return torch.where(step.fresh[:, None, None], start, influence)


def initial_entries(
    initial: Float[Tensor, "size count"], batch: int, pattern: Pattern
) -> Float[Tensor, "batch kept count"]:
    """Return the kept entries of ds_0/dtheta."""
    shape = pattern.kept.shape
    return (initial.gather(0, pattern.rows.expand(shape)) * pattern.kept).repeat(batch, 1, 1)


def past(
    step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, " count"]:
    """Return dL_t/ds G, summed over the batch.

    Arguments:
        influence: entries of G, on the state before the step.
    """
    if len(pattern.rows) == len(pattern.reads):
        return torch.einsum("bs,bsp->p", step.credit, influence)
    return (step.credit[:, pattern.rows] * influence).sum((0, 1))


def jacobians(
    step: StepJacobian, pattern: Pattern, *, check: bool = False
) -> tuple[Float[Tensor, "batch size size"], Float[Tensor, "batch kept count"], bool]:
    """Return F_s, the kept entries of F_theta, and True unless a check found others.

    Where K is size it is the dense Jacobian, of which `carried` leaves out what is not kept. Else
    states of one colour share a product, that of a vector of ones at these states with F_s or with
    F_theta. The check compares one more product, with other numbers, where both are finite.

    Arguments:
        check: If True, entries outside the pattern are looked for.
    """
    if len(pattern.rows) == step.size:
        by_s, by_theta = step.both()
        return by_s, by_theta, True
    # multiples of the golden ratio: far from each other, and none is zero
    weights = ((torch.arange(1, step.size + 1) * 0.618034) % 1 + 0.5).to(step.s)
    seeds = [_ones(pattern.colours_s), _ones(pattern.colours_theta)]
    if check:
        seeds = [torch.cat([ones.to(weights), weights[None]]) for ones in seeds]
    for_s, for_theta = rows_of_s(step, seeds[0]), rows_of_theta(step, seeds[1])
    by_s = _only(pattern.reads, for_s[:, pattern.colours_s])
    colour = pattern.colours_theta[pattern.rows].expand(len(step.s), -1, -1)
    by_theta = _only(pattern.immediate, for_theta.gather(1, colour))
    if not check:
        return by_s, by_theta, True
    same = _alike(weights @ by_s, for_s[:, -1])
    same &= _alike((weights[pattern.rows] * by_theta).sum(1), for_theta[:, -1])
    return by_s, by_theta, same


def carried(
    influence: Float[Tensor, "batch kept count"],
    by_s: Float[Tensor, "batch size size"],
    by_theta: Float[Tensor, "batch kept count"],
    pattern: Pattern,
) -> Float[Tensor, "batch kept count"]:
    """Return the kept entries of F_s G + F_theta.

    Arguments:
        influence: entries of G, on the state before the step.
        by_s: F_s.
        by_theta: entries of F_theta.
    """
    rows, size = pattern.rows, by_s.shape[1]
    if len(rows) == size:
        return _only(pattern.kept, torch.baddbmm(by_theta, by_s, influence))
    if _FEW * len(rows) >= size:
        whole = by_s @ dense(influence, pattern)
        total = whole.gather(1, rows.expand(influence.shape)) + by_theta
        return _only(pattern.kept, total)
    total = by_theta
    for k, other in enumerate(rows):
        total = total + by_s.flatten(1)[:, rows * size + other] * influence[:, k : k + 1]
    return _only(pattern.kept, total)


def dense(
    influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, "batch size count"]:
    """Return all entries, zeros among them."""
    batch, _, count = influence.shape
    whole = influence.new_zeros(batch, len(pattern.reads), count)
    return whole.scatter_add_(1, pattern.rows.expand(influence.shape), influence)


def _ones(colours: Int[Tensor, " size"]) -> Tensor:
    """Ones at the states of each colour, (colours, size)."""
    return torch.nn.functional.one_hot(colours).mT


def _only(where: Tensor, values: Tensor) -> Tensor:
    """The values with zeros elsewhere, in their own memory; NaN there does not matter."""
    return values if bool(where.all()) else values.masked_fill_(~where, 0.0)


def _alike(got: Tensor, expected: Tensor) -> bool:
    """True if two results differ by rounding alone, where both are finite."""
    finite = got.isfinite() & expected.isfinite()
    got, expected = torch.where(finite, got, 0.0), torch.where(finite, expected, 0.0)
    allowed = _ROUNDING * torch.finfo(got.dtype).eps * got.abs().max()
    return bool(((got - expected).abs() <= allowed).all())
