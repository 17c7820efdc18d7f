"""Quantities that a model predicts: the energy, and other properties of molecules and crystals."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.targets.spec import TargetSpec, parse_targets, registered_target
    from asecalc_ml.targets.target import Kind, Pooling, Quantity, TargetOptions

__all__ = [
    "Kind",
    "Pooling",
    "Quantity",
    "TargetOptions",
    "TargetSpec",
    "parse_targets",
    "registered_target",
]

_OF_SPECS = ("TargetSpec", "parse_targets", "registered_target")
__getattr__ = lazily(
    __name__,
    dict.fromkeys(__all__, "asecalc_ml.targets.target") | dict.fromkeys(_OF_SPECS, "asecalc_ml.targets.spec"),
)
