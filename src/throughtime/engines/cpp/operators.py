"""The kernels as operators of torch, with their shapes, gradients and second gradients."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from throughtime.core.buffers import lend
from throughtime.core.errors import EngineRefusalError
from throughtime.engines.cpp.batching import register_batching
from throughtime.engines.cpp.checks import check_operands, check_values, compare
from throughtime.engines.cpp.job import Job
from throughtime.engines.cpp.kernel import Kernel, kernel_named
from throughtime.engines.cpp.operands import job_of, split
from throughtime.engines.cpp.replay import replay
from throughtime.engines.cpp.shown import Shown, aliases
from throughtime.engines.trace.step_plan import StepPlan


@torch.library.custom_op("throughtime::sequence", mutates_args=(), device_types="cpu")
def sequence(
    kernel: str,
    operands: list[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    outputs: str,
    save: bool,
    segment: int,
) -> list[Tensor]:
    """Run a kernel over time.

    Arguments:
        kernel: its name.
        operands: as `Operands.flat` gives them.
        lengths: (batch,) int64.
        ages: (time, batch) int64 steps since the last reset.
        outputs: "all", "last" or "states".
        save: whether a backward pass may follow.
        segment: steps between two stored states; 0 to store all that the backward pass needs.

    Returns:
        The final state as `Operands.initial`; the outputs (time, batch, hidden); each memory's
        history; what was saved for the backward pass; the stored states. Empty tensors for what was
        not kept.
    """
    k = kernel_named(kernel)
    check_operands(k, operands, lengths, ages)
    tensors = split(k.plan, _in_memory(operands))
    job = job_of(k, tensors, lengths, ages, segment if save else 0)
    results = [
        lend(shape, tensors.inputs.dtype) for shape in _shapes(k, operands, outputs, save, segment)
    ]
    final = len(tensors.initial)
    job.lists(final=results[:final])
    _keep(job, results[final:])
    _run(k, "forward", job)
    return results


@sequence.register_fake
def _(
    kernel: str,
    operands: list[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    outputs: str,
    save: bool,
    segment: int,
) -> list[Tensor]:
    del lengths, ages
    shapes = _shapes(kernel_named(kernel), operands, outputs, save, segment)
    return [operands[0].new_empty(shape) for shape in shapes]


@torch.library.custom_op("throughtime::sequence_backward", mutates_args=(), device_types="cpu")
def sequence_backward(
    kernel: str,
    gradients: list[Tensor],
    given: list[bool],
    operands: list[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    kept: list[Tensor],
    needed: list[bool],
    segment: int,
) -> list[Tensor]:
    """The gradients of a run.

    Arguments:
        kernel: its name.
        gradients: of the final state, the outputs and the memories' histories: those there are.
        given: for each of these results, whether there is one.
        operands, lengths, ages: of the run.
        kept: what the run returned beyond the final state.
        needed: for each operand but the streams, whether its gradient is wanted.
        segment: as of the run.

    Returns:
        The gradients in the order of `needed`; empty tensors for those that are not.
    """
    k = kernel_named(kernel)
    check_operands(k, operands, lengths, ages)
    _check_backward(k, gradients, given, operands, kept, needed, segment)
    plan, tensors = k.plan, split(k.plan, _in_memory(operands))
    job = job_of(k, tensors, lengths, ages, segment)
    _keep(job, [t.contiguous() for t in kept])
    fields, above = len(tensors.initial), _spread(gradients, given)
    of_final, (of_outputs, *of_histories) = above[:fields], above[fields:]
    job.lists(
        final_gradients=[g if g is None else g.contiguous() for g in of_final],
        history_gradients=[g if g is None else g.contiguous() for g in of_histories],
    )
    if of_outputs is not None:
        of_outputs = of_outputs if of_outputs.stride(-1) == 1 else of_outputs.contiguous()
        job.tensors(output_gradient=of_outputs)
        job.numbers(output_gradient_strides=of_outputs.stride()[:2])
    results = [
        lend(tensor.shape if wanted else (0,), tensor.dtype)
        for tensor, wanted in zip(operands, needed, strict=False)
    ]
    wanted = split(
        plan, [r if n else None for r, n in zip(results, needed, strict=True)], streams=False
    )
    bias_ih, bias_hh = (*wanted.biases, None, None)[:2]
    by_row = dict(zip(plan.parameters, wanted.parameters, strict=True))
    job.tensors(
        d_inputs=wanted.inputs,
        d_weight_ih=wanted.weights[0],
        d_bias_ih=bias_ih,
        d_bias_hh=bias_hh,
    )
    job.lists(
        d_weight_hh=wanted.weights[1:],
        d_initial=wanted.initial,
        d_parameters=[by_row.pop(row) for row in plan.parameter_gradients],
    )
    for gradient in by_row.values():  # buffers, which have none
        if gradient is not None:
            gradient.zero_()
    _run(k, "backward", job)
    return results


@sequence_backward.register_fake
def _(
    kernel: str,
    gradients: list[Tensor],
    given: list[bool],
    operands: list[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    kept: list[Tensor],
    needed: list[bool],
    segment: int,
) -> list[Tensor]:
    del kernel, gradients, given, lengths, ages, kept, segment
    return [
        tensor.new_empty(tensor.shape if wanted else (0,))
        for tensor, wanted in zip(operands, needed, strict=False)
    ]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.kernel, operands, lengths, ages, ctx.outputs, ctx.save, ctx.segment = inputs
    ctx.set_materialize_grads(False)
    plan = kernel_named(ctx.kernel).plan
    ctx.fields = len(plan.memories) + plan.depth
    ctx.count = len(operands)
    kept = output[ctx.fields :]
    visible = 1 + (len(plan.memories) if ctx.outputs == "states" else 0)
    ctx.shown = Shown(kept[:visible])
    ctx.save_for_backward(*operands, lengths, ages, *aliases(kept[:visible]), *kept[visible:])


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    operands, (lengths, ages, *kept) = saved[: ctx.count], saved[ctx.count :]
    plan = kernel_named(ctx.kernel).plan
    # not saved: what was captured where no gradient was wanted, and is differentiated now
    if not ctx.save or ctx.shown.changed():
        again = sequence(ctx.kernel, list(operands), lengths, ages, ctx.outputs, True, ctx.segment)
        kept = again[ctx.fields :]
    differentiable = ctx.count - len(plan.streams)
    needed = list(ctx.needs_input_grad[1][:differentiable])
    above = gradients[: ctx.fields + 1 + len(plan.memories)]
    results = sequence_backward(
        ctx.kernel,
        [g for g in above if g is not None],
        [g is not None for g in above],
        list(operands),
        lengths,
        ages,
        kept,
        needed,
        ctx.segment,
    )
    found = [r if n else None for r, n in zip(results, needed, strict=True)]
    return None, [*found, *(None for _ in plan.streams)], None, None, None, None, None


sequence.register_autograd(_backward, setup_context=_remember)


def _remember_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    del output
    ctx.kernel, gradients, ctx.given, operands, lengths, ages, kept, ctx.needed, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.counts = (len(gradients), len(operands), len(kept))
    ctx.save_for_backward(*gradients, *operands, lengths, ages)


def _double_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """By running the plan step by step in torch, which can be differentiated at will."""
    count, operand_count, kept = ctx.counts
    above, rest = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    operands, (lengths, ages) = rest[:operand_count], rest[operand_count:]
    create_graph, plan = torch.is_grad_enabled(), kernel_named(ctx.kernel).plan
    if not plan.derived:
        raise EngineRefusalError(
            "second derivatives by the native engine",
            got="a pointwise whose gradient is not what its operations give (detach, no_grad, an "
            "autograd.Function)",
            fix="Use engine='eager'.",
        )
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        leaves, above = [_leaf(t) for t in operands], [_leaf(t) for t in above]
        results = replay(plan, leaves, lengths, ages)
        wanted = [leaf for leaf, needed in zip(leaves, ctx.needed, strict=False) if needed]
        present = [r for r, given in zip(results, ctx.given, strict=True) if given]
        pairs = [(r, a) for r, a in zip(present, above, strict=True) if r.requires_grad]
        first = torch.autograd.grad(
            [r for r, _ in pairs],
            wanted,
            [a for _, a in pairs],
            create_graph=True,
            allow_unused=True,
        )
        chosen = [
            (f, c)
            for f, c in zip(_spread(first, ctx.needed), cotangents, strict=True)
            if f is not None and c is not None and f.requires_grad
        ]
        second = torch.autograd.grad(
            [f for f, _ in chosen],
            [*leaves, *above],
            [c for _, c in chosen],
            create_graph=create_graph,
            allow_unused=True,
        )
    of_operands, of_above = list(second[: len(leaves)]), list(second[len(leaves) :])
    return None, of_above, None, of_operands, None, None, [None] * kept, None, None


sequence_backward.register_autograd(_double_backward, setup_context=_remember_backward)

_library = torch.library.Library("throughtime", "IMPL")
for _operator in (sequence, sequence_backward):
    register_batching(_operator, _library)


def _leaf(tensor: Tensor) -> Tensor:
    """An alias to differentiate by, behind which what the tensor comes from is not seen."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def _spread(present: Sequence[Any], where: Sequence[bool]) -> list[Any]:
    """The given values in their places, None in the others."""
    values = iter(present)
    return [next(values) if there else None for there in where]


