"""The plan of a cell's whole step: its graph, its gradient, and the order of both passes."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import final

from throughtime.engines.trace.program import Key, Node
from throughtime.engines.trace.step_plan import values_to_save
from throughtime.engines.trace.steps.evaluation import StaticTensors
from throughtime.engines.trace.steps.gradient import Gradients, derive
from throughtime.engines.trace.steps.graph import Graph, Piece
from throughtime.engines.trace.steps.lowering import lower
from throughtime.engines.trace.steps.schedule import Area, Place, Schedule, Store, padded
from throughtime.engines.trace.steps.tracing import StepTrace


@final
@dataclasses.dataclass(frozen=True)
class ParameterGradient:
    """The gradient of some values of a parameter.

    Attributes:
        parameter: The number of the static tensor.
        offset: The first value.
        width: The number of values.
        at: The place of the gradient among all of them.
    """

    parameter: int
    offset: int
    width: int
    at: int


@final
@dataclasses.dataclass(frozen=True)
class MatrixGradient:
    """The gradient of a matrix: the products' vectors, and where the products' gradients lie."""

    weight: int
    transposed: bool
    source: Place
    depth: int
    slot: int
    width: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class WholeStep:
    """Everything that an engine needs to run a cell's step over time; it holds no parameters.

    Attributes:
        trace: The recorded step.
        graph: The graph of values and gradients.
        fields: The numbers of the state's fields of real numbers.
        widths: The width of each of them.
        results: The pieces of each of them after the step; then those of the output.
        output: The position in `fields` of the field that equals the output, or None.
        gradients: The gradients.
        forward: The order of the forward pass.
        backward: The order of the backward pass.
        saved: The values of a row that the forward pass saves.
        slot: The values of a row in a chunk of the backward pass.
        shifts: The field whose value before the step each field takes over; None for a field that
            is computed. No such field leads back to itself.
        carries: The place of each field among the gradients that are carried back.
        carry: The values of all of them.
        parameters: The static tensors that are read as vectors: number, place and width.
        parameter_gradients: The gradients of the values of parameters.
        sums: The values of all of them.
        matrices: The numbers of the static tensors that are matrices of products.
        matrix_gradients: The gradients of the products' matrices.
        presents: Sets of results as bits, the fields lowest: all, then those whose gradients the
            backward pass tells from absent ones.
        reach: The results, as bits, through which a gradient reaches each field before the step.
    """

    trace: StepTrace
    graph: Graph
    fields: tuple[int, ...]
    widths: tuple[int, ...]
    results: tuple[tuple[Piece, ...], ...]
    output: int | None
    gradients: Gradients
    forward: Schedule
    backward: Schedule
    saved: int
    slot: int
    shifts: tuple[int | None, ...]
    carries: tuple[int, ...]
    carry: int
    parameters: tuple[tuple[int, int, int], ...]
    parameter_gradients: tuple[ParameterGradient, ...]
    sums: int
    matrices: tuple[int, ...]
    matrix_gradients: tuple[MatrixGradient, ...]
    presents: tuple[int, ...]
    reach: tuple[int, ...]

    @functools.cached_property
    def tensors(self) -> StaticTensors:
        """The function that computes the parameters' vectors and the matrices, once a run."""
        wanted = [*(number for number, _, _ in self.parameters), *self.matrices]
        return StaticTensors(self.trace.statics, wanted)

    @property
    def forward_pointers(self) -> list[str]:
        """The names of a row's pointers in the forward pass, in the order of source/steps.cpp."""
        return [*self._before(), *self._fields("after"), "saved", "temporary", "outputs"]

    @property
    def backward_pointers(self) -> list[str]:
        """The names of a row's pointers in the backward pass, in the order of source/steps.cpp."""
        own = ["saved", "temporary", "slot", "d_input", "carry", "carried"]
        after = [*self._fields("after"), *own, *self._fields("d_after"), "d_outputs"]
        return [*self._before(), *after]

    def _before(self) -> list[str]:
        inputs = [f"input{i}" for i in range(len(self.trace.inputs))]
        return [*inputs, *self._fields("before")]

    def _fields(self, name: str) -> list[str]:
        return [f"{name}{i}" for i in range(len(self.fields))]


