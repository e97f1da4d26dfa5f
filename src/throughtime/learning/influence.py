"""The influence ds/dtheta with only some entries kept: its pattern, and its recursion in time."""

import copy
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from throughtime.core.binding import bind
from throughtime.core.cell import Streams
from throughtime.core.dynamics import Dynamics
from throughtime.learning.step_map import Step, StepMap

_ROUNDING = 1000  # differences that are allowed, in units of the largest value's last place
_DRAWS, _ROWS = 4, 4  # of parameters; of states and inputs, each with both signs
_BLOCK = 8  # states whose rows of F_theta are found at once
_FEW = 4  # a dense product is faster where more than one entry in so many is kept


class Pattern(NamedTuple):
    """Which entries of an influence are kept: K of a parameter at most.

    A NamedTuple of tensors, so that it can be saved with the influence itself.

    Attributes:
        rows: (K, count) the states of a parameter's entries; (K, 1), all in order, if K is size.
        kept: (K, count) whether an entry is there: a parameter may have fewer than K.
        immediate: (K, count) whether it is in F_theta.
        reads: (size, size) where F_s may differ from zero.
        colours_s: (size,) of the rows of F_s: no column has two of one colour.
        colours_theta: (size,) of the rows of F_theta, likewise.
        learnt: whether the initial state depends on the parameters.
    """

    rows: Int[Tensor, "kept #count"]
    kept: Bool[Tensor, "kept count"]
    immediate: Bool[Tensor, "kept count"]
    reads: Bool[Tensor, "size size"]
    colours_s: Int[Tensor, " size"]
    colours_theta: Int[Tensor, " size"]
    learnt: Bool[Tensor, ""]


def reading(cell: StepMap) -> Bool[Tensor, "size size"]:
    """Which states read which: where F_s differs from zero at some of many points.

    A cell's own parameters may hide what others would show, as an identity matrix does, or a unit
    that is never active: random ones are tried as well.

    Arguments:
        cell: of the model.
    """
    eye = torch.eye(cell.size)
    found = [(rows_of_s(probe, step, eye) != 0).any(0) for probe, step in _probes(cell)]
    return torch.stack(found).any(0)


def reaches_all(reads: Bool[Tensor, "size size"]) -> bool:
    """Whether some state reaches all others in time, so that its parameters' entries are dense.

    Arguments:
        reads: as `reading` finds it.
    """
    reach = reads.float() + torch.eye(len(reads), device=reads.device)
    for _ in range(len(reads).bit_length()):
        reach = (reach @ reach > 0).float()
    return bool(reach.all(0).any())


def pattern_of(cell: StepMap, reads: Bool[Tensor, "size size"], order: int | None) -> Pattern:
    """The entries by which parameters reach states within some steps.

        M_1 = F_theta or ds_0/dtheta differs from zero        M_n = M_1 or F_s M_{n-1} does

    Arguments:
        cell: of the model.
        reads: as `reading` finds it.
        order: n, at least 1; None for as many steps as add something.
    """
    immediate, initial = torch.zeros(2, cell.size, cell.count, dtype=torch.bool).to(reads.device)
    for probe, step in _probes(cell):
        initial |= probe.initial(1)[0] != 0
        for states in torch.arange(cell.size).split(_BLOCK):
            seeds = torch.eye(cell.size)[states]
            immediate[states] |= (rows_of_theta(probe, step, seeds) != 0).any(0)
    reached = immediate | initial
    for _ in range(cell.size if order is None else order - 1):
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


def all_of(cell: StepMap) -> Pattern:
    """The pattern that leaves nothing out.

    Arguments:
        cell: of the model.
    """
    device = next(iter(cell.parameters.values())).device
    rows, columns = torch.arange(cell.size, device=device), cell.count
    every = torch.ones(cell.size, columns, dtype=torch.bool, device=device)
    reads = torch.ones(cell.size, cell.size, dtype=torch.bool, device=device)
    learnt = torch.ones((), dtype=torch.bool, device=device)
    return Pattern(rows[:, None], every, every, reads, rows, rows, learnt)


