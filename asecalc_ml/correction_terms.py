"""ASE calculators of single analytic terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree

from asecalc_ml.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from asecalc_ml.corrections import Dispersion, Repulsion

D3_CUTOFF_A = 60 * Bohr  # simple-dftd3's own for pairs, the longest of its cutoffs


class Term(Calculator):
    """Base: energy, energies, forces and stress of what depends on nothing but positions and cell."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results, virial = self._evaluate("energies" in properties)
        self.results["free_energy"] = self.results["energy"]
        if self.atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / self.atoms.get_volume())
        elif "stress" in properties:
            raise PropertyNotImplementedError("stress needs a cell of rank 3")

    def _evaluate(self, with_energies: bool) -> tuple[dict, np.ndarray]:
        """Results without stress, and the virial, shape (3, 3), eV."""
        raise NotImplementedError


class PotentialCalculator(Term):
    """A potential without trained parameters, in float64."""

    def __init__(self, options: Repulsion):
        from asecalc_ml.evaluator import Evaluator
        from asecalc_ml.model import Model

        super().__init__()
        self._evaluator = Evaluator(Model(options.build()))

    def _evaluate(self, with_energies: bool) -> tuple[dict, np.ndarray]:
        from asecalc_ml.graph import AtomGraph

        found = self._evaluator(AtomGraph.from_atoms(self.atoms, self._evaluator.model.potential.cutoff))
        results = {
            "energy": float(found.energy[0]),
            "energies": found.energies.numpy(),
            "forces": found.forces.numpy(),
        }
        return results, found.virial[0].numpy()


class D3Calculator(Term):
    """D3 dispersion by simple-dftd3.

    Its own ASE calculator is not used: in cells with both periodic and other directions the library
    moves atoms into the cell along all of them, which takes molecules and slabs apart
    (version 1.7.0), and ASE's bare slabs have no cell there. These directions get a vacuum wider than the
    library's cutoffs, which changes nothing else.
    """

    packages = ("dftd3",)

    def __init__(self, options: Dispersion):
        super().__init__()
        self._damping = _damping(options)

    def _evaluate(self, with_energies: bool) -> tuple[dict, np.ndarray]:
        model = self._model()
        found = model.get_dispersion(self._damping, grad=True)
        results = {
            "energy": float(found["energy"]) * Hartree,
            "forces": -found["gradient"] * (Hartree / Bohr),
        }
        if with_energies:
            pairs = model.get_pairwise_dispersion(self._damping)
            results["energies"] = sum(terms.sum(axis=1) for terms in pairs.values()) * Hartree
        return results, found["virial"] * Hartree

    def _model(self):
        """Made anew at each call, in 0.05 ms, so that no result depends on the one before."""
        from dftd3.interface import DispersionModel

        atoms = self.atoms
        if not atoms.pbc.any():
            return DispersionModel(atoms.numbers, atoms.positions / Bohr)
        if not atoms.pbc.all():
            atoms = _with_vacuum(atoms)
        return DispersionModel(
            atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr, np.ones(3, dtype=bool)
        )


def _with_vacuum(atoms: Atoms) -> Atoms:
    """A copy in a cell that is wide along the directions that are not periodic."""
    wide, axes = atoms.copy(), np.flatnonzero(~atoms.pbc)
    wide.cell[axes] = 0.0
    wide.center(vacuum=D3_CUTOFF_A, axis=axes)
    return wide


def _damping(options: Dispersion):
    try:
        from dftd3.interface import RationalDampingParam, ZeroDampingParam
    except ImportError as error:
        raise ModelError("the d3 correction needs dftd3: pip install 'asecalc-ml[dispersion]'") from error
    kind = {"bj": RationalDampingParam, "zero": ZeroDampingParam}[options.damping]
    try:
        return kind(method=options.functional, atm=options.three_body)
    except RuntimeError as error:
        raise ConfigError(
            f"simple-dftd3 has no {options.damping} damping for functional {options.functional!r} ({error}): "
            "name the functional that the model's labels were computed with, such as PBE"
        ) from error
