"""From a graph to energies, forces and stress: potentials, models and how they are run."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.model.model import N_ELEMENTS, Model, ModelOutput, Pooling

__all__ = ["N_ELEMENTS", "Model", "ModelOutput", "Pooling"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.model.model"))
