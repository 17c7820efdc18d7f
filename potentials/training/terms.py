"""Analytic terms that a model is trained on top of: it learns what they leave of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from asecalc_ml.calculators.corrections import correction_calculators
from asecalc_ml.calculators.protocol import results_of_part


def less_terms(frames: Sequence[Atoms], corrections: Sequence[Any]) -> list[Atoms]:
    """Frames with labels less the terms.

    Parameters
    ----------
    frames : sequence of Atoms
        With energy (eV), forces (eV/Å), and stress (eV/Å³) where they have one, in their calculators; they
        are left as they are. A dipole stays as it is.
    corrections : sequence
        As a card names them; see :class:`asecalc_ml.calculators.corrections.Corrected`.
    """
    terms = correction_calculators(corrections)
    return [_less(atoms, terms) for atoms in frames] if terms else list(frames)


def _less(atoms: Atoms, terms: Sequence) -> Atoms:
    labels = {name: value for name, value in atoms.calc.results.items() if name in (*_LABELS, "dipole")}
    for term in terms:
        found = results_of_part(term, atoms, ("forces", "energy"))
        labels.update({name: labels[name] - found[name] for name in _LABELS if name in labels})
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **labels)
    return copy


_LABELS = ("energy", "forces", "stress")
