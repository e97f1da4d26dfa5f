"""Code to copy for a change, written for the user's own model, and carried out before it is shown.

Names in the code: `model`, and in a line of forward `x`, `output` and `state` of the layer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell, bind, recurrent_weight
from throughtime.doctor.padding import lengths_of
from throughtime.doctor.subject import Subject
from throughtime.foreign.site import CellSite, LayerSite
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.foreign.unchanged import evaluating


@dataclasses.dataclass(frozen=True)
class Target:
    """The layer that a change is for.

    Attributes:
        path: expression for the layer, "model.encoder.rnn".
        module: the layer.
        lag: length of the dependency.
        calls: number of calls of the layer in one loss.
    """

    path: str
    module: Any
    lag: int
    calls: int = 1

    @property
    def ends(self) -> list[str]:
        """Ends of the parameters' names by level and direction: "_l0", "_l0_reverse"; or ""."""
        start = "weight_hh"
        names = [name for name, _ in self.module.named_parameters() if name.startswith(start)]
        return [name.removeprefix(start) for name in names]

    @property
    def layer_of_torch(self) -> bool:
        """True for nn.RNN, nn.LSTM and nn.GRU themselves."""
        return type(self.module) in (nn.RNN, nn.LSTM, nn.GRU)


Code: TypeAlias = Callable[[Target], str]
"""Function from the layer to the code of a change; "" where none can be written."""


_OTHER_STATE = "# its state is (h, c), not h alone: adapt the lines that use it"


def path_of(layer: str) -> str:
    """Return the expression for a layer by its name.

    Example:
        >>> path_of("encoder.0.rnn"), path_of(""), path_of("my rnn")
        ('model.encoder[0].rnn', 'model', "model.get_submodule('my rnn')")
    """
    path = "model"
    for part in layer.split(".") if layer else ():
        if part.isidentifier():
            path += f".{part}"
        elif part.isdecimal():
            path += f"[{part}]"
        else:
            return f"model.get_submodule({layer!r})"
    return path


def written(code: Code, subject: Subject, layer: str, lag: int) -> str:
    """Return the code of a change, carried out on a copy; "" where it does not run.

    A changed copy's loss has to run too, except where a comment says to adapt forward.
    """
    model = subject.copy()
    name, module = find_recurrent(model, layer)
    batch = subject.training[0]
    calls: list[tuple[Any, Any]] = []
    hook = module.register_forward_hook(lambda _, given, out: calls.append((given, out)))
    try:
        with evaluating(model):
            subject.loss(model, batch)
        hook.remove()
        text = code(Target(path_of(name), module, lag, len(calls)))
        names = {"batch": batch, "loss_fn": subject.loss}
        carry_out(text, {"model": model, **names, **_of_call(module, *calls[0])})
    except Exception:  # noqa: BLE001 code that does not run is not shown
        return ""
    if text.endswith(_OTHER_STATE) and _uses_no_state(subject, layer, batch):
        text = text.removesuffix(f"\n{_OTHER_STATE}")
    try:
        with evaluating(model):
            subject.loss(model, batch)
    except Exception:  # noqa: BLE001 what forward makes of the new layer
        return text if text.endswith(_OTHER_STATE) else ""
    return text


def _uses_no_state(subject: Subject, layer: str, batch: Any) -> bool:
    """Return whether forward does without the layer's final state."""
    model = subject.copy()
    _, module = find_recurrent(model, layer)
    module.register_forward_hook(lambda _, given, out: (out[0], None))
    try:
        with evaluating(model):
            subject.loss(model, batch)
    except Exception:  # noqa: BLE001 what forward makes of no state
        return False
    return isinstance(module, nn.RNNBase)


def _of_call(module: nn.Module, given: Any, out: Any) -> dict[str, Any]:
    """Return the names that a line of forward uses, from one call of the layer."""
    x = given[0]
    names: dict[str, Any] = {"x": x}
    if isinstance(out, tuple):
        names |= {"output": out[0], "state": out[1]}
    if isinstance(x, Tensor) and x.dim() == 3:
        first = getattr(module, "batch_first", False)
        names["lengths"] = lengths_of(x.transpose(0, 1) if first else x)
    return names


