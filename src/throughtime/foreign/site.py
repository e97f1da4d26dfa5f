"""Sites: recurrent modules of a model, each callable with an engine of ours in place of forward."""

import abc
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.core.cell import Cell, bind
from throughtime.core.errors import ConfigurationError
from throughtime.core.gated import GatedCell
from throughtime.core.state import State, map_state, state_type
from throughtime.engines import Engine, Request, Result, unroll
from throughtime.foreign.adapters import Adapter, how_to_register
from throughtime.foreign.unchanged import random_states_kept
from throughtime.layers import GRU, LSTM, RNN, RecurrentLayer


class Site(abc.ABC):
    """A recurrent module of a model, run by an engine of ours on the module's own tensors.

    Attributes:
        levels: number of cells on top of each other.
        directions: 2 for a bidirectional layer, else 1.
    """

    levels: int = 1
    directions: int = 1

    @abc.abstractmethod
    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Return the result of the module's forward, computed by an engine.

        A layer makes one request of all steps for each level and direction, in this order. A cell
        that the model steps through time makes one request of one step.
        """


@final
class LayerSite(Site):
    """A layer of torch.nn or of throughtime, run by a replica."""

    def __init__(self, layer: nn.Module):
        known = (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward, RecurrentLayer.forward)
        if type(layer).forward not in known:
            raise ConfigurationError(
                f"{type(layer).__name__}",
                got="a forward of its own",
                expected="that of torch.nn or throughtime, whose replica is known",
                fix=how_to_register(layer),
            )
        self.layer, self.replica = layer, _replica(layer)
        self.levels, self.directions = self.replica.num_layers, self.replica.num_directions

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run the replica."""
        # now, after hooks that recompute weights (pruning, weight and spectral norm) have run
        self.replica.share_tensors(self.layer, with_gradient=True)
        self.replica.train(self.layer.training)
        self.replica.engine = engine
        return self.replica.forward(*arguments, **options)


def _replica(layer: Any) -> RecurrentLayer:
    """Return a layer of throughtime on the parameters of a layer of torch.nn or throughtime."""
    if isinstance(layer, RecurrentLayer):
        return layer.replica()
    options: dict[str, Any] = {
        "num_layers": layer.num_layers,
        "bias": layer.bias,
        "batch_first": layer.batch_first,
        "bidirectional": layer.bidirectional,
        "device": "meta",
    }
    sizes = (layer.input_size, layer.hidden_size)
    if layer.mode == "LSTM":
        ours = LSTM(*sizes, proj_size=layer.proj_size, **options)
    elif layer.mode == "GRU":
        ours = GRU(*sizes, **options)
    else:
        ours = RNN(*sizes, nonlinearity=layer.mode.removeprefix("RNN_").lower(), **options)
    # set afterwards: a constructor would warn of dropout on a single layer
    ours.dropout = layer.dropout
    ours.share_tensors(layer)
    return ours.train(layer.training)