def colours(pattern: Bool[Tensor, "rows columns"]) -> Int[Tensor, " rows"]:
    """A colour for each row, from 0 on, such that no column has two rows of one colour.

    Greedy: each row has the first colour that no row before it makes impossible.

    Arguments:
        pattern: where rows have something.
    """
    clash = pattern.float() @ pattern.float().mT > 0
    found: list[int] = []
    for row in clash.tolist():
        taken = {colour for colour, clashes in zip(found, row, strict=False) if clashes}
        found.append(next(c for c in itertools.count() if c not in taken))
    return torch.tensor(found, dtype=torch.int64, device=pattern.device)


def rows_of_s(
    cell: StepMap, step: Step, seeds: Shaped[Tensor, "k size"]
) -> Float[Tensor, "batch k size"]:
    """v' F_s for each of some vectors: (batch, k, size).

    Arguments:
        cell: of the model.
        step: at which.
        seeds: (k, size) the vectors.
    """
    if step.partials is not None:
        return seeds.to(step.s) @ step.partials.by_s()
    many, vectors = _times(step, seeds)
    with torch.enable_grad():
        s = many.s.requires_grad_()
        after = Dynamics(bind(cell.cell, cell.parameters))(s, many.x, many.streams)
    if not after.requires_grad:  # a step that reads no state
        return step.s.new_zeros(len(step.s), *seeds.shape)
    (found,) = torch.autograd.grad(after, s, vectors, materialize_grads=True)
    return found.unflatten(0, (len(step.s), len(seeds)))


def rows_of_theta(
    cell: StepMap, step: Step, seeds: Shaped[Tensor, "k size"]
) -> Float[Tensor, "batch k count"]:
    """v' F_theta for each of some vectors: (batch, k, count).

    Arguments:
        cell: of the model.
        step: at which.
        seeds: (k, size) the vectors.
    """
    if step.partials is not None:
        vectors = seeds.to(step.s)[:, None].expand(-1, len(step.s), -1)
        return torch.stack([step.partials.pulled(v) for v in vectors], 1)
    many, vectors = _times(step, seeds)
    return cell.pulled(many, vectors).unflatten(0, (len(step.s), len(seeds)))


def _compressed(reached: Bool[Tensor, "size count"]) -> tuple[Tensor, Tensor]:
    """Rows, and which are kept, of a pattern."""
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


def _probes(cell: StepMap) -> Iterator[tuple[StepMap, Step]]:
    """The cell as it is and with random parameters, and steps at random states and inputs."""
    generator = torch.Generator("cpu").manual_seed(0)
    like = next(iter(cell.parameters.values()))

    def drawn(*shape: int) -> Tensor:
        values = torch.randn(shape, dtype=like.dtype, generator=generator, device="cpu")
        return values.to(like.device)

    for number in range(_DRAWS):
        probe = copy.copy(cell)
        if number > 0:
            random = {
                name: drawn(*p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 1.0)
                for name, p in cell.cell.named_parameters()
            }
            probe.cell = bind(cell.cell, random)
            probe.parameters = {name: random[name] for name in cell.parameters}
        s, x = drawn(_ROWS, cell.size), drawn(_ROWS, cell.cell.input_size)
        s, x = torch.cat([s, -s]), torch.cat([x, -x])
        ages = torch.arange(number * _ROWS, (number + 1) * _ROWS, device="cpu").repeat(2)
        streams: Streams = ()
        if cell.cell.streams:
            where = {"dtype": like.dtype, "generator": generator}
            drawn_streams = cell.cell.draw_streams(ages[None], training=number % 2 == 1, **where)
            streams = tuple(stream[0].to(like.device) for stream in drawn_streams)
        fresh = torch.zeros(len(s), dtype=torch.bool, device=like.device)
        yield probe, Step(s, x, streams, fresh, torch.zeros_like(s))


