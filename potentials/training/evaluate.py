"""Errors of a model on labelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from asecalc_ml.card import Metrics
from asecalc_ml.evaluator import Evaluator
from asecalc_ml.graph import AtomGraph, collate
from asecalc_ml.model import Model

FRAMES_AT_ONCE = 50


@dataclass(frozen=True)
class Errors:
    """Predicted minus labelled: energies (n_frames,), eV, and all force components, eV/Å."""

    energy: np.ndarray
    forces: np.ndarray

    def metrics(self) -> Metrics:
        """Mean absolute and root mean square errors, in meV and meV/Å."""
        return Metrics(
            n_frames=len(self.energy),
            energy_mae_meV=1000 * float(np.abs(self.energy).mean()),
            energy_rmse_meV=1000 * float(np.sqrt((self.energy**2).mean())),
            forces_mae_meV_A=1000 * float(np.abs(self.forces).mean()),
            forces_rmse_meV_A=1000 * float(np.sqrt((self.forces**2).mean())),
        )


def evaluate(model: Model, frames: Sequence[Atoms]) -> Errors:
    """Errors on labelled frames, as dynamics would see them: the evaluator, float64 sums, no averaging.

    Parameters
    ----------
    model : Model
    frames : sequence of Atoms
        With energies (eV) and forces (eV/Å) in their calculators.
    """
    evaluator = Evaluator(model, "eager")
    energy, forces = [], []
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = frames[start : start + FRAMES_AT_ONCE]
        graph = collate([AtomGraph.from_atoms(atoms, model.potential.cutoff) for atoms in part])
        evaluation = evaluator(graph)
        energy.append(evaluation.energy.cpu().numpy() - [atoms.get_potential_energy() for atoms in part])
        forces.append(evaluation.forces.cpu().numpy() - np.concatenate([atoms.get_forces() for atoms in part]))
    return Errors(np.concatenate(energy), np.concatenate(forces).ravel())
