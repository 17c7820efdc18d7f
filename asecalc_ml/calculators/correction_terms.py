"""ASE calculators of single analytic terms, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.results import Results, need_cell, need_structure, results_of, stresses_of
from asecalc_ml.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from dftd3.interface import DampingParam, DispersionModel

    from asecalc_ml.calculators.corrections import Dispersion, Repulsion
    from asecalc_ml.graph.atom_graph import AtomGraph
    from asecalc_ml.model.pair_forces import PairForces

D3_CUTOFF_A = 60 * Bohr  # simple-dftd3's own for pairs, the longest of its cutoffs


class CorrectionTerm(Calculator):
    """Base of terms that depend on nothing but elements, positions and cell."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        need_structure(self.atoms)
        need_cell(self.atoms, properties)
        self.results = self.evaluate(self.atoms, properties)

    def evaluate(self, atoms: Atoms, properties: Sequence[str]) -> Results:
        """Results, with stress for a cell of rank 3; energies and stresses of atoms where asked for."""
        raise NotImplementedError

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the energy, shape (3 n_atoms, 3 n_atoms), eV/Å²."""
        raise NotImplementedError


class RepulsionCalculator(CorrectionTerm):
    """The ZBL core."""

    implemented_properties = [*CorrectionTerm.implemented_properties, "stresses"]  # noqa: RUF012

    def __init__(self, options: Repulsion):
        from asecalc_ml.model.evaluator import Evaluator
        from asecalc_ml.model.model import Model

        super().__init__()
        self._evaluator = Evaluator(Model(options.build()))

    def evaluate(self, atoms: Atoms, properties: Sequence[str]) -> Results:
        graph = self._graph(atoms)
        results = results_of(self._evaluator(graph).split([len(atoms)])[0], atoms)
        if "stresses" in properties:
            results["stresses"] = stresses_of(self._evaluator.atomic_virials(graph), atoms)
        return results

    def pair_forces(self, atoms: Atoms) -> PairForces:
        return self._evaluator.pair_forces(self._graph(atoms))

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        return self._evaluator.hessian(self._graph(atoms)).numpy()

    def _graph(self, atoms: Atoms) -> AtomGraph:
        from asecalc_ml.graph.atom_graph import AtomGraph

        plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return AtomGraph.from_atoms(plain, self._evaluator.model.cutoff)


class DispersionCalculator(CorrectionTerm):
    """D3 by simple-dftd3.

    Its own ASE calculator is not used: in cells with both periodic and other directions the library
    moves atoms into the cell along all of them, which takes molecules and slabs apart
    (version 1.7.0), and ASE's bare slabs have no cell there. These directions get a vacuum wider than
    the library's cutoffs, which changes nothing else.
    """

    packages = ("dftd3",)

    def __init__(self, options: Dispersion):
        super().__init__()
        self._damping = _damping(options)

    def evaluate(self, atoms: Atoms, properties: Sequence[str]) -> Results:
        # energy, gradient and virial in atomic units, converted to eV and Å
        model = _dispersion_model(atoms)
        in_hartree = model.get_dispersion(self._damping, grad=True)
        energy = float(in_hartree["energy"]) * Hartree
        results: Results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -in_hartree["gradient"] * (Hartree / Bohr),
        }
        if atoms.cell.rank == 3:
            stress = in_hartree["virial"] * Hartree / atoms.get_volume()
            results["stress"] = full_3x3_to_voigt_6_stress(stress)
        # the energy of an atom is the sum of its pairs' halves; a third of the time on top
        if "energies" in properties:
            pairs = model.get_pairwise_dispersion(self._damping)
            results["energies"] = sum(terms.sum(axis=1) for terms in pairs.values()) * Hartree
        return results

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        model = _dispersion_model(atoms)
        return model.get_hessian(self._damping)["hessian"] * (Hartree / Bohr**2)


def _dispersion_model(atoms: Atoms) -> DispersionModel:
    """Made anew at each call, in 0.05 ms, so that no result depends on the one before."""
    from dftd3.interface import DispersionModel

    if not atoms.pbc.any():
        return DispersionModel(atoms.numbers, atoms.positions / Bohr)
    if not atoms.pbc.all():
        atoms = _with_vacuum(atoms)
    periodic = np.ones(3, dtype=bool)
    return DispersionModel(atoms.numbers, atoms.positions / Bohr, atoms.cell.array / Bohr, periodic)


def _with_vacuum(atoms: Atoms) -> Atoms:
    """A copy in a cell that is wide along the directions that are not periodic."""
    wide, axes = atoms.copy(), np.flatnonzero(~atoms.pbc)
    wide.cell[axes] = 0.0
    wide.center(vacuum=D3_CUTOFF_A, axis=axes)
    return wide


def _damping(options: Dispersion) -> DampingParam:
    try:
        from dftd3.interface import RationalDampingParam, ZeroDampingParam
    except ImportError as error:
        raise ModelError(
            "the d3 correction needs dftd3",
            name="d3",
            value="dftd3",
            remedy="pip install 'asecalc-ml[dispersion]'",
        ) from error
    kind = {"bj": RationalDampingParam, "zero": ZeroDampingParam}[options.damping]
    try:
        return kind(method=options.functional, atm=options.three_body)
    except RuntimeError as error:
        raise ConfigError(
            f"simple-dftd3 has no {options.damping} damping for functional {options.functional!r} ({error})",
            name="functional",
            value=options.functional,
            remedy="name the functional that the model's labels were computed with, such as PBE",
        ) from error


__getattr__ = renamed(__name__, {"Term": "CorrectionTerm"})
