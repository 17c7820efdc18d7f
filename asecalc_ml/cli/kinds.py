"""Kinds of YAML files: which command runs each, so that one given to another command is not a riddle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asecalc_ml.config.options import locate
from asecalc_ml.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    name : str
        As a sentence names it.
    keys : tuple of str
        Keys that no other kind has.
    run, validate : str
        Commands.
    """

    name: str
    keys: tuple[str, ...]
    run: str
    validate: str


PROTOCOL = Kind("a protocol", ("protocol",), "asecalc-md run", "asecalc-md validate")
CAMPAIGN = Kind("a campaign", ("grid", "base"), "asecalc-md campaign", "asecalc-md validate")
TUNING = Kind("a hyperparameter search", ("search",), "asecalc-ml tune", "asecalc-ml validate")
TRAINING = Kind("a training", ("data", "split", "optimizer"), "asecalc-ml train", "asecalc-ml validate")
GENERATION = Kind("a sampling", ("output", "n_frames"), "asecalc-ml data generate", "asecalc-ml validate")


def kind_of(data: Mapping) -> Kind | None:
    """The kind that a file's keys tell; None if they tell none."""
    kinds = (PROTOCOL, CAMPAIGN, TUNING, TRAINING, GENERATION)
    return next((kind for kind in kinds if any(key in data for key in kind.keys)), None)


def check_kind(data: Mapping, allowed: tuple[Kind, ...], source: str) -> None:
    """Refuse a file of another kind.

    Raises
    ------
    ConfigError
        With the commands that are made for it.
    """
    if data.get("protocol") == "campaign":
        raise ConfigError(
            f"{locate(source, data, 'protocol')}: a campaign is no protocol",
            name="protocol",
            value="campaign",
            remedy=f"remove the line `protocol: campaign`, and `{CAMPAIGN.run} {source}` runs the file",
        )
    kind = kind_of(data)
    if kind is not None and kind not in allowed:
        raise ConfigError(
            f"{source} holds the options of {kind.name}",
            name=source,
            value=kind.name,
            allowed=[other.name for other in allowed],
            remedy=f"`{kind.run} {source}` runs it, `{kind.validate} {source}` checks it",
        )
