"""Graph convolutions and the gated graph network obey the laws of every architecture, and their equations."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch.nn.functional import relu

from asecalc_ml.errors import StructureError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.graph_of import graph_of, with_molecular_graph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.potentials.molecular_graph import GatedGraph, GraphConvolutions
from asecalc_ml.potentials.molecular_graph.readouts import GaussianHistogram
from asecalc_ml.potentials.training.frames.batches import StoredFrames
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.molecular_graph import molecular_graph
from asecalc_ml.testing import PotentialChecks
from asecalc_ml.testing.models import untrained_model

pytest.importorskip("rdkit")

SMALL = {"atom_channels": 10, "pair_channels": 8, "final_channels": 12, "readout_channels": 9}


class TestGraphConvolutions(PotentialChecks):
    options = GraphConvolutions(**SMALL)
    mirror = False


class TestGraphConvolutionsOfThePaper(PotentialChecks):
    options = GraphConvolutions(
        **SMALL,
        n_layers=3,
        distance_powers=[],
        symmetric_pairs=True,
        max_graph_distance=2,
        readout="histogram",
    )
    mirror = False


class TestGraphConvolutionsSummed(PotentialChecks):
    options = GraphConvolutions(**SMALL, n_layers=1, readout="sum")
    mirror = False


class TestGatedGraph(PotentialChecks):
    options = GatedGraph(hidden_channels=10, edge_channels=8, n_passes=2)
    mirror = False


class TestGatedGraphWithSet2Set(PotentialChecks):
    options = GatedGraph(
        hidden_channels=10, edge_channels=8, n_passes=1, readout="set2set", max_graph_distance=3
    )
    mirror = False


# ------------------------------------------------------------------------------------------------ equations

NETWORKS = [
    GraphConvolutions(**SMALL),
    GraphConvolutions(**SMALL, readout="histogram", symmetric_pairs=True, distance_powers=[]),
    GatedGraph(hidden_channels=10, edge_channels=8, n_passes=2),
]
MOLECULES = ("CH3CH2OH", "C6H6", "H2O", "HCOOH", "HF")


def inputs_of(atoms, model):
    """What the network is given, in its type; the ghost last."""
    return model._cast(with_ghost(graph_of(atoms, model), model.cutoff))


def all_pairs_of(atoms):
    """Features of pairs as an array (n_atoms, n_atoms, 13)."""
    pairs = np.zeros((len(atoms), len(atoms), 13))
    i, j = np.triu_indices(len(atoms), 1)
    pairs[i, j] = pairs[j, i] = molecular_graph(atoms).pairs
    return torch.from_numpy(pairs)


def outputs_of(part):
    """What a part of a network returns, call by call."""
    outputs = []
    part.register_forward_hook(lambda part, given, output: outputs.append(output))
    return outputs


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("powers", [[], [1, 2, 3, 6]])
def test_a_weave_module_is_its_equations(symmetric, powers):
    """Atom by atom and pair by pair."""
    model = untrained_model(GraphConvolutions(**SMALL, symmetric_pairs=symmetric, distance_powers=powers))
    atoms, weave = molecule("HCOOH"), model.potential.modules_of_weave[0]
    outputs, embedded = outputs_of(weave), outputs_of(model.potential.embedding)
    inputs = inputs_of(atoms, model)
    model.potential(inputs)
    (new_atoms, new_pairs), x, pairs = outputs[0], embedded[0], all_pairs_of(atoms)
    for i in range(len(atoms)):
        messages = []
        for j in set(range(len(atoms))) - {i}:
            message = relu(weave.pair_to_atom(pairs[i, j])) / 17
            messages.append(torch.cat([message, *(message / pairs[i, j, -1] ** p for p in powers)]))
        own = relu(weave.atom_to_atom(x[i]))
        expected = relu(weave.new_atoms(torch.cat([own, torch.stack(messages).sum(dim=0)])))
        assert torch.allclose(new_atoms[i], expected, atol=1e-6)
    for edge, (i, j) in enumerate(inputs.edge_index.T.tolist()):
        of_atoms = relu(weave.atom_to_pair(torch.cat([x[i], x[j]])))
        if symmetric:
            of_atoms = of_atoms + relu(weave.atom_to_pair(torch.cat([x[j], x[i]])))
        of_pairs = relu(weave.pair_to_pair(pairs[i, j]))
        expected = relu(weave.new_pairs(torch.cat([of_atoms, of_pairs])))
        assert torch.allclose(new_pairs[edge], expected, atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_symmetric_pairs_have_no_order(symmetric):
    model = untrained_model(GraphConvolutions(**SMALL, symmetric_pairs=symmetric))
    outputs, inputs = outputs_of(model.potential.modules_of_weave[0]), inputs_of(molecule("HCOOH"), model)
    model.potential(inputs)
    by_atoms = dict(zip(map(tuple, inputs.edge_index.T.tolist()), outputs[0][1], strict=True))
    same = [torch.allclose(value, by_atoms[j, i], atol=1e-12) for (i, j), value in by_atoms.items()]
    assert all(same) == symmetric


def test_the_last_module_makes_no_pairs():
    modules = untrained_model(GraphConvolutions(**SMALL, n_layers=3)).potential.modules_of_weave
    assert [module.makes_pairs for module in modules] == [True, True, False]


def test_a_histogram_counts_each_feature_once():
    members = GaussianHistogram()(torch.tensor([[-1.645, 0.0, 5.0]])).reshape(3, 11)
    assert torch.allclose(members.sum(dim=1), torch.ones(3))
    assert members.argmax(dim=1).tolist() == [0, 5, 10]


def test_a_gated_graph_pass_is_its_equations():
    """Matrix by matrix, with torch's own GRU."""
    model, atoms = (
        untrained_model(GatedGraph(hidden_channels=6, edge_channels=4, n_passes=1)),
        molecule("HCOOH"),
    )
    potential, pairs = model.potential, all_pairs_of(atoms)
    embedded, states = outputs_of(potential.embedding), outputs_of(potential.passes[0])
    potential(inputs_of(atoms, model))
    matrices, x, messages = potential.layer.matrices.weight.view(4, 6, 6), embedded[0][:-1], []
    for i in range(len(atoms)):
        terms = [
            torch.einsum("k,kab->ab", potential.edge_network(pairs[i, j]), matrices) @ x[j]
            for j in set(range(len(atoms))) - {i}
        ]
        messages.append(torch.stack(terms).sum(dim=0) / 17)
    cell, update = torch.nn.GRUCell(6, 6).double(), potential.layer.update
    own = (update.of_message.weight, update.of_state.weight, update.of_message.bias, update.of_state.bias)
    for parameter, value in zip(cell.parameters(), own, strict=True):
        parameter.data = value.data
    assert torch.allclose(states[0][:-1], cell(torch.stack(messages), x), atol=1e-6)


