"""Labels structures that somebody else chose, such as the flagged frames of a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.extxyz import check_target, write_extxyz
from asecalc_ml.store.card import formula_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import BaseCalculator

    from asecalc_ml.calculators.factory import CalculatorSpec


def label_file(
    path: Path,
    reference: CalculatorSpec,
    output: Path,
    overwrite: bool = False,
    quiet: bool = False,
    strict: bool = False,
) -> int:
    """Energies and forces of the structures in a file, written as extended XYZ.

    A structure whose positions or cell are not finite, or on which the reference fails, is left out, and a
    warning says so. Forces are written where the reference has them, stress where it has one and a cell has a
    volume.

    Parameters
    ----------
    path : Path
        Anything that ASE reads; ``info`` of each structure is kept, with the charge and the spin that were
        computed (:mod:`asecalc_ml.structure.charge_and_spin`).
    reference : str or mapping
        As for :func:`asecalc_ml.calculators.factory.make_calculator`.
    output : Path
        Appears whole or not at all.
    overwrite : bool
        Replace ``output`` where it exists.
    quiet : bool
        Show no progress, and no summary of the labels.
    strict : bool
        Raise an error where the labels contradict themselves, after the file is written.

    Returns
    -------
    int
        Number of structures that were labelled.

    Raises
    ------
    DatasetError
        If the file cannot be read or written, the reference fails on every structure, or labels contradict
        themselves and ``strict`` is true.
    ModelError, ConfigError
        If there is no such reference.
    StructureError
        If a frame's charge or spin is no whole number.
    """
    from asecalc_ml.calculators.factory import make_calculator
    from asecalc_ml.potentials.datasets.label_checks import examine
    from asecalc_ml.structure.files.structure_file import read_structures
    from asecalc_ml.terminal.progress import progress

    check_target(output, overwrite)
    if not path.is_file():
        raise DatasetError(
            f"cannot read {path}: there is no such file (looked in {Path.cwd()});",
            name=str(path),
            remedy="correct its name",
        )
    structures, calculator = read_structures(path), make_calculator(reference)
    labelled, failures = [], []
    with progress(f"labelling {path.name}", len(structures), quiet, unit="structures") as advance:
        for number, atoms in enumerate(structures):
            try:
                labelled.append(_labelled(atoms, calculator))
            except Exception as error:  # a reference of another package may raise anything
                failures.append(f"structure {number}: {error or type(error).__name__}")
            advance(1)
    _tell(failures, len(structures), path)
    _warn_of_energies_without_zero(labelled, calculator, path)
    write_extxyz(output, labelled)
    try:
        examine({output.name: labelled}).show(quiet, strict)
    except DatasetError as error:
        raise error.at(f"{output} is written") from None
    return len(labelled)


def _labelled(atoms: Atoms, calculator: BaseCalculator) -> Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator

    from asecalc_ml.calculators.protocol import offered

    _check_finite({"positions": atoms.positions, "cell": atoms.cell.array})
    constraints = atoms.constraints
    atoms.set_constraint()  # it would hide forces
    atoms.calc = calculator
    labels = {"energy": atoms.get_potential_energy()}
    if "forces" in offered(calculator).implemented_properties:
        labels["forces"] = atoms.get_forces()
    if atoms.cell.rank == 3 and "stress" in offered(calculator).implemented_properties:
        labels["stress"] = atoms.get_stress()
    _check_finite(labels)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.set_constraint(constraints)
    return atoms


def _check_finite(quantities: Mapping[str, float | np.ndarray]) -> None:
    for name, values in quantities.items():
        if not np.isfinite(values).all():
            raise DatasetError(f"{name} not finite", name=name)


def _warn_of_energies_without_zero(frames: list[Atoms], calculator: BaseCalculator, path: Path) -> None:
    """Warn where a model's energies of a composition are meaningless, as its card says."""
    from asecalc_ml.calculators.protocol import offered

    card = offered(calculator).card
    if card is None:
        return
    unknown = {formula_of(atoms.numbers) for atoms in frames if not card.knows_energies_of(atoms.numbers)}
    if unknown:
        warnings.warn(
            f"{path}: energies of {', '.join(sorted(unknown))} have no zero, since the data of {card.name!r} "
            "cannot tell its elements apart: use forces alone, or another reference",
            stacklevel=3,
        )


def _tell(failures: list[str], n_structures: int, path: Path) -> None:
    if len(failures) == n_structures:
        reason = failures[0] if failures else "it holds no structure"
        raise DatasetError(f"nothing in {path} could be labelled ({reason})", name=str(path))
    if failures:
        warnings.warn(
            f"{len(failures)} of {n_structures} structures are left out; {failures[0]}", stacklevel=3
        )
