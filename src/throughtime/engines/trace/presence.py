"""Gradients of results that no loss reaches: they stay out of a program, instead of being zero.

Autograd follows only the paths that a gradient comes along. A program computes all gradients at
once, from zeros where there is none; and zero times an infinite derivative is not a number. So each
part of a program that depends on some results' gradients alone is replaced by zero in those steps
where none of them is present.
"""

import math
from collections.abc import Sequence

from throughtime.engines.trace.program import Key, Node, Program
from throughtime.engines.trace.simplify import Builder


def sources(program: Program, names: Sequence[str]) -> list[int]:
    """The set of results, as bits, on whose gradients each node depends.

    Arguments:
        program: A program of gradients.
        names: The names of the results in the order of their bits: "h", then the memories.
    """
    found: list[int] = []
    for node in program.nodes:
        if node.key is not None and node.key.kind == "cotangent":
            found.append(1 << names.index(node.key.name))
        else:
            bits = 0
            for argument in node.arguments:
                bits |= found[argument]
            found.append(bits)
    return found


def guarded(program: Program, names: Sequence[str]) -> Program:
    """An equal program that reads which results have a gradient, as inputs of the kind "present".

    Arguments:
        program: A program of gradients, each of which depends on the gradients of the results.
        names: The names of the results: "h", then the memories.

    Returns:
        A program in which every value that depends on absent gradients alone is zero. It must not
        run for a step where all are absent.
    """
    bits, nodes = sources(program, names), program.nodes
    every, nothing = (1 << len(names)) - 1, _zero_of_zero(nodes, bits)
    builder = Builder()
    builder.of_gradient = True
    zero = builder.constant(0)
    place: list[int] = []

    def read(i: int, reader: int) -> int:
        """A value for a reader that depends on the gradients of `reader`."""
        if bits[i] in (0, reader) or i in nothing or nodes[i].kind != "real":
            return place[i]
        present = builder.add("ne", builder.input(Key("present", "", bits[i])), zero)
        return builder.add("where", present, place[i], zero)

    for i, node in enumerate(nodes):
        if node.key is not None:
            place.append(builder.input(node.key))
        elif node.constant is not None:
            place.append(builder.constant(node.constant))
        else:
            place.append(builder.add(node.operation, *(read(a, bits[i]) for a in node.arguments)))
    return builder.program([read(i, every) for i in program.outputs])


def _zero_of_zero(nodes: Sequence[Node], bits: Sequence[int]) -> set[int]:
    """The nodes that are zero wherever the gradients that they depend on are zero."""
    found: set[int] = set()

    def vanishes(i: int) -> bool:
        return i in found or nodes[i].constant == 0

    def is_finite(i: int) -> bool:
        constant = nodes[i].constant
        return constant is not None and math.isfinite(constant)

    for i, node in enumerate(nodes):
        arguments = node.arguments
        if not bits[i]:
            continue
        match node.operation:
            case "input":
                zero = True
            case "neg" | "add" | "sub":
                zero = all(map(vanishes, arguments))
            case "mul":
                a, b = arguments
                zero = (vanishes(a) and is_finite(b)) or (vanishes(b) and is_finite(a))
            case "where":
                zero = not bits[arguments[0]] and all(map(vanishes, arguments[1:]))
            case _:
                zero = False
        if zero:
            found.add(i)
    return found
