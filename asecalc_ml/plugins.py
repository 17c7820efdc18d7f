"""Plugins (architectures, protocols, analyses, dataset readers, losses, targets, trackers, objectives).

They are found through entry points. Ours are declared in `setup.cfg` exactly as a third party's are in its
own. A checkout reads its own `setup.cfg`, so that it needs no installation and never takes the plugins of
an older installed copy for its own.
"""

import sys
import warnings
from configparser import ConfigParser
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from asecalc_ml._checkout import ROOT, is_checkout
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.contracts import located, mistake
from asecalc_ml.errors import PluginError

GROUPS = {
    "architectures": "architecture",
    "protocols": "protocol",
    "analyses": "analysis",
    "datasets": "dataset reader",
    "losses": "loss",
    "targets": "target",
    "trackers": "tracker",
    "objectives": "objective",
}


def names(group: str) -> list[str]:
    """Names of all plugins in a group, sorted.

    Parameters
    ----------
    group : str
        A key of :data:`GROUPS`, such as "protocols".
    """
    return sorted({point.name for point in _points(group)})


def get(group: str, name: str) -> Any:
    """Load a plugin.

    Parameters
    ----------
    group : str
        A key of :data:`GROUPS`, such as "protocols".
    name : str
        As registered, such as "nve".

    Returns
    -------
    object
        What the entry point refers to, usually a class.

    Raises
    ------
    PluginError
        If no plugin has this name (the message says the nearest), if two packages claim it, if it cannot be
        imported, or if it does not fulfil the contract of its group (:mod:`asecalc_ml.contracts`).
    """
    return _load(group, point(group, name))


def point(group: str, name: str) -> EntryPoint:
    """Entry point of a plugin, which names its module and, for another party's, its distribution.

    Raises
    ------
    PluginError
        If no plugin has this name, or if two packages claim it.
    """
    found = {point.value: point for point in _points(group) if point.name == name}
    if not found:
        raise _unknown(group, name)
    if len(found) > 1:
        raise PluginError(
            f"{GROUPS[group]} {name!r} is registered twice, as {' and '.join(sorted(found))}",
            name=name,
            value=sorted(found),
            remedy="uninstall one of the two packages",
        )
    return next(iter(found.values()))


def loaded(group: str) -> dict[str, Any]:
    """Load all plugins of a group.

    Parameters
    ----------
    group : str
        A key of :data:`GROUPS`.

    Returns
    -------
    dict
        Plugins by name, sorted.

    Warns
    -----
    UserWarning
        For a plugin that cannot be loaded, which is left out.
    """
    found = {}
    for name in names(group):
        try:
            found[name] = get(group, name)
        except PluginError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return found


def _points(group: str) -> tuple[EntryPoint, ...]:
    if group not in GROUPS:
        raise PluginError(
            f"no plugin group {group!r}",
            name=group,
            value=group,
            allowed=list(GROUPS),
            remedy=f"the groups are {', '.join(GROUPS)}",
        )
    return _found(f"asecalc_ml.{group}", tuple(sys.path))


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> Any:
    """Entry points of all installed packages, with ``select``; read once for each search path, in some 20 ms.

    An ``EntryPoints``; with Python 3.11 a ``SelectableGroups``.
    """
    return entry_points()


@lru_cache(maxsize=16)
def _found(full_name: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    installed = _installed(path).select(group=full_name)
    if not is_checkout():
        return tuple(installed)
    return (*_declared_in_checkout(full_name), *(point for point in installed if not _is_ours(point)))


def _declared_in_checkout(full_name: str) -> list[EntryPoint]:
    """Entry points of the `setup.cfg` beside the package."""
    setup = ConfigParser(interpolation=None, delimiters=("=",))
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup.get("options.entry_points", full_name, fallback="").strip().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return [EntryPoint(name.strip(), value.strip(), full_name) for name, value in pairs]


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name.lower().replace("_", "-") == "asecalc-ml"


def _unknown(group: str, name: str) -> PluginError:
    known = names(group)
    remedy = (
        f"Registered are {', '.join(known) or 'none'}. A plugin that was just added to a package's setup.cfg "
        "is found after `pip install -e .` there, in a new process."
    )
    return unknown_name_error(PluginError, f"no {GROUPS[group]} {name!r}", name, known, remedy)


def _load(group: str, point: EntryPoint) -> Any:
    what = f"{GROUPS[group]} {point.name!r} ({point.value})"
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # a module may raise anything when it is imported
        raise PluginError(
            f"{what} cannot be loaded: {located(error)}.",
            name=point.name,
            value=point.value,
            remedy="Its package may be half installed: try `pip install -e .` where it comes from.",
        ) from error
    if wrong := mistake(group, point.name, plugin):
        raise PluginError(
            f"{what}: {wrong}.",
            name=point.name,
            value=point.value,
            remedy="CONTRIBUTING.md shows the form of each plugin.",
        )
    return plugin
