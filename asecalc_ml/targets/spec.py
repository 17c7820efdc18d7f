"""Targets as YAML names them: `homo`, `{homo: {pooling: softmax}}`, or a list of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asecalc_ml.config.options import parse_options
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError
from asecalc_ml.plugins import get, names
from asecalc_ml.targets.target import ENERGY, TargetOptions

TargetSpec = str | dict[str, dict[str, Any] | None]


def parse_targets(given: TargetSpec | Sequence[TargetSpec]) -> list[TargetOptions]:
    """Targets of a training, in their order.

    Raises
    ------
    ConfigError, PluginError
        If a target or an option of it does not exist, one comes twice, or the energy is not alone.
    """
    specs = [given] if isinstance(given, str | Mapping) else list(given)
    targets = [_parse(spec) for spec in specs]
    named = [target.name for target in targets]
    if not targets or len(set(named)) < len(named):
        raise ConfigError(
            f"target is {named}",
            name="target",
            value=named,
            allowed=names("targets"),
            remedy="give one target, or a list in which each comes once",
        )
    if ENERGY in named and len(named) > 1:
        raise ConfigError(
            f"target is {named}: the energy is trained with its forces, and no other target with it.",
            name="target",
            value=named,
            remedy="Train the energy alone, or take u0, which has no forces",
        )
    return targets


def registered_target(name: str) -> TargetOptions:
    """The registered target of a name, with its default options.

    Raises
    ------
    ConfigError
        If there is none; the message names the nearest one.
    """
    known = names("targets")
    if name not in known:
        remedy = f"Registered are {', '.join(known)}."
        raise unknown_name_error(ConfigError, f"no target {name!r}", name, known, remedy)
    return get("targets", name)()


def _parse(spec: TargetSpec) -> TargetOptions:
    if isinstance(spec, str):
        name, options = spec, None
    elif isinstance(spec, Mapping) and len(spec) == 1:
        ((name, options),) = spec.items()
    else:
        raise ConfigError(
            f"target is {spec!r}",
            name="target",
            value=spec,
            remedy="name a target, or one with its options, as in {scalar: {name: co2_uptake, unit: mol/kg}}",
        )
    return parse_options(options or {}, get("targets", str(name)), source=f"target {name}")
