"""ASE calculators: learned models, committees, corrections, GFN2-xTB, DFT, and any other by name."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.calculators.factory import (
        CalculatorSpec,
        describe_calculator,
        identity,
        make_calculator,
        modules_named,
        modules_of,
        packages_of,
        sources_of,
        versions_of,
    )

__all__ = [
    "CalculatorSpec",
    "describe_calculator",
    "identity",
    "make_calculator",
    "modules_named",
    "modules_of",
    "packages_of",
    "sources_of",
    "versions_of",
]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.calculators.factory"))
