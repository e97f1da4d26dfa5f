"""Every error that throughtime raises on purpose.

    ThroughtimeError
    ├── ShapeError              a tensor of the wrong rank, size or layout
    │                                                       (ValueError, RuntimeError)
    ├── DtypeError              a tensor of the wrong dtype
    │                                                       (TypeError, ValueError, RuntimeError)
    ├── DeviceError             tensors on different devices             (ValueError, RuntimeError)
    ├── LengthsError            lengths that do not fit the sequence     (ValueError, RuntimeError)
    ├── StateError              a state that is not this cell's          (ValueError, RuntimeError)
    ├── StructureError          edges or sizes that form no tree or grid (ValueError, RuntimeError)
    ├── ConfigurationError      options that contradict each other        (ValueError)
    │   ├── OptionTypeError     an option of the wrong type               (TypeError)
    │   └── UnknownNameError    a name that is not in a registry
    ├── EngineRefusalError      a call that an engine cannot serve        (RuntimeError)
    ├── LearnerRefusalError     a model that a learner cannot train       (RuntimeError)
    ├── DataError               a data file that is missing or not whole  (RuntimeError)
    └── RunError                a run folder that cannot be used          (RuntimeError)
        ├── RunVersionError     written by another version of the format
        ├── RunMismatchError    belongs to another configuration or machine set-up
        ├── RunLockedError      being written by another process
        ├── RunWriteError       the folder cannot be written, or the disk is full
        └── RunInterrupted      stopped by Ctrl-C, saved, ready to go on

Each message has what was got, what was expected, and a fix. The classes in brackets are those of
torch's errors for the same fault, so that an `except` clause written for torch catches ours.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class ThroughtimeError(Exception):
    """Base of every error of this package: `subject: got ..., expected .... fix`.

    Arguments:
        subject: name of the thing at fault, in the caller's words.
        got: the value found, if there is one.
        expected: a description of right values, if there is one.
        fix: one sentence with a remedy.
    """

    def __init__(self, subject: str, *, got: object = None, expected: object = None, fix: str = ""):
        found = [
            f"{word} {value}"
            for word, value in (("got", got), ("expected", expected))
            if value is not None
        ]
        message = f"{subject}: {', '.join(found)}" if found else subject
        super().__init__(f"{message}. {fix}" if fix else message)

    def __reduce__(self) -> tuple[Any, ...]:
        # by its message: errors cross the borders of processes, whatever their constructors take
        return _rebuild, (type(self), str(self))


def _rebuild(kind: type[ThroughtimeError], message: str) -> ThroughtimeError:
    error = kind.__new__(kind, message)
    Exception.__init__(error, message)
    return error


class ShapeError(ThroughtimeError, ValueError, RuntimeError):
    """A tensor has the wrong rank, size or layout."""


class DtypeError(ThroughtimeError, TypeError, ValueError, RuntimeError):
    """A tensor has the wrong dtype."""


class DeviceError(ThroughtimeError, ValueError, RuntimeError):
    """Tensors that work together lie on different devices."""


class LengthsError(ThroughtimeError, ValueError, RuntimeError):
    """Lengths are not integers between 1 and the number of time steps, one a sequence."""


class StateError(ThroughtimeError, ValueError, RuntimeError):
    """A state does not belong to the cell that it was given to."""


class StructureError(ThroughtimeError, ValueError, RuntimeError):
    """Edges form no tree or acyclic graph, or sizes no grid."""


class ConfigurationError(ThroughtimeError, ValueError):
    """Options are out of range or contradict each other."""


class OptionTypeError(ConfigurationError, TypeError):
    """An option has the wrong type."""


class UnknownNameError(ConfigurationError):
    """A name is not among the known ones; the message offers the nearest.

    Arguments:
        kind: kind of the named thing: "model", "task", "option of lstm".
        name: the given name.
        known: all names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        names = sorted(known)
        super().__init__(
            f"unknown {kind}",
            got=repr(name),
            expected=f"one of: {', '.join(names) or '(none)'}",
            fix=suggestion(name, names),
        )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean ...?" with the nearest one or two names; "" if none is near.

    Capital and small letters are alike. Names that begin with the given one are near.

    Arguments:
        name: the given name.
        known: all names that exist.

    Example:
        >>> suggestion("LSMT", ["lstm", "gru"])
        "Did you mean 'lstm'?"
        >>> suggestion("skip", ["clockwork", "skip-coefficient"])
        "Did you mean 'skip-coefficient'?"
    """
    small = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), small, n=2, cutoff=0.5)
    longer = [each for each in small if name and each.startswith(name.lower())]
    near = [small[each] for each in [*dict.fromkeys([*close, *longer])][:2]]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


class EngineRefusalError(ThroughtimeError, RuntimeError):
    """An engine that was named cannot serve the call."""


class LearnerRefusalError(ThroughtimeError, RuntimeError):
    """A learner cannot train the model."""


class DataError(ThroughtimeError, RuntimeError):
    """A data file is missing, cut short, corrupt, or not the file that it should be."""


class RunError(ThroughtimeError, RuntimeError):
    """A run folder cannot be used."""


class RunVersionError(RunError):
    """A run folder was written in another version of the format."""


class RunMismatchError(RunError):
    """A run folder belongs to another configuration, engine, torch version or thread count."""


class RunLockedError(RunError):
    """Another process is writing this run."""


class RunWriteError(RunError):
    """A run folder cannot be written, or the disk is full."""


class RunInterrupted(RunError):  # noqa: N818  # nothing went wrong
    """A run was stopped by Ctrl-C; it is saved, and the same call goes on with it."""
