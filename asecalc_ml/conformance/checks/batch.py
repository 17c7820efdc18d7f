"""Many structures at once against one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asecalc_ml.calculators.protocol import offers
from asecalc_ml.conformance.checks.few_atoms import side_by_side
from asecalc_ml.conformance.deviations import deviations
from asecalc_ml.conformance.result import Measured, NotApplicableError
from asecalc_ml.conformance.subject import CalculatorUnderTest


def batch(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Structures of different size in one call, and the same structures alone."""
    if not offers(subject.calculator, "calculate_many"):
        raise NotApplicableError("no calculate_many(structures)")
    molecule = subject.molecule
    larger = side_by_side(molecule, np.array([0.0, 0.0, np.ptp(molecule.positions[:, 2]) + 3.0]))
    smaller = molecule[: max(1, len(molecule) // 2)]
    smaller.info = dict(molecule.info)
    structures = [molecule, larger, *list(subject.bodies())[1:], smaller, molecule]
    together = subject.calculator.calculate_many([atoms.copy() for atoms in structures])
    if len(together) != len(structures):
        raise ValueError(f"{len(together)} results for {len(structures)} structures")
    for atoms, results in zip(structures, together, strict=True):
        yield from deviations(results, subject.everything(atoms), subject.bounds_of(atoms), len(atoms))