def carry_out(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code that was written here; return the names that it used and made.

    Arguments:
        text: code of this module's functions; never a user's.
        names: names that it may use beside torch and nn.
    """
    made = {"torch": torch, "nn": nn, **names}
    exec(text, made)  # noqa: S102 the text is written here, from names of attributes and numbers
    return made


def cells_of(module: nn.Module) -> list[Cell]:
    """Return the cells of a recurrent module, on its own tensors; none of a registered module."""
    site = site_of(module)
    if isinstance(site, LayerSite):
        return list(site.replica.cells())
    if isinstance(site, CellSite):
        tensors = {name: getattr(module, name) for name, _ in site.cell.named_parameters()}
        return [bind(site.cell, tensors)]
    return []


def _for_each_end(target: Target, lines: list[str]) -> str:
    """Write lines for every level and direction; {bias_ih} and the like stand for parameters."""
    names = ("bias_ih", "bias_hh")
    ends, path = target.ends, target.path
    if len(ends) == 1:
        here = [
            line.format(**{name: f"{path}.{name}{ends[0]}" for name in names}) for line in lines
        ]
        return "\n".join(["with torch.no_grad():", *(f"    {line}" for line in here)])
    each = [line.format(**{name: name for name in names}) for line in lines]
    listed = ", ".join(f'"{end}"' for end in ends)
    get = [f'{name} = getattr({path}, f"{name}{{end}}")' for name in names]
    inner = [f"        {line}" for line in (*get, *each)]
    return "\n".join(["with torch.no_grad():", f"    for end in ({listed}):", *inner])


def _rows(cell: Cell, gate: str) -> str:
    k, width = cell.gate_names.index(gate), cell.hidden_size
    return f"{k * width}:{(k + 1) * width}"


def _gate_lines(cell: Cell, keep: str, write: str) -> list[str]:
    """Write lines that set the biases of the gates that keep, and of those that write."""
    lines: list[str] = []
    gates = [(gate, keep) for gate in cell.remember_gates if gate in cell.gate_names]
    gates += [(gate, write) for gate in cell.write_gates if write]
    for gate, value in gates:
        rows = _rows(cell, gate)
        lines += [f"{{bias_ih}}[{rows}] = {value}  # {gate} gate", f"{{bias_hh}}[{rows}] = 0"]
    return lines


def chrono(target: Target) -> str:
    """Write chrono initialisation of the gate biases."""
    return _chrono(target, cells_of(target.module)[0])


def _chrono(target: Target, cell: Cell) -> str:
    longest = max(3, 2 * target.lag + 1) - 1
    drawn = f"keep = torch.empty({cell.hidden_size}).uniform_(1, {longest}).log()"
    return _for_each_end(target, [drawn, *_gate_lines(cell, "keep", "-keep")])


def gates_that_keep(target: Target) -> str:
    """Write a bias of 3 of the gates that keep."""
    return _for_each_end(target, _gate_lines(cells_of(target.module)[0], "3.0", ""))


def orthogonal(target: Target) -> str:
    """Write orthogonal recurrent weights, and biases of 0 where no gate keeps."""
    cells = cells_of(target.module)
    gated = bool(cells) and all(cell.remember_gates for cell in cells)
    fill = ["nn.init.orthogonal_(weight)"]
    if any(len(p) != p.shape[1] for n, p in target.module.named_parameters() if "weight_hh" in n):
        fill = [
            "for block in weight.detach().split(weight.shape[1]):  # of each gate",
            "    if block.shape[0] == block.shape[1]:",
            "        nn.init.orthogonal_(block)",
        ]
    return "\n".join([*_recurrent_lines(target, fill), *([] if gated else _ZERO_BIAS)])


_ZERO_BIAS = ['    elif "bias" in name:', "        nn.init.zeros_(weight)"]


def _recurrent_lines(target: Target, fill: Sequence[str]) -> list[str]:
    """Write a loop that fills the recurrent matrices; of several lags the longest, others are 0."""
    longest = max(
        (d for cell in cells_of(target.module) for d in getattr(cell, "lags", ())), default=1
    )
    lines = [
        f"for name, weight in {target.path}.named_parameters():",
        f'    if "{recurrent_weight(longest)}" in name:',
        *(f"        {line}" for line in fill),
    ]
    if longest > 1:
        lines += ['    elif "weight_hh" in name:', "        nn.init.zeros_(weight)"]
    return lines


def identity(target: Target) -> str:
    """Write recurrent weights that are the identity, and biases of 0."""
    return "\n".join([*_recurrent_lines(target, ["nn.init.eye_(weight)"]), *_ZERO_BIAS])


def afresh(target: Target) -> str:
    """Write new weights of all kinds."""
    lines = [
        f"for name, weight in {target.path}.named_parameters():",
        '    if "weight_ih" in name:',
        "        bound = weight.shape[1] ** -0.5",
        "        nn.init.uniform_(weight, -bound, bound)",
        *_ZERO_BIAS,
    ]
    cells = cells_of(target.module)
    gated = bool(cells) and all(cell.remember_gates for cell in cells)
    biased = gated and all(getattr(cell, "bias_ih", None) is not None for cell in cells)
    return "\n".join([*lines, orthogonal(target), *([chrono(target)] if biased else [])])


def other_axis_first(target: Target) -> str:
    """Write the other order of time and batch."""
    return f"{target.path}.batch_first = {not target.module.batch_first}"


def read_at_the_end(target: Target) -> str:
    """Write the reading of the answer at each sequence's last valid step."""
    module, path = target.module, target.path
    first = bool(getattr(module, "batch_first", False))
    if getattr(module, "bidirectional", False):
        final = "h_n, _" if isinstance(module, nn.LSTM) else "h_n"
        return (
            f"packed = nn.utils.rnn.pack_padded_sequence(\n"
            f"    x, lengths, batch_first={first}, enforce_sorted=False\n)\n"
            f"_, {f'({final})' if ',' in final else final} = {path}(packed)\n"
            "last = torch.cat([h_n[-2], h_n[-1]], -1)  # of each direction"
        )
    index = "lengths - 1, torch.arange(len(lengths))"
    if first:
        index = "torch.arange(len(lengths)), lengths - 1"
    return f"# output of {path}, lengths without the padding\nlast = output[{index}]"


def fresh_state(target: Target) -> str:
    """Write a call without a stored state."""
    return f"output, state = {target.path}(x)  # no stored state"


def graph_kept(target: Target) -> str:
    """Write a call that keeps the graph."""
    return f"# no detach() and no no_grad()\noutput, state = {target.path}(x, state)"


def state_passed_on(target: Target) -> str:
    """Write a call that goes on from the call before."""
    return f"output, state = {target.path}(x, state)  # x: the next chunk"


def whole_sequence(target: Target) -> str:
    """Write one backward pass."""
    del target
    return "# all steps of a sequence in one window\nloss_fn(model, batch).backward()"


def clip(target: Target) -> str:
    """Write clipping."""
    del target
    return "# between backward() and step()\nnn.utils.clip_grad_norm_(model.parameters(), 1.0)"


def adam(learning_rate: float) -> Code:
    """Return a function that writes the optimiser of a brief training."""

    def code(target: Target) -> str:
        del target
        made = f"optimizer = torch.optim.Adam(model.parameters(), lr={learning_rate:g})"
        return f"{made}\n{clip(target_of_all)}"

    target_of_all = Target("model", None, 1)
    return code


def long_lstm(target: Target) -> str:
    """Write an LSTM of the same sizes in the layer's place, with chrono initialisation."""
    module = target.module
    if target.layer_of_torch:
        made = _call(target.path, "nn.LSTM", _arguments(module, module.input_size))
    elif isinstance(module, nn.RNNCellBase):
        sizes = f"{module.input_size}, {module.hidden_size}{_place(module)}"
        made = _call(target.path, "nn.LSTMCell", sizes)
    else:
        return ""
    lstm = nn.LSTM(1, module.hidden_size, device="meta")
    cell = cells_of(lstm)[0]
    changed = [made]
    if module.bias:
        changed.append(_chrono(target, cell))
    return "\n".join([*changed, _OTHER_STATE])


def skip(target: Target) -> str:
    """Write a layer whose steps also read the output of `lag` steps before."""
    module, path, lag = target.module, target.path, target.lag
    one = target.layer_of_torch and target.calls == 1 and len(target.ends) == 1
    if not one or getattr(module, "proj_size", 0):
        return ""
    kind, width, time = type(module).__name__, module.hidden_size, int(module.batch_first)
    before = f"[:, : block.shape[{time}]]" if time else "[: block.shape[0]]"
    return f"""class Skipping(nn.{kind}):
    # each step also reads the output of {lag} steps before
    def forward(self, x, state=None):
        past, outputs = x.new_zeros(*x.split({lag}, {time})[0].shape[:2], {width}), []
        for block in x.split({lag}, {time}):
            x_and_past = torch.cat([block, past{before}], -1)
            past, state = super().forward(x_and_past, state)
            outputs.append(past)
        return torch.cat(outputs, {time}), state

weights = {path}.state_dict()
wide = nn.functional.pad(weights["weight_ih_l0"], (0, {width}))
{_call(path, "Skipping", _arguments(module, module.input_size + width))}
{path}.load_state_dict({{**weights, "weight_ih_l0": wide}})"""


_WIDTH = 76  # columns, beyond which a terminal breaks a line of code


def _call(path: str, made: str, arguments: str) -> str:
    """Write an assignment to the layer, on three lines where one is too long."""
    line = f"{path} = {made}({arguments})"
    return line if len(line) <= _WIDTH else f"{path} = {made}(\n    {arguments}\n)"


def _arguments(module: nn.RNNBase, input_size: int) -> str:
    defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
    options = {**defaults, "bidirectional": False, "nonlinearity": "tanh"}
    changed = {
        name: value
        for name, default in options.items()
        if (value := getattr(module, name, default)) != default
    }
    words = [str(input_size), str(module.hidden_size)]
    words += [f"{name}={value!r}" for name, value in changed.items()]
    return ", ".join(words) + _place(module)


def _place(module: nn.Module) -> str:
    """Write the dtype and device of a module where they are not the usual ones."""
    like = next(module.parameters())
    words = f", dtype={like.dtype}" if like.dtype != torch.float32 else ""
    return words + (f', device="{like.device}"' if like.device.type != "cpu" else "")
