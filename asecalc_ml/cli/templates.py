"""`template` and `schema`: the options of a kind of file, and of any plugin."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asecalc_ml import config, plugins
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError

if TYPE_CHECKING:
    from asecalc_ml.config.options import Options

#: Lines above a plugin's options in the file that names it; protocols are files of their own.
PLACES: dict[str, tuple[str, ...]] = {
    "protocols": (),
    "analyses": ("analyses:", "  {name}:"),
    "architectures": ("model:", "  architecture: {name}"),
    "datasets": ("data:",),
    "targets": ("target:", "  {name}:"),
    "objectives": ("search:", "  objectives:", "    {name}:"),
}

Group = Annotated[
    str | None,
    typer.Option(help=f"Group of the plugin, where several have the name: {', '.join(PLACES)}."),
]


def template(name: str, kinds: Mapping[str, str], group: str | None) -> str:
    """Commented YAML with all options of a kind of file or of a plugin, as the file has them.

    Parameters
    ----------
    name : str
    kinds : mapping of str to str
        Files that have a name of their own, such as "train", and where their option models lie.
    group : str or None
        Group of plugins; by default the first in which the name is.

    Raises
    ------
    ConfigError
        If there is no such name.
    """
    group, model = _found(name, kinds, group)
    if group is None:
        return config.template(model)
    above = [line.format(name=name) for line in PLACES[group]]
    return config.template(model, above)


def option_model(name: str, kinds: Mapping[str, str], group: str | None) -> type[Options]:
    """Option model of a kind of file or of a plugin; see :func:`template`."""
    return _found(name, kinds, group)[1]


def of_file(place: str) -> type[Any]:
    """Load the option model of a kind of file, named as entry points are."""
    return EntryPoint("", place, "").load()


def _found(name: str, kinds: Mapping[str, str], group: str | None) -> tuple[str | None, type[Options]]:
    if group is None and name in kinds:
        return None, of_file(kinds[name])
    if group is not None and group not in PLACES:
        raise ConfigError(
            f"no group {group!r} of plugins with options",
            name=group,
            value=group,
            allowed=list(PLACES),
            remedy=f"the groups are {', '.join(PLACES)}",
        )
    groups = PLACES if group is None else [group]
    for one in groups:
        if name in plugins.names(one):
            return one, plugins.get(one, name)
    known = {"files": list(kinds)} if group is None else {}
    known |= {one: plugins.names(one) for one in groups}
    every_name = [one for names in known.values() for one in names]
    listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in known.items())
    problem = f"no options are called {name!r}"
    raise unknown_name_error(ConfigError, problem, name, every_name, f"There are {listed}")
