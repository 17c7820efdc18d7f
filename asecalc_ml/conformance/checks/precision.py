"""Rounding of the energy, against what the calculator's own precision allows."""

from __future__ import annotations

from collections.abc import Iterator

from asecalc_ml.conformance.bounds import BOUNDS
from asecalc_ml.conformance.result import Measured
from asecalc_ml.conformance.subject import CalculatorUnderTest


def rounding(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Scatter of the energy along a short line; a float32 on the way of a float64 shows here."""
    n_atoms = len(subject.molecule)
    dtype = subject.declared_dtype or subject.dtype
    note = f"{dtype}, as {'declared' if subject.declared_dtype else 'measured'}"
    yield Measured(subject.noise_eV / n_atoms, BOUNDS[dtype].noise_eV_atom, "eV/atom", note)
