"""Names that a package offers and imports only when somebody asks for them."""

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def lazily(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a package (PEP 562) that imports each name from its module on first use.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    places : mapping
        From names to the modules that define them.
    """

    def attribute(name: str) -> Any:
        if name in places:
            with _without_collections():
                module = import_module(places[name])
            return getattr(module, name)
        raise _missing(package, name)

    return attribute


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a module (PEP 562) that answers former names, with a ``DeprecationWarning``.

    Parameters
    ----------
    module : str
        ``__name__`` of the module.
    names : mapping
        From former names to present names of the same module.
    """

    def attribute(name: str) -> Any:
        if name not in names:
            raise _missing(module, name)
        warnings.warn(f"{module}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return attribute


@contextmanager
def _without_collections() -> Iterator[None]:
    """Prevent garbage collections inside the block.

    The classes and functions of an import stay. Each full collection looks at all of them: with torch a
    third of the time that the modules of this package take.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _missing(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}")
