"""Sources of plugins and calculators of other parties: a hash that shows a change of code.

A version does not show it: the code of an editable installation, or of a module next to a script, changes
while the version stays. The hash covers all Python and compiled files of the top-level package, subfolders
included. For a single module it covers the file and the modules in its folder that it imports. Data files are
not covered. ASE, numpy and torch are identified by their versions, and this package by its version and the
files that a model runs.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml import plugins
from asecalc_ml._checkout import PACKAGE, ROOT
from asecalc_ml.local_modules import is_installed, place_of
from asecalc_ml.store.model_file import file_hash
from asecalc_ml.versions import installed_versions

if TYPE_CHECKING:
    from asecalc_ml.store.card import ModelCard

#: What the code of every model builds upon.
CORE_SOURCES = (
    "graph/cutoffs.py", "graph/segments.py", "model/chunks.py", "model/compile/chunk_programs.py",
    "model/compile/compiled_graph.py", "model/compile/edge_list.py", "model/compile/materialize.py",
    "model/compile/molecules/all_pairs.py", "model/compile/molecules/energy_graph.py",
    "model/compile/molecules/half_pairs.py", "model/compile/molecules/matrix_products.py",
    "model/compile/molecules/members.py", "model/compile/molecules/molecule_graph.py",
    "model/compile/program.py", "model/derivative.py", "model/heads/build.py", "model/heads/equivariant.py",
    "model/heads/head.py", "model/heads/scalar.py", "model/heads/values.py", "model/model.py",
    "model/potential.py", "model/rounding.py", "targets/target.py",
)  # fmt: skip

BY_VERSION = {"asecalc_ml", "ase", "numpy", "torch", "__main__", *sys.stdlib_module_names}
DIGITS = 16


def sources_of_plugins(chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Sources of plugins of other parties; plugins of this package are left out.

    Parameters
    ----------
    chosen : iterable of (group, name)
        Such as ("protocols", "nve").

    Returns
    -------
    dict
        Such as ``{"source of protocol creep": "8d3f0b3c91aa5e70 (creep-md 1.0)"}``.

    Notes
    -----
    Names that are not registered are left out: a protocol may be defined in a script.
    """
    found = {
        f"source of {plugins.GROUPS[group]} {name}": source_of_plugin(group, name)
        for group, name in chosen
        if name in plugins.names(group)
    }
    return {name: source for name, source in found.items() if source is not None}


def source_of_plugin(group: str, name: str) -> str | None:
    """Hash of a plugin's sources with its distribution and version; None for a plugin of this package."""
    point = plugins.point(group, name)
    top = point.module.partition(".")[0]
    return None if top in BY_VERSION else _described(top, point.dist)


def sources_of_modules(modules: Iterable[str]) -> dict[str, str]:
    """Sources of the top-level packages of modules, as :func:`sources_of_plugins` returns them."""
    tops = sorted({module.partition(".")[0] for module in modules} - BY_VERSION)
    return {
        f"source of {top}": _described(top, _distribution(top)) for top in tops if place_of(top) is not None
    }


def code_of_model(card: ModelCard) -> list:
    """Versions and sources that the results of a model depend on, ready for JSON."""
    return [sorted(installed_versions(packages_of_model(card)).items()), _sources_of_model(card.architecture)]


def packages_of_model(card: ModelCard) -> list[str]:
    """Packages that a model was made with, and those that its architecture names in ``packages``."""
    architecture = plugins.get("architectures", card.architecture)
    return sorted({"torch", *card.versions, *getattr(architecture, "packages", ())})


@cache
def _sources_of_model(architecture: str) -> str:
    """Hash of the code that a model runs: in a checkout it changes while the version stays."""
    found = source_of_plugin("architectures", architecture)
    files = {PACKAGE / name for name in CORE_SOURCES}
    if found is None:
        options = plugins.get("architectures", architecture)
        own_folder = Path(inspect.getfile(options)).resolve().parent
        for folder in (own_folder, own_folder.parent / "shared"):  # by several architectures
            files |= set(folder.glob("*.py"))
    return f"{_digest((ROOT, path) for path in files)} {found}"


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what differs, in words; objects whose text is their place in memory are skipped.

    Names that only one of the two has count as unchanged.
    """
    different = [name for name in before if after.get(name, before[name]) != before[name]]
    known = [name for name in different if " at 0x" not in f"{before[name]}{after[name]}"]
    return [f"{name} {after[name]} instead of {before[name]}" for name in known]


# ------------------------------------------------------------------------------------------------ hashing


def _described(top: str, distribution: metadata.Distribution | None) -> str:
    name = top if distribution is None else f"{distribution.name} {distribution.version}"
    return f"{_hash(top, tuple(sys.path))[:DIGITS]} ({name})"


@lru_cache(maxsize=64)
def _hash(top: str, path: tuple[str, ...]) -> str:
    """Computed once in a process for each search path: the modules that run were read once, too."""
    try:
        spec = find_spec(top)
    except ValueError:  # a module that was made by hand
        spec = None
    places = (spec and spec.submodule_search_locations) or ()
    folders = [Path(place) for place in places if Path(place).is_dir()]
    if folders:  # several of a namespace
        return _digest((folder, path) for folder in folders for path in _code_in(folder))
    file = Path((spec and spec.origin) or "")
    return _digest((file.parent, path) for path in _with_imported(file)) if file.is_file() else "unknown"


def _digest(files: Iterable[tuple[Path, Path]]) -> str:
    """SHA-256 of files, each given with the folder that its name is relative to."""
    lines = [f"{os.path.relpath(path, folder)} {file_hash(path)}" for folder, path in files]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _code_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(place, name) for name in names if name.endswith(tuple(all_suffixes())))


def _with_imported(file: Path) -> set[Path]:
    """A module's file and the modules beside it that it imports, directly or through others."""
    found, queue = set(), [file]
    while queue:
        path = queue.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            queue += [beside for name in _imported(path) for beside in _beside(file.parent, name)]
    return found


def _imported(path: Path) -> set[str]:
    """Top-level names of all import statements of a file."""
    names: set[str] = set()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a file that is never executed, such as one for another Python
        return names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - BY_VERSION


def _beside(folder: Path, name: str) -> list[Path]:
    if folder.name not in ("site-packages", "dist-packages") and (folder / name / "__init__.py").is_file():
        return list(_code_in(folder / name))
    return [folder / f"{name}{suffix}" for suffix in all_suffixes() if (folder / f"{name}{suffix}").is_file()]


@cache
def _distribution(top: str) -> metadata.Distribution | None:
    """The distribution that a top-level package comes from; None for modules that are not installed."""
    try:
        return metadata.distribution(top)
    except metadata.PackageNotFoundError:
        pass
    place = place_of(top)
    if place is None or not is_installed(place):
        return None
    names = metadata.packages_distributions().get(top)  # half a second, in exchange for a name
    return metadata.distribution(names[0]) if names else None
