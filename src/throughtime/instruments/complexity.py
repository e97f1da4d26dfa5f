"""The complexity of a live recurrent layer, read from the graph of one of its steps."""

import itertools
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

from throughtime.core.cell import Cell, Streams, advance
from throughtime.core.errors import ConfigurationError
from throughtime.core.state import State, map_state
from throughtime.foreign.site import CellSite, LayerSite
from throughtime.foreign.sites import find_recurrent, site_of
from throughtime.wiring import Architecture, Complexity, Edge
from throughtime.wiring import complexity as complexity_of

_PRODUCTS = ("AddmmBackward", "MmBackward", "BmmBackward", "MvBackward", "AddmvBackward")
_REST = (
    *("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Where", "Clamp", "Relu", "Tanh", "Sigmoid"),
    *("LogSigmoid", "Softplus", "Exp", "Log", "Sqrt", "Pow", "Abs", "Erf", "Silu", "Sin", "Cos"),
    *("Chunk", "Split", "Slice", "Select", "Unbind", "Cat", "Stack", "View", "UnsafeView", "T"),
    *("Transpose", "Permute", "Expand", "Clone", "Reshape", "Alias", "Squeeze", "Unsqueeze"),
    *("AsStrided", "ToCopy", "NativeLayerNorm", "Mean", "Sum", "Narrow", "ReshapeAlias"),
)
"""Operations without a matrix, by the beginning of their nodes' names."""
_MOST = 64  # different numbers of products between two states


def complexity(model: nn.Module, *, layer: str | None = None) -> Complexity:
    """Recurrent depth, feedforward depth and skip coefficient of a recurrent layer as it runs.

    See `architecture_of` for how it is read, and `throughtime.wiring.complexity` for the measures.

    Arguments:
        model: any module that holds a recurrent layer or cell.
        layer: its name within the model, needed if there are several.

    Returns:
        The measures, and the cycles and the path that show them.

    Raises:
        ConfigurationError: as `architecture_of`.
        UnknownNameError: no recurrent layer of that name.

    Example:
        >>> found = complexity(nn.LSTM(3, 5, num_layers=2))
        >>> found.recurrent_depth, found.feedforward_depth, found.skip_coefficient
        (Fraction(1, 1), Fraction(3, 1), Fraction(1, 1))

    Source: S. Zhang et al., "Architectural complexity measures of recurrent neural networks", NIPS
    2016.

    Differs from the paper in: length counts products of a parameter matrix with a state, and
    elementwise operations count zero (our choice).
    """
    return complexity_of(architecture_of(model, layer=layer))


def architecture_of(model: nn.Module, *, layer: str | None = None) -> Architecture:
    """The graph of a recurrent layer: which groups of units read which, from how many steps ago.

    One step is run, and autograd's graph followed from the new state back to the old one and to the
    input. What is kept for later as it is counts as a lag. States that reach each other by
    elementwise operations alone, as h and c of an LSTM, are one group, whose elementwise carry is
    left aside. An edge of several products goes through nodes of its own. The read-out, which
    follows any layer, is one product.

    Arguments:
        model: any module that holds a recurrent layer or cell.
        layer: its name within the model, needed if there are several.

    Raises:
        ConfigurationError: a bidirectional layer; an operation that is neither a product with a
            parameter matrix nor known to have none; a product of two states; no cycle with a
            product.
        UnknownNameError: no recurrent layer of that name.
    """
    name, module = find_recurrent(model, layer)
    site = site_of(module)
    if isinstance(site, CellSite):
        cell = site.cell
    elif isinstance(site, LayerSite):
        cell = site.replica.as_cell()
    else:
        raise ConfigurationError(
            type(module).__name__, got="an adapter", expected="a layer or cell whose step is known"
        )
    return _Step(cell, name or type(module).__name__).architecture()


