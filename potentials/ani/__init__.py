"""ANI: symmetry functions, and one network for each element."""

from asecalc_ml.potentials.ani.options import ANI

__all__ = ["ANI"]
