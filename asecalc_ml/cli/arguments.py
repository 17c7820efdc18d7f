"""Options of a YAML file given on the command line instead: `--steps 100` is `steps: 100`.

`--stop.wall_time_h 2` is the option `wall_time_h` of `stop`.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from asecalc_ml import __version__
from asecalc_ml.cli.app import given_twice
from asecalc_ml.config.nested_options import put_all
from asecalc_ml.config.options import parse_value, read_yaml
from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.writing import obstacle
from asecalc_ml.local_modules import search_also

DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212-"  # hyphens, dashes and a minus sign
OPEN = {"allow_extra_args": True}  # context settings of such a command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Processes = Annotated[
    int, typer.Option(min=1, help="Processes that compute structures, each with a copy of the model.")
]
Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, ...")]
ResumeOrStart = Annotated[
    bool,
    typer.Option(
        "--resume-or-start",
        help="Continue what is in the directory, or start it: the same command for every start of a job.",
    ),
]
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
    others: list[str] = []
    chosen: list[str] = []
    rest = list(arguments)
    while rest:
        name, equals, _ = rest[0].partition("=")
        size = 1 if equals else 2
        nearest = nearest_name(name[2:].replace("-", "_"), [*keys, *further])
        (chosen if nearest in further else others).extend(rest[:size])
        rest = rest[size:]
    return others, chosen


def read_options(file: str | Path, arguments: list[str]) -> dict:
    """Contents of a YAML file, with options set from arguments; modules in its folder can then be imported.

    Raises
    ------
    ConfigError
        As :func:`asecalc_ml.config.options.read_yaml` and :func:`override`.
    """
    data = read_yaml(file)
    search_also(Path(file).parent)
    return override(data, arguments)


def override(data: dict, arguments: list[str]) -> dict:
    """Set keys of a mapping from `--key value` or `--key=value`; dashes in a key stand for underscores.

    A dot leads to an option of an option, as in a campaign's grid: see
    :func:`asecalc_ml.config.nested_options.put`. A name that has options keeps its dashes, as in
    ``--analyses.energy-drift.limit_meV_atom_ps 1``.

    Raises
    ------
    ConfigError
        If an argument has no value, is given twice, or is none of the two, or if an option has no options.
    """
    put_all(data, given_options(arguments), "command line")
    return data


def given_options(arguments: list[str]) -> dict[str, Any]:
    """Values by option, such as "stop.wall_time_h".

    Raises
    ------
    ConfigError
        If an argument has no value, is given twice, or is none of the two.
    """
    values, rest = {}, list(arguments)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        if re.fullmatch(rf"[{DASHES}]+[A-Za-z]\S+", name) and not name.startswith("--"):
            meant = f"--{name.strip(DASHES)}"
            raise ConfigError(
                f"cannot understand {name!r}",
                name=name,
                value=name,
                remedy=f"options begin with two hyphens, {meant}",
            )
        if not re.fullmatch(r"--[^.\s-][^.]*(\.[^.]+)*", name):
            raise ConfigError(
                f"cannot understand {name!r}",
                name=name,
                value=name,
                remedy="options of the file are given as `--key value`, and several files, where a command "
                "takes them, as one pattern in quotes",
            )
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(
                    f"{name} has no value",
                    name=name,
                    remedy="options of the file are given as `--key value`",
                )
            text = rest.pop(0)
        value = parse_value(text)
        option = _spelled(name[2:], value)
        if option in values:
            raise given_twice(name, f'give it once; several values are one list, {name} "[a, b]"')
        values[option] = value
    return values


def _spelled(name: str, value: Any) -> str:
    """The option with underscores, and names that have options of their own as they are."""
    first, *middle, last = name.split(".") if "." in name else (name, "")
    is_name = isinstance(value, Mapping)
    parts = [first.replace("-", "_"), *middle, last if is_name else last.replace("-", "_")]
    return ".".join(filter(None, parts))


def check_folder(directory: Path) -> None:
    """Refuse a folder that results cannot be written to, before they are computed.

    Raises
    ------
    ConfigError
    """
    if why := obstacle(directory):
        raise ConfigError(
            f"cannot write to {directory} ({why})",
            name=str(directory),
            remedy="choose another folder, or mend permissions",
        )


def several(values: list[str] | None) -> list[str] | None:
    """Values of an option that may be repeated, or hold several with commas between them."""
    return [part.strip() for value in values or () for part in value.split(",")] or None
