"""What a calculator or its versions have in another way than when a run began."""

from __future__ import annotations

from typing import Any

from asecalc_ml.sources import changed


def other_calculator(old: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """How a description differs: a model's by its hash, what else there is by class and arguments.

    Parameters
    ----------
    old, here : dict
        See :func:`asecalc_ml.calculators.factory.describe_calculator`.
    """
    old_hash, new_hash = old["model_hash"], here["model_hash"]
    found = [] if old_hash == new_hash else [f"model {_short(new_hash)} instead of {_short(old_hash)}"]
    if old_hash is None and new_hash is None:
        found += changed({"calculator": old["class"]}, {"calculator": here["class"]})
        found += changed(old["parameters"], here["parameters"])
    terms = [described.get("corrections", []) for described in (old, here)]
    return found + ([] if terms[0] == terms[1] else [f"added terms {terms[1]} instead of {terms[0]}"])


def _short(model_hash: str | None) -> str:
    return model_hash[:12] if model_hash else "none"
