"""Cliffs: the loss along a line in parameter space, and how steep it gets."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.errors import ConfigurationError, UnknownNameError
from throughtime.foreign.unchanged import unchanged
from throughtime.results.record import Record

Direction: TypeAlias = Literal["gradient"] | tuple[str, tuple[int, ...]] | Mapping[str, Tensor]
"""The loss's own gradient, one entry of one parameter, or a tensor for each named parameter."""


class Wall(NamedTuple):
    """The steepest place on a curve.

    Attributes:
        distance: its place on the line.
        slope: dL/da there.
        gradient_norm: ||dL/dtheta|| there; NaN where only losses are known.
    """

    distance: float
    slope: float
    gradient_norm: float


@dataclasses.dataclass(frozen=True, eq=False)
class LossCurve(Record):
    """The loss at theta + a d for distances a along a unit vector d. All in float64.

    Attributes:
        direction: d in words: "gradient", "rnn.weight_hh_l0[0, 1]" or "given".
        origin: value of the one entry that is varied, at distance 0; None for other directions.
        distances: a, increasing.
        loss: L(a).
        slope: dL/da, the gradient along d.
        gradient_norm: ||dL/dtheta|| over all parameters that are trained or lie in d.
        second_difference: d2L/da2 by differences of L over neighbouring distances; NaN at the ends.
        curvature: d' H d, exact; None where it is not known.
        gradient_curvature: g' H g / g' g, the curvature along the gradient g at each distance,
            exact; NaN where g is zero; None where it is not known.
        refusal: reason why the exact curvatures are not known; None where they are.
        examples: loss of every single example; None without `per_example`.
    """

    direction: str
    origin: float | None
    distances: Float[Tensor, " points"]
    loss: Float[Tensor, " points"]
    slope: Float[Tensor, " points"]
    gradient_norm: Float[Tensor, " points"]
    second_difference: Float[Tensor, " points"]
    curvature: Float[Tensor, " points"] | None
    gradient_curvature: Float[Tensor, " points"] | None
    refusal: str | None
    examples: Float[Tensor, "points batch"] | None

    @property
    def wall(self) -> Wall:
        """The place of the largest ||dL/dtheta||, among finite values if there are any."""
        return self._wall(self.gradient_norm)

    @property
    def wall_along(self) -> Wall:
        """The place of the largest |dL/da|: the steepest one along d."""
        return self._wall(self.slope.abs())

    def example_walls(self) -> list[Wall]:
        """The steepest place of every example's own loss, by differences over the grid.

        Returns:
            One for each example, half-way between two distances. Averaged losses are smoother: at
            least one of these is as steep as the steepest difference of their mean. Empty
            without `per_example`.
        """
        if self.examples is None:
            return []
        gaps = self.distances.diff()
        middles = self.distances[:-1] + gaps / 2
        slopes = self.examples.diff(dim=0) / gaps[:, None]
        where = _finite_first(slopes.abs()).argmax(0)
        return [
            Wall(float(middles[k]), float(slopes[k, example]), math.nan)
            for example, k in enumerate(where.tolist())
        ]

    def _wall(self, steepness: Tensor) -> Wall:
        k = int(_finite_first(steepness).argmax())
        return Wall(float(self.distances[k]), float(self.slope[k]), float(self.gradient_norm[k]))


