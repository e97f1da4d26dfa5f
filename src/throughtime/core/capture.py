"""Calls that are not run on values but captured as a program: by torch.export, a trace, make_fx."""

import sys

import torch


def capturing() -> str | None:
    """The reason why this call has no values, in words, or None for an ordinary call.

    A captured call has no values that Python could branch on. Its program is run elsewhere, so that
    it has to be made of torch's own operators.

    Example:
        >>> capturing() is None
        True
    """
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace captures the call as a program"
    if torch.compiler.is_compiling() and torch.compiler.is_exporting():
        return "torch.export captures the call as a program"
    # without these modules, which torch loads for a capture alone, there is none
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    if proxies is not None and proxies.get_proxy_mode() is not None:
        return "make_fx captures the call as a program"
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    if fakes is not None and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE):
        return "FakeTensorMode is active"
    return None
