"""Chunks of atoms: the numbers of the plain path, for chunks of any size, in little memory."""

import pytest
import torch

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.chunks import ChunkShape, chunked_derivative
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.potentials.torchmdnet import TensorNet
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {"hidden_channels": 8, "n_rbf": 4, "cutoff_A": 4.0, "max_atomic_number": 20}
ELEMENTS = ("H", "C", "O")


def inputs(*structures):
    graph = collate([AtomGraph.from_atoms(atoms, 4.0) for atoms in structures])
    return with_ghost(graph, 4.0)


def charged(n_atoms, charge, seed):
    atoms = cluster(ELEMENTS, 1.3, n_atoms, seed)
    atoms.info["charge"] = charge
    return atoms


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("group", ["O(3)", "SO(3)"])
@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize(
    "shape", [None, ChunkShape(1, 1), ChunkShape(3, 40), ChunkShape(5, 200, padded=True)]
)
def test_chunks_give_the_numbers_of_the_whole(n_layers, group, pooling, shape):
    """A cell smaller than the cutoff, an ion, a lone atom, and a molecule with pairs beyond the cutoff."""
    model = untrained_model(TensorNet(**SMALL, n_layers=n_layers, group=group))
    model.pooling = pooling
    crystal, far = small_crystal(ELEMENTS, 1.3), cluster(ELEMENTS, 2.5, 7, seed=2)
    given = inputs(crystal, charged(5, 1, seed=0), cluster(ELEMENTS, 1.3, 1), far)
    plain, chunked = edge_derivative(model, given), chunked_derivative(model, given, shape)
    for name, expected in plain._asdict().items():
        torch.testing.assert_close(getattr(chunked, name), expected, rtol=1e-11, atol=1e-11)
    assert plain.gradient.abs().max() > 1e-3
