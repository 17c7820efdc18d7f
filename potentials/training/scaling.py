"""Scale and shift of a model, from the training labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers as number_of
from torch import Tensor

from asecalc_ml.errors import TrainingError
from asecalc_ml.model import N_ELEMENTS


@dataclass(frozen=True)
class Scaling:
    """Per element: scale (eV) and shift (eV), float64, shape (119,).

    ``degenerate`` says that the shifts are no atomic energies: the data hold one composition, or
    too few to tell elements apart, so that energies compare only within a molecule.
    """

    scale: Tensor
    shift: Tensor
    degenerate: bool


def fit_scaling(frames: Sequence[Atoms], reference_energies: dict[str, float] | None) -> Scaling:
    """Scale: the root mean square force component times 1 Å. Shift: reference energies, else least squares.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled with energy (eV) and forces (eV/Å).
    reference_energies : dict, optional
        Energy of an isolated atom by element symbol, eV.

    Raises
    ------
    TrainingError
        If reference energies are given but not for every element.
    """
    forces = np.concatenate([atoms.get_forces() for atoms in frames])
    scale = torch.full((N_ELEMENTS,), float(np.sqrt((forces**2).mean())), dtype=torch.float64)
    if reference_energies is not None:
        return Scaling(scale, _isolated_atoms(frames, reference_energies), degenerate=False)
    shift, degenerate = _least_squares(frames)
    return Scaling(scale, shift, degenerate)


def _isolated_atoms(frames: Sequence[Atoms], energies: dict[str, float]) -> Tensor:
    missing = sorted({symbol for atoms in frames for symbol in atoms.symbols} - set(energies))
    if missing:
        raise TrainingError(
            f"reference_energies_eV has no entry for {', '.join(missing)}; give every element, or none"
        )
    unknown = sorted(set(energies) - set(number_of))
    if unknown:
        raise TrainingError(f"reference_energies_eV names {', '.join(unknown)}: no element symbol")
    shift = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    for symbol, energy in energies.items():
        shift[number_of[symbol]] = energy
    return shift


def _least_squares(frames: Sequence[Atoms]) -> tuple[Tensor, bool]:
    """Energies per element that fit the total energies best; of all such, those of the smallest norm."""
    elements = np.unique(np.concatenate([atoms.numbers for atoms in frames]))
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in frames], float)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    per_element, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    shift = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    shift[torch.from_numpy(elements.astype(np.int64))] = torch.from_numpy(per_element)
    return shift, bool(rank < len(elements))
