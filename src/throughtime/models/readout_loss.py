"""Losses of a softmax readout: one array of the alphabet's width is kept, and used again."""

from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from throughtime.core.buffers import lend

_ROWS = 256  # logits that are computed at a time: they stay in the cache


def readout_losses(
    readout: nn.Linear, features: Float[Tensor, "*rows width"], targets: Int[Tensor, "*rows"]
) -> Float[Tensor, "*rows"]:
    """Return the negative log-likelihood of each target in nats; 0 where none is due.

        z = W x + b    loss = ln sum_k exp(z_k) - z_y    dloss/dz = softmax(z) - onehot(y)

    Logits are computed where a target is due alone. On the CPU, softmax(z) - onehot(y) is the one
    array of the alphabet's width that is made: torch's own cross-entropy makes four.

    Arguments:
        readout: Map from features to logits.
        features: Inputs of the readout.
        targets: Numbers of the right symbols; -1 where none is due.

    Example:
        >>> readout_losses(nn.Linear(3, 5), torch.ones(2, 3), torch.tensor([4, -1]))[1].item()
        0.0
    """
    due = targets >= 0
    rows, wanted = features[due], targets[due]
    if _plain(readout, rows):
        found = F.cross_entropy(readout(rows), wanted, reduction="none")
    else:
        found = _Losses.apply(rows, readout.weight, readout.bias, wanted)
    return found.new_zeros(targets.shape).masked_scatter(due, found)


def _plain(readout: nn.Linear, rows: Tensor) -> bool:
    """Return True where torch's own functions have to be called, one by one."""
    return (
        not torch.is_grad_enabled()
        or type(readout) is not nn.Linear
        or readout.bias is None
        or rows.device.type != "cpu"
        or rows.dtype not in (torch.float32, torch.float64)
        or rows.dtype != readout.weight.dtype
        or not (rows.requires_grad or readout.weight.requires_grad)
        or bool(readout._forward_hooks or readout._forward_pre_hooks or readout._backward_hooks)
        or torch._C._is_any_autocast_enabled()
        or torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore
        or torch._C._len_torch_function_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
        or torch.compiler.is_compiling()
    )


@final
class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        p = lend((len(x), len(weight)), x.dtype)
        losses, transposed = x.new_empty(len(x)), weight.t()
        parts = (each.split(_ROWS) for each in (x, targets[:, None], p, losses))
        for rows, right, z, loss in zip(*parts, strict=True):
            torch.addmm(bias, rows, transposed, out=z)
            most, own = z.amax(1, keepdim=True), z.gather(1, right)
            sums = z.sub_(most).exp_().sum(1, keepdim=True)
            loss.copy_((sums.log() + most - own)[:, 0])
            z.div_(sums).scatter_add_(1, right, -torch.ones_like(sums))
        ctx.save_for_backward(x, weight, bias, targets, p)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (above,) = gradients
        x, weight, bias, targets, p = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of this one will be asked for
            losses = F.cross_entropy(F.linear(x, weight, bias), targets, reduction="none")
            given = [t for t in (x, weight, bias) if t.requires_grad]
            found = iter(torch.autograd.grad(losses, given, above, create_graph=True))
            own = [next(found) if t.requires_grad else None for t in (x, weight, bias)]
            return (*own, None)
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            above[:, None] * (p @ weight) if to_x else None,
            p.t() @ (above[:, None] * x) if to_weight else None,
            p.t() @ above if to_bias else None,
            None,
        )
