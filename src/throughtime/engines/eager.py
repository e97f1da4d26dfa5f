"""The eager engine: loops over time in plain PyTorch. It is the reference for all others."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from throughtime.core.capture import transformed
from throughtime.core.cell import Cell, advance, bind, prepare
from throughtime.core.errors import EngineRefusalError
from throughtime.core.sequence import Packing, packing
from throughtime.core.state import State, map_state, restarted, state_tensors
from throughtime.engines.engine import (
    Engine,
    EngineOptions,
    Refusal,
    Request,
    Result,
    Runner,
    autocasts,
)
from throughtime.engines.recomputation import every, run_again, within


@final
class EagerEngine(Engine):
    """Runs any cell under any transform: one Python iteration a step.

    The input's projection is one product for many steps. Sequences of unequal length are run as
    ever fewer rows, longest first, so that padding is never read and never has a gradient.
    """

    name = "eager"

    def prepare(self, request: Request) -> Runner | Refusal:
        """Refuse checkpoints under transforms and in programs, and nothing else."""
        if not request.options.stores_all:
            why = transformed() or request.captured
            if why is not None:
                return Refusal(f"{why}, which sees no checkpoints")
        return functools.partial(_run, request)


def _run(request: Request) -> Result:
    options, time = request.options, request.inputs.shape[0]
    no_values = request.captured is not None or request.inputs.is_meta
    if no_values or (request.resets is not None and transformed()):
        return run_masked(request)
    if options.stores_all or not torch.is_grad_enabled():
        return _in_place(request) if _runs_in_place(request) else unroll(request)
    if options.memory_budget is None:
        plan = every(time, options.segment(time))
    else:
        state = sum(s.nbytes for s in state_tensors(request.state))
        plan = within(time, options.memory_budget, state, _bytes_of_a_step(request))
    return run_again(request, plan, unroll)


def _runs_in_place(request: Request) -> bool:
    """Return True if the cell runs the whole request itself; `step` is used under transforms."""
    if request.cell.run_sequence is None or request.outputs == "states" or request.streams:
        return False
    return not transformed() and not autocasts(request.inputs)


def _in_place(request: Request) -> Result:
    """Run a request by the cell's `run_sequence`, from one reset to the next."""
    cell, state, inputs = prepare(request.cell), request.state, request.inputs
    assert cell.run_sequence is not None
    time, batch = inputs.shape[:2]
    plan = None if request.lengths is None else packing(request.lengths, inputs.device)
    counts = [batch] * time if plan is None else list(plan.counts)
    projected = cell.project(inputs.flatten(0, 1) if plan is None else plan.pack(inputs))
    if plan is not None:
        state = map_state(lambda s: s.index_select(0, plan.order), state)
    starts = [0]
    if request.resets is not None:
        starts += [t for t in request.resets[: len(counts)].any(1).nonzero()[:, 0].tolist() if t]
    resets = request.resets
    if resets is not None and plan is not None:
        resets = resets.index_select(1, plan.order)
    fresh = None
    if resets is not None and bool(resets.any()):
        fresh = cell.initial_state(batch, dtype=state.h.dtype, device=state.h.device)
    stops = [*starts[1:], len(counts)]
    parts = projected.split([sum(counts[a:b]) for a, b in zip(starts, stops, strict=True)])
    outputs: list[Tensor] = []
    ended: list[State] = []
    for start, stop, part in zip(starts, stops, parts, strict=True):
        active = counts[start]
        ended.append(map_state(lambda s, n=active: s[n:], state))
        state = map_state(lambda s, n=active: s[:n], state)
        if fresh is not None and resets is not None and bool(resets[start].any()):
            state = restarted(resets[start, :active], fresh, state)
        output, state = cell.run_sequence(part, state, counts[start:stop])
        outputs.append(output)
    whole = torch.cat(outputs)
    if len(starts) > 1:
        state = map_state(lambda *s: torch.cat(s), state, *ended[::-1])
    if plan is None:
        grid = whole.unflatten(0, (time, batch))
        return Result(grid[-1] if request.outputs == "last" else grid, state, None)
    back = plan.order.argsort()
    state = map_state(lambda s: s.index_select(0, back), state)
    grid = plan.unpack(whole, time)
    if request.outputs == "last":
        assert request.lengths is not None
        grid = grid[request.lengths.to(grid.device) - 1, torch.arange(batch, device=grid.device)]
    return Result(grid, state, None)