@pytest.mark.parametrize("most", [1, 2])
def test_pairs_beyond_the_graph_distance_send_nothing(most):
    """In one pass a change of the first carbon reaches atoms of up to so many bonds, and no others."""
    options = GatedGraph(hidden_channels=6, edge_channels=4, n_passes=1, max_graph_distance=most)
    model, atoms = untrained_model(options), molecule("CH3CH2OH")
    states, inputs = outputs_of(model.potential.passes[0]), inputs_of(atoms, model)
    changed = inputs.atom_features.clone()
    changed[0, 8] += 1
    model.potential(inputs)
    model.potential(inputs._replace(atom_features=changed))
    moved = (states[0] != states[1]).any(dim=1)[:-1]
    expected = all_pairs_of(atoms)[0, :, 4 + most - 1] == 1
    expected[0] = True
    assert torch.equal(moved, expected)


# ---------------------------------------------------------------------------------- batches, ghost, features


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: type(options).__name__)
def test_a_batch_of_molecules_is_one_by_one(options):
    model = untrained_model(options)
    graphs = [graph_of(molecule(name), model) for name in MOLECULES]
    for graph, values in zip(graphs, values_of(model, graphs), strict=True):
        (alone,) = values_of(model, [graph])
        assert torch.allclose(values["energy"], alone["energy"], atol=1e-12)


def test_stored_frames_are_the_graphs_with_a_ghost():
    """Batches of a training, in another order, with rows of zeros for the ghost."""
    model = untrained_model(GraphConvolutions(**SMALL))
    frames = [LabelledGraph.of(graph_of(molecule(name), model), molecule(name)) for name in MOLECULES]
    batches = StoredFrames(frames, model.cutoff, labels=()).batches(np.array([3, 0, 4, 1, 2]), 2)
    for batch, numbers in zip(batches, ([3, 0], [4, 1], [2]), strict=True):
        expected = with_ghost(collate([frames[k].graph for k in numbers]), model.cutoff)
        for name in ("edge_index", "edge_vectors", "batch", "atom_features", "pair_features"):
            assert torch.equal(getattr(batch.inputs, name), getattr(expected, name)), name
        assert not batch.inputs.atom_features[-1].any()


def test_padding_edges_have_no_features():
    model = untrained_model(GatedGraph())
    graph = graph_of(molecule("H2O"), model)
    inputs = with_ghost(graph, model.cutoff, graph.n_edges + 5)
    assert torch.equal(inputs.pair_features[:-5], graph.pair_features)
    assert not inputs.pair_features[-5:].any()


@pytest.mark.parametrize("options", NETWORKS, ids=lambda options: type(options).__name__)
def test_mirror_images_differ_by_their_labels(options):
    model, atoms = untrained_model(options), load_structure("smiles:N[C@@H](C)C(=O)O")
    del atoms.info["smiles"]
    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1
    values = values_of(model, [graph_of(one, model) for one in (atoms, mirrored)])
    assert abs(values[0]["energy"] - values[1]["energy"]) > 1e-6


def test_edge_features_are_those_of_their_atoms():
    model, atoms = untrained_model(GatedGraph()), molecule("CH3CH2OH")
    graph, pairs = graph_of(atoms, model), all_pairs_of(atoms)
    i, j = graph.edge_index
    assert torch.equal(graph.pair_features.double(), pairs[i, j, :-1])
    assert torch.allclose(graph.edge_vectors.norm(dim=1), pairs[i, j, -1], atol=1e-12)
    assert np.array_equal(graph.atom_features.double().numpy(), molecular_graph(atoms).atoms)


def test_what_is_no_molecule_is_refused():
    model = untrained_model(GatedGraph())
    with pytest.raises(StructureError, match="it is periodic"):
        graph_of(bulk("C"), model)
    with pytest.raises(StructureError, match="longer than the cutoff"):
        with_molecular_graph(AtomGraph.from_atoms(molecule("C6H6"), 4.0, "vesin"), molecule("C6H6"))