def plan_whole(trace: StepTrace) -> WholeStep:
    """Return the plan of a recorded step.

    Raises:
        UntraceableError: It cuts its units into too many parts.
    """
    return _Planning(trace).plan()


_SLOW = frozenset(("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "pow"))


@final
class _Planning:
    def __init__(self, trace: StepTrace):
        self.trace = trace
        self.fields = tuple(i for i, shape in enumerate(trace.fields) if shape is not None)
        after = [trace.after[i] for i in self.fields]
        lowered = lower(trace.vectors, [*after, trace.output])  # pyright: ignore[reportArgumentType]
        self.graph = lowered.graph
        *own, output = [tuple(r) for r in lowered.results]
        self.output = next((i for i, result in enumerate(own) if result == output), None)
        self.results = (*own, output)
        self.widths = tuple(sum(p.width for p in result) for result in own)
        self.products = len(self.graph.products)  # of the forward pass
        self.parameters: dict[int, tuple[int, int]] = {}
        self.values = 0
        for leaf in self.graph.leaves.values():
            if leaf.source == "parameter" and leaf.number not in self.parameters:
                width = trace.vectors[self._vector(leaf.number)].width
                self.parameters[leaf.number] = self.values, width
                self.values += padded(width)
        self.shifts = self._shifts()
        carry = Area("carry")
        self.carries = tuple(carry.take(width).offset for width in self.widths)
        self.carry = carry.size
        self.sums = Area("d_parameters")
        self.parameter_gradients: list[ParameterGradient] = []

    def _shifts(self) -> list[int | None]:
        """Return the field that each field takes over, as older outputs do, if it does."""
        shifts: list[int | None] = []
        for i, result in enumerate(self.results[:-1]):
            end, source = 0, None
            for piece in result:
                leaf = self.graph.leaves.get(piece.position)
                if leaf is None or leaf[:3] != ("state", leaf.number, end):
                    break
                if piece.width != leaf.width or source not in (None, leaf.number):
                    break
                source, end = leaf.number, end + leaf.width
            number = None if source is None else self.fields.index(source)
            whole = number is not None and end == self.widths[number] == self.widths[i]
            shifts.append(number if whole and i != self.output else None)
        for i in range(len(shifts)):
            at, seen = i, set[int]()
            while at not in seen and shifts[at] is not None:
                seen.add(at)
                following = shifts[at]
                assert following is not None
                at = following
            if at in seen:  # a circle: one of its fields is computed
                shifts[i] = None
        return shifts

    def _vector(self, parameter: int) -> int:
        for i, vector in enumerate(self.trace.vectors):
            if getattr(vector, "source", "") == "parameter" and vector.index == parameter:  # pyright: ignore
                return i
        raise AssertionError("a parameter that is read has a vector")

    def plan(self) -> WholeStep:
        """Derive the gradient and order both passes."""
        graph, trace = self.graph, self.trace
        shown = self.results if self.output is None else self.results[:-1]
        gradients = derive(graph, shown)
        late = self._late()
        saved = Area("saved")
        inside = self._given()
        stores = self._after()
        dz, slots = Area("slot"), dict[int, Place]()
        back: list[Store] = []
        for number, pieces in gradients.products.items():
            place = slots[number] = dz.take(sum(p.width for p in pieces))
            back += _side_by_side(pieces, place)
        self._leaf_gradients(gradients, back)
        kept = self._kept(stores)
        keep = self._save(back, late, kept, saved)
        targets: dict[int, Place] = {}
        for position, place in keep.items():
            leaf = graph.leaves.get(position)
            if leaf is None or leaf.source != "product":
                stores.append(Store(Piece(position, graph.width(position)), place))
        # the vector of another product is read once more for the gradient of its matrix
        read = {p.position for product in graph.products[: self.products] for p in product.inputs}
        for number in sorted({n for n, leaf in self._product_leaves({*keep, *read})}):
            targets[number] = saved.take(graph.products[number].width)
            for position, leaf in graph.leaves.items():
                if leaf.source == "product" and leaf.number == number and position in keep:
                    keep[position] = Place("saved", targets[number].offset + leaf.offset)
        forward = Schedule(graph, inside, stores, targets=targets, area=saved)
        lasting = ("input", "before", "after", "saved", "parameters")
        known = {p: c for p, c in forward.places.items() if c.pointer.startswith(lasting)}
        presents = self._presents(len(shown))
        known |= self._cotangents(presents)
        backs = self._backs(gradients)
        sources = {back_number: slots[number] for number, back_number in backs.items()}
        backward = Schedule(graph, known, back, sources=sources)
        matrices = tuple(dict.fromkeys(p.weight for p in graph.products))
        return WholeStep(
            trace,
            graph,
            self.fields,
            self.widths,
            self.results,
            self.output,
            gradients,
            forward,
            backward,
            saved.size,
            _unaliased(dz.size),
            tuple(self.shifts),
            self.carries,
            self.carry,
            tuple((n, at, width) for n, (at, width) in self.parameters.items()),
            tuple(self.parameter_gradients),
            self.sums.size,
            matrices,
            tuple(
                self._matrix_gradient(number, forward.sources[number], slots[number])
                for number in gradients.products
            ),
            presents,
            self._reach(gradients),
        )

    def _presents(self, results: int) -> tuple[int, ...]:
        leaves = self.graph.leaves.values()
        own = [leaf.number for leaf in leaves if leaf.source == "present"]
        return tuple(dict.fromkeys([(1 << results) - 1, *own]))

    def _reach(self, gradients: Gradients) -> tuple[int, ...]:
        found = dict.fromkeys(self.fields, 0)
        for position, results in gradients.results.items():
            leaf = self.graph.leaves[position]
            if leaf.source == "state":
                found[leaf.number] |= results
        return tuple(found.values())

    def _matrix_gradient(self, number: int, source: Place, slot: Place) -> MatrixGradient:
        product = self.graph.products[number]
        return MatrixGradient(
            product.weight, product.transposed, source, product.depth, slot.offset, product.width
        )

    def _given(self) -> dict[int, Place]:
        """Return the places of the leaves that are there before the step."""
        found: dict[int, Place] = {}
        for position, leaf in self.graph.leaves.items():
            if leaf.source == "input":
                found[position] = Place(f"input{leaf.number}", leaf.offset)
            elif leaf.source == "state":
                number = self.fields.index(leaf.number)
                found[position] = Place(f"before{number}", leaf.offset)
            elif leaf.source == "parameter":
                start = self.parameters[leaf.number][0]
                found[position] = Place("parameters", start + leaf.offset)
        return found

    def _after(self) -> list[Store]:
        stores: list[Store] = []
        for i, result in enumerate(self.results[:-1]):
            if self.shifts[i] is not None:
                continue
            stores += _side_by_side(result, Place(f"after{i}", 0))
        if self.output is None:
            stores += _side_by_side(self.results[-1], Place("outputs", 0))
        return stores

    def _kept(self, stores: Sequence[Store]) -> set[int]:
        """Return the nodes that the backward pass finds in the state after the step."""
        graph = self.graph
        return {
            s.piece.position
            for s in stores
            if s.place.pointer.startswith("after")
            and s.piece.width == graph.width(s.piece.position)
        }

    def _late(self) -> set[int]:
        """Return the nodes that depend on the gradients of the results."""
        graph = self.graph
        given = ("cotangent", "present")
        late = {p for p, leaf in graph.leaves.items() if leaf.source in given}
        readers: dict[int, list[int]] = {}
        for position in range(len(graph.nodes)):
            for read in graph.reads(position):
                readers.setdefault(read, []).append(position)
        left = list(late)
        while left:
            for reader in readers.get(left.pop(), ()):
                if reader not in late:
                    late.add(reader)
                    left.append(reader)
        return late

    def _save(
        self, back: Sequence[Store], late: set[int], kept: set[int], saved: Area
    ) -> dict[int, Place]:
        """Return the places of the values that the forward pass saves; of products, none yet."""
        graph = self.graph
        needed = graph.ancestors([s.piece.position for s in back])
        read = {s.piece.position for s in back}
        for position in needed & late:
            read |= set(graph.reads(position))
        nodes: list[Node] = []
        for position, node in enumerate(graph.nodes):
            leaf = graph.leaves.get(position)
            if leaf is not None:
                kind = "gate" if leaf.source in ("product", "reduction") else "state"
                node = Node("input", key=Key(kind, "", position))
            nodes.append(node)
        narrow = {i for i in range(len(nodes)) if graph.width(i) == 1}
        vectors = {
            piece.position
            for product in graph.products[: self.products]
            for piece in product.inputs
            if graph.width(piece.position) == piece.width
        }
        wanted = {i for i in read - late if nodes[i].constant is None}
        free = kept | {i for i in narrow | vectors if nodes[i].kind == "real"}
        free |= self._slow(wanted, free)
        cut = values_to_save(nodes, wanted, free)
        return {
            i: saved.take(graph.width(i)) if not self._is_product(i) else Place("saved", -1)
            for i in cut
            if i not in kept
        }

    def _slow(self, wanted: set[int], free: set[int]) -> set[int]:
        """Return the values that it takes less time to save than to compute again."""
        found: set[int] = set()
        left, seen = list(wanted), set[int]()
        while left:
            position = left.pop()
            if position in seen or position in free:
                continue
            seen.add(position)
            node = self.graph.nodes[position]
            if node.operation in _SLOW:
                found.add(position)
            else:
                left += node.arguments
        return found

    def _is_product(self, position: int) -> bool:
        leaf = self.graph.leaves.get(position)
        return leaf is not None and leaf.source == "product"

    def _product_leaves(self, positions: Iterable[int]):
        for position in positions:
            if self._is_product(position):
                leaf = self.graph.leaves[position]
                yield leaf.number, leaf

    def _cotangents(self, presents: tuple[int, ...]) -> dict[int, Place]:
        found: dict[int, Place] = {}
        for position, leaf in self.graph.leaves.items():
            if leaf.source == "present":
                found[position] = Place("present", presents.index(leaf.number))
            elif leaf.source == "cotangent" and leaf.number < len(self.fields):
                pointer = f"carry+{self.carries[leaf.number]}|d_after{leaf.number}"
                found[position] = Place(pointer, leaf.offset)
            elif leaf.source == "cotangent":
                found[position] = Place("d_outputs", leaf.offset)
        return found

    def _backs(self, gradients: Gradients) -> dict[int, int]:
        """Return the products of the gradients by the products that they are of."""
        return {number: self.products + i for i, number in enumerate(gradients.products)}

    def _leaf_gradients(self, gradients: Gradients, back: list[Store]) -> None:
        graph = self.graph
        zero = graph.builder.constant(0)
        of: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
        sums: dict[tuple[int, int], Place] = {}
        for position, leaf in graph.leaves.items():
            found = gradients.leaves.get(position, zero)
            if leaf.source in ("input", "state"):
                of.setdefault((leaf.source, leaf.number), []).append(
                    (leaf.offset, leaf.width, found)
                )
            elif leaf.source == "parameter" and position in gradients.leaves:
                # two biases of one sum have one gradient
                place = sums.get((found, leaf.width))
                if place is None:
                    place = sums[found, leaf.width] = self.sums.take(leaf.width)
                    back.append(Store(Piece(found, leaf.width), place, adds=True))
                self.parameter_gradients.append(
                    ParameterGradient(leaf.number, leaf.offset, leaf.width, place.offset)
                )
        for i, number in enumerate(self.fields):
            pieces = _filled(of.get(("state", number), []), self.widths[i], zero)
            back += _side_by_side(pieces, Place("carried", self.carries[i]))
        pieces = _filled(of.get(("input", 0), []), self.trace.inputs[0], zero)
        back += _side_by_side(pieces, Place("d_input", 0))


def _filled(parts: list[tuple[int, int, int]], width: int, zero: int) -> list[Piece]:
    """Return pieces side by side from (offset, width, node), with zeros between them."""
    pieces: list[Piece] = []
    end = 0
    for offset, wide, position in sorted(parts):
        if offset > end:
            pieces.append(Piece(zero, offset - end))
        pieces.append(Piece(position, wide))
        end = offset + wide
    if end < width:
        pieces.append(Piece(zero, width - end))
    return pieces


def _side_by_side(pieces: Sequence[Piece], place: Place) -> list[Store]:
    stores: list[Store] = []
    offset = place.offset
    for piece in pieces:
        stores.append(Store(piece, Place(place.pointer, offset)))
        offset += piece.width
    return stores


def _unaliased(width: int) -> int:
    """Return a distance of rows that does not lead all of them to the same lines of a cache."""
    return width + 16 if width and width % 128 == 0 else width
