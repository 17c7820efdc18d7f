"""Learned interatomic potentials as ASE calculators, with training, dynamics protocols and analysis.

>>> from asecalc_ml import MLCalculator
>>> atoms.calc = MLCalculator("torchmdnet-ethanol")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from asecalc_ml import _checkout

if TYPE_CHECKING:
    from asecalc_ml.calculator import MLCalculator

__version__ = "0.1.0"
__all__ = ["MLCalculator", "__version__"]

_checkout.install()


def __getattr__(name: str):
    """Import the calculator, and torch with it, only when somebody asks for it."""
    if name == "MLCalculator":
        from asecalc_ml.calculator import MLCalculator

        return MLCalculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
