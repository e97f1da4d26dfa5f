"""Gradients and Jacobians by depth: the layers of a deep network in place of the steps of time."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError
from throughtime.foreign.unchanged import unchanged
from throughtime.instruments.gradient_flow import half_life, reach
from throughtime.instruments.jacobians import DENSE, Jacobians
from throughtime.instruments.products import graded, leading_count, log_singular_values, multiplied
from throughtime.results.record import Record


@dataclasses.dataclass(frozen=True, eq=False)
class DepthFlow(Record):
    """The gradient of one loss over depth. All in float64, as `GradientFlow` over time.

    Attributes:
        layers: The names of the layers within the model, from the input.
        norm: ||dL/dh_l|| of the output h_l of each layer, over batch and units.
        contribution: The norm of the gradient of each layer's own weights, without biases.
    """

    layers: tuple[str, ...]
    norm: Float[Tensor, " layer"]
    contribution: Float[Tensor, " layer"]

    @property
    def norm_by_lag(self) -> Float[Tensor, " layer"]:
        """`norm` by the number of layers before the last one, from 0."""
        return self.norm.flip(0)

    @property
    def contribution_by_lag(self) -> Float[Tensor, " layer"]:
        """`contribution` by the number of layers before the last one, from 0."""
        return self.contribution.flip(0)

    @property
    def arriving(self) -> float:
        """||dL/dh|| of the first layer over that of the last."""
        return float(self.norm[0] / self.norm[-1])

    def reach(self, fraction: float = 0.01) -> int:
        """The longest lag at which ||dL/dh|| is at least this fraction of its largest value.

        Arguments:
            fraction: A number in (0, 1].

        Returns:
            Layers before the last one; 0 if there is no gradient at all.
        """
        return reach(self.norm_by_lag, fraction)

    def half_life(self) -> float:
        """Layers in which ||dL/dh|| halves on its way back, by a least-squares line.

        Returns:
            Layers; infinite where the gradient does not shrink, NaN with fewer than two layers.
        """
        return half_life(self.norm_by_lag)


def layers_in_depth(model: nn.Module, layers: str | None = None) -> dict[str, nn.Module]:
    """Return the layers of a deep network by name: the members of its longest list of modules.

    Members without weights, such as activations, are left out.

    Arguments:
        model: A module that holds a `torch.nn.Sequential` or `torch.nn.ModuleList`.
        layers: The name of the list within the model, "" for the model itself; None for the
            longest.

    Raises:
        ConfigurationError: No such list, or one with fewer than two layers.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> list(layers_in_depth(model))
        ['0', '2']
    """
    lists = {
        name: [
            (f"{name}.{key}" if name else key, each)
            for key, each in module.named_children()
            if any(p.dim() > 1 for p in each.parameters())
        ]
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList) and layers in (None, name)
    }
    found = max(lists.values(), key=len, default=[])
    if len(found) < 2:
        raise ConfigurationError(
            "layers of " + type(model).__name__,
            got="none" if layers is None else repr(layers),
            expected="a torch.nn.Sequential or ModuleList with at least two layers",
        )
    return dict(found)


def gradient_by_depth(
    model: nn.Module, loss: Callable[[], Tensor], *, layers: str | None = None
) -> DepthFlow:
    """Measure ||dL/dh_l|| at every layer, and the gradient of each layer's weights.

    Afterwards the model is as it was.

    Arguments:
        model: A deep network: a `torch.nn.Sequential`, or one that holds a list of layers.
        loss: A function that runs the model on a batch and returns a scalar.
        layers: The name of the list of layers within the model; None for the longest.

    Raises:
        ConfigurationError: No list of layers, a layer that is not called once or returns no tensor,
            or a loss that is no scalar or does not depend on the layers.

    Example:
        >>> model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(10)))
        >>> flow = gradient_by_depth(model, lambda: model(torch.ones(2, 4)).sum())
        >>> flow.norm.shape, flow.layers[0], 0 < flow.arriving < 1
        (torch.Size([10]), '0', True)
    """
    found = layers_in_depth(model, layers)
    with unchanged(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        value, calls = _called(found, loss)
        outputs = [output for _, output in calls]
        if value.dim() != 0 or not value.requires_grad:
            raise ConfigurationError(
                "loss",
                got=f"shape {tuple(value.shape)}, requires_grad={value.requires_grad}",
                expected="a scalar that depends on the layers",
            )
        weights = [[p for p in each.parameters() if p.dim() > 1] for each in found.values()]
        wanted = [*outputs, *(p for each in weights for p in each)]
        gradients = iter(torch.autograd.grad(value, wanted, allow_unused=True))
        norm = [_norm([next(gradients)]) for _ in outputs]
        contribution = [_norm([next(gradients) for _ in each]) for each in weights]
    return DepthFlow(
        layers=tuple(found),
        norm=torch.tensor(norm, dtype=torch.float64),
        contribution=torch.tensor(contribution, dtype=torch.float64),
    )


def jacobians_by_depth(
    model: nn.Module,
    run: Callable[[], Any],
    *,
    layers: str | None = None,
    item: int = 0,
    top: int | None = None,
) -> Jacobians:
    """Measure how each layer, and how many in a row, stretch and shrink changes of one item.

        J_l = dh_l/dh_{l-1}          dh_L/dh_{L-n} = J_L ... J_{L-n+1}

    They are computed in float64 at the recorded h_l. In training mode, batch normalisation reads
    the other items, which are constants: products are then those of the layers' own J_l.

    Arguments:
        model: A deep network whose layers return as many numbers as they read, at most 512 an item.
        run: A function that runs the model on a batch.
        layers: The name of the list of layers within the model; None for the longest.
        item: The number of the item within the batch.
        top: The number of singular values; all if the size is at most 64, else 16, if None.

    Returns:
        The record of `jacobians`, a layer in the place of a step; its `sequence` is the item.

    Raises:
        ConfigurationError: No list of layers, layers of several widths or of more than 512, no such
            item, `top` out of range, or numbers that are not finite.

    Example:
        >>> model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(10)))
        >>> result = jacobians_by_depth(model, lambda: model(torch.ones(2, 4)))
        >>> result.norms.shape, result.log_products.shape
        (torch.Size([10]), torch.Size([10, 4]))
    """
    found = layers_in_depth(model, layers)
    with unchanged(model), torch.no_grad():
        _, calls = _called(found, run)
    sizes = {name: _sizes(*call) for name, call in zip(found, calls, strict=True)}
    size = calls[0][0][0].numel()
    for name, pair in sizes.items():
        if set(pair) != {size} or size > DENSE:
            raise ConfigurationError(
                f"layer {name!r}",
                got=f"{pair[0]} numbers in, {pair[1]} out",
                expected=f"{size} in every layer, and at most {DENSE}",
                fix="Name a list of layers of one width.",
            )
    if not 0 <= item < len(calls[0][0]):
        raise ConfigurationError("item", got=item, expected=f"from 0 to {len(calls[0][0]) - 1}")
    count = leading_count(top, size)
    matrices = []
    for (name, module), (x, _) in zip(found.items(), calls, strict=True):
        matrix = _jacobian(module, x.double(), item)
        if not bool(matrix.isfinite().all()):
            raise ConfigurationError(f"layer {name!r}", got="a Jacobian that is not finite")
        matrices.append(matrix)
    j = torch.stack(matrices).cpu()
    singular, moduli = torch.linalg.svdvals(j), torch.linalg.eigvals(j).abs()
    total = singular.square().sum(1)
    departure = (total - moduli.square().sum(1)) / torch.where(total > 0, total, 1.0)
    product = graded(torch.eye(size, dtype=torch.float64))
    scales, mixings = [], []
    for matrix in j.flip(0):  # of the transposed product: its factors come on from the left
        product = multiplied(product, product.basis @ matrix)
        scales.append(product.scale)
        mixings.append(product.mixing)
    lags = torch.arange(1, len(j) + 1)
    return Jacobians(
        layer=next(iter(found)).rpartition(".")[0],
        level=0,
        sequence=item,
        size=size,
        norms=singular[:, 0],
        measured=lags - 1,
        singular_values=singular[:, :count],
        spectral_radius=moduli.amax(1),
        non_normality=departure.clamp(0, 1),
        lags=lags,
        log_products=log_singular_values(torch.stack(scales), torch.stack(mixings))[:, :count],
        uncertainty=torch.zeros(len(j), dtype=torch.float64),
        log_norm_bound=singular[:, 0].log().flip(0).cumsum(0),
        log_power_bound=None,
        log_hochreiter_bound=None,
        cut=None,
    )


def _called(
    layers: dict[str, nn.Module], run: Callable[[], Any]
) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """Return the result of a run, and the first argument and the result of each layer."""
    calls: dict[str, list[Any]] = {name: [] for name in layers}

    def note(name: str) -> Callable[..., None]:
        return lambda _, given, result: calls[name].append((given[0], result))

    hooks = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    try:
        result = run()
    finally:
        for hook in hooks:
            hook.remove()
    for name, made in calls.items():
        tensors = [t for call in made for t in call if isinstance(t, Tensor)]
        if len(made) != 1 or len(tensors) != 2:
            raise ConfigurationError(
                f"layer {name!r}",
                got=f"{len(made)} calls, {len(tensors)} tensors",
                expected="one call, from a tensor to a tensor",
            )
    return result, [made[0] for made in calls.values()]


def _sizes(x: Tensor, y: Tensor) -> tuple[int, int]:
    return x[0].numel(), y[0].numel()


def _jacobian(module: nn.Module, x: Tensor, item: int) -> Tensor:
    """Return dy/dx of one item, the others constant."""
    layer = copy.deepcopy(module).double()
    own = x[item].clone()

    def run(one: Tensor) -> Tensor:
        return layer(torch.cat([x[:item], one[None], x[item + 1 :]]))[item].flatten()

    with torch.enable_grad():
        own.requires_grad_()
        y = run(own)
        rows = [torch.autograd.grad(part, own, retain_graph=True)[0].flatten() for part in y]
    return torch.stack(rows).detach()


def _norm(gradients: list[Tensor | None]) -> float:
    parts = [g.double().norm() for g in gradients if g is not None]
    return float(torch.stack(parts).norm()) if parts else 0.0
