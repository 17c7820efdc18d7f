"""Where a run comes from: versions, model, machine."""

from __future__ import annotations

import datetime
import platform

from asecalc_ml.calculators import describe_calculator
from asecalc_ml.errors import RunError
from asecalc_ml.versions import installed_versions

PACKAGES = ("ase", "numpy", "scipy", "torch", "torchmd-net", "vesin", "tblite")


def provenance(calculator, seed: int) -> dict:
    """Facts for provenance.json."""
    return {
        "calculator": describe_calculator(calculator),
        "versions": {"python": platform.python_version(), **installed_versions(PACKAGES)},
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "seed": seed,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def check_same(stored: dict, calculator) -> None:
    """Refuse to go on with another model or other versions than a run began with.

    Raises
    ------
    RunError
        The message says what differs and how to go on all the same.
    """
    now = describe_calculator(calculator)
    then = stored["calculator"]
    remedy = "put the old one back, start a new run, or go on all the same with --allow-different"
    if now["model_hash"] != then["model_hash"]:
        raise RunError(
            f"the model {then['name']!r} has changed since this run began (hash "
            f"{_short(then['model_hash'])}, now {_short(now['model_hash'])}); {remedy}"
        )
    if now["class"] != then["class"]:
        raise RunError(
            f"this run began with {then['class']} and would go on with {now['class']}: give that "
            f"calculator, resume_run(directory, calculator=...), or {remedy}"
        )
    changed = _changed(
        stored["versions"], {"python": platform.python_version(), **installed_versions(PACKAGES)}
    )
    if changed:
        raise RunError(f"versions have changed since this run began: {changed}; {remedy}")


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    return ", ".join(f"{name} {then.get(name, 'none')} → {now.get(name, 'none')}" for name in names)


def _short(model_hash: str | None) -> str:
    return "none" if model_hash is None else model_hash[:12]
