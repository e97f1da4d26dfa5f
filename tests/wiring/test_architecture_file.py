"""Files of architectures: what is in doubt is refused, in words."""

import json

import pytest

from throughtime.core.errors import ConfigurationError, DataError
from throughtime.wiring import Architecture, read_architecture

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
