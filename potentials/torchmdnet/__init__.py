"""TorchMD-NET's architectures, built from its own layers on our edges."""

from asecalc_ml.potentials.torchmdnet.options import EquivariantTransformer, GraphNetwork, TensorNet

__all__ = ["EquivariantTransformer", "GraphNetwork", "TensorNet"]
