"""The tensors of a layer's cells: on the layer, under torch's names, and bound to the cells."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell, bind, converted
from throughtime.core.errors import ConfigurationError, DeviceError, ShapeError
from throughtime.core.gated import GatedCell


class CellTensors(nn.Module, abc.ABC):
    """A module that holds the parameters and buffers of cells as torch.nn's layers do.

    They lie on the module under torch's names (`weight_ih_l0`, `weight_hh_l1_reverse`,
    `weight_hh_lag21_l0`); the cells are templates that are bound to them once a sequence.
    """

    def _hold(self, cells: Sequence[Cell], suffixes: Sequence[str]) -> None:
        """Take the tensors of new cells.

        Arguments:
            suffixes: The suffix of each cell, behind its own names.
        """
        names: list[dict[str, str]] = []  # for each cell, its names of tensors and the layer's
        for cell, suffix in zip(cells, suffixes, strict=True):
            names.append({})
            taken: dict[int, str] = {}  # a tensor that a cell shares under two names is one
            for name, parameter in cell.named_parameters(remove_duplicate=False):
                names[-1][name] = own = taken.setdefault(id(parameter), _own_name(name, suffix))
                self.register_parameter(own, parameter)
            for name, buffer in cell.named_buffers(remove_duplicate=False):
                names[-1][name] = own = taken.setdefault(id(buffer), _own_name(name, suffix))
                if own in self._buffers:
                    continue
                self.register_buffer(own, buffer, persistent=_is_persistent(cell, name))
        self._names = tuple(names)
        # for each weight that `_flat_weights` was given: what it replaces, and itself
        self._replaced: dict[str, tuple[Tensor, Tensor]] = {}
        self._shapes = tuple(
            {name: p.shape for name, p in cell.named_parameters(remove_duplicate=False)}
            for cell in cells
        )
        # Templates without data of their own: `bind` gives them the layer's tensors for each run.
        # They lie in a tuple, which nn.Module does not search: each tensor has one name.
        self._cells = tuple(_template(cell) for cell in cells)

    def flatten_parameters(self) -> None:
        """Nothing: kept since code written for torch.nn calls it."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, as torch.nn's layers give them."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names of `all_weights`."""
        return [
            [names[name] for name, _ in cell.named_parameters()]
            for cell, names in zip(self._cells, self._names, strict=True)
        ]

    @property
    def _flat_weights_names(self) -> list[str]:
        """The names of `_flat_weights`."""
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        """The weights that a call runs with, in torch's order; None for one that was deleted.

        Code for torch.nn sets this list to run a layer on other weights, beside its parameters.
        Such weights hold until the parameter is set, swapped or converted, as in torch.
        """
        return [self._tensor(n) if hasattr(self, n) else None for n in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: Sequence[Tensor | None]) -> None:
        names = self._flat_weights_names
        if len(weights) != len(names):
            raise ConfigurationError(
                "_flat_weights", got=f"{len(weights)} tensors", expected=f"{len(names)}: {names}"
            )
        self._replaced = {
            name: (own, weight)
            for name, weight in zip(names, weights, strict=True)
            if (own := getattr(self, name, None)) is not None and weight is not None
            if weight is not own
        }

    def _tensor(self, name: str) -> Tensor:
        own = getattr(self, name)
        replaced, given = self._replaced.get(name, (None, own))
        return given if replaced is own else own

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._replaced = {}
        return super()._apply(fn, recurse)

    def cells(self) -> tuple[Cell, ...]:
        """The cells, layer by layer and forward before reverse, bound to the layer's parameters.

        Returns:
            num_layers * num_directions cells whose tensors are the layer's own.

        Raises:
            ShapeError: a parameter has another shape than at construction.
        """
        bound: list[Cell] = []
        for cell, names, shapes in zip(self._cells, self._names, self._shapes, strict=True):
            bound.append(bind(cell, self._fitting(names, shapes)))
            if bound[-1].training != self.training:
                bound[-1].train(self.training)
        return tuple(bound)

    def _fitting(self, names: dict[str, str], shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """The tensors of a cell by its own names, if its parameters have these shapes."""
        own, replaced = self._parameters, self._replaced
        tensors: dict[str, Any] = {}
        for name, of_layer in names.items():
            tensor = None if replaced else own.get(of_layer)
            tensors[name] = self._tensor(of_layer) if tensor is None else tensor
        device = None
        for name, shape in shapes.items():
            tensor = tensors[name]
            if not isinstance(tensor, Tensor) or tensor.shape != shape:
                found = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else tensor
                raise ShapeError(
                    names[name],
                    got=str(found),
                    expected=f"shape {tuple(shape)}, as at construction",
                    fix="Make a layer of the sizes that you need, and give it the weights.",
                )
            device = device or tensor.device
            if tensor.device != device:
                raise DeviceError(
                    names[name],
                    got=f"device {tensor.device}",
                    expected=f"{device}, that of the layer's first parameter",
                    fix=f"Move the layer: layer.to({str(device)!r}).",
                )
        return tensors

    def share_tensors(self, layer: nn.Module, *, with_gradient: bool = False) -> None:
        """Use the tensors of a layer whose parameters have the same names, as they are now.

        Arguments:
            layer: A layer of ours or of torch.nn. Its parameters may be parametrised or recomputed
                by hooks; the tensors of its next call are taken.
            with_gradient: If True, frozen parameters have a gradient here all the same.
        """
        for name in {own for names in self._names for own in names.values()}:
            self._parameters.pop(name, None)
            self._buffers.pop(name, None)
            # past nn.Module's own bookkeeping: these need not be parameters
            tensor = layer._tensor(name) if isinstance(layer, CellTensors) else getattr(layer, name)
            if with_gradient and tensor.is_floating_point() and not tensor.requires_grad:
                tensor = tensor.detach().requires_grad_()
            vars(self)[name] = tensor


def _own_name(name: str, suffix: str) -> str:
    return name.replace(".", "_") + suffix


def _is_persistent(cell: Cell, name: str) -> bool:
    """Return True if a buffer is part of the state_dict."""
    return name in cell.state_dict()


def _template(cell: Cell) -> Cell:
    """A copy of a cell on meta tensors; the cell's own tensors, which the layer has, stay."""
    if isinstance(cell, GatedCell):
        _ = cell.additive  # seen once here, rather than for every sequence
    return converted(cell, lambda tensor: tensor.to("meta"))
