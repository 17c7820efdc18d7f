"""Molecules in arrays: each is there once, unchanged, and there are few shapes."""

import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.compile.molecules.all_pairs import Molecules
from asecalc_ml.model.compile.molecules.batches import (
    BATCH_PAIRS,
    FREQUENT,
    SIZE_STEP,
    fill,
    molecule_batches,
)
from asecalc_ml.model.compile.molecules.molecule_graph import MoleculeOutput, graphs_of
from asecalc_ml.testing.structures import cluster

SIZES = st.lists(st.integers(1, 32), max_size=200)


@given(SIZES)
def test_each_molecule_is_in_one_batch_that_has_room_for_it(sizes):
    batches = molecule_batches(sizes)
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(sizes)))
    for batch in batches:
        assert 1 <= len(batch.places) <= batch.shape.n_systems
        assert batch.places == sorted(batch.places)
        for place in batch.places:
            assert sizes[place] <= batch.shape.n_atoms < sizes[place] + SIZE_STEP


@given(SIZES)
def test_shapes_are_few_and_full(sizes):
    """One shape for every four sizes and for each frequent size; of each at most one batch has gaps."""
    batches = molecule_batches(sizes)
    assert len({batch.shape for batch in batches}) <= -(-32 // SIZE_STEP) + len(sizes) // FREQUENT
    for shape in {batch.shape for batch in batches}:
        of_shape = [len(batch.places) for batch in batches if batch.shape == shape]
        assert all(n == shape.n_systems for n in of_shape[:-1])
        assert shape.n_systems == 1 or shape.n_systems * shape.n_atoms**2 <= BATCH_PAIRS


def test_a_frequent_size_has_no_missing_atoms():
    sizes = [9] * FREQUENT + [10] * (FREQUENT - 1)
    assert {batch.shape.n_atoms for batch in molecule_batches(sizes)} == {9, 12}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 99))
def test_molecules_in_an_array_are_the_same_molecules(sizes, seed):
    molecules = [cluster(("H", "C", "O"), 1.2, n_atoms, seed + n_atoms) for n_atoms in sizes]
    for number, atoms in enumerate(molecules):
        atoms.info.update(charge=number - 2, spin=number)
    graphs = [AtomGraph.from_atoms(atoms, 5.0) for atoms in molecules]
    again = graphs_of(fill(molecules, Molecules(4, 6)))
    for graph, other in zip(graphs, again, strict=False):
        for name in ("atomic_numbers", "positions", "charge", "spin", "edge_index", "cell_shifts"):
            assert torch.equal(getattr(graph, name), getattr(other, name)), name


def test_missing_molecules_are_no_empty_ones():
    """A mean over their atoms would be undefined."""
    given = fill([Atoms("H")], Molecules(4, 3))
    assert given.present.view(4, 3).sum(dim=1).tolist() == [1, 1, 1, 1]


@given(st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_packed_results_are_unpacked(n_systems, n_atoms, has_charges):
    def numbers(*shape: int) -> torch.Tensor:
        return torch.rand(shape, dtype=torch.float64)

    charges = numbers(n_systems, n_atoms) if has_charges else torch.zeros(0, dtype=torch.float64)
    output = MoleculeOutput(
        numbers(n_systems),
        numbers(n_systems, n_atoms),
        numbers(n_systems, n_atoms, 3),
        numbers(n_systems, 3, 3),
        charges,
    )
    unpacked = MoleculeOutput.unpacked(output.packed(), n_atoms)
    for part, again in zip(output[:4], unpacked[:4], strict=True):
        assert torch.equal(part, again)
    assert torch.equal(unpacked.charges, charges if has_charges else charges.view(n_systems, 0))
