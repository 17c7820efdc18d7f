"""DimeNet++: directional messages between atoms."""

from asecalc_ml.potentials.dimenet.options import DimeNetPlusPlus

__all__ = ["DimeNetPlusPlus"]
