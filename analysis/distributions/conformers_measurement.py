"""The work behind conformer populations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.checks.energy_exchange_measurement import ExchangeMeasurement
from asecalc_ml.analysis.distributions.chains import ChainValues, choose, grouped
from asecalc_ml.analysis.distributions.conformers import (
    Conformers,
    ConformersResult,
    MoleculePopulations,
    Population,
    RotorPopulations,
)
from asecalc_ml.analysis.distributions.distribution_measurement import MAX_LISTED
from asecalc_ml.analysis.distributions.rotors import natural_wells, rotors
from asecalc_ml.analysis.distributions.wells import Wells, well_numbers
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import TOO_SHORT, block_average
from asecalc_ml.structure.topology.bonds import BondGraph, bond_graph
from asecalc_ml.structure.topology.chains import Chains, join, types_of
from asecalc_ml.structure.topology.equivalence import orders, priorities

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

MIN_CHANGES = 10  # between wells, of each member on average, for an error
MAX_SYMMETRIES = 5040  # of the bonds of a molecule
N_WELLS = 128  # an int8 holds no more

State = tuple[tuple[int, ...], ...]  # numbers of the wells of the dihedrals of each bond, sorted


class _Rotor(NamedTuple):
    """A kind of dihedral: its name, its members' columns, its wells."""

    pattern: str
    columns: np.ndarray
    wells: Wells


class ConformersMeasurement:
    """Notes the well of each dihedral in each frame, one byte each."""

    def __init__(self, run: RunReader, options: Conformers):
        atoms, graph = run.atoms, bond_graph(run.atoms)
        chosen = choose_dihedrals(atoms, options.dihedrals)
        groups = chosen if options.wells_deg else by_wells(atoms, graph, chosen)
        chains = join(list(groups.values()))
        self._atoms, self._molecules = chains.atoms, graph.molecules[chains.atoms[:, 0]]
        self._topologies = {m: _Molecule(atoms, graph, m) for m in set(self._molecules.tolist())}
        self._values = ChainValues(run, chains)
        ends = np.cumsum([0, *map(len, groups.values())])
        self._rotors = [
            _Rotor(
                name,
                np.arange(*ends[k : k + 2]),
                options.wells_deg or natural_wells(atoms, graph, one.atoms[0, 1:3]),
            )
            for k, (name, one) in enumerate(groups.items())
        ]
        self._found: list[np.ndarray] = []
        self._exchange = ExchangeMeasurement(run)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        for angles in self._values.parts(frames):
            wells = np.empty(angles.shape, dtype=np.int8)
            for rotor in self._rotors:
                wells[:, rotor.columns] = well_numbers(angles[:, rotor.columns], rotor.wells)
            self._found.append(wells)

    def conclude(self) -> ConformersResult:
        """Return the populations."""
        found = np.concatenate(self._found) if self._found else np.empty((0, 0))
        if len(found) == 0:
            raise AnalysisError(NO_FRAME)
        return ConformersResult(
            n_frames=len(found),
            wells_deg={rotor.pattern: dict(rotor.wells) for rotor in self._rotors},
            rotors=[self._of_rotor(rotor, found[:, rotor.columns]) for rotor in self._rotors],
            molecules=[self._of_molecules(columns, found) for columns in self._alike()],
            exchange=self._exchange.conclude(),
        )

    def _of_rotor(self, rotor: _Rotor, found: np.ndarray) -> RotorPopulations:
        return RotorPopulations(
            pattern=rotor.pattern,
            atoms=self._atoms[rotor.columns[:MAX_LISTED]].tolist(),
            n_members=len(rotor.columns),
            wells=[population(name, found == number) for number, name in enumerate(rotor.wells)],
        )

    def _alike(self) -> list[list[list[_Bond]]]:
        """Molecules of each kind, each with its bonds, which are in the same order in all of a kind."""
        kinds = defaultdict(list)
        for number in np.unique(self._molecules).tolist():
            bonds = self._bonds(number)
            ordered = [bonds[k] for k in next(self._topologies[number].orders(bonds))]
            kinds[(self._topologies[number].kind, *(bond.rotor for bond in ordered))].append(ordered)
        return list(kinds.values())

    def _bonds(self, molecule: int) -> list[_Bond]:
        """Bonds of a molecule that turn: dihedrals of one kind around the same two atoms together."""
        columns = defaultdict(list)
        for number, rotor in enumerate(self._rotors):
            for column in rotor.columns[self._molecules[rotor.columns] == molecule].tolist():
                columns[number, tuple(sorted(self._atoms[column, 1:3].tolist()))].append(column)
        return [_Bond(rotor, bond, together) for (rotor, bond), together in columns.items()]

    def _of_molecules(self, molecules: list[list[_Bond]], found: np.ndarray) -> MoleculePopulations:
        bonds = molecules[0]
        topology = self._topologies[int(self._molecules[bonds[0].columns[0]])]
        symmetries = {tuple(order) for order in islice(topology.orders(bonds), MAX_SYMMETRIES)}
        states, numbers = _states(molecules, found)
        conformers = [min(tuple(state[k] for k in order) for order in symmetries) for state in states]
        there = [
            population(self._name(conformer, bonds), np.isin(numbers, _all_of(conformers, conformer)))
            for conformer in sorted(set(conformers))
        ]
        return MoleculePopulations(
            formula=topology.formula,
            n_molecules=len(molecules),
            patterns=[self._rotors[bond.rotor].pattern for bond in bonds],
            conformers=sorted(there, key=lambda one: -one.fraction),
        )

    def _name(self, conformer: State, bonds: list[_Bond]) -> str:
        names = [list(self._rotors[bond.rotor].wells) for bond in bonds]
        return " ".join(
            "/".join(of_bond[well] for well in wells) for of_bond, wells in zip(names, conformer, strict=True)
        )


