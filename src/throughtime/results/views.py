"""Views of records: text and pages, which `throughtime.reports` makes and registers here.

Records are plain values and need no library for text or pictures. `import throughtime.reports`
registers the views; `throughtime.diagnose` does it too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from throughtime.core.errors import ConfigurationError


class Views(NamedTuple):
    """Functions that show one type of record.

    Attributes:
        text: Text of 80 columns.
        terminal: An object that rich prints.
        page: The text of an HTML file that needs no network.
        fragment: HTML for a notebook, without scripts.
    """

    text: Callable[[Any], str]
    terminal: Callable[[Any], Any]
    page: Callable[..., str]
    fragment: Callable[[Any], str]


_VIEWS: dict[type, Callable[[], Views]] = {}


def register_views(kind: type, views: Callable[[], Views]) -> None:
    """Register a function that returns the views of a type of record and of its subclasses.

    The function is called on first use. The views of a subclass take precedence.
    """
    _VIEWS[kind] = views


def views_of(record: object) -> Views:
    """Return the views of a record.

    Raises:
        ConfigurationError: No view is registered for its type.
    """
    for kind in type(record).__mro__:
        if kind in _VIEWS:
            return _VIEWS[kind]()
    raise ConfigurationError(
        f"views of {type(record).__name__}", got="none", fix="Import throughtime.reports first."
    )
