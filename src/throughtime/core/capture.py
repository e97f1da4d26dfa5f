"""Calls that are captured as a program (torch.export, a trace, make_fx), or run by a transform."""

import sys
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]


def capturing() -> str | None:
    """Return the reason why this call has no values, in words, or None for an ordinary call.

    A captured call has no values that Python could branch on. Its program is run elsewhere, so that
    it has to be made of torch's own operators.

    Example:
        >>> capturing() is None
        True
    """
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace captures the call as a program"
    if torch.compiler.is_exporting():
        return "torch.export captures the call as a program"
    before_dispatch = torch._C.DispatchKey.PreDispatch
    if not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._dispatch_tls_is_dispatch_key_included(before_dispatch)
    ):
        return None
    # without these modules, which torch loads for a capture alone, there is none
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    if proxies is not None and proxies.get_proxy_mode() is not None:
        return "make_fx captures the call as a program"
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    if fakes is not None and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE):
        return "FakeTensorMode is active"
    return None


def transformed() -> str | None:
    """Return the name of the active transform that no kernel supports, or None."""
    if _functorch.peek_interpreter_stack() is not None:
        return "a torch.func transform (vmap, grad, jacrev, ...) is active"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    return None


def batched(tensors: Iterable[Float[Tensor, "..."]]) -> bool:
    """Return True if tensors stand for a batch, whose values have no address.

    So do the gradients of `is_grads_batched=True`, which is torch's first vmap, and those of
    `torch.vmap`.

    Example:
        >>> batched([torch.zeros(2)])
        False
    """
    level = torch._C._vmapmode_increment_nesting()
    torch._C._vmapmode_decrement_nesting()
    return level > 1 or any(map(_functorch.is_batchedtensor, tensors))
