"""Vectors between atoms and images: brute force, invariance, and the same bits for arrays and tensors."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.graph.neighbors.edge_vectors import edge_vectors
from asecalc_ml.structure.pair_vectors import pair_vectors

LENGTHS = st.floats(-20, 20)


@settings(max_examples=50, deadline=None)
@given(
    arrays(float, (4, 3), elements=LENGTHS),
    arrays(float, (3, 3), elements=LENGTHS),
    arrays(int, (6, 2), elements=st.integers(0, 3)),
    arrays(int, (6, 3), elements=st.integers(-9, 9)),
)
def test_each_vector_by_hand(positions, cell, pairs, shifts):
    vectors = pair_vectors(positions, pairs.T, shifts, cell)
    for (i, j), shift, vector in zip(pairs, shifts, vectors, strict=True):
        image = positions[j] + shift[0] * cell[0] + shift[1] * cell[1] + shift[2] * cell[2]
        assert vector == pytest.approx(image - positions[i], abs=1e-11)
    assert np.array_equal(pair_vectors(positions, pairs.T), positions[pairs[:, 1]] - positions[pairs[:, 0]])
    tensors = edge_vectors(
        torch.from_numpy(positions),
        torch.from_numpy(pairs.T),
        torch.from_numpy(shifts).double(),
        torch.from_numpy(cell),
    )
    assert tensors.numpy() == pytest.approx(vectors, abs=1e-11)


@settings(max_examples=20, deadline=None)
@given(arrays(int, (16, 3), elements=st.integers(-3, 3)), st.integers(0, 2**32 - 1))
def test_vectors_do_not_depend_on_the_image_an_atom_is_given_in(images, seed):
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=seed)
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)
    moved = atoms.positions + images @ atoms.cell.array
    i, j = pairs.edge_index
    vectors = pair_vectors(moved, (i, j), pairs.cell_shifts + images[i] - images[j], atoms.cell.array)
    assert vectors == pytest.approx(pair_vectors(atoms.positions, *pairs, atoms.cell.array), abs=1e-12)


def test_frames_with_cells_of_their_own():
    rng = np.random.default_rng(0)
    positions, cells = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 3, 3))
    pairs, shifts = rng.integers(0, 4, (2, 6)), rng.integers(-2, 3, (6, 3))
    each = [pair_vectors(*frame[:1], pairs, shifts, frame[1]) for frame in zip(positions, cells, strict=True)]
    assert np.array_equal(pair_vectors(positions, pairs, shifts, cells), each)


def test_an_edge_has_the_same_bits_in_every_list():
    """So that a pair is never within the cutoff in one list and beyond it in another."""
    atoms = bulk("Si") * (3, 3, 3)
    atoms.rattle(0.2, seed=1)
    graph = AtomGraph.from_atoms(atoms, 6.0)
    cell = graph.cell[0]
    vectors = graph.edge_vectors
    assert torch.equal(vectors, edge_vectors(graph.positions, graph.edge_index, graph.cell_shifts, cell))
    for k in range(0, graph.n_edges, 101):
        alone = edge_vectors(graph.positions, graph.edge_index[:, [k]], graph.cell_shifts[[k]], cell)
        assert torch.equal(alone[0], vectors[k])


def test_vectors_are_differentiable():
    atoms = Atoms("Si2", [[0, 0, 0], [1.4, 1.3, 1.2]], cell=5.4 * np.eye(3) + 0.1, pbc=True)
    graph = AtomGraph.from_atoms(atoms, 5.0)

    def vectors(positions, cell):
        cells = cell[graph.batch[graph.edge_index[0]]]
        return edge_vectors(positions, graph.edge_index, graph.cell_shifts, cells)

    inputs = graph.positions.requires_grad_(), graph.cell.requires_grad_()
    assert torch.autograd.gradcheck(vectors, inputs)
