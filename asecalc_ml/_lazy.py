"""Names that a package offers and imports only when somebody asks for them."""

from collections.abc import Callable, Mapping
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
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
