"""Nesterov's accelerated gradient as a momentum at the parameters that are looked ahead to."""

import math
from typing import Any, final

import torch

from throughtime.core.errors import ConfigurationError


@final
class Nesterov(torch.optim.Optimizer):
    """Nesterov momentum in the form of 2013 (Bengio, Boulanger-Lewandowski and Pascanu).

        v_t = mu_{t-1} v_{t-1} - e_{t-1} g_{t-1}
        theta_t = theta_{t-1} + mu_t mu_{t-1} v_{t-1} - (1 + mu_t) e_{t-1} g_{t-1}

    theta is the point at which the gradient g is taken, e the learning rate, and mu the momentum,
    constant or rising (Sutskever et al. 2013):

        mu_t = min(momentum, 1 - 2^(-1 - log2(floor(t / period) + 1)))

    Arguments:
        params: parameters, or groups of them.
        lr: e, above 0.
        momentum: the largest mu, in [0, 1).
        period: updates between two rises of mu; 0 for a constant one.

    Raises:
        ConfigurationError: a number out of range.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = Nesterov([weight], lr=0.1, momentum=0.9)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> abs(weight.item()) < 0.01
        True

    Source: Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks", ICASSP 2013.

    Differs from torch.optim.SGD(nesterov=True), which it equals while rate and momentum stay, in
    what it does when they change.
    """

    def __init__(self, params: Any, lr: float = 1e-2, momentum: float = 0.9, period: int = 0):
        if not (lr > 0 and 0 <= momentum < 1 and period >= 0):
            raise ConfigurationError(
                "Nesterov",
                got=f"lr={lr}, momentum={momentum}, period={period}",
                expected="lr above 0, momentum in [0, 1), period at least 0",
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "period": period})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update.

        Arguments:
            closure: gives the loss anew, with gradients; None where they are there.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["velocity"] = torch.zeros_like(parameter)
                before, now = _momentum(group, state["step"]), _momentum(group, state["step"] + 1)
                pull = group["lr"] * parameter.grad
                state["velocity"].mul_(before)  # mu_{t-1} v_{t-1}
                parameter.add_(now * state["velocity"] - (1 + now) * pull)
                state["velocity"].sub_(pull)
                state["step"] += 1
        return loss


def _momentum(group: dict[str, Any], step: int) -> float:
    if not group["period"]:
        return group["momentum"]
    return min(group["momentum"], 1 - 2 ** (-1 - math.log2(step // group["period"] + 1)))
