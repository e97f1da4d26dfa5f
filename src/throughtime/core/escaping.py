"""Text of any origin made safe to print: control characters written out."""

import re

# C0, DEL and C1 but for tab and newline; other ends of lines; marks that reverse text; what UTF-8
# or XML cannot hold
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def escaped(text: str) -> str:
    r"""The same text with control characters written out.

    Example:
        >>> print(escaped("a\x1b[2Jb"))
        a\x1b[2Jb
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
