"""Which values of a step to save for its gradient: as few as yield all the others again."""

from collections.abc import Collection, Sequence

from throughtime.engines.trace.program import Node
from throughtime.engines.trace.simplify import ancestors

_UNBOUNDED = 1 << 30


def values_to_save(nodes: Sequence[Node], wanted: Collection[int], kept: set[int]) -> list[int]:
    """The fewest values that separate the gates, which are not kept, from what is wanted.

    A minimum cut: each value costs one, masks cannot be saved, and what is kept anyway is free. Of
    several, the one nearest to the wanted values, which leaves the least to compute again.

    Arguments:
        nodes: of the step; its inputs but for the gates are known.
        wanted: positions of the values that the gradient reads.
        kept: positions of the values that are known without being saved.

    Returns:
        Positions in order; some may be kept ones.
    """
    known = {i: node.key is not None and node.key.kind != "gate" for i, node in enumerate(nodes)}
    order = [i for i in sorted(ancestors(nodes, wanted)) if nodes[i].constant is None]
    source, sink = ("source", 0), ("sink", 0)
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]] = {source: {}, sink: {}}

    def connect(start: tuple[str, int], end: tuple[str, int], by: int) -> None:
        capacity.setdefault(start, {})[end] = by
        capacity.setdefault(end, {}).setdefault(start, 0)

    for i in order:
        if known[i]:
            continue
        cost = 0 if i in kept else _UNBOUNDED if nodes[i].kind == "mask" else 1
        connect(("in", i), ("out", i), cost)
        if nodes[i].key is not None:
            connect(source, ("in", i), _UNBOUNDED)
        for argument in nodes[i].arguments:
            if nodes[argument].constant is None and not known[argument]:
                connect(("out", argument), ("in", i), _UNBOUNDED)
        if i in wanted:
            connect(("out", i), sink, _UNBOUNDED)

    while path := _path(capacity, source, sink):
        # every path from a gate passes the gate itself, which costs one at most
        for start, end in path:
            capacity[start][end] -= 1
            capacity[end][start] += 1
    near = _reaching(capacity, sink)
    return [i for i in order if ("out", i) in near and ("in", i) not in near]


def _path(
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]],
    source: tuple[str, int],
    sink: tuple[str, int],
) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """The steps of a shortest path with capacity left, or none."""
    before, front = {source: source}, [source]
    while front and sink not in before:
        ahead: list[tuple[str, int]] = []
        for place in front:
            for after, left in capacity[place].items():
                if left and after not in before:
                    before[after] = place
                    ahead.append(after)
        front = ahead
    if sink not in before:
        return []
    steps, place = [], sink
    while place != source:
        steps.append((before[place], place))
        place = before[place]
    return steps


def _reaching(
    capacity: dict[tuple[str, int], dict[tuple[str, int], int]], sink: tuple[str, int]
) -> set[tuple[str, int]]:
    """The places from which the sink can be reached with the capacity that is left."""
    found, left = {sink}, [sink]
    while left:
        place = left.pop()
        for before in capacity[place]:  # every edge has its reverse
            if before not in found and capacity[before][place]:
                found.add(before)
                left.append(before)
    return found
