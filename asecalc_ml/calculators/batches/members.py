"""Members of a committee computed together: one compiled graph for a molecule in place of one for each."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.ml_calculator import MLCalculator, check_trained
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.compile.compiled_functions import CompiledFunctions
from asecalc_ml.model.compile.molecules.members import members_program
from asecalc_ml.model.compile.molecules.molecule_graph import molecule_input
from asecalc_ml.model.compile.package_cache import CompilationError
from asecalc_ml.model.compile.program import Program
from asecalc_ml.model.evaluator import SystemArrays, system_arrays
from asecalc_ml.store.stored_committee import StoredCommittee
from asecalc_ml.structure.charge_and_spin import charge_and_spin


class JointMembers:
    """Models of one architecture, which one graph computes for a molecule whose pairs are all pairs.

    When it is compiled is decided as for a single model, see
    :class:`asecalc_ml.model.compile.compiled_functions.CompiledFunctions`.
    Until then, and for all other structures, each member is computed by itself.

    Parameters
    ----------
    members : sequence of MLCalculator
    stored : StoredCommittee
        Their models.
    """

    def __init__(self, members: Sequence[MLCalculator], stored: StoredCommittee):
        self._members = members
        self._parameters = members[0].parameters
        self._stored = stored
        self._compiled = _JointFunctions(stored, self._parameters.compile)
        self._checked: tuple | None = None

    @classmethod
    def of(cls, members: Sequence[BaseCalculator]) -> JointMembers | None:
        """Joint computation of calculators; None if they are not the same but for their weights."""
        if not all(type(member) is MLCalculator for member in members):  # a subclass may compute anything
            return None
        if not all(member.card.predicts_energy for member in members):
            return None
        settings = {(member.parameters.compile, member.parameters.neighbors) for member in members}
        stored = StoredCommittee.of([member.stored for member in members])
        return None if stored is None or len(settings) > 1 else cls(members, stored)

    def compute(self, atoms: Atoms) -> bool:
        """Compute all members for a structure; False, with nothing done, if no graph of all is compiled.

        Raises
        ------
        StructureError
            As of the first member that refuses the structure.
        """
        if not self._takes(atoms):
            return False
        graph = self._members[0].next_graph(atoms)
        self._check(atoms)
        evaluations = self._results(graph)
        for member, evaluation in zip(self._members, evaluations, strict=False):
            member.take(evaluation, atoms)
        return bool(evaluations)

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Announce how often structures of this one's size will be computed."""
        if self._takes(atoms):
            self._compiled.expect(self._program(self._members[0].next_graph(atoms.copy())).shape, n_calls)

    def state(self) -> dict:
        """State that decides whether the next call is computed jointly, ready for JSON."""
        return self._compiled.state()

    def restore(self, state: dict | None) -> None:
        """Continue from a :meth:`state`; None is that of a version that computed members by themselves."""
        if state is None:
            self._compiled.compile = "never"
        else:
            self._compiled.restore(state, tuple)

    def _takes(self, atoms: Atoms) -> bool:
        return self._compiled.may_compile and self._members[0].is_molecule(atoms)

    def _program(self, graph: AtomGraph) -> Program:
        return members_program(molecule_input(graph.to(self._stored.device)))

    def _results(self, graph: AtomGraph) -> list[SystemArrays]:
        """Results of each member for one molecule; none if there is no compiled graph."""
        program = self._program(graph)
        function = self._compiled.get(program)
        if function is None:
            return []
        (rows,) = function(list(program.arguments))
        return system_arrays(rows.flatten(0, 1), graph.n_atoms, len(rows) * [graph.n_atoms])

    def _check(self, atoms: Atoms) -> None:
        """Refuse what a member was not trained on; the first member's graph has been checked for the rest."""
        state = (atoms.numbers.tobytes(), charge_and_spin(atoms))
        if state != self._checked:
            for member in self._members:
                check_trained(atoms, member.card)
            self._checked = state


class _JointFunctions(CompiledFunctions):
    """Graphs of all members."""

    def tell_failure(self, name: str, program: Program, error: CompilationError) -> None:
        """No warning: each member is compiled by itself instead."""
