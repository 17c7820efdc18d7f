"""Errors by group of frames, beside two predictors that have learned nothing of the structure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase import Atoms

from asecalc_ml.potentials.datasets.labels import with_label
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.store.card import Metrics

NO_VALUE = "-"
COLUMNS = ("frames", "forces MAE", "RMSE, meV/Å", "energy MAE", "RMSE, meV/atom")


def zero_errors(frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a predictor of zero forces: none of energies, whose zero is arbitrary; components in eV/Å."""
    return np.empty(0), -_components(frames)


def mean_errors(training: Sequence[Atoms], frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a predictor that knows the training labels' means, and no positions.

    Its energy is a sum of energies per element, fitted by least squares. Its force on an atom is the mean of
    the training frames: of the atom with the same number where all frames list the same elements in the same
    order, of the element otherwise; zero for an element that the training frames do not have.

    Returns
    -------
    tuple of ndarray
        Energies per atom of the frames that have an energy, eV; force components of those that have forces,
        eV/Å.
    """
    shift = fit_scaling(training, None).shift
    with_energy = with_label(frames, "energy")
    energies = [float(shift[atoms.numbers].sum()) - atoms.get_potential_energy() for atoms in with_energy]
    per_atom = np.array(energies) / [len(atoms) for atoms in with_energy]
    labelled, known = with_label(frames, "forces"), with_label(training, "forces")
    if not labelled or not known:
        return per_atom, np.empty(0)
    mean = _mean_forces(known, labelled)
    return per_atom, np.concatenate([mean(atoms).ravel() for atoms in labelled]) - _components(labelled)


def worse_than_baselines(
    metrics: Metrics, training: Sequence[Atoms], test: Sequence[Atoms], fitted: Sequence[str]
) -> list[str]:
    """Sentences on fitted labels that a predictor without structure predicts as well or better.

    Root mean square errors are compared: of energies with a least-squares sum of one energy per element
    of the training frames, of forces with zero.

    Parameters
    ----------
    metrics : Metrics
        The model's errors on the test frames.
    training, test : sequence of Atoms
    fitted : sequence of str
        Labels that the loss had.
    """
    energies, _ = mean_errors(training, test)
    _, forces = zero_errors(test)
    compared = {
        "energy": (metrics.energy_rmse_meV_atom, energies, "meV/atom", "a sum of one energy per element"),
        "forces": (metrics.forces_rmse_meV_A, forces, "meV/Å", "zero forces"),
    }
    sentences = []
    for label, (model, errors, unit, baseline) in compared.items():
        alone = 1000 * float(np.sqrt((errors**2).mean())) if len(errors) else None
        if label in fitted and None not in (model, alone) and not model < alone:
            sentences.append(
                f"The model has learned nothing of the {label}: its root mean square error on the test "
                f"frames, {model:.4g} {unit}, is not below that of {baseline}, {alone:.4g} {unit}. Check the "
                "labels, train longer, or change the learning rate."
            )
    return sentences


def _mean_forces(training: Sequence[Atoms], frames: Sequence[Atoms]) -> Callable[[Atoms], np.ndarray]:
    """Mean training force on each atom of a frame, shape (n_atoms, 3), eV/Å."""
    if len({tuple(atoms.numbers) for atoms in (*training, *frames)}) == 1:
        by_atom = np.mean([atoms.get_forces() for atoms in training], axis=0)
        return lambda atoms: by_atom
    # frames with other atoms or another order: the mean of each element, zero for unknown ones
    numbers = np.concatenate([atoms.numbers for atoms in training])
    forces = np.concatenate([atoms.get_forces() for atoms in training])
    by_element = np.zeros((numbers.max() + 1, 3))
    for z in np.unique(numbers):
        by_element[z] = forces[numbers == z].mean(axis=0)
    return lambda atoms: (
        by_element[np.minimum(atoms.numbers, len(by_element) - 1)]
        * np.isin(atoms.numbers, numbers).reshape(-1, 1)
    )


def _components(frames: Sequence[Atoms]) -> np.ndarray:
    parts = [atoms.calc.results["forces"].ravel() for atoms in with_label(frames, "forces")]
    return np.concatenate(parts) if parts else np.empty(0)


#: Energy errors per atom (eV) and force errors (eV/Å) of one predictor.
Pair = tuple[np.ndarray, np.ndarray]


def table(errors: Mapping[str, Mapping[str, Pair]], n_frames: Mapping[str, str]) -> list[str]:
    """Lines of a table: each group of frames with each predictor.

    Parameters
    ----------
    errors : mapping
        By group, then by predictor.
    n_frames : mapping
        Frames of each group, in words.
    """
    rows = [("", "", *COLUMNS)]
    for group, by_predictor in errors.items():
        for predictor, (per_atom, forces) in by_predictor.items():
            cells = (*_mae_and_rmse(forces), *_mae_and_rmse(per_atom))
            if set(cells) != {NO_VALUE}:  # as of zero forces where the data have none
                rows.append((group, predictor, n_frames[group], *cells))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  " + _line(row, widths) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
    numbers = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join([*texts, *numbers])


def _mae_and_rmse(values: np.ndarray) -> tuple[str, str]:
    """In thousandths of the unit."""
    if len(values) == 0:
        return NO_VALUE, NO_VALUE
    return f"{1000 * np.abs(values).mean():.2f}", f"{1000 * np.sqrt((values**2).mean()):.2f}"
