"""CGCNN obeys the laws of every architecture, and is torch-geometric's where it reproduces the paper."""

import pytest
import torch
from torch_geometric.nn import global_mean_pool
from torch_geometric.nn.conv import CGConv

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.potentials.cgcnn.network import CrystalConvolution
from asecalc_ml.testing import PotentialChecks
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import small_crystal

SMALL = {"hidden_channels": 12, "readout_channels": 10, "cutoff_A": 4.0, "max_atomic_number": 20}


class TestCGCNN(PotentialChecks):
    options = CGCNN(**SMALL, n_layers=2, basis_spacing_A=0.5)


class TestCGCNNOfTheCrystal(PotentialChecks):
    options = CGCNN(**SMALL, n_layers=1, basis_spacing_A=0.5, readout="crystal")


class TestCGCNNOfThePaper(PotentialChecks):
    options = CGCNN(**SMALL, n_layers=2, basis_spacing_A=0.5, envelope=False)

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        assert self._jump(model, 2, 1e-6) > 0.1 * self._jump(model, 2, 1e-3) > 0


@pytest.mark.parametrize("readout", ["atoms", "crystal"])
def test_it_is_torch_geometrics_convolution_and_the_papers_readout(readout):
    """With torch-geometric's own layers, untouched, on a cell smaller than the cutoff."""
    options = CGCNN(**SMALL, n_layers=2, readout=readout, envelope=False)
    potential = untrained_model(options).potential
    inputs = with_ghost(AtomGraph.from_atoms(small_crystal(("H", "C", "O"), 1.3), 4.0), 4.0)
    distances = inputs.edge_vectors.norm(dim=1)
    centres = 0.2 * torch.arange(21, dtype=torch.float64)
    bonds = torch.exp(-((distances[:, None] - centres) ** 2) / 0.2**2)
    x = potential.embedding.weight[inputs.atomic_numbers]
    for ours in potential.convolutions:
        theirs = CGConv(12, dim=21).double()
        theirs.load_state_dict(ours.state_dict())
        x = theirs(x, inputs.edge_index.flip(0), bonds)
    found = potential(inputs)
    hidden, output = potential.readout_network.hidden[1], potential.readout_network.output
    pooled = x if readout == "atoms" else global_mean_pool(x, inputs.batch)
    expected = output(torch.nn.functional.softplus(hidden(torch.nn.functional.softplus(pooled))))
    value = found.contributions if readout == "atoms" else found.system
    assert (value - expected).abs().max() < 1e-10


def test_torch_geometric_leaves_no_files():
    """It writes ``propagate`` of each class to a file that stays in /tmp, and loads it into the class."""
    for layer in (CGConv, CrystalConvolution):
        layer(4, 3)
        assert ("propagate" in vars(layer)) == (layer is CGConv)
