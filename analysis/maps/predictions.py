"""What a model says of structures: last hidden layer, energies, contributions, forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.relevance.source import Source
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, Run
from asecalc_ml.model.derivative import forces
from asecalc_ml.terminal.progress import progress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """One structure.

    Parameters
    ----------
    features : array, shape (n_atoms, n_features)
        The network's last hidden layer.
    value : float
        Energy or property less the reference values of the elements, which no position changes.
    contributions : array, shape (n_atoms,), or None
        Shares of the value, where the readout is a sum or a mean over atoms.
    references : float
        What was taken off: the elements' reference values.
    forces : array, shape (n_atoms, 3), eV/Å, or None
        Minus the slope of an energy; None of another quantity.
    """

    features: np.ndarray
    value: float
    contributions: np.ndarray | None
    references: float
    forces: np.ndarray | None


def predict(source: Source, frames: Sequence[Atoms], quiet: bool) -> list[Prediction]:
    """The network, in float64, on all structures; terms that a card adds are left out."""
    predictions: list[Prediction] = []
    with progress("map", len(frames), quiet, unit="structures") as advance:
        for batch, subject in source.batches(frames):
            predictions += _batch(subject, [len(atoms) for atoms in batch])
            advance(len(batch))
    return predictions


def _batch(subject: ExplainedBatch, sizes: list[int]) -> list[Prediction]:
    run = subject.run()
    n_atoms, output = subject.n_atoms, run.output
    references = subject.per_system(subject.shifts)
    shares = None
    if output.potential.contributions is not None:
        shares = _by_structure(output.atoms[:n_atoms] * subject.weights - subject.shifts, sizes)
    features = _by_structure(output.potential.features[:n_atoms].double(), sizes)
    return [
        Prediction(features[k], value, shares[k] if shares else None, reference, own)
        for k, (value, reference, own) in enumerate(
            zip(
                (run.energies - references).tolist(),
                references.tolist(),
                _forces(run, sizes),
                strict=True,
            )
        )
    ]


def _forces(run: Run, sizes: list[int]) -> Sequence[np.ndarray | None]:
    subject = run.subject
    if not subject.model.predicts_energy:
        return [None] * len(sizes)
    gradient, n_atoms = run.gradient(run.energies), subject.n_atoms
    return _by_structure(forces(gradient, subject.inputs.edge_index, n_atoms + 1)[:n_atoms], sizes)


def _by_structure(values: Tensor, sizes: list[int]) -> list[np.ndarray]:
    return [part.detach().cpu().numpy() for part in values.split(sizes)]
