"""Fourth set of cases written blind: each module builds a faulty and a healthy program."""

import importlib
import pkgutil
from types import ModuleType

NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Return the module of a case; its `make(faulty)` builds the program."""
    return importlib.import_module(f"{__name__}.{name}")
