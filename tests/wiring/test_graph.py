"""Architectures are checked, and their measures are those of all cycles and paths."""

import itertools
import json
import time
from fractions import Fraction

import networkx as nx
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.core.errors import ConfigurationError, DataError, UnknownNameError
from throughtime.wiring import Architecture, Edge, architecture, complexity, read_architecture

ONE = [("input", "h"), ("h", "h", 1), ("h", "output")]


def measures(edges) -> tuple[Fraction, Fraction, Fraction]:
    found = complexity(Architecture(edges))
    return found.recurrent_depth, found.feedforward_depth, found.skip_coefficient


@pytest.mark.parametrize(
    ("name", "depths"), [("sh", (1, 2)), ("st", (1, 3)), ("bu", (1, 3)), ("td", (2, 3))]
)
def test_depths_of_the_paper(name: str, depths: tuple[int, int]) -> None:
    found = complexity(architecture(name))
    assert (found.recurrent_depth, found.feedforward_depth) == depths
    assert found.skip_coefficient == 1


@pytest.mark.parametrize("lag", [2, 5, 17, 21])
def test_skip_coefficients_of_the_paper(lag: int) -> None:
    names = ("skip", "variant-1", "variant-2", "variant-3", "variant-4")
    found = [complexity(architecture(name, lag)).skip_coefficient for name in names]
    assert found == [lag, 1, 1, max(1, Fraction(lag, 2)), lag]


@st.composite
def some_edges(draw):
    """Up to six states, edges between any, forward ones without a lag too."""
    count = draw(st.integers(1, 6))
    states = [f"s{k}" for k in range(count)]
    edges = {Edge("input", states[0]), Edge(states[-1], "output")}
    edges |= {Edge(a, b) for a, b in itertools.pairwise(states)}
    for _ in range(draw(st.integers(1, 10))):
        a, b = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        edges.add(Edge(states[a], states[b], draw(st.integers(int(b <= a), 4))))
    back = draw(st.integers(0, count - 1))
    edges.add(Edge(states[back], states[0], draw(st.integers(1, 4))))
    return draw(st.permutations(sorted(edges)))


def by_enumeration(found: Architecture) -> tuple[Fraction, Fraction, Fraction]:
    """Every simple cycle and path of the multigraph, a parallel edge at a time."""
    # parallel edges between two nodes become paths through a node of their own
    graph = nx.DiGraph()
    for k, edge in enumerate(found.edges):
        graph.add_edge(edge.source, k)
        graph.add_edge(k, edge.target)
    cycles = [[found.edges[n] for n in c if isinstance(n, int)] for c in nx.simple_cycles(graph)]
    ratios = [Fraction(len(c), sum(e.lag for e in c)) for c in cycles]
    depth = max(ratios)
    paths = nx.all_simple_paths(graph, "input", "output")
    walks = [[found.edges[n] for n in p if isinstance(n, int)] for p in paths]
    return depth, max(len(w) - depth * sum(e.lag for e in w) for w in walks), 1 / min(ratios)


@settings(max_examples=examples(60))
@given(some_edges())
def test_measures_are_those_of_all_cycles_and_paths(edges: list[Edge]) -> None:
    found = Architecture(edges)
    measured = complexity(found)
    assert by_enumeration(found) == (
        measured.recurrent_depth,
        measured.feedforward_depth,
        measured.skip_coefficient,
    )
    for cycle, ratio in (
        (measured.deepest_cycle, measured.recurrent_depth),
        (measured.fastest_cycle, 1 / measured.skip_coefficient),
    ):
        joints = zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        assert all(a.target == b.source for a, b in joints)
        assert Fraction(len(cycle), sum(e.lag for e in cycle)) == ratio
    path = measured.longest_path
    assert (path[0].source, path[-1].target) == ("input", "output")
    assert all(a.target == b.source for a, b in itertools.pairwise(path))


