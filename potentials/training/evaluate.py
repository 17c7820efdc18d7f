"""Errors of a model on labelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from asecalc_ml.calculator import check_trained
from asecalc_ml.card import Metrics, ModelCard
from asecalc_ml.errors import DatasetError
from asecalc_ml.evaluator import Evaluator
from asecalc_ml.golden import check_golden
from asecalc_ml.graph import AtomGraph, collate
from asecalc_ml.model import Model
from asecalc_ml.model_file import read_model
from asecalc_ml.potentials.datasets import DatasetOptions, dataset
from asecalc_ml.registry import Registry

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
        forces.append(
            evaluation.forces.cpu().numpy() - np.concatenate([atoms.get_forces() for atoms in part])
        )
    return Errors(np.concatenate(energy), np.concatenate(forces).ravel())


@dataclass(frozen=True)
class ModelEvaluation:
    """Errors of a registered model on a data set, beside those its card states."""

    model: str
    data: str
    metrics: Metrics
    card_metrics: Metrics | None

    def __str__(self) -> str:
        lines = [f"{self.model} on {self.data}, {self.metrics.n_frames} frames"]
        for field, info in Metrics.model_fields.items():
            if field != "n_frames":
                lines.append(
                    f"  {info.description:<55} {getattr(self.metrics, field):9.2f}{self._stated(field)}"
                )
        return "\n".join(lines)

    def _stated(self, field: str) -> str:
        return "" if self.card_metrics is None else f"   (card: {getattr(self.card_metrics, field):.2f})"


def evaluate_model(name: str, data: DatasetOptions | None = None) -> ModelEvaluation:
    """Measure a registered model's errors.

    Parameters
    ----------
    name : str
        As :meth:`asecalc_ml.registry.Registry.find` resolves it.
    data : DatasetOptions, optional
        Labelled frames; the test data of the model's training if not given.

    Raises
    ------
    ModelError, DatasetError, StructureError
        If the model or the data are missing or damaged, or the data hold elements, a charge or a spin that
        the model was not trained on.
    """
    entry = Registry().find(name)
    model, card = read_model(entry.path)
    check_golden(model, card, entry.hash)
    reader = data or _training_test_data(card)
    frames = reader.read()
    for atoms in frames:
        check_trained(atoms, card)
    return ModelEvaluation(card.name, reader.label, evaluate(model, frames).metrics(), card.metrics)


def _training_test_data(card: ModelCard) -> DatasetOptions:
    options = card.options.get("test_data")
    if options is None:
        raise DatasetError(
            f"the card of {card.name!r} names no test data; give a file: asecalc-ml eval NAME DATA"
        )
    reader = dataset(options)
    if not reader.path.is_file():
        raise DatasetError(
            f"the test data of {card.name!r}, {reader.path}, are not in {Path.cwd()}: give a file "
            f"(asecalc-ml eval {card.name} DATA), or make this one with `asecalc-ml data fetch` or "
            "`asecalc-ml data generate`"
        )
    return reader
