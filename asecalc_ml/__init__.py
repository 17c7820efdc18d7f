"""Learned interatomic potentials as ASE calculators, with training, dynamics protocols and analysis.

>>> from asecalc_ml import MLCalculator
>>> atoms.calc = MLCalculator("torchmdnet-ethanol")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from asecalc_ml import _checkout, _moved
from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.calculators.ml_calculator import MLCalculator

__version__ = "0.1.0"
__all__ = ["MLCalculator", "__version__"]

_checkout.install()
_moved.install()

__getattr__ = lazily(__name__, {"MLCalculator": "asecalc_ml.calculators.ml_calculator"})
