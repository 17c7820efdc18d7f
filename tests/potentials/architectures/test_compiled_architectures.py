"""CGCNN, DTNN and MPNN give the same numbers when traced and compiled, for forces and for training."""

import pytest
import torch
from training_steps import check_training_step

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.compile.edge_list import edge_list_program
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.potentials.dtnn import DTNN
from asecalc_ml.potentials.mpnn import MPNN, MPNNTransformer
from asecalc_ml.testing.models import compiled_agrees, untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {"hidden_channels": 8, "cutoff_A": 4.0, "basis_spacing_A": 0.5}
CASES = {
    "cgcnn": CGCNN(**SMALL, n_layers=2, readout_channels=6),
    "dtnn": DTNN(**SMALL, n_passes=2, n_factors=6),
    "mpnn": MPNN(**SMALL, n_passes=2, edge_channels=6),
    "mpnn set2set": MPNN(**SMALL, n_passes=2, edge_channels=6, readout="set2set"),
    "mpnn-transformer": MPNNTransformer(**SMALL, n_passes=2, edge_channels=6, n_heads=2),
}


@pytest.fixture(params=CASES)
def model(request) -> Model:
    return untrained_model(CASES[request.param])


def batch(n_atoms: int) -> PotentialInput:
    """A molecule and a crystal, with more edges than they have."""
    structures = [cluster(("H", "C", "O"), 1.3, n_atoms), small_crystal(("H", "C", "O"), 1.3)]
    graph = collate([AtomGraph.from_atoms(atoms, 4.0) for atoms in structures])
    return with_ghost(graph, 4.0, graph.n_edges + 5)


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_traced_training_step_is_the_eager_one(model, dynamic):
    batches = [batch(5), batch(7)] if dynamic else [batch(5)]
    check_training_step(model, *batches, dynamic=dynamic)


@pytest.mark.slow
def test_the_compiled_training_step_is_the_eager_one(model):
    check_training_step(model, batch(5), compiled=True)
    check_training_step(model, batch(5), batch(7), dynamic=True, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_forces_are_the_eager_ones(model, dtype, tmp_path):
    model = model.set_dtype(dtype).eval().requires_grad_(False)
    assert compiled_agrees(model, edge_list_program(batch(5)), tmp_path)
