"""Objectives of a hyperparameter search: plugins that give a number for a trained model."""

from asecalc_ml.objectives.objective import ObjectiveOptions, TrainedModel

__all__ = ["ObjectiveOptions", "TrainedModel"]
