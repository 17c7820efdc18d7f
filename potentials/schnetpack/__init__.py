"""SchNetPack's architectures, built from its own layers on our edges."""

from asecalc_ml.potentials.schnetpack.options import PaiNN, SchNet, SO3net

__all__ = ["PaiNN", "SO3net", "SchNet"]
