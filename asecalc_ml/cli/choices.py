"""Checks of options that name a plugin and hold its options, so that messages keep the line of the file."""

from collections.abc import Mapping
from typing import Any

from asecalc_ml import config, plugins
from asecalc_ml.errors import ConfigError, PluginError
from asecalc_ml.tracking.spec import CURRENT, FORMER


def load(group: str, name: Any, place: str) -> type[Any]:
    """Load a plugin that a file names; a ConfigError with the place if there is none."""
    try:
        return plugins.get(group, str(name))
    except PluginError as error:
        raise error.as_kind(ConfigError).at(place) from error


def load_chosen(group: str, data: Mapping, key: str, place: str, source: str) -> type[Any]:
    """Load the plugin that stands in `key: NAME`."""
    known = plugins.names(group)
    if key not in data:
        raise ConfigError(
            f"{place}: key {key!r} is missing;",
            name=key,
            allowed=known,
            remedy=f"add `{key}: NAME` with one of {', '.join(known)}",
        )
    place = config.locate(source, data, key)
    if not isinstance(data[key], str):
        problem = f"{place}: {key!r} should be one of {', '.join(known)}"
        raise ConfigError(problem, name=key, value=data[key], allowed=known)
    return load(group, data[key], place)


def check_analyses(data: Mapping, source: str) -> None:
    """Check `analyses: {NAME: {option: value}}`."""
    for name in data.get("analyses") or {}:
        model = load("analyses", name, config.locate(source, data, "analyses", name))
        config.parse_options(data, model, source, within=("analyses", name))


def check_trackers(data: Mapping, source: str) -> None:
    """Check `tracking: {NAME: {option: value}}`, and `wandb: {option: value}` of earlier versions."""
    paths: list[tuple[str, ...]] = [(CURRENT, name) for name in _keys(data.get(CURRENT))]
    paths += [(FORMER,)] if data.get(FORMER) is not None else []
    for path in paths:
        model = load("trackers", path[-1], config.locate(source, data, *path))
        config.parse_options(data, model, source, within=path)


def _keys(value: Any) -> list[str]:
    """Keys of a mapping; none of anything else, which is refused elsewhere."""
    return list(value) if isinstance(value, Mapping) else []


def check_objectives(data: Mapping, source: str) -> None:
    """Check `search: {objectives: {NAME: {option: value}}}`."""
    for name in data["search"].get("objectives") or {}:
        place = config.locate(source, data, "search", "objectives", name)
        model = load("objectives", name, place)
        config.parse_options(data, model, source, within=("search", "objectives", name))


def check_training_plugins(data: Mapping, source: str) -> None:
    """Check the data sets and the architecture that a training names."""
    for key in ("data", "test_data"):
        if data.get(key) is not None:
            check_dataset(data, key, source)
    if "model" in data:
        check_architecture(data, source)


def check_dataset(data: Mapping, key: str, source: str) -> None:
    """Check `KEY: {format: NAME, option: value}`."""
    model = load_chosen("datasets", data[key], "format", config.locate(source, data, key), source)
    config.parse_options(data, model, source, within=(key,))


def check_architecture(data: Mapping, source: str) -> None:
    """Check `model: {architecture: NAME, option: value}`."""
    chosen = data["model"].copy()  # ruamel's copy remembers the lines
    model = load_chosen("architectures", chosen, "architecture", config.locate(source, data, "model"), source)
    del chosen["architecture"]
    config.parse_options({"model": chosen}, model, source, within=("model",))
