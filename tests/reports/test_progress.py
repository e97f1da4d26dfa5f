"""Progress of a diagnosis, in a terminal, in a notebook and in a script."""

import io
import sys
import types

import pytest
from rich.console import Console

from throughtime.doctor import diagnose
from throughtime.reports.progress import progress_shown


def shown(*, terminal: bool, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=terminal, force_jupyter=False, width=width, legacy_windows=False
    )
    with progress_shown(60.0, console) as report:
        report("training [b]a copy[/b]\x1b", 0.5)
    return stream.getvalue()


def test_a_script_prints_nothing() -> None:
    assert shown(terminal=False) == ""


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_shows_stage_and_time(width: int) -> None:
    text = shown(terminal=True, width=width)
    assert ("━" in text) == ("0.0 s of 1 min 00 s" in text) == (width >= 60)
    assert "0.0 s" in text
    assert "training [b]a copy[/b]" in text
    assert text.endswith("\x1b[2K")  # the line is erased


def test_a_notebook_shows_a_bar(monkeypatch) -> None:
    """The display is updated with each stage, and empty at the end."""
    texts: list[str] = []

    class Handle:
        def update(self, shown) -> None:
            texts.append(shown._repr_html_())

    def display(shown, display_id: bool) -> Handle:
        texts.append(shown._repr_html_())
        return Handle()

    ipython = types.ModuleType("IPython")
    vars(ipython)["get_ipython"] = lambda: types.SimpleNamespace(kernel=object())
    module = types.ModuleType("IPython.display")
    vars(module)["display"] = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shown(terminal=True)
    assert texts == [
        '<progress max="1" value="0.000"></progress> ',
        '<progress max="1" value="0.500"></progress> training [b]a copy[/b]\\x1b',
        "",
    ]


def test_the_stages_of_a_diagnosis(capfd) -> None:
    """Shares grow, and the trials are named; without a terminal nothing is printed."""
    import torch
    from torch import nn

    layers = nn.ModuleDict({"a": nn.RNN(2, 4, batch_first=True), "b": nn.GRU(4, 4)})

    def loss(model, batch):
        return model["b"](model["a"](batch[0])[0].transpose(0, 1))[0][-1].square().mean()

    data = [(torch.randn(8, 12, 2),) for _ in range(4)]
    seen: list[tuple[str, float]] = []
    diagnose(layers, data, loss, budget="1s", progress=lambda *one: seen.append(one))
    assert seen[0][0] == "drawing batches"
    assert "a: exact checks" in dict(seen)
    assert "b: exact checks" in dict(seen)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    diagnose(layers, data, loss, budget="0.2s", remedies=False)
    assert capfd.readouterr() == ("", "")
