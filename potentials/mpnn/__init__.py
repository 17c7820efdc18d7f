"""Message passing neural networks: edge network, gated recurrent unit, and attention."""

from asecalc_ml.potentials.mpnn.options import MPNN, MPNNTransformer

__all__ = ["MPNN", "MPNNTransformer"]
