"""Modules that are not installed, such as a calculator of one's own next to the YAML file that names it.

Their folders come last on the search path, so that no file hides an installed module of the same name.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

_added: list[str] = []


def search_also(*folders: str | Path) -> None:
    """Import modules from these folders too, where they are found nowhere else."""
    for folder in folders:
        path = str(Path(folder).resolve())
        if path not in sys.path:
            sys.path.append(path)
            _added.append(path)


def added_folders() -> list[str]:
    """Folders that :func:`search_also` has added in this process."""
    return [path for path in _added if path in sys.path]


def folders_of(modules: Iterable[str]) -> list[str]:
    """Folders of those modules that are not installed, for processes that start elsewhere."""
    tops = {module.partition(".")[0] for module in modules} - {"asecalc_ml", "__main__"}
    places = [place_of(top) for top in tops]
    return sorted({str(place.parent) for place in places if place is not None and not is_installed(place)})


def place_of(top: str) -> Path | None:
    """File of a top-level module, or folder of a package; None where it has neither."""
    try:
        spec = find_spec(top)
    except ValueError:  # a module without a file, such as __main__
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


def is_installed(place: Path) -> bool:
    """Whether a file lies among installed packages or in Python's own library."""
    return not {"site-packages", "dist-packages"}.isdisjoint(place.parts) or place.is_relative_to(_LIBRARY)


_LIBRARY = Path(collections.__file__).parent.parent
