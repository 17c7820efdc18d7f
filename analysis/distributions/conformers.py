"""How often a molecule is in each of its conformers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from ase import Atoms
from pydantic import Field, field_validator

from asecalc_ml.analysis.base import Analysis, Measurement, no_frame_error
from asecalc_ml.analysis.checks.energy_exchange import ExchangeMeasurement
from asecalc_ml.analysis.distributions.conformers_result import (
    ConformersResult,
    MoleculePopulations,
    Population,
    RotorPopulations,
)
from asecalc_ml.analysis.distributions.distribution import MAX_LISTED
from asecalc_ml.analysis.distributions.internal_coordinates import (
    ChainValues,
    DihedralPattern,
    choose,
    grouped,
)
from asecalc_ml.analysis.distributions.rotors import (
    Wells,
    covers_the_circle,
    natural_wells,
    rotors,
    well_numbers,
)
from asecalc_ml.statistics.time_series import TOO_SHORT, block_average
from asecalc_ml.structure.topology.bonds import BondGraph, bond_graph
from asecalc_ml.structure.topology.chains import Chains, join, types_of
from asecalc_ml.structure.topology.equivalence import orders, priorities

if TYPE_CHECKING:
    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames

MIN_CHANGES = 10  # between wells, of each member on average, for an error
MAX_SYMMETRIES = 5040  # of the bonds of a molecule
N_WELLS = 128  # an int8 holds no more

State = tuple[tuple[int, ...], ...]  # numbers of the wells of the dihedrals of each bond, sorted


class Conformers(Analysis):
    """Populations of gauche and trans, and of the conformers that they make.

    By default one dihedral for each bond whose turning makes another conformer: in no ring, and not of a
    group that looks the same when turned, such as methyl or the NH2 of an amide. It is the dihedral of the
    neighbors with the highest priority that are equivalent to no other, of an amide the angle ω of peptides;
    an amine has two, such as g+/t. A planar atom at one end of the bond, such as a carbon with three
    neighbors, makes two wells, cis and trans; peroxides and disulfides have the two helices P and M, other
    bonds g+, g- and t. Conformers that differ by an exchange of equivalent atoms are one, so that
    names and populations do not depend on the order of atoms.
    """

    result: ClassVar = ConformersResult
    needs_times: ClassVar = True

    dihedrals: list[DihedralPattern] | None = Field(
        None, min_length=1, description="such as [C-C-C-O]; empty for one of each bond that can turn"
    )
    wells_deg: dict[str, tuple[float, float]] | None = Field(
        None,
        description="where each well begins and ends, such as {g-: [-120, 0], g+: [0, 120], t: [120, -120]}; "
        "together the whole circle",
    )

    @field_validator("wells_deg")
    @classmethod
    def _is_a_circle(cls, wells: dict | None) -> dict | None:
        if wells is not None and not covers_the_circle(wells):
            raise ValueError(
                f"wells_deg: each well must begin where another one ends, once around the circle; got {wells}"
            )
        return wells

    def check_start(self, atoms: Atoms) -> None:
        """Dihedrals that there are."""
        choose_dihedrals(atoms, self.dihedrals)

    def prepare(self, run: AnyRun) -> Measurement:
        """Find the dihedrals; AnalysisError where there are none."""
        return ConformersMeasurement(run, self)


class _Rotor(NamedTuple):
    """A kind of dihedral: its name, its members' columns, its wells."""

    pattern: str
    columns: np.ndarray
    wells: Wells


