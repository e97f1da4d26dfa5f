"""The kernels as operators of torch, with their shapes, gradients, second gradients and vmap."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves, tree_map_only

from throughtime.core.buffers import lend
from throughtime.engines.cpp.kernel import Job, Kernel, kernel_named
from throughtime.engines.cpp.operands import (
    check_operands,
    check_values,
    compare,
    names_of_results,
    split,
    split_units,
    spread,
)
from throughtime.engines.cpp.replay import second_gradients

_library = torch.library.Library("throughtime", "DEF")
_LIKE_TORCH = (torch.Tag.pt2_compliant_tag,)
_library.define(
    "sequence(str kernel, Tensor[] operands, Tensor? lengths, Tensor? ages, str outputs, bool save,"
    " int segment) -> Tensor[]",
    tags=_LIKE_TORCH,
)
_library.define(
    "sequence_backward(str kernel, Tensor[] gradients, bool[] given, Tensor[] operands,"
    " Tensor? lengths, Tensor? ages, Tensor[] kept, bool[] needed, int segment) -> Tensor[]",
    tags=_LIKE_TORCH,
)
sequence: Any = torch.ops.throughtime.sequence.default
"""The operator that runs a kernel over time; its arguments are those of `run_forward`."""
sequence_backward: Any = torch.ops.throughtime.sequence_backward.default
"""The operator of the gradients of a run; its arguments are those of `run_backward`."""
_BELOW: Any = torch._C._after_autograd_keyset


def run_forward(
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
        operands: The tensors that it reads, in the order of `Operands`.
        lengths: (batch,) int64.
        ages: (time, batch) int64 steps since the last reset.
        outputs: "all", "last" or "states".
        save: If True, a backward pass may follow.
        segment: The steps between two stored states; 0 to store all that the backward pass reads.

    Returns:
        The final state as `Operands.initial`; the outputs (time, batch, hidden); each memory's
        history; the values saved for the backward pass; the stored states. Empty tensors for all
        that is not kept.
    """
    k = kernel_named(kernel)
    check_operands(k, operands, lengths, ages)
    job = job_of(k, operands, lengths, ages, segment if save else 0)
    shapes = _shapes_of(k, operands, outputs, save, segment)
    results = [lend(shape, k.dtype) for shape in shapes]
    job.tensors(final=results[: k.fields])
    _keep(job, results[k.fields :])
    k.run("forward", job)
    return results


