"""The passes of a step as C++: a function for each phase, with the signature of source/steps.h."""

from collections.abc import Sequence
from typing import final

from throughtime.engines.trace.steps.graph import Graph
from throughtime.engines.trace.steps.schedule import PADDING, Loop, Place, Schedule, Store


@final
class Printed:
    """The C++ of a pass, and the numbers that it reads: cells of other sizes share its text.

    Arguments:
        name: The name of the pass.
        schedule: The order of the pass.
        pointers: The names of the pointers of a row, in order.

    Attributes:
        text: A function for each phase; that of phase p of the pass "forward" is forward_p.
        numbers: Offsets and widths.
        constants: Real numbers.
        places: The places of a row that the text reads or writes.
    """

    def __init__(self, name: str, schedule: Schedule, pointers: Sequence[str]):
        self.numbers: list[int] = []
        self.constants: list[float] = []
        self.places: list[Place] = []
        self.text = "\n".join(
            _Phase(self, schedule, pointers, phase).text(name) for phase in range(schedule.phases)
        )

    def number(self, value: int) -> str:
        """Return the expression of a whole number."""
        self.numbers.append(value)
        return f"units.numbers[{len(self.numbers) - 1}]"

    def constant(self, value: float) -> str:
        """Return the expression of a real number."""
        self.constants.append(value)
        return f"units.constants[{len(self.constants) - 1}]"


def print_steps(passes: Sequence[Printed]) -> str:
    """Return the C++ of passes as one file."""
    head = '#include "steps.h"\n#include "functions.h"\n\nusing namespace throughtime;\n\n'
    return head + "\n".join(printed.text for printed in passes)


