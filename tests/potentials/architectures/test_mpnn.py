"""MPNN and MPNN-transformer obey the laws, and are torch-geometric's where they reproduce the papers."""

import pytest
import torch
from pydantic import ValidationError
from torch_geometric.nn import Set2Set as TheirSet2Set
from torch_geometric.nn.conv import NNConv, TransformerConv

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_sum
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.mpnn import MPNN, MPNNTransformer
from asecalc_ml.potentials.mpnn.layers import Messages
from asecalc_ml.potentials.mpnn.readouts import Set2Set
from asecalc_ml.testing import PotentialChecks
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {"hidden_channels": 8, "edge_channels": 6, "cutoff_A": 4.0, "max_atomic_number": 20}
COARSE = {**SMALL, "n_passes": 2, "basis_spacing_A": 0.5}


class JumpsAtTheCutoff:
    """What the paper's form says of itself is true."""

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        assert self._jump(model, 2, 1e-6) > 0.1 * self._jump(model, 2, 1e-3) > 0


class TestMPNN(PotentialChecks):
    options = MPNN(**COARSE)


class TestMPNNWithSet2Set(PotentialChecks):
    options = MPNN(**COARSE, readout="set2set")


class TestMPNNOfThePaper(JumpsAtTheCutoff, PotentialChecks):
    options = MPNN(**COARSE, envelope=False)


class TestMPNNTransformer(PotentialChecks):
    options = MPNNTransformer(**COARSE, n_heads=2)

    def test_attention_of_an_only_neighbor_fades(self):
        """Closer than 1e-5 Å to the cutoff its function rounds to 0, and hides an attention of w/w."""
        model = self.model()
        near, nearer = (self._jump(model, 1, step) for step in (1e-3, 1e-4))
        assert nearer <= 0.02 * near + 1e-9


class TestMPNNTransformerOfThePaper(JumpsAtTheCutoff, PotentialChecks):
    options = MPNNTransformer(**COARSE, n_heads=4, envelope=False)


# --------------------------------------------------------------------------------- torch-geometric's own


@pytest.fixture
def crystal() -> PotentialInput:
    """A cell smaller than the cutoff, with the ghost and edges of its own."""
    graph = AtomGraph.from_atoms(small_crystal(("H", "C", "O"), 1.3), 4.0)
    return with_ghost(graph, 4.0, graph.n_edges + 3)


def edge_features(inputs: PotentialInput) -> torch.Tensor:
    """The distance, and Gaussians every 0.2 Å."""
    distances = inputs.edge_vectors.norm(dim=1)[:, None]
    centres = 0.2 * torch.arange(21, dtype=torch.float64)
    return torch.cat([distances, torch.exp(-((distances - centres) ** 2) / (2 * 0.2**2))], dim=1)


def their_convolution(messages: Messages) -> NNConv:
    hidden = torch.nn.Sequential(torch.nn.Linear(22, 6), torch.nn.SiLU(), torch.nn.Linear(6, 64))
    theirs = NNConv(8, 8, hidden, root_weight=False, bias=False).double()
    theirs.load_state_dict(messages.state_dict())
    return theirs


def torchs_names(of_input: torch.nn.Linear, of_state: torch.nn.Linear) -> dict[str, torch.Tensor]:
    """Weights of a recurrent unit as torch's GRU and LSTM name them."""
    parts = {"ih": of_input, "hh": of_state}
    weights = {f"weight_{name}_l0": part.weight for name, part in parts.items()}
    return weights | {f"bias_{name}_l0": part.bias for name, part in parts.items()}


def test_the_papers_form_is_torch_geometrics_nnconv_with_a_gru(crystal):
    potential = untrained_model(MPNN(**SMALL, envelope=False)).potential
    convolution, gru = their_convolution(potential.message_update.messages), torch.nn.GRU(8, 8).double()
    update = potential.message_update.update
    gru.load_state_dict(torchs_names(update.of_message, update.of_state))
    start = x = potential.embedding.weight[crystal.atomic_numbers]
    for _ in range(3):
        messages = convolution(x, crystal.edge_index.flip(0), edge_features(crystal))
        x = gru(messages[None], x[None].contiguous())[1][0]
    expected = potential.readout_network(x, start, crystal).contributions
    assert (potential(crystal).contributions - expected).abs().max() < 1e-10


def test_equation_4_is_written_out(crystal):
    """Sum of the contributions of one system: σ(i(h, h⁰)) ⊙ j(h), summed, then the last linear map."""
    readout = untrained_model(MPNN(**SMALL)).potential.readout_network
    x, start = torch.randn(2, crystal.n_atoms, 8, dtype=torch.float64)
    *i, _ = readout.gate
    gate = torch.sigmoid(torch.nn.Sequential(*i)(torch.cat([x, start], dim=1)))
    summed = (gate * readout.value(x)).sum(dim=0)
    expected = readout.output.weight @ summed + crystal.n_atoms * readout.output.bias
    torch.testing.assert_close(readout(x, start, crystal).contributions.sum(dim=0), expected)


def test_the_papers_form_has_torch_geometrics_attention(crystal):
    potential = untrained_model(MPNNTransformer(**SMALL, n_heads=2, envelope=False)).potential
    found = []
    for attention in potential.attentions:
        attention.register_forward_hook(lambda part, inputs, weights: found.append(weights))
    start = x = potential.embedding(crystal.atomic_numbers)
    edges = potential._edges(crystal)
    for one in potential.passes:
        between = potential.message_update(x, edges)
        theirs = TransformerConv(8, 4, heads=2, beta=True, edge_dim=22).double()
        theirs.load_state_dict(one.attention_layer.state_dict())
        x, (_, weights) = theirs(
            between, crystal.edge_index.flip(0), edge_features(crystal), return_attention_weights=True
        )
        one.attention_layer(between, edges)
        assert (found.pop() - weights).abs().max() < 1e-10
    expected = potential.readout_network(x, start, crystal).contributions
    assert (potential(crystal).contributions - expected).abs().max() < 1e-10


def test_set2set_is_torch_geometrics():
    graph = collate([AtomGraph.from_atoms(cluster(("H", "C"), 1.3, n), 4.0) for n in (1, 4, 6)])
    ours, theirs = Set2Set(5, 4).double(), TheirSet2Set(5, processing_steps=4).double()
    theirs.lstm.load_state_dict(torchs_names(ours.lstm.of_input, ours.lstm.of_state))
    x = torch.randn(11, 5, dtype=torch.float64)
    expected = theirs(x, graph.batch, dim_size=3)
    assert (ours(x, graph.batch, 3) - expected).abs().max() < 1e-10


# ------------------------------------------------------------------------------------------- attention


@pytest.mark.parametrize("envelope", [True, False])
def test_attention_of_an_atom_sums_to_one_or_less(crystal, envelope):
    potential = untrained_model(MPNNTransformer(**SMALL, n_heads=2, envelope=envelope)).potential
    sums = []
    for part in potential.attentions:
        part.register_forward_hook(
            lambda part, inputs, weights: sums.append(segment_sum(weights, crystal.edge_index[0], 4))
        )
    potential(crystal)
    assert len(sums) == 3
    for one in sums:
        assert (one < 1 if envelope else (one - 1).abs() < 1e-12).all()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(
        ValidationError, match=r"hidden_channels is 10; it must be a multiple of n_heads \(4\)"
    ):
        MPNNTransformer(hidden_channels=10)
