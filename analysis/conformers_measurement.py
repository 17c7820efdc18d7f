"""The work behind conformer populations."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.chains import ChainValues, choose, grouped
from asecalc_ml.analysis.conformers import (
    THREE_WELLS,
    TWO_WELLS,
    Conformers,
    ConformersResult,
    MoleculePopulations,
    Population,
    RotorPopulations,
)
from asecalc_ml.analysis.distribution_measurement import MAX_LISTED
from asecalc_ml.analysis.rotors import rotors
from asecalc_ml.analysis.wells import Wells, well_numbers
from asecalc_ml.chains import Chains, join, types_of
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics import TOO_SHORT, block_average
from asecalc_ml.topology import BondGraph, bond_graph

if TYPE_CHECKING:
    from asecalc_ml.frames import Frames
    from asecalc_ml.rundir import RunReader

MIN_CHANGES = 10  # between wells, of each member on average, for an error
CARBON, PLANAR = 6, 3  # a carbon with three neighbors


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
        self._formulas = {m: atoms[graph.molecules == m].get_chemical_formula() for m in set(self._molecules)}
        self._values = ChainValues(run, chains)
        ends = np.cumsum([0, *map(len, groups.values())])
        self._rotors = [
            _Rotor(name, np.arange(*ends[k : k + 2]), options.wells_deg or _wells(atoms, graph, one))
            for k, (name, one) in enumerate(groups.items())
        ]
        self._found: list[np.ndarray] = []

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
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
        )

    def _of_rotor(self, rotor: _Rotor, found: np.ndarray) -> RotorPopulations:
        return RotorPopulations(
            pattern=rotor.pattern,
            atoms=self._atoms[rotor.columns[:MAX_LISTED]].tolist(),
            n_members=len(rotor.columns),
            wells=[population(name, found == number) for number, name in enumerate(rotor.wells)],
        )

    def _alike(self) -> list[np.ndarray]:
        """Columns of molecules that have the same dihedrals, (n_molecules, n_dihedrals) for each kind."""
        kinds = defaultdict(list)
        name = np.repeat(np.arange(len(self._rotors)), [len(one.columns) for one in self._rotors])
        for molecule in sorted(self._formulas):
            columns = np.flatnonzero(self._molecules == molecule)
            kinds[(self._formulas[molecule], *name[columns])].append(columns)
        return [np.array(columns) for columns in kinds.values()]

    def _of_molecules(self, columns: np.ndarray, found: np.ndarray) -> MoleculePopulations:
        kinds = [next(one for one in self._rotors if column in one.columns) for column in columns[0]]
        codes = np.zeros((len(found), len(columns)), dtype=np.int64)
        for position, rotor in enumerate(kinds):
            codes = codes * len(rotor.wells) + found[:, columns[:, position]]
        there = [population(_name(code, kinds), codes == code) for code in np.unique(codes).tolist()]
        return MoleculePopulations(
            formula=self._formulas[self._molecules[columns[0, 0]]],
            n_molecules=len(columns),
            patterns=[rotor.pattern for rotor in kinds],
            conformers=sorted(there, key=lambda one: -one.fraction),
        )


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


def _name(code: int, kinds: list[_Rotor]) -> str:
    names = []
    for rotor in reversed(kinds):
        code, number = divmod(code, len(rotor.wells))
        names.append(list(rotor.wells)[number])
    return " ".join(reversed(names))


def choose_dihedrals(atoms: Atoms, patterns: list[str] | None) -> dict[str, Chains]:
    """Dihedrals that match, or one of each bond that can turn; AnalysisError where there are none."""
    return rotors(atoms, bond_graph(atoms)) if patterns is None else choose(atoms, 4, patterns)


def by_wells(atoms: Atoms, graph: BondGraph, groups: dict[str, Chains]) -> dict[str, Chains]:
    """Dihedrals of the same wells together: a group of both kinds is split by what is bonded around."""
    found = {}
    for name, chains in groups.items():
        planar = [_is_planar(atoms, graph, chain) for chain in chains.atoms]
        is_mixed = any(planar) and not all(planar)
        found |= grouped(chains, types_of(atoms, graph).name) if is_mixed else {name: chains}
    return found


def _wells(atoms: Atoms, graph: BondGraph, chains: Chains) -> Wells:
    return TWO_WELLS if _is_planar(atoms, graph, chains.atoms[0]) else THREE_WELLS


def _is_planar(atoms: Atoms, graph: BondGraph, chain: np.ndarray) -> bool:
    """Whether a carbon of the middle bond has three neighbors."""
    return any(atoms.numbers[i] == CARBON and len(graph.neighbors[i]) == PLANAR for i in chain[1:3])
