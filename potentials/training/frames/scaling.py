"""Scale and shift of a model, from the training labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.model.model import N_ELEMENTS
from asecalc_ml.potentials.datasets.labels import label_of, with_label


@dataclass(frozen=True)
class Scaling:
    """Per element: scale (eV) and shift (eV), float64, shape (119,).

    ``degenerate`` says that the shifts are no atomic energies: the data hold one composition, or
    too few to tell elements apart, so that energies of other compositions have no zero. Of several targets
    scale and shift have a row for each; ``spreads`` are those of the labels of targets other than the energy.
    """

    scale: Tensor
    shift: Tensor
    degenerate: bool
    spreads: tuple[float, ...] = ()


def fit_scaling(frames: Sequence[Atoms], reference_energies: dict[str, float] | None) -> Scaling:
    """Scale: the root mean square force component times 1 Å. Shift: reference energies, else least squares.

    Labels that a frame lacks are left out. Where no frame has forces, the scale is the root mean square of
    (E − shifts) / √N.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled with energy (eV) and forces (eV/Å), where they have them.
    reference_energies : dict, optional
        Energy of an isolated atom by element symbol, eV.

    Raises
    ------
    TrainingError
        If reference energies are given but not for every element.
    """
    # Energies of isolated atoms, or energies per element that fit the total energies best.
    if reference_energies is not None:
        shift, degenerate = isolated_atoms(frames, reference_energies), False
    else:
        labelled = with_label(frames, "energy")
        shift, degenerate = least_squares(labelled, _energies(labelled), elements_of(frames))
    # One scale for all elements, from what the contributions have to explain.
    size = _size_of_labels(frames, shift)
    return Scaling(torch.full((N_ELEMENTS,), size, dtype=torch.float64), shift, degenerate)


def missing_shift(frames: Sequence[Atoms], predicted: np.ndarray) -> Tensor:
    """What to add to the shifts of a model that was fitted to forces alone, shape (119,), eV.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled with energy, eV.
    predicted : ndarray, shape (n_frames,), eV
        The model's energies.
    """
    return least_squares(frames, _energies(frames) - predicted, elements_of(frames))[0]


def _energies(frames: Sequence[Atoms]) -> np.ndarray:
    return np.array([label_of(atoms, "energy") for atoms in frames])


def elements_of(frames: Sequence[Atoms]) -> np.ndarray:
    """Atomic numbers that occur, ascending."""
    return np.unique(np.concatenate([atoms.numbers for atoms in frames]))


def _size_of_labels(frames: Sequence[Atoms], shift: Tensor) -> float:
    """Root mean square of what the contributions have to explain; 1 where that is nothing."""
    if with_forces := with_label(frames, "forces"):
        labels = np.concatenate([label_of(atoms, "forces") for atoms in with_forces])
    else:
        with_energy = with_label(frames, "energy")
        # E less the shifts grows with √N for contributions that are independent of each other.
        left = _energies(with_energy) - [float(shift[atoms.numbers].sum()) for atoms in with_energy]
        labels = left / np.sqrt([len(atoms) for atoms in with_energy])
    return float(np.sqrt((labels**2).mean())) or 1.0


def isolated_atoms(
    frames: Sequence[Atoms], energies: dict[str, float], option: str = "reference_energies_eV"
) -> Tensor:
    """Values of isolated atoms by atomic number, shape (119,), from those by element symbol.

    Raises
    ------
    TrainingError
        If an element of the frames is missing, or a name is no element.
    """
    missing = sorted({chemical_symbols[number] for number in elements_of(frames)} - set(energies))
    if missing:
        raise TrainingError(
            f"{option} has no entry for {', '.join(missing)}",
            name=option,
            value=sorted(energies),
            allowed=sorted({*energies, *missing}),
            remedy="give every element, or none",
        )
    unknown = sorted(set(energies) - set(number_of))
    if unknown:
        raise TrainingError(
            f"{option} names {', '.join(unknown)}, which is no element",
            name=option,
            value=unknown,
            allowed="element symbols",
            remedy="give element symbols, such as H",
        )
    shift = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    for symbol, energy in energies.items():
        shift[number_of[symbol]] = energy
    return shift


def least_squares(frames: Sequence[Atoms], energies: np.ndarray, elements: np.ndarray) -> tuple[Tensor, bool]:
    """Energies per element that fit total energies best; of all such, those of the smallest norm."""
    # E_frame ≈ Σ_Z n_Z e_Z, with n_Z the number of atoms of element Z in the frame.
    counts = np.array([np.bincount(atoms.numbers, minlength=N_ELEMENTS)[elements] for atoms in frames], float)
    per_element, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    shift = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    shift[torch.from_numpy(elements.astype(np.int64))] = torch.from_numpy(per_element)
    # Fewer independent compositions than elements leave the energies per element undetermined.
    return shift, bool(rank < len(elements))