@final
class CellSite(Site):
    """A cell that the model steps through time itself: forward(x, state) is one step.

    Arguments:
        cell: a cell of throughtime whose parameters have the same names.
        initial: function from the state that the model passes, and the cell's initial state, to
            the cell's state.
        final: function from the cell's state to the result of the module.
    """

    def __init__(
        self,
        module: nn.Module,
        cell: Cell,
        initial: Callable[[Any, State], State],
        final: Callable[[State], Any],
    ):
        if isinstance(cell, GatedCell):
            _ = cell.additive  # traced once here, rather than at every step
        self.module, self.cell = module, cell.to("meta")
        self.initial, self.final = initial, final

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run one step."""
        x, state = _input_and_state(*arguments, **options)
        tensors: dict[str, Tensor] = {}
        for name, _ in self.cell.named_parameters():
            tensor = getattr(self.module, name)
            tensors[name] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        batched = x.dim() == 2
        rows = x if batched else x[None]
        cell = bind(self.cell, tensors).train(self.module.training)
        fresh = cell.initial_state(rows.shape[0], dtype=rows.dtype, device=rows.device)
        before = fresh if state is None else self.initial(_with_rows(state, batched), fresh)
        after = engine.run(Request(cell, rows[None], before)).state
        return _without_rows(self.final(after), batched)


def _input_and_state(input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    return input, hx


@final
class AdaptedSite(Site):
    """A module of a registered class, run by its adapter."""

    def __init__(self, module: nn.Module, adapter: Adapter):
        self.module, self.adapter = module, adapter
        self.cell: AdaptedCell | None = None
        self._apart = False  # if True, the state's tensors are arguments of their own: x, h, c

    def call(self, engine: Engine, *arguments: Any, **options: Any) -> Any:
        """Run one step of a cell, or all steps of a layer.

        The first call is compared with the module's own forward.
        """
        x, state = self._input_and_state(*arguments, **options)
        if self.cell is None:
            self.cell = AdaptedCell(self.module, self.adapter, x.shape[-1])
            self._compare(x, state)
        return self._run(engine.run, x, state)

    def _run(self, run: Callable[[Request], Result], x: Tensor, state: Any) -> Any:
        assert self.cell is not None
        cell = self.cell.over(self.module)
        steps, batched = cell.steps, x.dim() > 1
        one, turned = steps.forward == "step", steps.forward == "batch first"
        axes = (1, 2) if one else (3,)
        if x.dim() not in axes:
            raise ConfigurationError(
                f"input of {type(self.module).__name__}",
                got=f"{x.dim()} axes",
                expected=f"{' or '.join(map(str, axes))}, as its adapter declares",
            )
        inputs = (x if batched else x[None])[None] if one else x.transpose(0, 1) if turned else x
        if state is None:
            where = {"dtype": inputs.dtype, "device": inputs.device}
            before = cell.initial_state(inputs.shape[1], **where)
        else:
            given = _with_rows(state, batched)
            before = cell.flat(_each(lambda s: s[0], given) if steps.stacked else given)
        result = run(Request(cell, inputs, before))
        after = cell.shaped(result.state)
        if one:
            whole = after if steps.returns == "state" else (result.outputs[0], after)
            return _without_rows(whole, batched)
        outputs = result.outputs.transpose(0, 1) if turned else result.outputs
        return outputs, _each(lambda s: s[None], after) if steps.stacked else after

    def _input_and_state(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        if options or len(arguments) > 2:
            bound = self._signature.bind(*arguments, **options)
            first, second = [*self._signature.parameters, "", ""][:2]
            given = dict(bound.arguments)
            arguments = (given.pop(first, None), given.pop(second, None))
            apart = [arguments[1], *given.values()]
            if len(apart) == self._parts and all(isinstance(part, Tensor) for part in apart):
                self._apart = True
                return arguments[0], tuple(apart)
            if any(value is not None for value in given.values()):
                raise ConfigurationError(
                    f"{type(self.module).__name__}.forward",
                    got=f"{', '.join(given)} beside the input and the state",
                    expected="those two alone, which its adapter's step takes",
                )
        x, state = (*arguments, None)[:2]
        return x, state

    @functools.cached_property
    def _parts(self) -> int:
        """Number of tensors of the adapter's state, if it is a tuple; else 0."""
        state = self.adapter(self.module).initial(1)
        return len(state) if isinstance(state, tuple | list) else 0

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(type(self.module).forward.__get__(self.module))

    def _compare(self, x: Tensor, state: Any) -> None:
        """Raise if the adapter's first steps are not those of the module's own forward."""
        assert self.cell is not None
        if self.cell.steps.forward != "step" and x.dim() == 3:
            x = x[:3] if self.cell.steps.forward == "time first" else x[:, :3]
        own = bare(self.module)
        for part in own.modules():
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.clone()
        with torch.no_grad(), random_states_kept():
            arguments = (x,) if state is None else (x, *state) if self._apart else (x, state)
            expected, again = (pytree.tree_leaves(own.forward(*arguments)) for _ in range(2))
            if not all(_equal(a, b) for a, b in zip(expected, again, strict=True)):
                return  # it draws at random, and its steps need not draw in the same order
            ours = pytree.tree_leaves(self._run(unroll, x, state))
        if len(ours) != len(expected) or not all(
            _alike(a, b) for a, b in zip(ours, expected, strict=True)
        ):
            raise ConfigurationError(
                f"adapter of {type(self.module).__name__}",
                got="steps that do not give what the module's forward gives",
                expected="the same values in the same form",
                fix="Look at its initial state, at what it returns, and at its axes.",
            )


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor):
        return True
    return torch.equal(a, b) or bool(a.isnan().any())


def _alike(a: Any, b: Any) -> bool:
    """Equal but for the rounding of a few steps."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    tolerance = torch.finfo(a.dtype).eps ** 0.5 if a.is_floating_point() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def _each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply a function to every tensor of a module's own state: one, or a tuple or list of them."""
    if isinstance(state, list):
        return [function(s) for s in state]
    return map_state(function, state)


def _with_rows(state: Any, batched: bool) -> Any:
    """Give a state for one sequence a batch axis."""
    return state if batched else _each(lambda s: s[None], state)


def _without_rows(state: Any, batched: bool) -> Any:
    """Take the batch axis of a state for one sequence away."""
    return state if batched else _each(lambda s: s[0], state)


@final
class AdaptedCell(Cell):
    """A module of a registered class as a cell on the module's own parameters."""

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