def loss_along(
    model: nn.Module,
    loss: Callable[[], Tensor],
    direction: Direction = "gradient",
    *,
    distances: Float[Tensor, " points"] | None = None,
    per_example: Callable[[], Tensor] | None = None,
    curvature: bool = True,
) -> LossCurve:
    """Measure the loss, its gradient and its curvature along a line in parameter space.

        L(a) = loss at theta + a d,  ||d|| = 1        dL/da = g' d        d2L/da2 = d' H d

    g and H are the gradient and the Hessian by all parameters at theta + a d. Where a recurrent
    network's gradient explodes the loss has a wall: its curvature explodes along the same
    direction. The loss averaged over examples is smoother than that of each, whose walls lie in
    different places. Every evaluation starts from the same random state, buffers and modes, so
    that dropout does not look like a cliff.

    Arguments:
        model: any module. It is left as it was.
        loss: runs the model on one batch, the same at every call, and returns a scalar.
        direction: "gradient" for the gradient at distance 0; (name, index) for one entry of one
            parameter, as ("rnn.weight_hh_l0", (0, 1)); or tensors by parameter name. It is brought
            to length 1; parameters that are left out stay as they are.
        distances: a, increasing, at least three, in units of the parameters; 101 from -1 to 1 if
            None.
        per_example: runs the same batch and returns the loss of each example, (batch,).
        curvature: If True, the exact curvatures are found: two Hessian-vector products a distance.

    Returns:
        The curve, on the CPU.

    Raises:
        ConfigurationError: distances that are not increasing; a direction that is zero, not finite,
            of other shapes, or out of range; a loss that is no scalar, has no gradient, or is not
            the same twice.
        UnknownNameError: no parameter of that name.

    Example:
        >>> rnn = nn.RNN(1, 1, bias=False).double()
        >>> x, y = torch.randn(20, 8, 1).double(), torch.randn(8, 1).double()
        >>> curve = loss_along(
        ...     rnn,
        ...     lambda: (rnn(x)[0][-1] - y).square().mean(),
        ...     ("weight_hh_l0", (0, 0)),
        ...     distances=torch.linspace(-1, 1, 9),
        ...     per_example=lambda: (rnn(x)[0][-1] - y).square().mean(-1),
        ... )
        >>> curve.loss.shape, curve.examples.shape
        (torch.Size([9]), torch.Size([9, 8]))

    Source:
        Bengio, Simard and Frasconi, 1994 (walls of a single example's loss and of their average);
        Pascanu, Mikolov and Bengio, 2013, section 2.3 (cliffs, and curvature with the gradient).
    """
    steps = torch.linspace(-1, 1, 101, dtype=torch.float64) if distances is None else distances
    steps = steps.detach().double().cpu()
    if len(steps) < 3 or not bool((steps.diff() > 0).all()) or not bool(steps.isfinite().all()):
        raise ConfigurationError(
            "distances", got=f"{len(steps)} numbers", expected="three or more, finite, increasing"
        )
    line = _Line(model, loss, direction)
    points: list[_Point] = []
    refusal: str | None = None
    for a in steps:
        exact = curvature and refusal is None  # what is refused once is not tried again
        points.append(line.at(float(a), exact, per_example))
        refusal = refusal or points[-1].refusal
    exact = curvature and refusal is None
    values = torch.tensor([point.values for point in points], dtype=torch.float64, device="cpu")
    value, slope, norm, along, uphill = values.unbind(1)
    return LossCurve(
        direction=line.words,
        origin=line.origin,
        distances=steps,
        loss=value,
        slope=slope,
        gradient_norm=norm,
        second_difference=_second_difference(steps, value),
        curvature=along if exact else None,
        gradient_curvature=uphill if exact else None,
        refusal=refusal if curvature else "it was not asked for",
        examples=None if per_example is None else torch.stack([p.examples for p in points]),
    )


class _Point(NamedTuple):
    values: tuple[float, float, float, float, float]
    refusal: str | None
    examples: Tensor


