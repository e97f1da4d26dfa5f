"""The number of random examples of a test: few for a push, many at night."""

import os

NIGHTLY = bool(os.environ.get("NIGHTLY"))


def examples(push: int) -> int:
    """Return the number of examples, given that for a push."""
    return 50 * push if NIGHTLY else push
