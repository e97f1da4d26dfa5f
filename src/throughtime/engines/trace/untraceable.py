"""The refusal of a pointwise function that no program can stand for."""

from throughtime.core.errors import ThroughtimeError


class UntraceableError(ThroughtimeError):
    """A `pointwise` does what the native engine has no program for; the message says what."""
