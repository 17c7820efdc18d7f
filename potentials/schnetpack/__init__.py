"""SchNetPack's architectures, built from its own layers on our edges."""

from asecalc_ml.potentials.schnetpack.options import PaiNN, SchNet

__all__ = ["PaiNN", "SchNet"]
