"""Campaigns: the options of many runs, as one file says them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from pydantic import Field, field_validator

from asecalc_ml import plugins
from asecalc_ml._lazy import renamed
from asecalc_ml.config.nested_options import flat, put_all
from asecalc_ml.config.options import Options, parse_options, read_yaml
from asecalc_ml.errors import AsecalcError, ConfigError
from asecalc_ml.md_protocols.options import ProtocolOptions

LONGEST_NAME = 200  # file systems take 255


class Campaign(Options):
    """A grid of runs, such as models × molecules × temperatures × seeds."""

    base: str | dict[str, Any] = Field(
        description="what all runs share: a protocol's YAML file, found from the folder of this one, or its "
        "options themselves",
        examples=["nve.yaml"],
    )
    grid: dict[str, list[Any]] = Field(
        description="options of the protocol and the values that each takes, every one with every other; "
        "stop.wall_time_h is the option wall_time_h of stop",
        examples=[{"temperature_K": [300, 500], "seed": [0, 1]}],
    )
    directory: str | None = Field(
        None, description="folder of the run directories; by default runs/NAME for NAME.yaml"
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="processes of this machine, or of a Ray cluster (extra [distributed])"
    )
    workers: int = Field(1, ge=1, description="runs at the same time")
    retries: int = Field(2, ge=0, description="how often a run that failed is taken up again")
    ray_address: str | None = Field(
        None, description="address of the Ray cluster; by default $RAY_ADDRESS, or a new one of this machine"
    )

    @field_validator("grid", mode="before")
    @classmethod
    def _options_of_sections(cls, given: Any) -> Any:
        """Name `stop: {wall_time_h: [1, 2]}` as `stop.wall_time_h: [1, 2]`."""
        return dict(flat(given)) if isinstance(given, dict) else given

    @field_validator("grid")
    @classmethod
    def _has_values(cls, given: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not given:
            raise ValueError("it is empty: name options with the values that they take, as in seed: [0, 1]")
        for name, values in given.items():
            if not values:
                raise ValueError(f"{name} has no values: give it some, as in [300, 500], or leave it out")
        return given


@dataclass(frozen=True)
class GridPoint:
    """One run of a campaign.

    Parameters
    ----------
    name : str
        Of its directory: the values of the grid.
    values : dict
        These values, by option.
    options : ProtocolOptions
    """

    name: str
    values: dict[str, Any]
    options: ProtocolOptions


def expand(campaign: Campaign, source: Path) -> list[GridPoint]:
    """All runs of a campaign, checked, the last option varying fastest.

    Parameters
    ----------
    campaign : Campaign
    source : Path
        Its file.

    Raises
    ------
    ConfigError
        If one of them has wrong options, or two have the same directory.
    """
    base = _base(campaign, source)
    points: dict[str, GridPoint] = {}
    for values in itertools.product(*campaign.grid.values()):
        point = _point(base, dict(zip(campaign.grid, values, strict=True)), source)
        if point.name in points:
            raise ConfigError(
                f"{source}: {_show(point.values)} and {_show(points[point.name].values)} would both be "
                f"written to {point.name}: a value stands twice in the grid, or two values differ only in "
                "characters that names of folders cannot have",
                name=point.name,
                value=(point.values, points[point.name].values),
                remedy="leave out one of the two",
            )
        points[point.name] = point
    return list(points.values())


def _base(campaign: Campaign, source: Path) -> dict[str, Any]:
    if isinstance(campaign.base, str):
        return _plain(read_yaml(source.parent / campaign.base), source)
    return _plain(campaign.base, source)


def _plain(data: dict[str, Any], source: Path) -> dict[str, Any]:
    """A copy of nothing but what JSON knows."""
    try:
        return json.loads(json.dumps(data))
    except TypeError as error:  # YAML reads 2026-11-21 as a date
        problem = f"{source}: base: {error}"
        raise ConfigError(problem, name="base", remedy="put that value in quotes") from error


def _point(base: dict[str, Any], values: dict[str, Any], source: Path) -> GridPoint:
    name = _name(values)
    data = json.loads(json.dumps(base))
    put_all(data, values, f"{source}: grid")
    data.pop("directory", None)  # of the base alone; every run has its own
    if "protocol" not in data:
        raise ConfigError(
            f"{source}: the base names no protocol",
            name="protocol",
            allowed=plugins.names("protocols"),
            remedy="add `protocol: nve` to it, or another",
        )
    try:
        model = plugins.get("protocols", str(data["protocol"]))
    except AsecalcError as error:
        raise error.as_kind(ConfigError).at(str(source)) from error
    return GridPoint(name, values, parse_options(data, model, f"{source}, run {name}"))


def _name(values: Mapping[str, Any]) -> str:
    """Name of a run directory, such as "structure=ethanol,temperature_K=300"."""
    last = [option.rpartition(".")[2] for option in values]
    keys = last if len(set(last)) == len(last) else list(values)
    parts = ("-".join(_words(value)) for value in values.values())
    name = ",".join(f"{key}={part}" for key, part in zip(keys, parts, strict=True))
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{name}: too long for a folder.",
            name=name,
            value=len(name),
            allowed=f"up to {LONGEST_NAME} characters",
            remedy="Put long values into files, or vary fewer options",
        )
    return name


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_words(key), *_words(item))
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, float):
        yield f"{value:.12g}"
    else:
        text = str(value).lower() if isinstance(value, bool | NoneType) else str(value)
        yield re.sub(r"[^A-Za-z0-9._+]+", "-", text)


def _show(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{option}: {value}" for option, value in values.items())


__getattr__ = renamed(__name__, {"Point": "GridPoint"})
