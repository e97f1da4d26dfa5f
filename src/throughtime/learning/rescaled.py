"""Gradient descent whose step in each weight matrix has a length of its own choice."""

from typing import Any, final

import torch

from throughtime.core.errors import ConfigurationError


@final
class Rescaled(torch.optim.Optimizer):
    """Gradient descent with each tensor's step divided by the norm of its gradient.

        v <- mu v + g / ||g||,   w <- w - lr v

    The directions of the gradients of a deep network's layers remain; their norms, which vanish or
    explode with depth, do not matter. Norms are taken in float64. A gradient of 0 makes no step.

    Arguments:
        params: Parameters, or groups of them.
        lr: The length of a step, above 0.
        momentum: mu, in [0, 1).

    Raises:
        ConfigurationError: A number out of range.

    Example:
        >>> weights = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
        >>> (weights[0].sum() * 1e-20 + weights[1].sum() * 1e10).backward()
        >>> Rescaled(weights, lr=0.2).step()
        >>> [round(weight[0].item(), 4) for weight in weights]
        [0.9, 0.9]
    """

    def __init__(self, params: Any, lr: float = 1e-2, momentum: float = 0.0):
        if not (lr > 0 and 0 <= momentum < 1):
            raise ConfigurationError(
                "Rescaled",
                got=f"lr={lr}, momentum={momentum}",
                expected="lr above 0, momentum in [0, 1)",
            )
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update.

        Arguments:
            closure: A function that gives the loss anew, with gradients; None where they are there.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.double()
                norm = gradient.norm()
                step = torch.where(norm > 0, gradient / norm, 0.0).to(parameter.dtype)
                if group["momentum"]:
                    state = self.state[parameter]
                    if not state:
                        state["velocity"] = torch.zeros_like(parameter)
                    step = state["velocity"].mul_(group["momentum"]).add_(step)
                parameter.sub_(step, alpha=group["lr"])
        return loss
