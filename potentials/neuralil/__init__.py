"""NeuralIL, spherical Bessel descriptors and one network for all elements."""

from asecalc_ml.potentials.neuralil.options import NeuralIL

__all__ = ["NeuralIL"]
