"""PhysNet: energies, partial charges and dipoles."""

from asecalc_ml.potentials.physnet.options import PhysNet

__all__ = ["PhysNet"]
