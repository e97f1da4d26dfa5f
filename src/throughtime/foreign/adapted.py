"""A module of a registered class as a cell of throughtime."""

from collections.abc import Iterator
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.binding import bind
from throughtime.core.cell import Cell
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state, state_type
from throughtime.foreign.adapters import Adapter
from throughtime.foreign.unchanged import random_states_kept


@final
class AdaptedCell(Cell):
    """A module of a registered class as a cell on the module's own parameters.

    Arguments:
        module: the module.
        adapter: description of its steps.
        input_size: width of x_t.
    """

    def __init__(self, module: nn.Module, adapter: Adapter, input_size: int):
        super().__init__()
        self.module, self.adapter = bare(module), adapter
        self.steps = adapter(self.module)
        like = self.steps.initial(1)
        parts = like if isinstance(like, tuple | list) else (like,)
        if not parts or not all(isinstance(p, Tensor) and p.shape[:1] == (1,) for p in parts):
            raise ConfigurationError(
                f"initial state of {type(module).__name__} for a batch of 1",
                got=_form(like),
                expected="a tensor of (batch, ...), or a flat tuple of such",
            )
        self._like, self._shapes = like, tuple(p.shape[1:] for p in parts)
        names = self.steps.memories or tuple(f"s{k}" for k in range(1, len(parts)))
        if len(names) != len(parts) - 1:
            raise ConfigurationError(
                f"memories of {type(module).__name__}",
                got=names,
                expected=f"one name for each of the state's {len(parts) - 1} tensors beside h",
            )
        self._kind = state_type("h", *names)
        self.input_size, self.hidden_size = input_size, self._shapes[0].numel()
        self.output_size = self.hidden_size
        if self.steps.returns == "output and state":
            with torch.no_grad(), random_states_kept():
                x = torch.zeros(1, input_size, dtype=parts[0].dtype, device=parts[0].device)
                self.output_size = self._split(self.steps.step(x, like))[0].shape[-1]

    def over(self, module: nn.Module) -> "AdaptedCell":
        """Return this cell on the present tensors of a module of the same structure."""
        cell = bind(self, {})
        cell._modules["module"] = bare(module)
        return cell

    def initial_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """Return the module's own initial state, each tensor as (batch, width)."""
        state = self.flat(self.adapter(self.module).initial(batch_size))
        return map_state(lambda s: s.to(device, dtype if s.is_floating_point() else s.dtype), state)

    def project(self, x: Float[Tensor, "*steps input"]) -> Float[Tensor, "*steps input"]:
        """Return x itself: a step of the module takes it as it is."""
        return x

    def step(
        self, projected: Float[Tensor, "batch input"], state: State
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """Run one step of the module.

        Raises:
            ConfigurationError: the step returns another form than its adapter declares, or is not
                pure.
        """
        _refresh(self.module)
        before = _kept(self.module)
        result = self.adapter(self.module).step(projected, self.shaped(state))
        if _kept(self.module) != before:
            raise ConfigurationError(
                f"step of {type(self.module).__name__}",
                got="a tensor that it keeps in the module, or a buffer that it changes",
                expected="a pure step, with all that is carried on in its state",
                fix="If it is a running statistic: model.eval().",
            )
        return self._split(result)

    def flat(self, state: Any) -> State:
        """Return a state in the cell's form, each tensor (batch, width), from the module's form."""
        parts = tuple(state) if isinstance(state, tuple | list) else (state,)
        if len(parts) != len(self._shapes) or not all(
            isinstance(part, Tensor) and part.shape[1:] == shape
            for part, shape in zip(parts, self._shapes, strict=True)
        ):
            raise ConfigurationError(
                f"state of {type(self.module).__name__}",
                got=_form(state),
                expected=f"{_form(self._like)} but for the batch, as its initial state",
            )
        # flat tensors stay the same objects: the output and the state then share one tensor
        return self._kind(*(p if p.dim() == 2 else p.reshape(p.shape[0], -1) for p in parts))

    def shaped(self, state: State) -> Any:
        """Return the module's own form of a state."""
        parts = [
            s if s.shape[1:] == shape else s.reshape(s.shape[0], *shape)
            for s, shape in zip(state, self._shapes, strict=True)
        ]
        if not isinstance(self._like, tuple | list):
            return parts[0]
        kind = type(self._like)
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)

    def _split(self, result: Any) -> tuple[Tensor, State]:
        if self.steps.returns == "state":
            state = self.flat(result)
            return state.h, state
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
            raise ConfigurationError(
                f"step of {type(self.module).__name__}",
                got=_form(result),
                expected="a pair of the output and the state, as its adapter declares",
            )
        return result[0], self.flat(result[1])


def bare(module: nn.Module) -> nn.Module:
    """Return a shallow copy of a module on its present tensors, without its own hooks.

    The hooks run where the model calls the module. Frozen parameters have a gradient in the copy.
    Weights that hooks recompute (pruning, weight norm) are parameters of it, their sources are not.

    Raises:
        ConfigurationError: one parameter has two names. Their gradients would not be added up.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if names.setdefault(id(parameter), name) != name:
            raise ConfigurationError(
                f"parameters of {type(module).__name__}",
                got=f"one tensor under the names {names[id(parameter)]} and {name}",
                expected="a name for each",
            )
        tensors[name] = _differentiable(parameter)
    copy = bind(module, tensors)
    for part in copy.modules():
        for name, value in list(vars(part).items()):
            sources = {f"{name}_orig", f"{name}_g", f"{name}_v"} & part._parameters.keys()
            if isinstance(value, Tensor) and sources:
                del vars(part)[name]
                for source in sources:
                    del part._parameters[source]
                vars(part)["_parameters"][name] = _differentiable(value)
    vars(copy).pop("forward", None)
    vars(copy).pop("_compiled_call_impl", None)
    for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        vars(copy)[hooks] = {}
    return copy


def _refresh(module: nn.Module) -> None:
    """Renew the lists of weights that layers of torch.nn keep, within a copy."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            vars(part)["_flat_weights"] = [getattr(part, n) for n in part._flat_weights_names]


def _differentiable(tensor: Tensor) -> Tensor:
    if tensor.requires_grad or not tensor.is_floating_point():
        return tensor
    return tensor.detach().requires_grad_()


def _kept(module: nn.Module) -> list[tuple[int, int]]:
    """List the tensors that a module holds beside its parameters, with their versions."""
    return [
        (id(tensor), 0 if tensor.is_inference() else tensor._version)
        for part in module.modules()
        for held in (vars(part), part._buffers)
        for value in held.values()
        for tensor in _leaves(value)
        if isinstance(tensor, Tensor)
    ]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_form, value))})"
    return type(value).__name__