def _shapes(
    kernel: Kernel, operands: Sequence[Tensor], outputs: str, save: bool, segment: int
) -> list[tuple[int, ...]]:
    """Of what a run returns."""
    tensors = split(kernel.plan, operands)
    time, batch, _ = tensors.inputs.shape
    hidden = tensors.initial[0].shape[1]
    memories, whole = len(kernel.plan.memories), save and not segment
    fields = len(tensors.initial)
    history = (time, batch, hidden)
    return [
        *((batch, hidden) for _ in range(fields)),
        history if whole or outputs != "last" else (0,),
        *(history if whole or outputs == "states" else (0,) for _ in range(memories)),
        (time, batch, kernel.saved, hidden) if whole and kernel.saved else (0,),
        (-(-time // segment), fields, batch, hidden) if save and segment else (0,),
    ]


def _check_backward(
    kernel: Kernel,
    gradients: Sequence[Tensor],
    given: Sequence[bool],
    operands: Sequence[Tensor],
    kept: Sequence[Tensor],
    needed: Sequence[bool],
    segment: int,
) -> None:
    """Raises ShapeError, DtypeError or DeviceError for what a backward pass cannot read."""
    plan = kernel.plan
    fields, memories = len(plan.memories) + plan.depth, len(plan.memories)
    shapes = _shapes(kernel, operands, "states", True, segment)
    compare(["given"], [(len(given), sum(given))], [(fields + 1 + memories, len(gradients))])
    compare(["needed"], [(len(needed),)], [(len(operands) - len(plan.streams),)])
    results = _names(plan)
    names = [n for n, there in zip(results, given, strict=False) if there]
    wanted = [shape for shape, there in zip(shapes, given, strict=False) if there]
    compare(names, [g.shape for g in gradients], wanted)
    check_values(kernel.dtype, names, gradients)
    names = results[fields + 1 + memories :]
    # segments need no histories: they are run again from the states between them
    wanted = [
        (0,) if segment and tuple(t.shape) == (0,) and i <= memories else shape
        for i, (t, shape) in enumerate(zip(kept, shapes[fields:], strict=False))
    ]
    compare(names, [t.shape for t in kept], wanted if len(kept) == memories + 3 else [])
    check_values(kernel.dtype, names, kept)


@lru_cache(256)
def _names(plan: StepPlan) -> tuple[str, ...]:
    """Of the gradients that a backward pass reads, then of the tensors that were kept for it."""
    fields = len(plan.memories) + plan.depth
    kept = ("outputs", *(f"states {name}" for name in plan.memories))
    return (
        *(f"gradient of {name}" for name in (*(f"final state {i}" for i in range(fields)), *kept)),
        *(f"kept {name}" for name in (*kept, "values", "states of segments")),
    )


def _in_memory(operands: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous, but for the first two axes of the inputs."""
    inputs, *rest = operands
    if inputs.stride(-1) != 1:
        inputs = inputs.contiguous()
    return [inputs, *(t.contiguous() for t in rest)]


def _keep(job: Job, kept: Sequence[Tensor]) -> None:
    history, *memories, saved, snapshots = (t if t.numel() else None for t in kept)
    job.tensors(outputs=history, saved_values=saved, snapshots=snapshots)
    job.lists(histories=memories)


def _run(kernel: Kernel, direction: str, job: Job) -> None:
    workspace = lend((kernel.workspace(direction, job),), torch.uint8)
    job.tensors(workspace=workspace)
    kernel.run(direction, job)