class _Bond(NamedTuple):
    """A bond that turns: the number of its kind of dihedral, its two atoms, its dihedrals' columns."""

    rotor: int
    atoms: tuple[int, int]
    columns: list[int]


class _Molecule:
    """Atoms of a molecule and their bonds, whatever their numbers."""

    def __init__(self, atoms: Atoms, graph: BondGraph, number: int):
        indices = np.flatnonzero(graph.molecules == number)
        self._local = {atom: k for k, atom in enumerate(indices.tolist())}
        self._neighbors = [[self._local[j] for j, _ in graph.neighbors[i]] for i in indices]
        self._ranks = priorities(atoms.numbers[indices].tolist(), self._neighbors)
        self.formula = atoms[indices].get_chemical_formula()
        around = (tuple(sorted(self._ranks[each].tolist())) for each in self._neighbors)
        self.kind = (self.formula, *sorted(zip(self._ranks.tolist(), around, strict=True)))

    def orders(self, bonds: list[_Bond]) -> Iterator[list[int]]:
        """Orders of bonds by kind and priority, one for each way to tell equivalent atoms apart."""
        ends = [[self._local[atom] for atom in bond.atoms] for bond in bonds]
        for ranks in orders(self._ranks, self._neighbors, sorted({atom for pair in ends for atom in pair})):
            yield sorted(range(len(bonds)), key=lambda k: (bonds[k].rotor, sorted(ranks[ends[k]].tolist())))


def _states(molecules: list[list[_Bond]], found: np.ndarray) -> tuple[list[State], np.ndarray]:
    """All states that molecules of one kind are in, and the number of each, (n_frames, n_molecules)."""
    numbers = np.zeros((len(found), len(molecules)), dtype=np.int64)
    parts = []
    for together in zip(*molecules, strict=True):
        wells = np.sort(found[:, np.array([bond.columns for bond in together])], axis=2)
        parts.append(wells.reshape(-1, wells.shape[2]))
        for column in np.moveaxis(wells, 2, 0):
            numbers = np.unique(numbers * N_WELLS + column, return_inverse=True)[1].reshape(numbers.shape)
    first = np.unique(numbers, return_index=True)[1]
    rows = [part[first].tolist() for part in parts]
    return [tuple(map(tuple, state)) for state in zip(*rows, strict=True)], numbers


def _all_of(conformers: list[State], conformer: State) -> list[int]:
    return [number for number, other in enumerate(conformers) if other == conformer]


def population(name: str, is_there: np.ndarray) -> Population:
    """How often something is so, boolean of shape (n_frames, n_members).

    What began or ended fewer than ten times, on average over the members, has no error: blocks would be of
    one well each.
    """
    average = block_average(is_there.mean(axis=1))
    n_changes = int(np.count_nonzero(is_there[1:] != is_there[:-1]))
    error = average.error if n_changes >= MIN_CHANGES * is_there.shape[1] else None
    note = "" if error is not None else TOO_SHORT
    return Population(name=name, fraction=average.mean, error=error, note=note, n_changes=n_changes)


def choose_dihedrals(atoms: Atoms, patterns: list[str] | None) -> dict[str, Chains]:
    """Dihedrals that match, or one of each bond that can turn; AnalysisError where there are none."""
    return rotors(atoms, bond_graph(atoms)) if patterns is None else choose(atoms, 4, patterns)


def by_wells(atoms: Atoms, graph: BondGraph, groups: dict[str, Chains]) -> dict[str, Chains]:
    """Dihedrals of the same wells together: a group of several kinds is split by what is bonded around."""
    found = {}
    for name, chains in groups.items():
        wells = [natural_wells(atoms, graph, chain[1:3]) for chain in chains.atoms]
        is_mixed = any(one != wells[0] for one in wells)
        found |= grouped(chains, types_of(atoms, graph).name) if is_mixed else {name: chains}
    return found
