"""Results of calculators, by ASE's names: from tensors, and sums of several."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.outputs import Properties, all_outputs
from ase.stress import full_3x3_to_voigt_6_stress

from asecalc_ml.errors import StructureError
from asecalc_ml.model.dipoles import dipole_of
from asecalc_ml.structure.loading import check_structure

if TYPE_CHECKING:
    from torch import Tensor

    from asecalc_ml.model.evaluator import SystemArrays
    from asecalc_ml.store.card import ModelCard

#: Results that are combined, where all parts have them.
PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress", "stresses")

Results = dict[str, Any]  # by ASE's names of properties


def results_of(evaluation: SystemArrays, atoms: Atoms) -> Results:
    """Results of one structure by ASE's names; the one conversion out.

    Parameters
    ----------
    evaluation : SystemArrays
    atoms : Atoms

    Returns
    -------
    dict
        ``energy`` and ``free_energy`` (eV), ``energies`` (n_atoms,) in eV, ``forces`` (n_atoms, 3) in eV/Å;
        ``stress`` (6,) in eV/Å³ for a cell of rank 3; ``charges`` (n_atoms,) in e where the model has them,
        with ``dipole`` (3,) in e Å where no direction is periodic.

    Raises
    ------
    StructureError
        If energy or forces are not finite.
    """
    energy = evaluation.energy
    results: Results = {
        "energy": energy,
        "free_energy": energy,
        "energies": evaluation.energies,
        "forces": evaluation.forces,
    }
    if not (math.isfinite(energy) and np.isfinite(results["forces"]).all()):
        check_structure(atoms)  # knows the reason, where atoms have run into each other
        raise StructureError(
            f"the model gives energy {energy} eV or forces that are not finite: the structure is far from "
            "anything it was trained on;",
            value=energy,
            remedy="look at its distances",
        )
    # stress = virial / V, in the order of Voigt: xx, yy, zz, yz, xz, xy
    if atoms.cell.any() and atoms.cell.rank == 3:  # the rank takes longer
        stress = evaluation.virial / atoms.get_volume()
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return {**results, **_charges_and_dipole(evaluation, atoms)}


def values_as_results(values: Mapping[str, Tensor], atoms: Atoms, card: ModelCard) -> Results:
    """Convert the quantities of one structure, of a model without energies, to results.

    Parameters
    ----------
    values : mapping
        Of :func:`asecalc_ml.model.heads.values.values_of`.
    atoms : Atoms
    card : ModelCard
        Of the model.

    Returns
    -------
    dict
        A float of a scalar, and an array of the quantity's shape otherwise.

    Raises
    ------
    StructureError
        If a value is not finite.
    """
    results: Results = {}
    for name, value in values.items():
        array = value.cpu().numpy()
        if not np.isfinite(array).all():
            check_structure(atoms)  # knows the reason, where atoms have run into each other
            raise StructureError(
                f"model {card.name!r} gives a {name} that is not finite: the structure is far from anything "
                "it was trained on;",
                name=name,
                value=array,
                remedy="look at its distances",
            )
        results[name] = array if array.ndim else float(array)
    return results


def stresses_of(atomic_virials: Tensor, atoms: Atoms) -> np.ndarray:
    """ASE's stresses of atoms, shape (n_atoms, 6), eV/Å³, whose sum is the stress.

    The volume is that of the whole cell, as in ASE's own Lennard-Jones calculator: a stress that belongs to
    the volume of one atom is ``n_atoms`` times as large.

    Parameters
    ----------
    atomic_virials : Tensor, shape (n_atoms, 3, 3), eV
        Of :func:`asecalc_ml.model.derivative.atomic_virials`.
    atoms : Atoms
        In a cell of rank 3.
    """
    return full_3x3_to_voigt_6_stress(atomic_virials.cpu().numpy() / atoms.get_volume())


def need_structure(atoms: Atoms | None) -> None:
    """Refuse a calculation for which no structure was ever given, with a StructureError."""
    if atoms is None:
        raise StructureError(
            "the calculator was given no structure",
            name="atoms",
            remedy="give one, as in `calculator.get_property('energy', atoms)`",
        )


def need_cell(atoms: Atoms, properties: Collection[str]) -> None:
    """Refuse stress and stresses where the cell has no volume, with ASE's PropertyNotImplementedError."""
    asked = [name for name in ("stress", "stresses") if name in properties]
    if asked and atoms.cell.rank < 3:
        raise PropertyNotImplementedError(
            f"{asked[0]} needs a cell of rank 3; this one has rank {atoms.cell.rank}: "
            f"give the cell a vector along every direction, or do not ask for {asked[0]}"
        )


def add_results(results: Sequence[Results]) -> Results:
    """Sum the properties that all parts have; other results of the first part are kept unchanged."""
    first, *others = results
    total = {name: value for name, value in first.items() if name not in PROPERTIES}
    for name in PROPERTIES:
        if all(name in part for part in results):
            total[name] = first[name] + sum(part[name] for part in others)
    return total


def named_by_ase(results: Results) -> Properties:
    """The results that ASE has names for."""
    return Properties({name: value for name, value in results.items() if name in all_outputs})


def _charges_and_dipole(evaluation: SystemArrays, atoms: Atoms) -> Results:
    """Charges in e where the model has them, and the dipole in e Å of what is not periodic."""
    if len(evaluation.charges) == 0:
        return {}
    results = {"charges": evaluation.charges}
    if not atoms.pbc.any():
        results["dipole"] = dipole_of(evaluation.charges, atoms)
    return results
