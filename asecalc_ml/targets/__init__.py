"""Quantities that a model predicts: the energy, and other properties of molecules and crystals."""

from asecalc_ml.targets.spec import TargetSpec, parse_targets, registered_target
from asecalc_ml.targets.target import Kind, Pooling, Quantity, Target

__all__ = ["Kind", "Pooling", "Quantity", "Target", "TargetSpec", "parse_targets", "registered_target"]
