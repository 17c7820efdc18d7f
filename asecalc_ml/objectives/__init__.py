"""Objectives of a hyperparameter search, plugins that give a number for a trained model; its record."""

from asecalc_ml.objectives.objective import ObjectiveOptions, TrainedModel
from asecalc_ml.objectives.search_record import (
    SearchedObjective,
    SearchedParameter,
    SearchRecord,
    TrialRecord,
)

__all__ = [
    "ObjectiveOptions",
    "SearchRecord",
    "SearchedObjective",
    "SearchedParameter",
    "TrainedModel",
    "TrialRecord",
]
