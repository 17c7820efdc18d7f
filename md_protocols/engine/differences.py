"""Compares a run with its beginning: what it is made of, and with, may have changed since."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml import plugins
from asecalc_ml._moved import current_name
from asecalc_ml.config.nested_options import differences
from asecalc_ml.config.options import parse_options
from asecalc_ml.md_protocols.engine.provenance import describe, machine, versions
from asecalc_ml.md_protocols.integrators import thermostat_choice
from asecalc_ml.runs import PROTOCOL
from asecalc_ml.sources import changed
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.tracking.spec import with_current_name

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.runs import RunReader

#: Options that may change before a run is resumed. The calculator is compared by what it is.
FREE = {
    "analyses", "calculator", "checkpoint_every", "directory", "distributions", "flag", "more_calculators",
    "reference", "stop", "structure", "threads", "tracking", "workers",
}  # fmt: skip

#: Those that are compared by what they are where a run goes on; a finished run keeps them as written.
BY_CONTENT = {"calculator", "more_calculators", "reference", "structure"}

#: Structures are the same if no coordinate differs by more, such as one from SMILES on another machine.
SAME_POSITION_A = 1e-3


def differences_of(run: RunReader, options: ProtocolOptions, atoms: Atoms) -> list[str]:
    """List what has changed since a run began and may change its trajectory."""
    begun = run.read_provenance()
    constraints = [type(constraint).__name__ for constraint in atoms.constraints]
    return [
        *changed({"constraints": begun.get("constraints", constraints)}, {"constraints": constraints}),
        *other_calculator(begun["calculator"], describe(atoms.calc)),
        *changed(begun["versions"], versions(options, atoms.calc)),
        *other_options(run, options),
    ]


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


def other_options(run: RunReader, options: ProtocolOptions) -> list[str]:
    """List the changed options that must not change.

    The number of steps is among them where something else follows from it.
    """
    now = fixed_options(options.model_dump(mode="json"))
    why = thermostat_choice.of_begun_run(options).why_not_longer
    steps = changed({"steps": options_before(run).get("steps")}, now)
    now.pop("steps", None)
    # protocol.yaml of an older run names its thermostat from the first resumption on
    stored = (options_before(run), options_begun_with(run))
    others = min((changed(fixed_options(before), now) for before in stored), key=len)
    return [*(f"{text} ({why})" for text in steps if why), *others]


def other_run(run: RunReader, options: ProtocolOptions, free: Collection[str]) -> list[str]:
    """List the options by which a run that has begun is another one than these options describe.

    A thermostat that the options leave to be chosen is the one that was chosen.

    Parameters
    ----------
    run : RunReader
    options : ProtocolOptions
    free : collection of str
        Options that may differ.
    """
    before = run.read_options()
    if before["protocol"] != options.protocol:
        return differences({"protocol": before["protocol"]}, {"protocol": options.protocol})
    stored = parse_options(before, type(options), str(run.directory / PROTOCOL))
    begun = _without(thermostat_choice.of_begun_run(stored), free)
    choices = [_without(options.with_thermostat(name), free) for name in thermostat_choice.CHOICES]
    return min((differences(begun, now) for now in choices), key=len)


def _without(options: ProtocolOptions, free: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in options.model_dump(mode="json").items() if name not in free}


def other_structure(run: RunReader, atoms: Atoms) -> list[str]:
    """List the differences of a structure from the one that a run began with."""
    begun = run.atoms
    if different := differences(_stated(begun), _stated(atoms)):
        return different
    lengths = [(begun.positions, atoms.positions), (begun.cell.array, atoms.cell.array)]
    if all(np.allclose(old, new, rtol=0, atol=SAME_POSITION_A) for old, new in lengths):
        return []
    return ["structure: other positions or another cell than there"]


def _stated(atoms: Atoms) -> dict[str, Any]:
    """What structures have in common exactly or not at all."""
    charge, spin = charge_and_spin(atoms)
    return {"structure": str(atoms.symbols), "pbc": atoms.pbc.tolist(), "charge": charge, "spin": spin}


def other_processor(provenance: dict) -> list[str]:
    """Name another processor, which may round differently.

    It is noted and not refused, since the user of a cluster cannot choose the processor.
    """
    before, here = provenance["machine"]["cpu"], machine()["cpu"]
    return [] if before == here else [f"processor {here} instead of {before}: the trajectory may differ"]


def fixed_options(options: dict) -> dict:
    """Return the options that must not change before a run is resumed."""
    return {name: value for name, value in options.items() if name not in FREE}


def options_of_finished(options: dict) -> dict:
    """Return the options that a finished run keeps."""
    return {name: value for name, value in options.items() if name not in FREE - BY_CONTENT}


def more_steps(run: RunReader, options: ProtocolOptions) -> int:
    """Number of steps by which options make a run longer than before; negative for fewer steps."""
    before = options_before(run).get("steps")
    return 0 if before is None else getattr(options, "steps", before) - before


def options_before(run: RunReader) -> dict[str, Any]:
    """Options of the run as it was begun or last resumed, under their present names."""
    return with_current_name(run.read_provenance().get("options") or run.read_options())


def options_begun_with(run: RunReader) -> dict[str, Any]:
    """As :func:`options_before`, with the thermostat named that older versions chose by default."""
    before = options_before(run)
    options = parse_options(before, plugins.get("protocols", before["protocol"]), str(run.directory))
    named = thermostat_choice.of_begun_run(options).model_dump(mode="json")
    return {name: named[name] for name in before}
