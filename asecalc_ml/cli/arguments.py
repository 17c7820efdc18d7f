"""Options of a YAML file given on the command line instead: `--steps 100` is `steps: 100`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml.comments import CommentedMap

from asecalc_ml import __version__
from asecalc_ml.config import parse_value, read_yaml
from asecalc_ml.errors import ConfigError
from asecalc_ml.local_modules import search_also
from asecalc_ml.nearest import nearest_name

OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}  # context settings of such a command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse labels that contradict themselves, instead of warning.")
]


def split_off(arguments: list[str], keys: Collection[str], further: Collection[str]) -> tuple[list, list]:
    """Divide arguments `--key value` between two sets of keys, a misspelled one by the key that is nearest.

    Parameters
    ----------
    arguments : list of str
    keys, further : collection of str
        With underscores.

    Returns
    -------
    tuple of two lists of str
        Arguments of ``keys`` and of neither, and arguments of ``further``.
    """
    others, chosen, rest = [], [], list(arguments)
    while rest:
        name, equals, _ = rest[0].partition("=")
        size = 1 if equals else 2
        nearest = nearest_name(name[2:].replace("-", "_"), [*keys, *further])
        (chosen if nearest in further else others).extend(rest[:size])
        rest = rest[size:]
    return others, chosen


def read_options(file: str | Path, arguments: list[str]) -> Mapping:
    """Contents of a YAML file, with keys set from arguments; modules in its folder can then be imported.

    Raises
    ------
    ConfigError
        As :func:`asecalc_ml.config.read_yaml` and :func:`override`.
    """
    data = read_yaml(file)
    search_also(Path(file).parent)
    return override(data, arguments)


def override(data: Mapping, arguments: list[str]) -> Mapping:
    """Set keys of a mapping from `--key value` or `--key=value`; dashes in a key stand for underscores.

    Raises
    ------
    ConfigError
        If an argument has no value, or is none of the two.
    """
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or not (equals or rest):
            raise ConfigError(
                f"cannot understand {name!r}: options of the file are given as `--key value`, and several "
                "files, where a command takes them, as one pattern in quotes"
            )
        key = name[2:].replace("-", "_")
        _forget_line(data, key)
        data[key] = parse_value(value if equals else rest.pop(0))
    return data


def _forget_line(data: Mapping, key: str) -> None:
    """No message may blame the file's line for a value that does not come from there."""
    if isinstance(data, CommentedMap) and key in data:
        data.lc.data.pop(key, None)
