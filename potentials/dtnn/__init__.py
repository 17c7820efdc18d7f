"""The deep tensor neural network."""

from asecalc_ml.potentials.dtnn.options import DTNN

__all__ = ["DTNN"]
