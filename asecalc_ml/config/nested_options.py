"""Nested options by one name, such as ``stop.wall_time_h``: on the command line, in grids and in messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ruamel.yaml.comments import CommentedMap

from asecalc_ml.errors import ConfigError

Section = MutableMapping[Any, Any] | list[Any]


def flat(options: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each option by its dotted name, with its value."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{section}{key}.")
        else:
            yield f"{section}{key}", value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the options that differ, with both values.

    Examples
    --------
    >>> differences({"seed": 0, "stop": {"wall_time_h": 1.0}}, {"seed": 0, "stop": {"wall_time_h": 2.0}})
    ['stop.wall_time_h: 1.0 there, 2.0 now']
    """
    old, new = dict(flat(before)), dict(flat(now))
    names = [name for name in old | new if name not in old or name not in new or old[name] != new[name]]
    return [f"{name}: {old.get(name, 'none')} there, {new.get(name, 'none')} now" for name in names]


def put_all(data: dict[str, Any], options: Mapping[str, Any], place: str) -> None:
    """Set several options as :func:`put` does, whole sections before options in them."""
    for option in sorted(options, key=len):
        put(data, option, options[option], place)


def put(data: dict[str, Any], option: str, value: Any, place: str) -> None:
    """Set an option in nested mappings and lists.

    ``stop.wall_time_h`` is the option wall_time_h of stop, ``sequence.0.steps`` that of the first item of a
    list. Sections that are missing or empty are made. Where a section holds a name that may have options of
    its own, as in ``calculator: NAME``, ``calculator.NAME.dtype`` gives it options. A key that contains dots
    is found if it is there already.

    Parameters
    ----------
    data : dict
        Changed in place.
    option : str
    value : Any
    place : str
        Source of the option in messages.

    Raises
    ------
    ConfigError
        If a section on the way holds a value that has no options.
    """
    section: Section = data
    rest = option
    while True:
        key, rest = _first_key(section, rest, f"{place}: {option}")
        if not rest:
            _set(section, key, value)
            return
        section = _inner(section, key, rest, f"{place}: {option}")


def _first_key(section: Section, path: str, place: str) -> tuple[Any, str]:
    """The first key of a path, an integer for a list, and the path below it."""
    if isinstance(section, list):
        key, _, rest = path.partition(".")
        if not key.isdecimal() or int(key) >= len(section):
            raise ConfigError(
                f"{place}: {key!r} is no item of a list of {len(section)}",
                name=key,
                value=key,
                allowed=f"0 to {len(section) - 1}",
                remedy=f"they have the numbers 0 to {len(section) - 1}",
            )
        return int(key), rest
    present = [key for key in section if isinstance(key, str) and f"{path}.".startswith(f"{key}.")]
    key = max(present, key=len, default=path.partition(".")[0])
    return key, path[len(key) + 1 :]


def _inner(section: Section, key: Any, rest: str, place: str) -> Section:
    """The section at a key, made where there is none."""
    held = section[key] if isinstance(section, list) else section.get(key)
    if isinstance(held, MutableMapping | list):
        return held
    if isinstance(held, str) and f"{rest}.".startswith(f"{held}."):
        held = _set(section, key, {held: None})
    elif held is None:
        held = _set(section, key, {})
    else:
        is_name = isinstance(held, str) and re.fullmatch(r"[\w+-]+", held)
        raise ConfigError(
            f"{place}: {key} is {held!r}, which has no options{';' * bool(is_name)}",
            name=str(key),
            value=held,
            remedy=f"if {held} takes any, write {key}.{held}.{rest}" if is_name else None,
        )
    return held


def _set(section: Section, key: Any, value: Any) -> Any:
    """Set a key. No message may blame the file's line for a value that does not come from there."""
    if isinstance(section, CommentedMap) and key in section:
        section.lc.data.pop(key, None)
    section[key] = value
    return value
