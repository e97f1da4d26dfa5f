"""Named initialisers of a cell's parameters, applied gate by gate.

An initialiser is a function of a cell that changes its parameters in place; a layer applies those
it is given, in order, after the default of torch (uniform).
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from throughtime.core.cell import Cell, recurrent_weight
from throughtime.core.errors import ConfigurationError, UnknownNameError

Initializer: TypeAlias = Callable[[Cell], None]
"""Changes the parameters of a cell in place."""


def gate_blocks(cell: Cell, parameter: str, gates: tuple[str, ...]) -> Iterator[Tensor]:
    """Return the row blocks of a parameter that belong to these gates, as views to be filled.

    The recurrent matrix of a cell with heads has a block for each head.

    Arguments:
        cell: the cell.
        parameter: its name, as "weight_hh".
        gates: names of gates; () for all of them.

    Raises:
        UnknownNameError: the cell has no such parameter or gate.
        ConfigurationError: the parameter has no block of `hidden_size` rows for each gate.
    """
    parameters = dict(cell.named_parameters())
    if parameter not in parameters:
        raise UnknownNameError(f"parameter of {type(cell).__name__}", parameter, parameters)
    for gate in gates:
        if gate not in cell.gate_names:
            raise UnknownNameError(f"gate of {type(cell).__name__}", gate, cell.gate_names)
    count = max(1, len(cell.gate_names))
    rows = parameters[parameter].shape[0]
    if gates and rows != count * cell.hidden_size:
        raise ConfigurationError(
            f"{parameter} of {type(cell).__name__}",
            got=f"{rows} rows",
            expected=f"{count * cell.hidden_size}, {cell.hidden_size} for each gate",
        )
    blocks = parameters[parameter].detach().chunk(count, 0)
    names = cell.gate_names or ("",)
    heads = getattr(cell, "heads", 1) if parameter.startswith("weight_hh") else 1
    return (
        block
        for name, rows_of_gate in zip(names, blocks, strict=True)
        if not gates or name in gates
        for block in rows_of_gate.chunk(heads, 0)
    )


def orthogonal(
    gain: float = 1.0, *, parameter: str | None = None, gates: tuple[str, ...] = ()
) -> Initializer:
    """A random orthogonal matrix for each gate: W W^T = gain^2 I (Saxe et al. 2013).

    Arguments:
        gain: scale of the matrix.
        parameter: name of the weight; None for the recurrent matrix of the longest lag, and 0 for
            those of shorter lags.
        gates: names of gates; () for all.
    """
    return functools.partial(
        _fill,
        fill=functools.partial(nn.init.orthogonal_, gain=gain),
        parameter=parameter,
        gates=gates,
    )


def identity(
    scale: float = 1.0, *, parameter: str | None = None, gates: tuple[str, ...] = ()
) -> Initializer:
    """scale * I for each gate (Le et al. 2015).

    Arguments:
        scale: value on the diagonal.
        parameter: name of the weight, whose blocks must be square; None for the recurrent matrix of
            the longest lag, and 0 for those of shorter lags.
        gates: names of gates; () for all.
    """
    return functools.partial(
        _fill, fill=functools.partial(_identity, scale=scale), parameter=parameter, gates=gates
    )


def spectral_radius(
    radius: float = 1.0, *, parameter: str = "weight_hh", gates: tuple[str, ...] = ()
) -> Initializer:
    """Rescale each gate's matrix as it stands, so that its largest |eigenvalue| is `radius`.

    Arguments:
        radius: largest |eigenvalue|, at least 0.
        parameter: name of the weight; its blocks must be square.
        gates: names of gates; () for all.
    """
    return functools.partial(
        _fill, fill=functools.partial(_rescale, radius=radius), parameter=parameter, gates=gates
    )


def sparse(
    nonzeros: int = 15,
    *,
    std: float = 1.0,
    parameter: str = "weight_hh",
    gates: tuple[str, ...] = (),
) -> Initializer:
    """Exactly `nonzeros` normal entries in each row, zeros elsewhere (Martens 2010).

    Arguments:
        nonzeros: entries in a row, at least 1; all of them if the row is shorter.
        std: standard deviation of the entries.
        parameter: name of the weight.
        gates: names of gates; () for all.
    """
    return functools.partial(
        _fill,
        fill=functools.partial(_sparse, nonzeros=nonzeros, std=std),
        parameter=parameter,
        gates=gates,
    )


def uniform(
    bound: float | None = None, *, parameter: str = "weight_hh", gates: tuple[str, ...] = ()
) -> Initializer:
    """U(-bound, bound).

    Arguments:
        bound: 1/sqrt(hidden_size), as torch, if None.
        parameter: name of the weight or bias.
        gates: names of gates; () for all.
    """
    return functools.partial(_uniform, bound=bound, parameter=parameter, gates=gates)


def normal(std: float, *, parameter: str = "weight_ih", gates: tuple[str, ...] = ()) -> Initializer:
    """N(0, std^2).

    Arguments:
        std: standard deviation.
        parameter: name of the weight or bias.
        gates: names of gates; () for all.
    """
    return functools.partial(
        _fill, fill=functools.partial(nn.init.normal_, std=std), parameter=parameter, gates=gates
    )


def gate_bias(gate: str, value: float) -> Initializer:
    """The bias of one gate: b_ih = value, b_hh = 0, so that their sum is the value.

    Arguments:
        gate: its name.
        value: the same for all units.
    """
    return functools.partial(_gate_bias, gate=gate, value=value)


def forget_bias(value: float = 1.0) -> Initializer:
    """The total bias of the gates that keep the memory: LSTM's forget, GRU's update gate.

    Arguments:
        value: 1 or 2 are usual (Gers et al. 2000; Jozefowicz et al. 2015).

    Raises:
        ConfigurationError: when applied to a cell that has no such gate.
    """
    return functools.partial(_forget_bias, value=value)


def chrono(longest: int) -> Initializer:
    """Time constants spread up to the longest dependency (Tallec and Ollivier 2018).

        b_remember = log u, u ~ U[1, longest - 1];  b_write = -b_remember

    A gate with bias log u forgets with rate 1 / (1 + u) a step.

    Arguments:
        longest: the longest dependency in steps, at least 3.

    Raises:
        ConfigurationError: `longest` is below 3; or, when applied, no gate of the cell remembers.

    Differs from the paper in: the GRU's update gate, which remembers at 1 as torch defines it, has
    no separate gate that writes.
    """
    if longest < 3:
        raise ConfigurationError("chrono", got=f"longest={longest}", expected="at least 3 steps")
    return functools.partial(_chrono, longest=longest)


def irnn(scale: float = 1.0, input_std: float = 1e-3) -> Initializer:
    """The IRNN of Le et al. (2015): W_hh = scale * I, W_ih ~ N(0, input_std^2), biases zero.

    Arguments:
        scale: 1 in the paper, 0.01 for its speech task.
        input_std: standard deviation of the input weights.
    """
    return functools.partial(_irnn, scale=scale, input_std=input_std)


# The functions behind the initialisers lie at the top level, so that layers can be pickled.


def _fill(
    cell: Cell, *, fill: Callable[[Tensor], object], parameter: str | None, gates: tuple[str, ...]
) -> None:
    *shorter, longest = getattr(cell, "lags", ()) or (1,)
    with torch.no_grad():
        # the sum of several such matrices would have a gain of their number
        for lag in shorter if parameter is None else ():
            for block in gate_blocks(cell, recurrent_weight(lag), gates):
                block.zero_()
        for block in gate_blocks(cell, parameter or recurrent_weight(longest), gates):
            fill(block)


def _identity(block: Tensor, *, scale: float) -> None:
    _check_square(block, "identity")
    nn.init.eye_(block).mul_(scale)


def _rescale(block: Tensor, *, radius: float) -> None:
    _check_square(block, "spectral_radius")
    largest = torch.linalg.eigvals(block.double()).abs().max()
    if largest == 0:
        raise ConfigurationError(
            "spectral_radius", got="a nilpotent matrix", expected="one with an eigenvalue"
        )
    block.mul_((radius / largest).to(block.dtype))


def _sparse(block: Tensor, *, nonzeros: int, std: float) -> None:
    rows, columns = block.shape
    keep = torch.rand(rows, columns, device=block.device).argsort(1) < min(nonzeros, columns)
    block.normal_(0.0, std).mul_(keep)


def _uniform(cell: Cell, *, bound: float | None, parameter: str, gates: tuple[str, ...]) -> None:
    limit = 1 / math.sqrt(cell.hidden_size) if bound is None else bound
    fill = functools.partial(nn.init.uniform_, a=-limit, b=limit)
    _fill(cell, fill=fill, parameter=parameter, gates=gates)


def _gate_bias(cell: Cell, *, gate: str, value: float | Float[Tensor, " hidden"]) -> None:
    with torch.no_grad():
        for block in gate_blocks(cell, "bias_ih", (gate,)):
            block.copy_(torch.as_tensor(value))
        if getattr(cell, "bias_hh", None) is not None:  # none without a recurrent matrix
            for block in gate_blocks(cell, "bias_hh", (gate,)):
                block.zero_()


def _forget_bias(cell: Cell, *, value: float) -> None:
    for gate in _remember_gates(cell, "forget_bias"):
        _gate_bias(cell, gate=gate, value=value)


def _chrono(cell: Cell, *, longest: int) -> None:
    remember = _remember_gates(cell, "chrono")
    drawn = torch.empty(cell.hidden_size).uniform_(1, longest - 1).log()
    for gate in remember:
        _gate_bias(cell, gate=gate, value=drawn)
    for gate in cell.write_gates:
        _gate_bias(cell, gate=gate, value=-drawn)


def _irnn(cell: Cell, *, scale: float, input_std: float) -> None:
    identity(scale)(cell)
    normal(input_std)(cell)
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()


def _remember_gates(cell: Cell, initializer: str) -> tuple[str, ...]:
    gates = tuple(g for g in cell.remember_gates if g in cell.gate_names)
    if not gates:
        raise ConfigurationError(
            f"{initializer} of {type(cell).__name__}",
            got="a cell without a gate that remembers",
            expected="an LSTM's forget gate or a GRU's update gate",
        )
    return gates


def _check_square(block: Tensor, initializer: str) -> None:
    if block.dim() != 2 or block.shape[0] != block.shape[1]:
        raise ConfigurationError(
            initializer, got=f"a block of shape {tuple(block.shape)}", expected="a square matrix"
        )
