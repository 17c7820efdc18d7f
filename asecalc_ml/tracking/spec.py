"""The option `tracking` of runs and trainings: trackers by name, each with its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AsecalcError
from asecalc_ml.tracking.options import TrackerOptions

#: The option of earlier versions, `wandb: {mode: offline}`, which stands for `tracking: {wandb: {...}}`.
FORMER = "wandb"
CURRENT = "tracking"


def chosen_trackers(spec: Mapping[str, Mapping[str, Any] | None]) -> list[TrackerOptions]:
    """Parse the options of trackers.

    Raises
    ------
    AsecalcError
        If there is no such tracker (the message names the nearest), or its options are wrong.
    """
    return [
        parse_options(given or {}, plugins.get("trackers", name), f"{CURRENT}: {name}")
        for name, given in spec.items()
    ]


def _checked(spec: dict[str, dict[str, Any] | None]) -> dict[str, dict[str, Any] | None]:
    try:
        chosen_trackers(spec)
    except AsecalcError as error:  # a ValueError gets the line of the option
        raise ValueError(str(error)) from error
    return spec


TrackingSpec = Annotated[dict[str, dict[str, Any] | None], AfterValidator(_checked)]


def with_current_name(options: Any) -> Any:
    """Return options with `tracking: {wandb: ...}` in place of `wandb: ...`, the name in earlier versions.

    Raises
    ------
    ValueError
        If both are given.
    """
    if not isinstance(options, Mapping) or FORMER not in options:
        return options
    others = {key: value for key, value in options.items() if key != FORMER}
    former = options[FORMER]
    if former is None:
        return others
    if others.get(CURRENT) is not None:
        raise ValueError(f"{FORMER} is the former name of {CURRENT}: {{{FORMER}: ...}}; give {CURRENT} alone")
    given = former.model_dump() if isinstance(former, BaseModel) else former
    return {**others, CURRENT: {FORMER: given}}


def grouped(
    spec: Mapping[str, Mapping[str, Any] | None] | None, group: str
) -> dict[str, dict[str, Any]] | None:
    """Return the spec of a run that belongs to a campaign or a search; a group that is given stays."""
    return None if spec is None else {name: {"group": group, **(given or {})} for name, given in spec.items()}