def _bytes_of_a_step(request: Request) -> int:
    """Return the bytes that autograd keeps of a step: a run of two less a run of one.

    All steps of both runs start afresh if any step of the request may. For sequences of unequal
    length the copy of their inputs, and their positions, are added.
    """
    resets, rows = request.resets, request.inputs.shape[1]
    packed = 0 if request.lengths is None else request.inputs[0].nbytes + 2 * 8 * rows
    given = [*request.cell.parameters(), *request.cell.buffers(), request.inputs, *request.streams]
    own = {t.untyped_storage().data_ptr() for t in [*given, *state_tensors(request.state)]}
    kept: list[int] = []
    for steps in (1, 2):
        sizes: dict[int, int] = {}

        def seen(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            # the graph lives until the sizes are summed, so that no memory is used twice
            result = unroll(
                Request(
                    request.cell,
                    request.inputs[:1].expand(steps, -1, -1),
                    request.state,
                    None,
                    None if resets is None else torch.ones_like(resets[:1]).expand(steps, -1),
                    tuple(s[:1].expand(steps, *s.shape[1:]) for s in request.streams),
                    options=EngineOptions(),
                )
            )
        kept.append(sum(sizes.values()))
        del result
    return kept[1] - kept[0] + packed


@runtime_checkable
class Observer(Protocol):
    """A watcher of the steps of a run, which may replace the cell of each."""

    def before_step(self, t: int, cell: Cell, projected: Tensor) -> Cell:
        """Return the cell of step t: the given one, or one bound to other tensors.

        Arguments:
            t: The step, from 0.
            cell: The cell of the run.
            projected: (rows, projected) the projection of the step's input, as the graph holds it.
        """
        ...

    def after_step(self, t: int, rows: Tensor | None, state: State) -> None:
        """Receive the state after step t, as the graph holds it.

        Arguments:
            t: The step, from 0.
            rows: (rows,) the sequences of the state's rows; None for all in order.
            state: The state whose tensors the next step reads.
        """
        ...


def unroll(request: Request, observer: Observer | None = None) -> Result:
    """Run the loop over time, watched by an observer where there is one.

    Arguments:
        request: The request.
        observer: The watcher, called before and after each step.

    Returns:
        Outputs and states as in `Result`.
    """
    # an observer may put other tensors in the place of the cell's, at any step
    cell = request.cell if observer is not None else prepare(request.cell)
    state, lengths = request.state, request.lengths
    time, batch = request.inputs.shape[:2]
    plan = None if lengths is None else packing(lengths, request.inputs.device)

    def by_step(grid: Tensor) -> tuple[Tensor, ...]:
        # unbind and split have one gradient for all steps; a slice a step would have one each.
        return grid.unbind(0) if plan is None else plan.pack(grid).split(plan.counts)

    if plan is not None:
        state = map_state(lambda s: s.index_select(0, plan.order), state)
    streams = list(zip(*(by_step(s) for s in request.streams), strict=True))
    resets = None if request.resets is None else by_step(request.resets)
    any_reset = None if request.resets is None else request.resets.any(1).tolist()
    fresh = None
    if any_reset and any(any_reset):
        like = request.state.h
        fresh = cell.initial_state(batch, dtype=like.dtype, device=like.device)
        if plan is not None:
            fresh = map_state(lambda s: s.index_select(0, plan.order), fresh)

    outputs: list[Tensor] = []
    states: list[State] = []
    finished: list[tuple[Tensor, State]] = []
    output, rows = request.inputs.new_zeros(0), batch
    for t, projected_t in enumerate(_projections(cell, request.inputs, plan)):
        active = projected_t.shape[0]
        if active < rows:
            finished.append((output[active:], map_state(lambda s, n=active: s[n:], state)))
            state = map_state(lambda s, n=active: s[:n], state)
            rows = active
        if fresh is not None and resets is not None and any_reset is not None and any_reset[t]:
            state = restarted(resets[t], fresh, state)
        stepping = cell if observer is None else observer.before_step(t, cell, projected_t)
        output, state = advance(stepping, projected_t, state, streams[t] if streams else ())
        if observer is not None:
            observer.after_step(t, None if plan is None else plan.order[:active], state)
        if request.outputs != "last":
            outputs.append(output)
        if request.outputs == "states":
            states.append(state)
    finished.append((output, state))

    def gather(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts) if plan is None else plan.unpack(torch.cat(parts), time)

    def ends(parts: list[Tensor]) -> Tensor:
        if plan is None:
            return parts[0]
        return torch.cat(parts[::-1]).index_select(0, plan.order.argsort())

    return Result(
        gather(outputs) if outputs else ends([o for o, _ in finished]),
        map_state(lambda *parts: ends(list(parts)), *(s for _, s in finished)),
        map_state(lambda *parts: gather(list(parts)), *states) if states else None,
    )


def _projections(cell: Cell, inputs: Tensor, plan: Packing | None) -> Iterator[Tensor]:
    """Yield the projection of each step, computed for a segment of steps at a time.

    One product for all steps would take memory that is written once and read once, long after it
    left the cache; segments of about a mebibyte stay in it.
    """
    batch = inputs.shape[1]
    steps = max(1, 2**18 // max(1, batch * 4 * cell.hidden_size))
    if plan is None:
        for segment in inputs.split(steps):
            yield from cell.project(segment).unbind(0)
        return
    counts = [plan.counts[start : start + steps] for start in range(0, len(plan.counts), steps)]
    rows = plan.pack(inputs).split([sum(segment) for segment in counts])
    for segment, segment_counts in zip(rows, counts, strict=True):
        yield from cell.project(segment).split(segment_counts)


Step = Callable[[Cell, State, State, Sequence[Tensor]], tuple[State, Tensor]]
"""A step: from the cell, its initial state, the state and the step's tensors."""


def run_masked(request: Request) -> Result:
    """Run the loop over time, with masks where sequences start afresh or have ended.

    The steps are written out one after the other where their number is known. Where it is a symbol,
    as under torch.export with a dynamic time, the program has one step in a loop (torch's scan).

    Returns:
        Outputs and states as in `Result`.
    """
    inputs, lengths, resets = request.inputs, request.lengths, request.resets
    time, batch = inputs.shape[:2]
    live: Tensor | None = None
    if lengths is not None:
        steps = torch.arange(time, device=inputs.device)[:, None]
        live = steps < lengths.to(inputs.device)
        inputs = torch.where(live[..., None], inputs, 0)  # before anything makes NaN of padding
    like = request.state.h
    fresh = request.cell.initial_state(batch, dtype=like.dtype, device=like.device)
    masks = [mask for mask in (resets, live) if mask is not None]

    def step(
        cell: Cell, fresh: State, state: State, of_step: Sequence[Tensor]
    ) -> tuple[State, Tensor]:
        x, *rest = of_step
        before = state
        streams, of_masks = rest[: len(request.streams)], rest[len(request.streams) :]
        if resets is not None:
            state = map_state(lambda f, s: _where(of_masks[0], f, s), fresh, state)
        output, after = advance(cell, x, state, tuple(streams))
        if live is not None:
            after = map_state(lambda a, b: _where(of_masks[-1], a, b), after, before)
            output = _where(of_masks[-1], output, torch.zeros_like(output))
        return after, output

    grids = [request.cell.project(inputs), *request.streams, *masks]
    loop = _loop if isinstance(time, torch.SymInt) else _written_out
    outputs, state, states = loop(request, step, fresh, grids)
    if request.outputs == "states":
        if live is not None:
            states = map_state(lambda s: _where(live, s, torch.zeros_like(s)), states)
        return Result(outputs, state, states)
    if request.outputs == "all":
        return Result(outputs, state, None)
    if lengths is None:
        return Result(outputs[-1], state, None)
    rows = torch.arange(batch, device=outputs.device)
    return Result(outputs[lengths.to(outputs.device) - 1, rows], state, None)


def _written_out(
    request: Request, step: Step, fresh: State, grids: Sequence[Tensor]
) -> tuple[Tensor, State, State]:
    cell, state = prepare(request.cell), request.state
    outputs: list[Tensor] = []
    states: list[State] = []
    for of_step in zip(*(grid.unbind(0) for grid in grids), strict=True):
        state, output = step(cell, fresh, state, of_step)
        outputs.append(output)
        states.append(state)
    history = None
    if request.outputs == "states":
        history = map_state(lambda *parts: torch.stack(parts), *states)
    return torch.stack(outputs), state, history


def _loop(
    request: Request, step: Step, fresh: State, grids: Sequence[Tensor]
) -> tuple[Tensor, State, State]:
    try:
        from torch._higher_order_ops.scan import scan_op
    except ImportError:
        raise EngineRefusalError(
            "a program of any number of steps",
            got=f"torch {torch.__version__}, which has no operator of a loop",
            fix="Capture it with a fixed number of steps, or update torch.",
        ) from None
    named = dict(request.cell.named_parameters(remove_duplicate=False))
    named |= dict(request.cell.named_buffers(remove_duplicate=False))
    # a tensor of two names is one argument: no two arguments of a body may be aliases
    distinct = list({id(t): t for t in named.values()}.values())
    places = {id(t): place for place, t in enumerate(distinct)}
    tensors, starts = state_tensors(request.state), state_tensors(fresh)
    # torch's scan takes the gradient of all that it carries: counts are carried as real numbers
    carried = [t if t.is_floating_point() else t.to(torch.float64) for t in tensors]

    def as_state(carried: Sequence[Tensor]) -> State:
        pairs = zip(carried, tensors, strict=True)
        return _like(request.state, [c.to(t.dtype) for c, t in pairs])

    counts = (len(carried), len(grids), len(distinct), len(starts))

    def body(*flat: Tensor) -> list[Tensor]:
        # all that it reads is among its arguments: a loop's body is a program of its own
        carry, of_step, own, start = _parts(flat, counts)
        bound = {name: own[places[id(t)]] for name, t in named.items()}
        cell = prepare(bind(request.cell, bound))
        state, output = step(cell, _like(fresh, start), as_state(carry), of_step)
        pairs = zip(state_tensors(state), carry, strict=True)
        after = [s.to(c.dtype) for s, c in pairs]
        kept = after if request.outputs == "states" else []
        # copies: no two results of a body may be one tensor, nor one of its arguments
        return [t.clone() for t in (*after, output, *kept)]

    results = scan_op(body, carried, list(grids), (*distinct, *starts))
    outputs, *history = results[len(carried) :]
    return outputs, as_state(results[: len(carried)]), as_state(history) if history else None


def _parts(flat: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    rest = iter(flat)
    return [[next(rest) for _ in range(count)] for count in counts]


def _like(state: State, tensors: Sequence[Tensor]) -> State:
    """A state of the same structure from its tensors in order."""
    rest = iter(tensors)
    return map_state(lambda _: next(rest), state)


def _where(mask: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Choose by a mask of the first axes."""
    return torch.where(
        mask.reshape(*mask.shape, *(1,) * (chosen.dim() - mask.dim())), chosen, otherwise
    )
