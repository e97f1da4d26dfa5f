"""The operators under vmap, by which batched gradients are computed.

A kernel fills the cores with one call, and the gradients of weights are of each call: one call for
all would gain nothing. So a batch is run call by call.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_OLD: Any = torch  # its first vmap is not among its public names


def register_batching(operator: Any, library: torch.library.Library) -> None:
    """Give an operator its rules under vmap.

    Arguments:
        operator: The operator.
        library: The library that holds the rules as long as it lives.
    """
    rule = functools.partial(_under_vmap, operator)
    torch.library.register_vmap(operator.name(), rule, lib=library)
    # the rule of torch's first vmap, of `is_grads_batched=True` and `vectorize=True`
    library.impl(operator.name(), functools.partial(_under_old_vmap, operator), "Batched")


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
    exposed = _tensors(lambda t: _OLD._remove_batch_dim(t, level, 1, 0), arguments)
    sizes: list[int] = []
    _tensors(lambda t: sizes.append(t.shape[0]), exposed)
    found = [
        _at_level(operator, level - 1, _tensors(lambda t, i=i: t[i if len(t) > 1 else 0], exposed))
        for i in range(max(sizes))
    ]
    return [_OLD._add_batch_dim(torch.stack(parts), 0, level) for parts in zip(*found, strict=True)]


def _tensors(function: Callable[[Tensor], Any], arguments: Any) -> Any:
    """A function of each tensor among arguments."""
    if isinstance(arguments, Tensor):
        return function(arguments)
    if isinstance(arguments, list | tuple):
        return type(arguments)(_tensors(function, a) for a in arguments)
    return arguments


def _at(index: int, arguments: Any, dims: Any) -> Any:
    """The arguments of one call."""
    if isinstance(arguments, Tensor):
        return arguments if dims is None else arguments.select(dims, index)
    if isinstance(arguments, list | tuple) and dims is not None:
        return type(arguments)(_at(index, a, d) for a, d in zip(arguments, dims, strict=True))
    return arguments