def run_backward(
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
    """Compute the gradients of a run.

    Arguments:
        gradients: The gradients of the final state, the outputs and the memories' histories, as far
            as there are any.
        given: True for each of these results that has a gradient.
        operands, lengths, ages: The arguments of the run.
        kept: The results of the run beyond the final state.
        needed: True for each operand but the streams whose gradient is wanted.
        segment: The argument of the run.

    Returns:
        The gradients in the order of `needed`; empty tensors for those that are not.
    """
    k = kernel_named(kernel)
    check_operands(k, operands, lengths, ages)
    _check_backward(k, gradients, given, operands, kept, needed, segment)
    plan, job = k.plan, job_of(k, operands, lengths, ages, segment)
    _keep(job, [t.contiguous() for t in kept])
    above = spread(gradients, given)
    for i, gradient in enumerate(above):
        if gradient is not None and (i != k.fields or gradient.stride(-1) != 1):
            above[i] = gradient.contiguous()
    of_outputs = above[k.fields]
    job.tensors(
        final_gradients=above[: k.fields],
        history_gradients=above[k.fields + 1 :],
        output_gradient=of_outputs,
    )
    if of_outputs is not None:
        job.numbers(output_gradient_strides=of_outputs.stride()[:2])
    results: list[Tensor] = []
    for i, wanted in enumerate(needed):
        results.append(lend(operands[i].shape if wanted else (0,), k.dtype))
    named = [r if n else None for r, n in zip(results, needed, strict=True)]
    wanted = split(plan, named, streams=False)
    bias_ih, bias_hh = (*wanted.biases, None, None)[:2]
    by_row = dict(zip(plan.parameters, wanted.parameters, strict=True))
    job.tensors(
        d_inputs=wanted.inputs,
        d_weight_ih=wanted.weights[0],
        d_bias_ih=bias_ih,
        d_bias_hh=bias_hh,
        d_weight_hh=wanted.weights[1:],
        d_initial=wanted.initial,
        d_parameters=[by_row.pop(row) for row in plan.parameter_gradients],
    )
    for gradient in by_row.values():  # buffers, which have none
        if gradient is not None:
            gradient.zero_()
    k.run("backward", job)
    return results


def _fake_forward(
    kernel: str, operands: list[Tensor], lengths: Any, ages: Any, *options: Any
) -> list[Tensor]:
    del lengths, ages
    shapes = _shapes_of(kernel_named(kernel), operands, *options)
    return [operands[0].new_empty(shape) for shape in shapes]


def _fake_backward(
    kernel: str, gradients: Any, given: Any, operands: list[Tensor], *rest: Any
) -> list[Tensor]:
    del kernel, gradients, given
    _, _, _, needed, _ = rest
    return [
        tensor.new_empty(tensor.shape if wanted else (0,))
        for tensor, wanted in zip(operands, needed, strict=False)
    ]


def _forward_with_gradient(
    keyset: Any, kernel: str, operands: list[Tensor], *rest: Any
) -> list[Tensor]:
    """Run a kernel as a node of autograd's graph, where a gradient may be wanted."""
    if torch.is_grad_enabled():
        for tensor in operands:
            if tensor.requires_grad:
                return list(_Run.apply(keyset, kernel, rest, *operands))
    with torch._C._AutoDispatchBelowAutograd():
        return sequence.redispatch(keyset & _BELOW, kernel, operands, *rest)


@final
class _Run(torch.autograd.Function):
    """A run of a kernel with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, keyset: Any, kernel: str, rest: tuple[Any, ...], *operands: Tensor
    ) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            results = sequence.redispatch(keyset & _BELOW, kernel, list(operands), *rest)
        lengths, ages, outputs, save, segment = rest
        ctx.kernel, ctx.outputs, ctx.save, ctx.segment = kernel, outputs, save, segment
        ctx.set_materialize_grads(False)
        k = kernel_named(kernel)
        visible = k.fields + 1 + (len(k.plan.memories) if outputs == "states" else 0)
        shown, traced = results[k.fields : visible], _get_current_dispatch_mode() is not None
        ctx.shown = Shown(shown, traced)
        # aliases, whose changes autograd does not refuse
        saved = shown if traced else [tensor.data for tensor in shown]
        ctx.save_for_backward(lengths, ages, *operands, *saved, *results[visible:])
        ctx.count = len(operands)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        lengths, ages, *saved = ctx.saved_tensors
        operands, kept = saved[: ctx.count], saved[ctx.count :]
        k = kernel_named(ctx.kernel)
        # not saved: captured where no gradient was wanted, and differentiated now
        if not ctx.save or ctx.shown.changed():
            kept = sequence(ctx.kernel, operands, lengths, ages, ctx.outputs, True, ctx.segment)
            kept = kept[k.fields :]
        needed = list(ctx.needs_input_grad[3 : 3 + ctx.count - len(k.plan.streams)])
        above = gradients[: k.fields + 1 + len(k.plan.memories)]
        present = [g for g in above if g is not None]
        given = [g is not None for g in above]
        found: list[Tensor | None] = sequence_backward(
            ctx.kernel, present, given, operands, lengths, ages, kept, needed, ctx.segment
        )
        for i, wanted in enumerate(needed):
            if not wanted:
                found[i] = None
        return *(None,) * 3, *found, *(None,) * len(k.plan.streams)


def _backward_with_gradient(
    keyset: Any,
    kernel: str,
    gradients: list[Tensor],
    given: list[bool],
    operands: list[Tensor],
    *rest: Any,
) -> list[Tensor]:
    """Compute the gradients of a run, as a node of autograd's graph for second derivatives."""
    if torch.is_grad_enabled():
        for tensor in (*gradients, *operands):
            if tensor.requires_grad:
                call = (kernel, given, rest, len(gradients))
                return list(_RunBackward.apply(keyset, *call, *gradients, *operands))
    with torch._C._AutoDispatchBelowAutograd():
        return sequence_backward.redispatch(
            keyset & _BELOW, kernel, gradients, given, operands, *rest
        )


@final
class _RunBackward(torch.autograd.Function):
    """The gradients of a run, with their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        keyset: Any,
        kernel: str,
        given: list[bool],
        rest: tuple[Any, ...],
        count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        gradients, operands = list(tensors[:count]), list(tensors[count:])
        with torch._C._AutoDispatchBelowAutograd():
            results = sequence_backward.redispatch(
                keyset & _BELOW, kernel, gradients, given, operands, *rest
            )
        lengths, ages, _, needed, _ = rest
        ctx.kernel, ctx.given, ctx.needed, ctx.count = kernel, given, needed, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, ages, *tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        lengths, ages, *tensors = ctx.saved_tensors
        above, operands = tensors[: ctx.count], tensors[ctx.count :]
        found = second_gradients(
            kernel_named(ctx.kernel).plan,
            ctx.given,
            ctx.needed,
            above,
            operands,
            lengths,
            ages,
            cotangents,
        )
        return *(None,) * 5, *found


@final
class Shown:
    """Results that may be changed in place before the backward pass, as torch.nn's may.

    A copy would cost time in every call. Here the values are kept as they are, and their changes
    are counted: if there were any, the caller computes the values again. Where the call is traced,
    nothing is changed in place.
    """

    def __init__(self, tensors: Sequence[Tensor], traced: bool = False):
        self._counters: list[Tensor] = []
        for tensor in () if traced else tensors:
            # An empty tensor with the version counter of the result. A view would hold the memory
            # and the graph: of the graph that holds the counter, and so for ever.
            counter = tensor.detach()
            counter.data = tensor.new_empty(0)
            self._counters.append(counter)
        self._before = [counter._version for counter in self._counters]

    def changed(self) -> bool:
        """Return True if any of them was changed since."""
        return [counter._version for counter in self._counters] != self._before


def job_of(
    kernel: Kernel,
    operands: Sequence[Tensor],
    lengths: Tensor | None,
    ages: Tensor | None,
    segment: int,
) -> Job:
    """Return a call with its inputs filled in; of the operands, contiguous copies if need be."""
    inputs, *rest = [t.contiguous() for t in operands]
    if operands[0].stride(-1) == 1:  # strides of time and batch are the kernel's own affair
        inputs = operands[0]
    _, weights, biases, parameters, initial, streams = split(kernel.plan, [inputs, *rest])
    time, batch, width = inputs.shape
    hidden, threads = initial[0].shape[1], torch.get_num_threads()
    size = sum([w.nbytes for w in weights])
    sharing = split_units(batch, threads, size)
    job = Job(kernel.start)
    job.numbers(
        time=time,
        batch=batch,
        input=width,
        hidden=hidden,
        threads=threads,
        segment=segment,
        split_units=sharing if sharing > 1 and kernel.reserve_threads(sharing) else 1,
        input_strides=inputs.stride()[:2],
    )
    bias_ih, bias_hh = (*biases, None, None)[:2]
    job.tensors(
        lengths=None if lengths is None else lengths.contiguous(),
        ages=None if ages is None else ages.contiguous(),
        inputs=inputs,
        weight_ih=weights[0],
        bias_ih=bias_ih,
        bias_hh=bias_hh,
        weight_hh=weights[1:],
        initial=initial,
        stream_values=streams,
        parameter_values=parameters,
    )
    if streams:
        job.whole_numbers(stream_strides=[int(s.shape[2] == hidden) for s in streams])
    return job


def _shapes_of(
    kernel: Kernel, operands: Sequence[Tensor], outputs: str, save: bool, segment: int
) -> list[tuple[int, ...]]:
    """Return the shapes of the results of a run."""
    time, batch, _ = operands[0].shape
    h = operands[len(operands) - len(kernel.plan.streams) - kernel.fields]
    hidden = h.shape[1]
    if isinstance(time, torch.SymInt) or isinstance(batch, torch.SymInt):
        return _shapes.__wrapped__(kernel, time, batch, hidden, outputs, save, segment)
    return _shapes(kernel, time, batch, hidden, outputs, save, segment)


@functools.lru_cache(1024)
def _shapes(
    kernel: Kernel, time: int, batch: int, hidden: int, outputs: str, save: bool, segment: int
) -> list[tuple[int, ...]]:
    memories, whole = len(kernel.plan.memories), save and not segment
    history = (time, batch, hidden)
    return [
        *((batch, hidden) for _ in range(kernel.fields)),
        history if whole or outputs != "last" else (0,),
        *(history if whole or outputs == "states" else (0,) for _ in range(memories)),
        (time, batch, kernel.saved, hidden) if whole and kernel.saved else (0,),
        (-(-time // segment), kernel.fields, batch, hidden) if save and segment else (0,),
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
    """Raise ShapeError, DtypeError or DeviceError for what a backward pass cannot read."""
    plan = kernel.plan
    fields, memories = kernel.fields, len(plan.memories)
    results, of_kept = names_of_results(kernel)
    shapes = _shapes_of(kernel, operands, "states", True, segment)
    above = len(results)
    if len(given) != above or sum(given) != len(gradients):
        compare(["given"], [(len(given), sum(given))], [(above, len(gradients))])
    if len(needed) != len(operands) - len(plan.streams):
        compare(["needed"], [(len(needed),)], [(len(operands) - len(plan.streams),)])
    names, wanted = results, shapes[:above]
    if len(gradients) != above:
        names = [n for n, there in zip(results, given, strict=True) if there]
        wanted = [shape for shape, there in zip(wanted, given, strict=True) if there]
    compare(names, [g.shape for g in gradients], wanted)
    check_values(kernel.dtype, names, gradients)
    wanted, found = shapes[fields:], [tuple(t.shape) for t in kept]
    if segment and len(found) == memories + 3:
        # segments need no histories: they are run again from the states between them
        for i in range(memories + 1):
            wanted[i] = (0,) if found[i] == (0,) else wanted[i]
    compare(of_kept, found, wanted)
    check_values(kernel.dtype, of_kept, kept)


def _keep(job: Job, kept: Sequence[Tensor]) -> None:
    history, *memories, saved, snapshots = [t if t.numel() else None for t in kept]
    job.tensors(outputs=history, saved_values=saved, snapshots=snapshots, histories=memories)


_OLD: Any = torch  # its first vmap is not among its public names

# A kernel fills the cores with one call, and the gradients of weights are of each call: one call
# for all would gain nothing. So under vmap a batch is run call by call.


def _under_vmap(
    operator: Callable[..., list[Tensor]], info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[list[Tensor], list[int]]:
    """The rule of `torch.vmap`: the results, each with its batch axis first."""
    found = [operator(*_at(i, arguments, in_dims)) for i in range(info.batch_size)]
    results = [torch.stack(parts) for parts in zip(*found, strict=True)]
    return results, [0] * len(results)


def _under_old_vmap(operator: Callable[..., list[Tensor]], *arguments: Any) -> list[Tensor]:
    """The rule of torch's first vmap, whose tensors have nothing but their level."""
    levels = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    return _at_level(operator, levels, arguments)


def _at_level(operator: Callable[..., list[Tensor]], level: int, arguments: Any) -> list[Tensor]:
    if level == 0:
        return operator(*arguments)
    # an axis of 1 where a tensor is not batched at this level
    exposed = tree_map_only(Tensor, lambda t: _OLD._remove_batch_dim(t, level, 1, 0), arguments)
    sizes = [len(t) for t in tree_leaves(exposed) if isinstance(t, Tensor)]
    found = [
        _at_level(
            operator,
            level - 1,
            tree_map_only(Tensor, lambda t, i=i: t[i if len(t) > 1 else 0], exposed),
        )
        for i in range(max(sizes))
    ]
    return [_OLD._add_batch_dim(torch.stack(parts), 0, level) for parts in zip(*found, strict=True)]


def _at(index: int, arguments: Any, dims: Any) -> Any:
    """The arguments of one call."""
    if isinstance(arguments, Tensor):
        return arguments if dims is None else arguments.select(dims, index)
    if isinstance(arguments, list | tuple) and dims is not None:
        return type(arguments)(_at(index, a, d) for a, d in zip(arguments, dims, strict=True))
    return arguments


for _operator, _run, _fake, _with_gradient in (
    (sequence, run_forward, _fake_forward, _forward_with_gradient),
    (sequence_backward, run_backward, _fake_backward, _backward_with_gradient),
):
    _name = _operator.name()
    _library.impl(_name, _run, "CPU")
    _library.impl(_name, _with_gradient, "Autograd", with_keyset=True)
    torch.library.register_fake(_name, _fake, lib=_library)
    _rule = functools.partial(_under_vmap, _operator)
    torch.library.register_vmap(_name, _rule, lib=_library)
    # the rule of torch's first vmap, of `is_grads_batched=True` and `vectorize=True`
    _library.impl(_name, functools.partial(_under_old_vmap, _operator), "Batched")