def _times(step: Step, seeds: Shaped[Tensor, "k size"]) -> tuple[Step, Tensor]:
    """A step with each sequence k times over, and the vectors, (batch * k, size)."""
    k = len(seeds)
    streams = tuple(stream.repeat_interleave(k, 0) for stream in step.streams)
    parts = (t.repeat_interleave(k, 0) for t in (step.s, step.x, step.fresh, step.credit))
    s, x, fresh, credit = parts
    return Step(s, x, streams, fresh, credit), seeds.to(s).repeat(len(step.s), 1)


def entering(
    cell: StepMap, step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, "batch kept count"]:
    """The entries kept of the influence on the state that a step starts from.

    Arguments:
        cell: of the model.
        step: which.
        influence: (batch, K, count) after the step before.
        pattern: of the entries.
    """
    if not bool(step.fresh.any()):
        return influence
    return torch.where(step.fresh[:, None, None], initial(cell, len(influence), pattern), influence)


def initial(cell: StepMap, batch: int, pattern: Pattern) -> Float[Tensor, "batch kept count"]:
    """The entries kept of ds_0/dtheta.

    Arguments:
        cell: of the model.
        batch: number of sequences.
        pattern: of the entries.
    """
    shape = (batch, *pattern.kept.shape)
    if not bool(pattern.learnt):
        return next(iter(cell.parameters.values())).new_zeros(shape)
    return cell.initial(batch).gather(1, pattern.rows.expand(shape)) * pattern.kept


def past(
    step: Step, influence: Float[Tensor, "batch kept count"], pattern: Pattern
) -> Float[Tensor, " count"]:
    """dL_t/ds G, summed over the batch.

    Arguments:
        step: whose credit.
        influence: (batch, K, count) on the state before it.
        pattern: of the entries.
    """
    if len(pattern.rows) == len(pattern.reads):
        return torch.einsum("bs,bsp->p", step.credit, influence)
    return (step.credit[:, pattern.rows] * influence).sum((0, 1))


def jacobians(
    cell: StepMap, step: Step, pattern: Pattern, *, check: bool = False
) -> tuple[Float[Tensor, "batch size size"], Float[Tensor, "batch kept count"], bool]:
    """F_s, the entries kept of F_theta, and whether a check found no others.

    Where K is size it is the dense Jacobian, of which `carried` leaves out what is not kept. Else
    states of one colour share a product, that of a vector of ones at these states with F_s or with
    F_theta. The check compares one more product, with other numbers; where both are finite.

    Arguments:
        cell: of the model.
        step: at which.
        pattern: of the entries.
        check: whether to look for entries outside the pattern.
    """
    if len(pattern.rows) == cell.size:
        by_s, by_theta = cell.jacobians(step)
        return by_s, by_theta, True
    # multiples of the golden ratio: far from each other, and none is zero
    weights = ((torch.arange(1, cell.size + 1) * 0.618034) % 1 + 0.5).to(step.s)
    seeds = [_ones(pattern.colours_s), _ones(pattern.colours_theta)]
    if check:
        seeds = [torch.cat([ones.to(weights), weights[None]]) for ones in seeds]
    for_s, for_theta = rows_of_s(cell, step, seeds[0]), rows_of_theta(cell, step, seeds[1])
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
    """The entries kept of F_s G + F_theta.

    Arguments:
        influence: G, (batch, K, count) on the state before the step.
        by_s: F_s, (batch, size, size).
        by_theta: (batch, K, count) of F_theta.
        pattern: of the entries.
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
    """All entries, zeros among them.

    Arguments:
        influence: (batch, K, count).
        pattern: of the entries.
    """
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
    """Whether two results differ by rounding alone, where both are finite."""
    finite = got.isfinite() & expected.isfinite()
    got, expected = torch.where(finite, got, 0.0), torch.where(finite, expected, 0.0)
    allowed = _ROUNDING * torch.finfo(got.dtype).eps * got.abs().max()
    return bool(((got - expected).abs() <= allowed).all())