def test_a_thousand_states_within_a_second() -> None:
    edges = [("input", "s0"), ("s999", "output")]
    for k in range(1000):
        edges += [(f"s{k}", f"s{k}", 1 + k % 7)]
        if k:
            edges += [(f"s{k - 1}", f"s{k}"), (f"s{k}", f"s{k - 1}", 1 + k % 3)]
        edges += [(f"s{k}", f"s{(7 * k + 3) % 1000}", 2 + k % 5)]
    found = Architecture(edges)
    started = time.process_time()
    measured = complexity(found)
    assert time.process_time() - started < 1.0
    assert measured.recurrent_depth >= 2
    assert measured.skip_coefficient == 7


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([("h", "h", 1), ("h", "output")], "no 'input'"),
        ([("input", "h"), ("h", "h", 1)], "no 'output'"),
        ([("input", "h"), ("h", "output")], "got no cycle"),
        ([*ONE, ("a", "h"), ("a", "a", 1)], "'a', which the input does not reach"),
        ([*ONE, ("h", "a")], "'a', which the output does not read"),
        ([*ONE, ("h", "a"), ("a", "b"), ("b", "h")], "zero lag: h -> a -> b -> h"),
        ([*ONE, ("h", "h", 1)], r"h -> h \(lag 1\) more than once"),
        ([*ONE, ("h", "h", -1)], "got -1, expected a whole number"),
        ([*ONE, ("h", "h", 1.5)], "got 1.5"),
        ([*ONE, ("output", "h", 1)], "out of the output"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_architecture_is_refused(edges, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Architecture(edges)


def test_names_and_files(tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="unknown architecture"):
        architecture("tdd")
    with pytest.raises(ConfigurationError, match="it is no skip"):
        architecture("skip", 1)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"edges": [list(edge) for edge in ONE]}))
    assert read_architecture(path) == architecture("sh")
    assert read_architecture(path).name == "mine"
    path = tmp_path / "mine.yaml"
    path.write_text("# one state\nedges:\n- [input, h]\n- [h, h, 1]\n- [h, output]\n")
    assert read_architecture(path) == architecture("sh")
    path.write_text("edges: !!python/object/apply:os.getcwd []")
    with pytest.raises(DataError, match="could not determine a constructor"):
        read_architecture(path)
    path = tmp_path / "mine.json"
    for text in ("{", "[]", '{"edges": [["a"]]}', '{"edges": [[1, 2, 3]]}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"mine\.json"):
            read_architecture(path)
    with pytest.raises(DataError, match="No such file"):
        read_architecture(tmp_path / "none.json")


def test_measures_do_not_depend_on_the_order_of_edges() -> None:
    edges = list(architecture("td").edges)
    assert measures(edges) == measures(edges[::-1])
    assert Architecture(edges) == Architecture(edges[::-1])


EDGES = [("input", "h"), ("h", "h", 1), ("h", "output")]


def test_yaml_and_json_alike(tmp_path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"edges": EDGES}))
    (tmp_path / "b.yaml").write_bytes(
        b"\xef\xbb\xbf# a byte order mark, and anchors\nname: mine\n"
        b"edges:\n- &in [input, h]\n- - h\n  - h\n  - 1\n- [h, output]\n"
    )
    assert read_architecture(tmp_path / "a.json") == Architecture(EDGES)
    found = read_architecture(tmp_path / "b.yaml")
    assert found == Architecture(EDGES)
    assert found.name == "mine"


def test_words_that_yaml_takes_for_others_name_states(tmp_path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("edges: [[input, on], [on, on, 2], [on, no], [no, output]]")
    assert read_architecture(path).states == ("on", "no")


LAGS = {
    "octal": "010",
    "sexagesimal": "1:30",
    "hexadecimal": "0x10",
    "binary": "0b11",
    "underscores": "1_000",
    "sign": "+3",
    "date": "2024-01-01",
    "float": "1.0",
    "bool": "true",
    "nothing": "null",
    "negative": "-1",
    "text": "'1'",
    "large": "1000001",
    "int64": "9223372036854775807",
    "digits": "9" * 5000,
}


@pytest.mark.parametrize("lag", LAGS.values(), ids=LAGS)
def test_lags_are_plain_numbers(tmp_path, lag: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"edges: [[input, h], [h, h, {lag}], [h, output]]")
    with pytest.raises(ConfigurationError, match=r"lag of h -> h: got .* 0 to 1,000,000") as caught:
        read_architecture(path)
    assert len(str(caught.value)) < 200


GOOD = "edges: [[input, h], [h, h, 1], [h, output]]"
DOCUMENTS = {
    "not a map": ("edges", "expected {"),
    "nothing": ("", "got None"),
    "date": ("edges: 2024-99-99", "got '2024-99-99'"),
    "a key twice": (f"{GOOD}\n{GOOD}", "the key 'edges' twice"),
    "a key twice in JSON": ('{"name": "a", "name": "b", "edges": []}', "the key 'name' twice"),
    "another key": (f"{GOOD}\nlag: 3", "the key 'lag'"),
    "capitals": ("Edges: []", "the key 'Edges'"),
    "a merged map": (f"<<: {{{GOOD}}}", "the key '<<'"),
    "a key that is a list": ("[a]: 1", "the key"),
    "no name": (f"{GOOD}\nname:", "got None, expected a text"),
    "a number for a name": (f"{GOOD}\nname: 3", "got 3, expected a text"),
    "an edge of one": ("edges: [[input]]", "got ['input']"),
    "an edge of four": ("edges: [[input, h, 1, 1]]", "got ['input', 'h', 1, 1]"),
    "an edge of numbers": ("edges: [[1, 2]]", "got [1, 2]"),
    "a map for an edge": ("edges: [{input: h}]", "got {'input': 'h'}"),
    "an edge of itself": ("edges: &a [*a]", "a YAML or JSON file"),
    "two documents": (f"{GOOD}\n---\n{GOOD}", "a YAML or JSON file"),
    "a tag": ("edges: !!set {a, b}", "a YAML or JSON file"),
    "a tag of Python": ("!!python/object/apply:os.getcwd []", "a YAML or JSON file"),
    "a number that is none": ("edges: !!int x", "a YAML or JSON file"),
    "deep": ("[" * 3000, "lists within lists"),
    "deep maps": ("{a: " * 3000, "lists within lists"),
    "large": ("#" * 300_000, "more than 262144 bytes"),
    "a zero byte": ("edges: [\0]", "a YAML or JSON file"),
    "no UTF-8": (b"\xff\xfe\x00", "a YAML or JSON file"),
}


@pytest.mark.parametrize(("content", "said"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_that_are_refused(tmp_path, content: str | bytes, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_architecture(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["", " h", "h\n", "h\x1b[2J", "\ud800", "h\u202e"])
def test_names_can_be_printed(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a name that can be printed"):
        Architecture([("input", name), (name, name, 1), (name, "output")])


@pytest.mark.parametrize("edge", [(), ("a",), ("a", "b", 1, 2)])
def test_edges_are_pairs_with_a_lag(edge: tuple[object, ...]) -> None:
    with pytest.raises(ConfigurationError, match="an edge: got"):
        Architecture([edge])