@final
class _Step:
    """One step of a cell, and how many products lie between its states."""

    def __init__(self, cell: Cell, name: str):
        self.name = name
        self.cell = _on_cpu(cell)
        dtype = torch.float64

        def leaf(s: Tensor) -> Tensor:
            if not s.is_floating_point():
                return s
            return torch.randn(s.shape, dtype=dtype).requires_grad_()

        zeros = self.cell.initial_state(2, dtype=dtype, device=torch.device("cpu"))
        self.before: State = map_state(leaf, zeros)
        x = torch.randn(2, self.cell.input_size, dtype=dtype).requires_grad_()
        streams: Streams = ()
        if self.cell.streams:
            streams = self.cell.draw_streams(
                torch.ones(1, 2, dtype=torch.int64),
                training=False,
                dtype=dtype,
                generator=torch.Generator().manual_seed(0),
            )
        with torch.enable_grad():
            self.output, self.after = advance(
                self.cell, self.cell.project(x), self.before, tuple(s[0] for s in streams)
            )
        self.leaves = {id(t): n for n, t in _named(self.before) if t.is_floating_point()}
        self.leaves[id(x)] = "input"
        self.counts: dict[Any, dict[str, frozenset[int]]] = {}
        self.carried: dict[Any, set[str]] = {}  # by node of a new state: its group's old ones

    def architecture(self) -> Architecture:
        """Return the graph of groups."""
        import networkx as nx  # here, since `import throughtime` does not need it

        copies: dict[str, str] = {}  # a state that is kept as it is -> whose it was
        reads: dict[str, dict[str, frozenset[int]]] = {}
        for name, tensor in _named(self.after):
            if not tensor.is_floating_point():
                continue
            if id(tensor) in self.leaves:
                copies[name] = self.leaves[id(tensor)]
            else:
                reads[name] = self._counts(tensor)
        # states that elementwise operations join are one group, named after the first of them
        joined = nx.Graph()
        joined.add_nodes_from(reads)
        joined.add_edges_from(
            (source, target)
            for target, sources in reads.items()
            for source, products in sources.items()
            if 0 in products and source in reads
        )
        parts = {name: part for part in nx.connected_components(joined) for name in part}
        groups = {name: min(part) for name, part in parts.items()}
        # once more, without what a group carries on elementwise and only then hands to another
        self.counts.clear()
        named = dict(_named(self.after))
        for name in reads:
            self.carried[named[name].grad_fn] = parts[name]
        reads = {name: self._counts(named[name]) for name in reads}
        edges: set[Edge] = set()
        for target, sources in reads.items():
            for source, products in sources.items():
                origin, lag = source, 1
                while origin in copies:
                    origin, lag = copies[origin], lag + 1
                if origin == "input":
                    lag -= 1
                start = origin if origin == "input" else groups.get(origin, origin)
                for count in products - {0}:
                    edges |= set(_chain(start, groups[target], lag, count))
        shown = [n for n, t in _named(self.after) if t is self.output and n in reads]
        if not shown:
            raise ConfigurationError(
                self.name, got="an output that is no state of the cell", expected="one of them"
            )
        edges.add(Edge(groups[shown[0]], "output"))
        return Architecture(_useful(edges), self.name)

    def _counts(self, tensor: Tensor) -> dict[str, frozenset[int]]:
        """Return, by old state, the numbers of products on the paths from it to a new one."""
        order: list[Any] = []
        seen: set[Any] = set()
        stack: list[tuple[Any, bool]] = [(tensor.grad_fn, False)]
        while stack:
            node, done = stack.pop()
            if node is None or (node in seen and not done):
                continue
            if done:
                order.append(node)
                continue
            seen.add(node)
            stack.append((node, True))
            stack.extend((below, False) for below, _ in node.next_functions)
        for node in order:
            if node not in self.counts:
                self.counts[node] = self._of_node(node)
        return self.counts[tensor.grad_fn] if tensor.grad_fn is not None else {}

    def _of_node(self, node: Any) -> dict[str, frozenset[int]]:
        if hasattr(node, "variable"):  # a leaf: an old state, the input, or a parameter
            name = self.leaves.get(id(node.variable))
            return {} if name is None else {name: frozenset({0})}
        below = [self.counts[n] for n, _ in node.next_functions if n is not None]
        below = [counts for counts in below if counts]
        kind = type(node).__name__
        product = kind.startswith(_PRODUCTS)
        # of addmm the first is only added
        factors = node.next_functions[-2:] if product else ()
        with_state = [n for n, _ in factors if n is not None and self.counts[n]]
        if len(with_state) > 1:
            raise ConfigurationError(
                self.name, got="a product of two states", expected="products with parameters"
            )
        if below and not product and not _is_known(kind):
            raise ConfigurationError(
                self.name,
                got=f"the operation {kind}",
                expected="a product with a parameter matrix, or an operation known to have none",
            )
        found: dict[str, frozenset[int]] = {}
        for function, _ in node.next_functions:
            if function is None:
                continue
            more = int(product and function in with_state)
            for name, counts in self.counts[function].items():
                longer = frozenset(count + more for count in counts)
                found[name] = found.get(name, frozenset()) | longer
                if len(found[name]) > _MOST:
                    raise ConfigurationError(
                        self.name, got=f"over {_MOST} lengths of paths", expected="fewer"
                    )
        for name in self.carried.get(node, set()) & set(found):
            found[name] -= {0}
        return found


def _chain(source: str, target: str, lag: int, count: int) -> Iterator[Edge]:
    """An edge of several products, through nodes of its own."""
    between = [f"{source}>{target}.{lag}.{count}.{k}" for k in range(1, count)]
    nodes = [source, *between, target]
    for k, (a, b) in enumerate(itertools.pairwise(nodes)):
        yield Edge(a, b, lag if k == 0 else 0)


def _useful(edges: set[Edge]) -> list[Edge]:
    """Without nodes that the output does not need or that the input does not reach."""
    kept = sorted(edges)
    while True:
        sources, targets = {e.source for e in kept}, {e.target for e in kept}
        left = [
            e
            for e in kept
            if (e.target == "output" or e.target in sources)
            and (e.source == "input" or e.source in targets)
        ]
        if len(left) == len(kept):
            return left
        kept = left


def _is_known(kind: str) -> bool:
    return any(kind.rstrip("0123456789") == f"{name}Backward" for name in _REST)


def _named(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield prefix, state
        return
    names = getattr(state, "_fields", None) or [str(k) for k in range(len(state))]
    for name, part in zip(names, state, strict=True):
        yield from _named(part, f"{prefix}.{name}" if prefix else name)


def _on_cpu(cell: Cell) -> Cell:
    """The cell with random weights in float64: its values do not matter, its operations do."""
    from throughtime.core.cell import bind

    tensors: dict[str, Tensor] = {}
    for name, p in cell.named_parameters(remove_duplicate=False):
        tensors[name] = torch.randn(p.shape, dtype=torch.float64).requires_grad_()
    for name, b in cell.named_buffers(remove_duplicate=False):
        if b.is_meta:
            raise ConfigurationError(name, got="a buffer without values", expected="values")
        tensors[name] = b.double().cpu() if b.is_floating_point() else b.cpu()
    return bind(cell, tensors).eval()