@final
class _Line:
    """A model's parameters along a direction, and what the loss is there."""

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], direction: Direction):
        self.model, self.loss, self.walked = model, loss, False
        named = dict(model.named_parameters())
        self.words, self.origin = "given", None
        self.vectors: dict[str, Tensor] = {}
        wanted = _wanted(named, direction)
        self.parameters = {n: p for n, p in named.items() if p.requires_grad or n in wanted}
        first, again = (self._gradients() for _ in range(2))
        if not math.isclose(first[0], again[0], rel_tol=1e-3) and math.isfinite(first[0]):
            raise ConfigurationError(
                "loss",
                got=f"{first[0]:.6g}, then {again[0]:.6g} on the same parameters",
                expected="the same value twice",
                fix="Draw the batch once, outside.",
            )
        if isinstance(direction, str):
            self.words, wanted = direction, first[1]
        elif isinstance(direction, tuple):
            name, index = direction
            self.words = f"{name}[{', '.join(map(str, index))}]"
            self.origin = float(named[name].detach()[index])
        norm = math.sqrt(sum(float(v.double().square().sum()) for v in wanted.values()))
        if not math.isfinite(norm) or norm == 0:
            raise ConfigurationError(
                f"direction {self.words!r}", got=f"length {norm}", expected="positive and finite"
            )
        self.vectors = {n: (v.double() / norm).to(v.dtype) for n, v in wanted.items()}

    def at(self, distance: float, curvature: bool, per_example: Callable | None) -> _Point:
        """Return the loss and its derivatives at a distance."""
        with unchanged(self.model):
            self._move(distance)
            value, gradients = self._value_and_gradients(graph=curvature)
            slope = _product(gradients, self.vectors)
            square = _product(gradients, gradients)
            along = uphill = torch.full((), math.nan, dtype=torch.float64)
            refusal = None
            if curvature:
                detached = {n: g.detach() for n, g in gradients.items()}
                try:
                    along = _product(self._hessian(gradients, self.vectors), self.vectors)
                    uphill = _product(self._hessian(gradients, detached), detached) / square
                except RuntimeError as error:  # autograd has no other for what it cannot do
                    refusal = str(error).splitlines()[0]
        examples = torch.zeros(0, dtype=torch.float64, device="cpu")
        if per_example is not None:
            with unchanged(self.model), torch.no_grad():
                self._move(distance)
                examples = per_example().detach().double().cpu()
            if examples.dim() != 1:
                raise ConfigurationError(
                    "per_example", got=f"shape {tuple(examples.shape)}", expected="(batch,)"
                )
        numbers = (value, slope, square.sqrt(), along, uphill)
        v, s, n, a, u = (float(number.detach()) for number in numbers)
        return _Point((v, s, n, a, u), refusal, examples)

    def _gradients(self) -> tuple[float, dict[str, Tensor]]:
        with unchanged(self.model):
            self._move(0.0)
            value, gradients = self._value_and_gradients(graph=False)
        return float(value), gradients

    def _move(self, distance: float) -> None:
        """Let all parameters of the line have gradients, and shift them."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.requires_grad_()
                if distance != 0 and name in self.vectors:
                    parameter.add_(self.vectors[name], alpha=distance)

    def _value_and_gradients(self, *, graph: bool) -> tuple[Tensor, dict[str, Tensor]]:
        value = self.loss()
        if value.dim() != 0 or not value.requires_grad:
            raise ConfigurationError(
                "loss",
                got=f"shape {tuple(value.shape)}, {'a' if value.requires_grad else 'no'} gradient",
                expected="a scalar that depends on the parameters",
            )
        # a seed with a graph, so that what can be differentiated once alone shows in the graph,
        # rather than passing for a constant
        found = torch.autograd.grad(
            value,
            list(self.parameters.values()),
            torch.ones_like(value, requires_grad=graph),
            create_graph=graph,
            materialize_grads=True,
        )
        return value.detach(), dict(zip(self.parameters, found, strict=True))

    def _hessian(self, gradients: dict[str, Tensor], v: dict[str, Tensor]) -> dict[str, Tensor]:
        """H v."""
        product = _product(gradients, v)
        if not product.requires_grad:
            raise RuntimeError("the gradient has no graph: its way back cannot be differentiated")
        if not self.walked and _once_only(product):
            raise RuntimeError("a part of the model is marked as once_differentiable")
        self.walked = True
        found = torch.autograd.grad(
            product,
            list(self.parameters.values()),
            retain_graph=True,
            materialize_grads=True,
        )
        return dict(zip(self.parameters, found, strict=True))


def _wanted(named: dict[str, nn.Parameter], direction: Direction) -> dict[str, Tensor]:
    """A direction by parameter name, of any length; empty for the gradient."""
    if isinstance(direction, str):
        if direction != "gradient":
            raise ConfigurationError(
                "direction", got=repr(direction), expected="'gradient', an entry, or tensors"
            )
        return {}
    entry = isinstance(direction, tuple)
    for name in direction[:1] if entry else direction:
        if name not in named:
            raise UnknownNameError("parameter", name, named)
    if entry:
        name, index = direction
        shape = tuple(named[name].shape)
        if len(index) != len(shape) or not all(
            -n <= i < n for i, n in zip(index, shape, strict=True)
        ):
            raise ConfigurationError(
                f"direction {name}", got=f"index {index}", expected=f"an entry of shape {shape}"
            )
        vector = torch.zeros_like(named[name], requires_grad=False)
        vector[index] = 1
        return {name: vector}
    vectors: dict[str, Tensor] = {}
    for name, vector in direction.items():
        like = named[name]
        if vector.shape != like.shape:
            raise ConfigurationError(
                f"direction {name}",
                got=f"shape {tuple(vector.shape)}",
                expected=f"the parameter's, {tuple(like.shape)}",
            )
        vectors[name] = vector.detach().to(like)
    return vectors


def _once_only(tensor: Tensor) -> bool:
    """True if a graph has a node that raises: autograd leaves it out unless it is on the way."""
    seen: set[object] = set()
    ahead = [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        ahead.extend(after for after, _ in node.next_functions)
    return False


def _product(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """The inner product over all parameters that both have, in float64."""
    parts = [(a[n].double() * b[n].double()).sum() for n in a if n in b]
    return torch.stack([part.to(parts[0].device) for part in parts]).sum()


def _second_difference(a: Tensor, value: Tensor) -> Tensor:
    """d2L/da2 over neighbours at unequal distances; NaN at the ends."""
    slopes = value.diff() / a.diff()
    inner = 2 * slopes.diff() / (a[2:] - a[:-2])
    return torch.nn.functional.pad(inner, (1, 1), value=math.nan)


def _finite_first(values: Tensor) -> Tensor:
    """Values with those that are not finite below all others."""
    return torch.where(values.isfinite(), values, -1.0)
