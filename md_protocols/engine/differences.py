"""Compares a calculator with the one that a run began with."""

from __future__ import annotations

from typing import Any

from asecalc_ml._moved import current_name
from asecalc_ml.sources import changed


def other_calculator(old: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """List the differences of two calculators: of models by their hash, of others by class and arguments.

    A class whose module has moved since the run began is the same class.

    Parameters
    ----------
    old, here : dict
        See :func:`asecalc_ml.calculators.factory.describe_calculator`.
    """
    old_hash, new_hash = old["model_hash"], here["model_hash"]
    differences = []
    if old_hash != new_hash:
        differences.append(f"model {_short(new_hash)} instead of {_short(old_hash)}")
    if old_hash is None and new_hash is None:
        classes = [current_name(description["class"]) for description in (old, here)]
        differences += changed({"calculator": classes[0]}, {"calculator": classes[1]})
        differences += changed(old["parameters"], here["parameters"])
    old_terms, new_terms = (description.get("corrections", []) for description in (old, here))
    if old_terms != new_terms:
        differences.append(f"added terms {new_terms} instead of {old_terms}")
    return differences


def _short(model_hash: str | None) -> str:
    return model_hash[:12] if model_hash else "none"
