"""Crystals in CIF files with a table of properties: folders for CGCNN, hMOF, CoRE MOF."""

from asecalc_ml.potentials.datasets.readers.cif_csv.options import CifCsv

__all__ = ["CifCsv"]