@final
class _Phase:
    """The function of one phase."""

    def __init__(self, whole: Printed, schedule: Schedule, pointers: Sequence[str], phase: int):
        self.whole, self.schedule, self.graph, self.phase = whole, schedule, schedule.graph, phase
        self.pointers = {name: i for i, name in enumerate(pointers)}
        self.heads: list[str] = []  # the addresses of a row
        self.row: list[str] = []  # the statements of a row
        self.known: dict[int, str] = {}  # values that are the same for all units of a row
        self.addresses: dict[Place, str] = {}
        self.stores: dict[Loop, list[Store]] = {}
        for store in schedule.stores:
            loop = schedule.home(store.piece.position, store.piece.width)
            self.stores.setdefault(loop, []).append(store)
        self.reduced: dict[Loop, list[int]] = {}
        for reduction in schedule.reductions:
            home = schedule.home(self.graph.reductions[reduction].position)
            self.reduced.setdefault(home, []).append(reduction)
        every = [loop.width for loop in {*self.stores, *self.reduced} if loop.width > 1]
        self.ends_whole = all(width % PADDING == 0 for width in every)

    def text(self, name: str) -> str:
        """Return the function; nothing for a phase of products alone."""
        loops = sorted(loop for loop in {*self.stores, *self.reduced} if loop.phase == self.phase)
        if not loops:
            return ""
        for loop in loops:
            self._loop(loop)
        inside = "\n        ".join([*self.heads, *self.row])
        arguments = "(const Units& units, int64_t rows, real* const* table)"
        return f"""extern "C" void {name}_{self.phase}{arguments} {{
    for (int64_t r = 0; r < rows; r++) {{
        real* const* row = table + r * {len(self.pointers)};
        (void)row;
        {inside}
    }}
}}
"""

    def _loop(self, loop: Loop) -> None:
        """Add a loop over units, or the statements of values of width 1."""
        stores, reduced = self.stores.get(loop, []), self.reduced.get(loop, [])
        if loop.width == 1:
            for store in stores:
                value = self._value(store.piece.position, loop, [], {})
                at = self._at(store.place, "0")
                adds = f"*({at}) + " if store.adds else ""
                self.row.append(f"*({at}) = {adds}{value}[0];")
            return
        lines: list[str] = []
        own: dict[int, str] = {}
        for number_ in reduced:
            start = "vec{}" if self._is_sum(number_) else "broadcast(LEAST)"
            self.row.append(f"vec r{number_} = {start};")
        for store in stores:
            value = self._value(store.piece.position, loop, lines, own)
            at = self._at(store.place, "u")
            if store.adds:
                lines.append(f"store({at}, add(load({at}, lanes), {value}), lanes);")
            else:
                lines.append(f"store({at}, {value}, lanes);")
        for number_ in reduced:
            value = self._value(self.graph.reductions[number_].position, loop, lines, own)
            operation, rest = ("add", "0") if self._is_sum(number_) else ("maximum", "LEAST")
            some = f"whole ? {value} : first({value}, lanes, {rest})"
            lines.append(f"r{number_} = {operation}(r{number_}, {some});")
        name, width = f"loop{loop.after}_{len(self.row)}", self.whole.number(loop.width)
        inside = "\n            ".join(lines)
        self.row.append(
            f"""const auto {name} = [&](int64_t u, long lanes, auto whole)
                __attribute__((always_inline)) {{
            if (whole) lanes = LANES;
            {inside}
        }};
        const int64_t {name}_width = {width};
        int64_t {name}_u = 0;
        for (; {name}_u + LANES <= {name}_width; {name}_u += LANES)
            {name}({name}_u, LANES, std::true_type{{}});"""
        )
        if not self.ends_whole:
            self.row.append(
                f"if ({name}_u < {name}_width) "
                f"{name}({name}_u, {name}_width - {name}_u, std::false_type{{}});"
            )
        for number_ in reduced:
            total = "all_sum" if self._is_sum(number_) else "all_most"
            self.row.append(f"const vec s{number_} = {total}(r{number_});")

    def _is_sum(self, reduction: int) -> bool:
        return self.graph.reductions[reduction].operation == "sum"

    def _at(self, place: Place, unit: str) -> str:
        """Return the address of a value."""
        name = self.addresses.get(place)
        if name is None:
            name = self.addresses[place] = f"a{len(self.addresses)}"
            offset = self.whole.number(place.offset)
            self.whole.places.append(place)
            if place.pointer in ("parameters", "d_parameters", "present"):
                base, kind = f"units.{place.pointer}", "auto"
            else:
                base, kind = f"row[{self.pointers[place.pointer]}]", "real* const"
            self.heads.append(f"{kind} {name} = {base} + {offset};  // {place.pointer}")
        return name if unit == "0" else f"{name} + {unit}"

    def _value(self, position: int, loop: Loop, lines: list[str], own: dict[int, str]) -> str:
        """Return the name of a value in a loop, with the statements that compute it before."""
        graph: Graph = self.graph
        if position in self.known:
            return self.known[position]
        if position in own:
            return own[position]
        node = graph.nodes[position]
        narrow = graph.width(position) == 1
        name = f"v{position}"
        if node.constant is not None:
            self.row.append(f"const vec {name} = broadcast({self.whole.constant(node.constant)});")
            self.known[position] = name
            return name
        home = self.schedule.home(position)
        computed = narrow or home == loop
        loads = position in self.schedule.known or position in graph.leaves
        if loads or (not computed and position in self.schedule.places):
            text = self._loaded(position, narrow)
        else:
            arguments = [self._value(a, loop, lines, own) for a in node.arguments]
            text = f"throughtime::{node.operation}({', '.join(arguments)})"
        line = f"const auto {name} = {text};"
        if narrow:
            self.row.append(line)
            self.known[position] = name
        else:
            lines.append(line)
            own[position] = name
        return name

    def _loaded(self, position: int, narrow: bool) -> str:
        """Return the expression that loads a value."""
        leaf, home = self.graph.leaves.get(position), self.schedule.home(position)
        inside = position not in self.schedule.known and home.phase == self.phase
        if inside and leaf is not None and leaf.source == "reduction":
            return f"s{leaf.number}"
        place = self.schedule.places[position]
        unit = "0" if narrow else "u"
        parts = [self._load(p, unit, narrow) for p in _summands(place)]
        return parts[0] if len(parts) == 1 else f"add({', '.join(parts)})"

    def _load(self, place: Place, unit: str, narrow: bool) -> str:
        at = self._at(place, unit)
        return f"broadcast(*({at}))" if narrow else f"load({at}, lanes)"


def _summands(place: Place) -> list[Place]:
    """Return the places whose sum is a value: "a+3|b" at 5 is a at 8 and b at 5."""
    found: list[Place] = []
    for part in place.pointer.split("|"):
        pointer, _, more = part.partition("+")
        found.append(Place(pointer, place.offset + int(more or 0)))
    return found
