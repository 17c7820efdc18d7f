"""From positions to energy, forces and virial in one graph, for molecules whose pairs are all pairs.

The graph holds everything: pairs, the cutoff, the network, its derivative and the sums of forces and virial.
Pairs beyond the cutoff take a constant vector inside it, and count in no sum, as
:mod:`asecalc_ml.graph.padding` has it for edge lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.neighbors.pairs import Pairs, all_pairs, within
from asecalc_ml.graph.padding import ghost_vector, with_ghost
from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.compile.molecules.all_pairs import DenseEnergy, Molecules, NotDenseError
from asecalc_ml.model.compile.molecules.energy_graph import energy_graph
from asecalc_ml.model.compile.program import KnownCall, Program, as_function, traced
from asecalc_ml.model.derivative import edge_derivative, energy_gradient, forces, virials
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import rounding

#: Option of the compiler for arrays of several molecules or members on the CPU: intermediate values share a
#: pool, of which more stays in the processor's cache, and which is allocated once a call.
POOLED = {"memory_planning": True}


class MoleculeInput(NamedTuple):
    """Molecules of one size, or with atoms that are not there up to this size.

    Parameters
    ----------
    positions : Tensor, shape (n_systems n_atoms, 3), float64, Å
    atomic_numbers : Tensor, shape (n_systems n_atoms,), int64
    present : Tensor, shape (n_systems n_atoms,), bool
        False for an atom that only fills the array.
    charge, spin : Tensor, shape (n_systems,), float64
    """

    positions: Tensor
    atomic_numbers: Tensor
    present: Tensor
    charge: Tensor
    spin: Tensor

    @property
    def molecules(self) -> Molecules:
        n_systems = len(self.charge)
        return Molecules(n_systems, len(self.present) // n_systems)

    @property
    def is_on_cpu(self) -> bool:
        return self.positions.device.type == "cpu"


class MoleculeOutput(NamedTuple):
    """Results of a molecule graph: energies, forces, virials and charges, float64.

    Parameters
    ----------
    systems : Tensor, shape (n_systems,), eV
    atoms : Tensor, shape (n_systems, n_atoms), eV
    forces : Tensor, shape (n_systems, n_atoms, 3), eV/Å
    virials : Tensor, shape (n_systems, 3, 3), eV
    charges : Tensor, shape (n_systems, n_atoms), e
        Of no atoms where the architecture has none.
    """

    systems: Tensor
    atoms: Tensor
    forces: Tensor
    virials: Tensor
    charges: Tensor

    def packed(self) -> Tensor:
        """All results as one tensor, with a row for each system."""
        n_systems = len(self.systems)
        return torch.cat([part.reshape(n_systems, -1) for part in self], dim=1)

    @classmethod
    def unpacked(cls, rows: Tensor, n_atoms: int) -> MoleculeOutput:
        """Results that :meth:`packed` has put together, of systems with room for this number of atoms.

        Without charges their array has the shape (n_systems, 0).
        """
        n_systems, forces, virials = len(rows), 1 + n_atoms, 1 + 4 * n_atoms
        return cls(
            rows[:, 0],
            rows[:, 1:forces],
            rows[:, forces:virials].view(n_systems, n_atoms, 3),
            rows[:, virials : virials + 9].view(n_systems, 3, 3),
            rows[:, virials + 9 :],
        )


def molecule_input(graph: AtomGraph) -> MoleculeInput:
    """Input of a single molecule, without copies."""
    present = torch.ones(graph.n_atoms, dtype=torch.bool, device=graph.positions.device)
    return MoleculeInput(graph.positions, graph.atomic_numbers, present, graph.charge, graph.spin)


def molecule_program(given: MoleculeInput) -> Program:
    """From a :class:`MoleculeInput` to a packed :class:`MoleculeOutput`."""

    def trace(model: Model) -> GraphModule:
        graph = trace_dense(model, given)
        if graph is None:
            return trace_with_edge_list(model, given)
        return materialize_broadcasts(graph, given) if given.is_on_cpu else graph

    options = POOLED if given.molecules.n_systems > 1 and given.is_on_cpu else {}
    molecules = given.molecules
    return Program(
        tuple(molecules),
        str(molecules),
        molecules.n_pairs,
        given,
        trace,
        lambda model: known_calls(model, given),
        options,
    )


def trace_dense(model: Model, given: MoleculeInput) -> GraphModule | None:
    """Graph of plain operations in which sums over neighbors are sums along an axis.

    None if the architecture has no such form, or if its results are not those of eager mode.
    """
    try:
        graph = _trace(_dense(model, given), given)
    except Exception:  # NotDenseError, or whatever an unusual architecture raises: the edge list takes all
        return None
    agrees = all(call.agrees_with(as_function(graph)) for call in known_calls(model, given))
    return graph if agrees else None


def trace_with_edge_list(model: Model, given: MoleculeInput) -> GraphModule:
    """Graph of plain operations in which the model gets an edge list; for all that need no triplets."""
    return _trace(_by_edge_list(model, given), given)


Evaluate = Callable[[MoleculeInput], MoleculeOutput]


def _trace(evaluate: Evaluate, given: MoleculeInput) -> GraphModule:
    return traced(lambda *tensors: [evaluate(MoleculeInput(*tensors)).packed()], given)


class PairArrays(NamedTuple):
    """All pairs of some molecules, those of an atom with itself included, and what they are made of."""

    edge_index: Tensor
    batch: Tensor
    self_pairs: Tensor
    outside: Tensor  # vector of a pair that counts in no sum

    @classmethod
    def of(cls, given: MoleculeInput, cutoff: float) -> PairArrays:
        molecules, device = given.molecules, given.positions.device
        edge_index = molecules.edge_index(device)
        self_pairs = edge_index[0] == edge_index[1]
        return cls(edge_index, molecules.batch(device), self_pairs, ghost_vector(given.positions, cutoff))

    def vectors(self, given: MoleculeInput, cutoff: float) -> tuple[Tensor, Tensor]:
        """Vectors r_ij = x_j - x_i, shape (n_edges, 3), and whether a pair is within the cutoff."""
        n_systems, n_atoms = given.molecules
        x, there = given.positions.view(n_systems, n_atoms, 3), given.present.view(n_systems, n_atoms)
        vectors = (x[:, None] - x[:, :, None]).reshape(-1, 3)
        both_there = (there[:, None] & there[:, :, None]).flatten() & ~self.self_pairs
        visible = both_there & ((vectors * vectors).sum(dim=1) < cutoff**2)
        return torch.where(visible[:, None], vectors, self.outside), visible

    def potential_input(self, given: MoleculeInput) -> PotentialInput:
        """Input that a potential is traced with: the molecules with all pairs, at constant vectors."""
        return PotentialInput(
            given.atomic_numbers,
            self.edge_index,
            self.outside.repeat(len(self.self_pairs), 1),
            self.batch,
            given.charge,
            given.spin,
            self_pairs=self.self_pairs,
        )


def molecule_output(
    given: MoleculeInput, atoms: Tensor, systems: Tensor, charges: Tensor, vectors: Tensor, gradient: Tensor
) -> MoleculeOutput:
    """Forces and virials from the edge derivative; nothing of atoms that are not there."""
    n_systems, n_atoms = given.molecules
    # F_i = Σ_j (g_ij - g_ji), and sym Σ r_ij ⊗ g_ij
    g, r = (array.view(n_systems, n_atoms, n_atoms, 3) for array in (gradient, vectors))
    strain = (r[..., :, None] * g[..., None, :]).sum(dim=(1, 2))
    return MoleculeOutput(
        systems,
        torch.where(given.present, atoms, 0.0),
        g.sum(dim=2) - g.sum(dim=1),
        0.5 * (strain + strain.transpose(1, 2)),
        torch.where(given.present, charges, 0.0) if len(charges) else charges,
    )


def _dense(model: Model, example: MoleculeInput) -> Evaluate:
    if model.triplet_cutoff is not None:
        raise NotDenseError("triplets depend on positions")
    if model.molecular_graph:
        raise NotDenseError("features of a molecular graph are no part of the array")
    pairs = PairArrays.of(example, model.cutoff)
    inputs = pairs.potential_input(example)
    dense = DenseEnergy(energy_graph(model, inputs), example.molecules, inputs.tensors)

    def evaluate(given: MoleculeInput) -> MoleculeOutput:
        vectors, visible = pairs.vectors(given, model.cutoff)
        with torch.enable_grad():
            moving = vectors.detach().requires_grad_(True)
            arguments = given.atomic_numbers, pairs.edge_index, moving, pairs.batch, given.charge, given.spin
            atoms, systems, *charges = dense(list(arguments), visible, given.present)
            gradient = energy_gradient(systems.sum(), moving)
        energies = atoms.detach(), systems.detach()
        own_charges = charges[0].detach() if charges else gradient.new_empty(0)
        return molecule_output(given, *energies, own_charges, vectors, gradient)

    return evaluate


def _by_edge_list(model: Model, example: MoleculeInput) -> Evaluate:
    """The same with an edge list, in which pairs beyond the cutoff lead to a ghost."""
    pairs, ghost = PairArrays.of(example, model.cutoff), len(example.present)

    def evaluate(given: MoleculeInput) -> MoleculeOutput:
        vectors, visible = pairs.vectors(given, model.cutoff)
        n_systems = len(given.charge)
        # an atom that is not there is one more ghost: in the ghost's system it changes no other
        batch = torch.where(given.present, pairs.batch, n_systems)
        inputs = PotentialInput(
            torch.cat([given.atomic_numbers, given.atomic_numbers[:1]]),
            torch.where(visible, pairs.edge_index, ghost),
            vectors,
            torch.cat([batch, batch.new_full((1,), n_systems)]),
            torch.cat([given.charge, given.charge.new_zeros(1)]),
            torch.cat([given.spin, given.spin.new_zeros(1)]),
        )
        derivative = edge_derivative(model, inputs)
        gradient = torch.where(visible[:, None], derivative.gradient, 0.0)
        charges = derivative.charges[:-1]
        return molecule_output(
            given, derivative.atoms[:-1], derivative.systems[:-1], charges, vectors, gradient
        )

    return evaluate


def known_calls(model: Model, given: MoleculeInput) -> list[KnownCall]:
    """Calls that every graph for molecules of this shape has to reproduce."""
    return [known_call(model, call) for call in (given, varied(given, model.cutoff))]


def varied(given: MoleculeInput, cutoff: float) -> MoleculeInput:
    """Input that differs from a given one in everything but its shape, as later calls may.

    Half of the pairs or more lie beyond the cutoff, the first atom of each molecule has no neighbors, and
    elements are in reverse order. If there are several molecules, each lacks a different number of atoms.
    """
    n_systems, n_atoms = given.molecules
    device = given.present.device
    # stretched beyond the median distance, not onto it: no pair lies exactly at the cutoff
    distances = torch.cat([torch.nn.functional.pdist(graph.positions) for graph in graphs_of(given)])
    factor = max(1.0, 1.01 * cutoff / float(distances.median())) if len(distances) else 1.0
    positions = factor * given.positions.view(n_systems, n_atoms, 3)
    positions[:, 0] = positions.amax(dim=1) + cutoff
    # molecule k lacks its last k atoms (modulo n_atoms), so that the sizes are n, n - 1, ..., 1, n, ...
    sizes = n_atoms - torch.arange(n_systems, device=device) % n_atoms
    present = torch.arange(n_atoms, device=device) < sizes[:, None]
    return given._replace(
        positions=positions.view(-1, 3),
        atomic_numbers=given.atomic_numbers.flip(0),
        present=given.present & present.flatten(),
    )


def graphs_of(given: MoleculeInput) -> list[AtomGraph]:
    """A graph for each molecule, without the atoms that are not there."""
    n_systems, n_atoms = given.molecules
    graphs = []
    for system, there in enumerate(given.present.view(n_systems, n_atoms)):
        positions = given.positions.view(n_systems, n_atoms, 3)[system][there]
        pairs = all_pairs(len(positions), positions.device)
        graphs.append(
            AtomGraph(
                atomic_numbers=given.atomic_numbers.view(n_systems, n_atoms)[system][there],
                positions=positions,
                cell=positions.new_zeros(1, 3, 3),
                pbc=there.new_zeros(1, 3),
                edge_index=pairs.edge_index,
                cell_shifts=pairs.cell_shifts,
                batch=pairs.edge_index.new_zeros(len(positions)),
                charge=given.charge[system : system + 1],
                spin=given.spin[system : system + 1],
            )
        )
    return graphs


def _within(graph: AtomGraph, cutoff: float) -> AtomGraph:
    """The graph without pairs beyond the cutoff: features of a ghost that has many of them may overflow."""
    known, cell = Pairs(graph.edge_index, graph.cell_shifts), graph.cell[0].cpu().numpy()
    pairs = within(known, graph.positions, cell, cutoff)
    return replace(graph, edge_index=pairs.edge_index, cell_shifts=pairs.cell_shifts)


def known_call(model: Model, given: MoleculeInput) -> KnownCall:
    """Results of eager mode for these molecules, and how far rounding may take others from them."""
    n_systems, n_atoms = given.molecules
    graphs = [_within(graph, model.cutoff) for graph in graphs_of(given)]
    inputs = with_ghost(collate(graphs), model.cutoff)
    derivative = edge_derivative(model, inputs)
    bounds = rounding(model, inputs, derivative)
    centres = inputs.batch[inputs.edge_index[0]]
    lengths = torch.zeros_like(derivative.systems).scatter_add(0, centres, inputs.edge_vectors.norm(dim=1))

    def by_atom(values: Tensor) -> Tensor:
        """Values of the atoms that are there, with zeros for the others."""
        if len(values) == 0:
            return values
        array = values.new_zeros(n_systems * n_atoms, *values.shape[1:])
        array[given.present] = values[:-1]
        return array.view(n_systems, n_atoms, *values.shape[1:])

    known = MoleculeOutput(
        derivative.systems[:-1],
        by_atom(derivative.atoms),
        by_atom(forces(derivative.gradient, inputs.edge_index, inputs.n_atoms)),
        virials(derivative.gradient, inputs.edge_vectors, inputs.edge_index, inputs.batch, inputs.n_systems)[
            :-1
        ],
        by_atom(derivative.charges),
    )
    # a virial is a sum of r_ij ⊗ g_ij: its error is at most that of a g_ij times Σ |r_ij|
    allowed = MoleculeOutput(
        bounds.systems[:-1],
        by_atom(bounds.atoms.expand(inputs.n_atoms)),
        by_atom(bounds.forces.expand(inputs.n_atoms, 3)),
        (bounds.gradient * lengths[:-1])[:, None, None].expand(-1, 3, 3),
        by_atom(bounds.charges.expand(len(derivative.charges))),
    )
    return KnownCall(list(given), [known.packed()], [allowed.packed()])
