"""QM9: 130,831 molecules with twelve properties, from the package qm9pack or its original files."""

from asecalc_ml.potentials.datasets.readers.qm9.options import QM9

__all__ = ["QM9"]
