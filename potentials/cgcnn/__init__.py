"""The crystal graph convolutional neural network."""

from asecalc_ml.potentials.cgcnn.options import CGCNN

__all__ = ["CGCNN"]
