"""Labels structures that somebody else chose, such as the flagged frames of a run."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import ConfigError, DatasetError, continued_by
from asecalc_ml.potentials.datasets.extxyz import check_target, write_extxyz
from asecalc_ml.potentials.datasets.generation.label_record import LabelRecord, Labels
from asecalc_ml.potentials.datasets.labels import LABELS
from asecalc_ml.store.card import formula_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import BaseCalculator

    from asecalc_ml.calculators.factory import CalculatorSpec
    from asecalc_ml.calculators.results import Results


def label_file(
    path: Path,
    reference: CalculatorSpec,
    output: Path,
    overwrite: bool = False,
    quiet: bool = False,
    strict: bool = False,
    targets: Sequence[str] = (),
) -> int:
    """Energies and forces of the structures in a file, and further targets, written as extended XYZ.

    A structure whose positions or cell are not finite, or on which the reference fails, is left out, and a
    warning says so. Forces are written where the reference has them, stress where it has one and a cell has a
    volume. Structures are computed together where the reference can.

    Labels are kept on disk, beside ``output``, as soon as they are computed. After an interruption or with a
    full disk the same call continues from there.

    Parameters
    ----------
    path : Path
        Anything that ASE reads; ``info`` of each structure is kept, with the charge and the spin that were
        computed (:mod:`asecalc_ml.structure.charge_and_spin`).
    reference : str or mapping
        As for :func:`asecalc_ml.calculators.factory.make_calculator`.
    output : Path
        Appears whole or not at all, and the labels beside it go.
    overwrite : bool
        Replace ``output`` where it exists.
    quiet : bool
        Show no progress, and no summary of the labels.
    strict : bool
        Raise an error where the labels contradict themselves, after the file is written.
    targets : sequence of str
        Names of registered targets that the reference also gives, in their units: ``dipole``, and of
        gfn2-xtb ``homo``, ``lumo``, ``gap`` and ``polarizability``. All but the dipole go to ``info``.

    Returns
    -------
    int
        Number of structures that were labelled.

    Raises
    ------
    DatasetError
        If the file cannot be read or written, the reference fails on every structure, labels of another
        reference lie beside ``output``, or labels contradict themselves and ``strict`` is true.
    ModelError, ConfigError
        If there is no such reference.
    StructureError
        If a frame's charge or spin is no whole number.
    """
    from asecalc_ml.calculators.factory import describe_calculator, make_calculator
    from asecalc_ml.calculators.protocol import need_energies
    from asecalc_ml.potentials.datasets.label_checks import examine
    from asecalc_ml.structure.files.structure_file import read_structures
    from asecalc_ml.terminal.console import print_line

    check_target(output, overwrite)
    if not path.is_file():
        raise DatasetError(
            f"cannot read {path}: there is no such file (looked in {Path.cwd()});",
            name=str(path),
            remedy="correct its name",
        )
    calculator = make_calculator(reference)
    need_energies(calculator, "Labelling")
    _check_targets(calculator, targets)
    structures = read_structures(path)
    described = describe_calculator(calculator)
    record = LabelRecord(output, {**described, "targets": list(targets)} if targets else described)
    if len(record) and not quiet:
        print_line(f"{len(record)} labels of an interrupted labelling are taken from {record.path}")
    with contextlib.closing(record), continued_by(lambda: record.kept):
        labelled, failures = _all_labelled(structures, calculator, record, path.name, quiet, targets)
        _tell(failures, len(structures), path)
        _warn_of_energies_without_zero(labelled, calculator, path)
        _write(output, labelled, record)
    record.remove()
    try:
        examine({output.name: labelled}).show(quiet, strict)
    except DatasetError as error:
        raise error.at(f"{output} is written") from None
    return len(labelled)


def _check_targets(calculator: BaseCalculator, targets: Sequence[str]) -> None:
    """Refuse targets that the reference does not give."""
    from asecalc_ml.calculators.protocol import offered
    from asecalc_ml.targets import registered_target

    offers = offered(calculator).implemented_properties
    for name in targets:
        registered_target(name)
        if name not in offers:
            raise ConfigError(
                f"the reference gives no {name}",
                name="targets",
                value=name,
                allowed=list(offers),
                remedy=f"it gives {', '.join(offers)}",
            )


def _all_labelled(
    structures: list[Atoms],
    calculator: BaseCalculator,
    record: LabelRecord,
    name: str,
    quiet: bool,
    targets: Sequence[str],
) -> tuple[list[Atoms], list[str]]:
    """Structures with labels, and what went wrong with the others."""
    from asecalc_ml.calculators.batches.many import batches
    from asecalc_ml.terminal.progress import progress

    labelled, failures = [], []
    with progress(f"labelling {name}", len(structures), quiet, unit="structures") as advance:
        numbered = enumerate(structures)
        for batch in batches(calculator, numbered, n_atoms=lambda pair: len(pair[1])):
            computed = _on_record(batch, calculator, record, targets)
            for (number, atoms), labels in zip(batch, computed, strict=True):
                if isinstance(labels, Exception):
                    failures.append(f"structure {number}: {labels or type(labels).__name__}")
                else:
                    labelled.append(_labelled(atoms, labels))
            advance(len(batch))
    return labelled, failures


def _on_record(
    batch: Sequence[tuple[int, Atoms]],
    calculator: BaseCalculator,
    record: LabelRecord,
    targets: Sequence[str],
) -> list[Labels | Exception]:
    """Labels of a batch of structures with their numbers.

    All are computed unless all are on record, so that a labelling that was interrupted within a batch gives
    the same digits.
    """
    kept = {number: labels for number, atoms in batch if (labels := record.find(number, atoms)) is not None}
    if len(kept) == len(batch):
        return [kept[number] for number, _ in batch]
    computed = _computed([atoms for _, atoms in batch], calculator, targets)
    for (number, atoms), of_structure in zip(batch, computed, strict=True):
        if number not in kept and not isinstance(of_structure, Exception):
            record.add(number, atoms, of_structure)
    return [kept.get(number, of_structure) for (number, _), of_structure in zip(batch, computed, strict=True)]


def _computed(
    structures: Sequence[Atoms], calculator: BaseCalculator, targets: Sequence[str]
) -> list[Labels | Exception]:
    """Labels of each structure, or why it has none."""
    from asecalc_ml.calculators.batches.many import results_of_each
    from asecalc_ml.calculators.protocol import offered

    offers = offered(calculator).implemented_properties
    properties = [*targets, "energy", *(name for name in ("forces", "stress") if name in offers)]
    problems = [_not_finite({"positions": a.positions, "cell": a.cell.array}) for a in structures]
    finite = [_bare(atoms) for atoms, problem in zip(structures, problems, strict=True) if problem is None]
    results = iter(results_of_each(calculator, finite, properties))
    return [_labels(next(results), properties) if problem is None else problem for problem in problems]


def _bare(atoms: Atoms) -> Atoms:
    """A copy without constraints, which would hide forces."""
    copy = atoms.copy()
    copy.set_constraint()
    return copy


def _labels(results: Results | Exception, properties: Sequence[str]) -> Labels | Exception:
    """What is kept of a calculation."""
    from ase.stress import full_3x3_to_voigt_6_stress

    if isinstance(results, Exception):
        return results
    labels = {name: np.asarray(results[name], dtype=float) for name in properties if name in results}
    labels["energy"] = labels["energy"].squeeze()  # some calculators give an array of one
    if "stress" in labels and labels["stress"].shape == (3, 3):
        labels["stress"] = full_3x3_to_voigt_6_stress(labels["stress"])
    return _not_finite(labels) or {name: values.tolist() for name, values in labels.items()}


def _labelled(atoms: Atoms, labels: Labels) -> Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator

    results = {name: value for name, value in labels.items() if name in LABELS}
    atoms.info |= {name: np.array(value) for name, value in labels.items() if name not in LABELS}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _write(output: Path, labelled: list[Atoms], record: LabelRecord) -> None:
    try:
        write_extxyz(output, labelled)
    except DatasetError as error:
        raise DatasetError(
            error.problem, name=error.name, remedy=f"Free space. {record.kept}".rstrip()
        ) from error


def _not_finite(quantities: Mapping[str, np.ndarray]) -> DatasetError | None:
    """What is wrong with numbers of a structure; None if all are finite."""
    for name, values in quantities.items():
        if not np.isfinite(values).all():
            return DatasetError(f"{name} not finite", name=name)
    return None


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
