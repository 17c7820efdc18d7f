"""JAT, graph attention from embedded elements and distances alone."""

from asecalc_ml.potentials.jat.options import JAT

__all__ = ["JAT"]
