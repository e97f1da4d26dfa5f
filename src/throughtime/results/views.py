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


_VIEWS: dict[type, Views] = {}


def register_views(kind: type, views: Views) -> None:
    """Register the views of a type of record; later ones replace earlier ones."""
    _VIEWS[kind] = views


def views_of(record: object) -> Views:
    """Return the views of a record.

    Raises:
        ConfigurationError: No view is registered for its type.
    """
    kind = type(record)
    if kind not in _VIEWS:
        raise ConfigurationError(
            f"views of {kind.__name__}", got="none", fix="Import throughtime.reports first."
        )
    return _VIEWS[kind]
