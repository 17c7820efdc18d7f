"""Checkpoints of other packages become registered models."""

from asecalc_ml.potentials.importing.options import SchNetPackImport, TorchMDNetImport

__all__ = ["SchNetPackImport", "TorchMDNetImport"]
