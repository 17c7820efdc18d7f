"""Quantities that a model predicts: the energy, and other properties of molecules and crystals."""

from asecalc_ml.targets.spec import TargetSpec, parse_targets, registered_target
from asecalc_ml.targets.target import Kind, Pooling, Quantity, TargetOptions

__all__ = ["Kind", "Pooling", "Quantity", "TargetOptions", "TargetSpec", "parse_targets", "registered_target"]
