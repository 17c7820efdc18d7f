"""Golden values: a model that does not reproduce its own card is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from asecalc_ml.card import Golden
from asecalc_ml.errors import ModelError
from asecalc_ml.evaluator import Evaluation, Evaluator
from asecalc_ml.graph import AtomGraph
from asecalc_ml.model import Model
from asecalc_ml.stored_model import StoredModel
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.user_cache import cache_folder, fingerprint, hardware
from asecalc_ml.versions import installed_versions

#: Largest deviation by type: eV per atom, and eV/Å; times the largest force where that is above 1 eV/Å.
TOLERANCES = {torch.float64: (1e-8, 1e-7), torch.float32: (1e-6, 1e-4)}


def make_golden(model: Model, atoms: Atoms) -> Golden:
    """Energy and forces of a structure in float64; the model's type is left as it was."""
    dtype = model.dtype
    evaluation = _evaluate(model.set_dtype(torch.float64), atoms)
    model.set_dtype(dtype)
    charge, spin = charge_and_spin(atoms)
    return Golden(
        atomic_numbers=atoms.numbers.tolist(),
        positions_A=atoms.positions.tolist(),
        cell_A=atoms.cell.array.tolist(),
        pbc=atoms.pbc.tolist(),
        charge=charge,
        spin=spin,
        energy_eV=float(evaluation.energy[0]),
        forces_eV_A=evaluation.forces.tolist(),
    )


def check_golden(stored: StoredModel) -> None:
    """Compare with the card; once per weights, versions, hardware and type, as a stamp remembers.

    Raises
    ------
    ModelError
        If energy or forces deviate by more than :data:`TOLERANCES`.
    """
    stamp = _stamp(stored)
    if stamp.exists():
        return
    golden = stored.card.golden
    evaluation = _evaluate(stored.model, golden_atoms(golden))
    energy_error = abs(float(evaluation.energy[0]) - golden.energy_eV)
    expected_forces = np.array(golden.forces_eV_A)
    forces_error = float(np.abs(evaluation.forces.cpu().numpy() - expected_forces).max())
    energy_bound, forces_bound = TOLERANCES[stored.dtype]
    size = max(1.0, float(np.abs(expected_forces).max()))
    energy_bound, forces_bound = energy_bound * size, forces_bound * size
    if stored.dtype == torch.float32:
        energy_bound *= len(golden.atomic_numbers)
    if not (energy_error <= energy_bound and forces_error <= forces_bound):
        name = stored.card.name
        raise ModelError(
            f"model {name!r} does not reproduce its card: the energy is off by {energy_error:.1e} eV "
            f"(at most {energy_bound:.0e}), a force by {forces_error:.1e} eV/Å (at most {forces_bound:.0e}). "
            "Weights or a library differ from those it was made with: copy the model anew, or compare the "
            f"versions in `asecalc-ml models show {name}` with the installed ones"
        )
    _leave(stamp)


def golden_atoms(golden: Golden) -> Atoms:
    """The structure of golden values."""
    return Atoms(
        golden.atomic_numbers,
        positions=golden.positions_A,
        cell=golden.cell_A,
        pbc=golden.pbc,
        info={"charge": golden.charge, "spin": golden.spin},
    )


def _evaluate(model: Model, atoms: Atoms) -> Evaluation:
    return Evaluator(model)(AtomGraph.from_atoms(atoms, model.potential.cutoff))


def _stamp(stored: StoredModel) -> Path:
    """A file whose name says what was checked; the packages are those the model was made with."""
    versions = installed_versions(["torch", *stored.card.versions])
    facts = [stored.hash, sorted(versions.items()), hardware(stored.device), str(stored.dtype)]
    return cache_folder("golden") / fingerprint(facts)


def _leave(stamp: Path) -> None:
    """Remember the pass; where nothing can be written the check runs again next time."""
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        pass
