"""A linear recurrence whose weights change with each step, as in NADE."""

import torch
from jaxtyping import Float
from torch import Tensor

from throughtime.core.errors import EngineRefusalError, ShapeError, UnknownNameError
from throughtime.engines.cpp.autoregression import Autoregression, refusal


def autoregression(
    x: Float[Tensor, "batch steps"],
    initial: Float[Tensor, "batch units"],
    weight: Float[Tensor, "steps units"],
    readout: Float[Tensor, "steps units"],
    *,
    engine: str = "auto",
) -> Float[Tensor, "batch steps"]:
    """Read-outs of a linear recurrence whose weights change with each step.

        z_d = V_d . sigmoid(a_d)    a_{d+1} = a_d + x_d W_d    a_0 given

    z_d depends on x_0 ... x_{d-1} alone. With z + b as the logits of x this is NADE; with a_0 and b
    from a recurrent network, RNN-NADE.

    Arguments:
        x: The values that the recurrence reads.
        initial: a_0.
        weight: W, a row for each step.
        readout: V, a row for each step.
        engine: "auto", "native" for compiled code, or "eager" for a loop of torch.

    Returns:
        z.

    Raises:
        ShapeError: Sizes that do not fit together.
        UnknownNameError: No engine of that name.
        EngineRefusalError: engine="native" cannot run these tensors.

    Example:
        >>> x, weight = torch.ones(1, 3), torch.ones(3, 2)
        >>> autoregression(x, torch.zeros(1, 2), weight, weight).shape
        torch.Size([1, 3])

    Source:
        Larochelle and Murray 2011, The neural autoregressive distribution estimator.
    """
    if engine not in ("auto", "native", "eager"):
        raise UnknownNameError("engine", engine, ("auto", "native", "eager"))
    expected = {
        "x": (x, (*x.shape[:1], *weight.shape[:1])),
        "initial": (initial, (*x.shape[:1], *weight.shape[1:])),
        "weight": (weight, (*x.shape[1:], *initial.shape[1:])),
        "readout": (readout, tuple(weight.shape)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor.dim() != 2 or tuple(tensor.shape) != shape:
            raise ShapeError(name, got=f"shape {tuple(tensor.shape)}", expected=f"shape {shape}")
    if engine == "eager":
        return _loop(x, initial, weight, readout)
    reason = refusal(x, initial, weight, readout)
    if reason is None and x.shape[1] > 0:
        found: Tensor = Autoregression.apply(x, initial, weight, readout)
        return found
    if engine == "native" and reason is not None:
        raise EngineRefusalError(f"engine 'native' cannot: {reason}", fix="Use engine='auto'.")
    return _loop(x, initial, weight, readout)


def _loop(x: Tensor, a: Tensor, weight: Tensor, readout: Tensor) -> Tensor:
    z: list[Tensor] = []
    for x_d, w, v in zip(x.unbind(1), weight, readout, strict=True):
        z.append(a.sigmoid() @ v)
        a = a + x_d[:, None] * w
    return torch.stack(z, 1) if z else x.new_zeros(x.shape)
