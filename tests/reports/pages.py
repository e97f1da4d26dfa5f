"""A page of HTML taken apart for tests."""

import json
from html.parser import HTMLParser

# Elements that have no end tag.
VOID = {"meta", "link", "br", "img", "input", "hr", "line"}


class Page(HTMLParser):
    """The page's elements, its text without scripts and styles, its table and its data."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if "script" in self.open or "style" in self.open:
            if attributes.get("type") == "application/json" and tag == "script":
                self.data[str(attributes["id"])] = data
            return
        self.texts.append(data)
        if "td" in self.open or ("th" in self.open and "tr" in self.open):
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def figure(self, name: str) -> dict:
        return json.loads(self.data[f"data-{name}"])
