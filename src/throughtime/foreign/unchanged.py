"""Context managers that put a model and the random states back when their block ends."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def random_states_kept(seed: int | None = None) -> Iterator[None]:
    """Put the random states of torch (all devices), numpy and Python back when the block ends.

    Arguments:
        seed: seed of all three within the block; None to leave the states as they are.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  # the user's own code may draw from it
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put the training modes of all modules back when the block ends."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode and without gradients, and put the modes back."""
    with modes_kept(model), torch.no_grad():
        model.eval()
        yield


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put parameters, gradients, buffers, modes and random states back when the block ends.

    Arguments:
        model: any module. Its tensors stay the same objects; values that the block changed in place
            are copied back.
    """
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
    with random_states_kept(), modes_kept(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer.copy_(value)
                for parameter, trained, version, value in parameters:
                    parameter.requires_grad_(trained)
                    if parameter._version != version:
                        parameter.copy_(value)
                for parameter, gradient, value in gradients:
                    parameter.grad = gradient
                    if gradient is not None and value is not None:
                        gradient.copy_(value)
