"""Leaving a model as it was, whatever is done with it in between."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put parameters, gradients, buffers, modes and random states back when the block ends.

    Arguments:
        model: whose tensors stay the objects that they are; values that the block changed in place
            are copied back.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    parameters = [(p, p.requires_grad, p._version, p.detach().clone()) for p in model.parameters()]
    gradients = [
        (parameter, parameter.grad, None if parameter.grad is None else parameter.grad.clone())
        for parameter in model.parameters()
    ]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for module, training in modes:
                    module.training = training
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer.copy_(value)
                for parameter, wanted, version, value in parameters:
                    parameter.requires_grad_(wanted)
                    if parameter._version != version:
                        parameter.copy_(value)
                for parameter, gradient, value in gradients:
                    parameter.grad = gradient
                    if gradient is not None and value is not None:
                        gradient.copy_(value)