class ConformersMeasurement:
    """Notes the well of each dihedral in each frame, one byte each."""

    def __init__(self, run: AnyRun, options: Conformers):
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
                options.wells_deg or natural_wells(atoms, graph, group.atoms[0, 1:3].tolist()),
            )
            for k, (name, group) in enumerate(groups.items())
        ]
        self._wells: list[np.ndarray] = []
        self._exchange = ExchangeMeasurement(run)

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        for angles in self._values.parts(frames):
            wells = np.empty(angles.shape, dtype=np.int8)
            for rotor in self._rotors:
                wells[:, rotor.columns] = well_numbers(angles[:, rotor.columns], rotor.wells)
            self._wells.append(wells)

    def conclude(self) -> ConformersResult:
        """Return the populations."""
        wells = np.concatenate(self._wells) if self._wells else np.empty((0, 0))
        if len(wells) == 0:
            raise no_frame_error()
        return ConformersResult(
            n_frames=len(wells),
            wells_deg={rotor.pattern: dict(rotor.wells) for rotor in self._rotors},
            rotors=[self._of_rotor(rotor, wells[:, rotor.columns]) for rotor in self._rotors],
            molecules=[self._of_molecules(molecules, wells) for molecules in self._molecules_by_kind()],
            exchange=self._exchange.conclude(),
        )

    def _of_rotor(self, rotor: _Rotor, numbers: np.ndarray) -> RotorPopulations:
        """Populations from the number of the well of each member in each frame, (n_frames, n_members)."""
        return RotorPopulations(
            pattern=rotor.pattern,
            atoms=self._atoms[rotor.columns[:MAX_LISTED]].tolist(),
            n_members=len(rotor.columns),
            wells=[population(name, numbers == number) for number, name in enumerate(rotor.wells)],
        )

    def _molecules_by_kind(self) -> list[list[list[_Bond]]]:
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

    def _of_molecules(self, molecules: list[list[_Bond]], wells: np.ndarray) -> MoleculePopulations:
        """Populations of all molecules of one kind, from the wells of all dihedrals in each frame."""
        # orders of the bonds that an exchange of equivalent atoms leads to
        bonds = molecules[0]
        topology = self._topologies[int(self._molecules[bonds[0].columns[0]])]
        symmetries = {tuple(order) for order in islice(topology.orders(bonds), MAX_SYMMETRIES)}
        # a conformer is the first of all states that such an exchange makes of one
        states, numbers = _states(molecules, wells)
        conformers = [min(tuple(state[k] for k in order) for order in symmetries) for state in states]
        # its population is that of all these states
        populations = [
            population(self._name(conformer, bonds), np.isin(numbers, _all_of(conformers, conformer)))
            for conformer in sorted(set(conformers))
        ]
        return MoleculePopulations(
            formula=topology.formula,
            n_molecules=len(molecules),
            patterns=[self._rotors[bond.rotor].pattern for bond in bonds],
            conformers=sorted(populations, key=lambda conformer: -conformer.fraction),
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
    """Atoms of a molecule and their bonds, independent of the numbering of the atoms."""

    def __init__(self, atoms: Atoms, graph: BondGraph, number: int):
        indices = np.flatnonzero(graph.molecules == number)
        self._local = {atom: k for k, atom in enumerate(indices.tolist())}
        self._neighbors = [[self._local[j] for j, _ in graph.neighbors[i]] for i in indices]
        self._ranks = priorities(atoms.numbers[indices].tolist(), self._neighbors)
        self.formula = atoms[indices].get_chemical_formula()
        around = (tuple(sorted(self._ranks[neighbors].tolist())) for neighbors in self._neighbors)
        self.kind = (self.formula, *sorted(zip(self._ranks.tolist(), around, strict=True)))

    def orders(self, bonds: list[_Bond]) -> Iterator[list[int]]:
        """Orders of bonds by kind and priority, one for each way to tell equivalent atoms apart."""
        ends = [[self._local[atom] for atom in bond.atoms] for bond in bonds]
        for ranks in orders(self._ranks, self._neighbors, sorted({atom for pair in ends for atom in pair})):
            yield sorted(range(len(bonds)), key=lambda k: (bonds[k].rotor, sorted(ranks[ends[k]].tolist())))


def _states(molecules: list[list[_Bond]], wells: np.ndarray) -> tuple[list[State], np.ndarray]:
    """All states that molecules of one kind are in, and the number of each, (n_frames, n_molecules)."""
    numbers = np.zeros((len(wells), len(molecules)), dtype=np.int64)
    parts = []
    for bonds in zip(*molecules, strict=True):  # the same bond of all molecules
        # wells of its dihedrals, sorted, since the dihedrals of one bond have no order
        of_bond = np.sort(wells[:, np.array([bond.columns for bond in bonds])], axis=2)
        parts.append(of_bond.reshape(-1, of_bond.shape[2]))
        # the state of the bonds so far and this well make a pair of numbers, which are numbered anew
        for column in np.moveaxis(of_bond, 2, 0):
            numbers = np.unique(numbers * N_WELLS + column, return_inverse=True)[1].reshape(numbers.shape)
    # the wells of each state, read where it occurs first
    first = np.unique(numbers, return_index=True)[1]
    rows = [part[first].tolist() for part in parts]
    return [tuple(map(tuple, state)) for state in zip(*rows, strict=True)], numbers


def _all_of(conformers: list[State], conformer: State) -> list[int]:
    """Numbers of the states that are one conformer."""
    return [number for number, other in enumerate(conformers) if other == conformer]


def population(name: str, is_there: np.ndarray) -> Population:
    """Fraction of the time that something is there, boolean of shape (n_frames, n_members).

    No error is given for what began or ended fewer than ten times, on average over the members: each block
    would then hold one well.
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
    by_name: dict[str, Chains] = {}
    for name, chains in groups.items():
        wells = [natural_wells(atoms, graph, chain[1:3].tolist()) for chain in chains.atoms]
        is_mixed = any(other != wells[0] for other in wells)
        by_name |= grouped(chains, types_of(atoms, graph).name) if is_mixed else {name: chains}
    return by_name
