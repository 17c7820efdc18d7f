"""JAT is its thesis' equations, obeys the laws of every architecture, and compiles."""

from itertools import product
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from training_steps import check_training_step

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.compile.edge_list import edge_list_program
from asecalc_ml.potentials.jat import JAT
from asecalc_ml.testing import PotentialChecks, untrained_model
from asecalc_ml.testing.models import compiled_agrees
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {"hidden_channels": 8, "n_layers": 2, "cutoff_A": 4.0, "max_atomic_number": 20}
ELEMENTS = ("H", "C", "O")


@pytest.mark.smoke
class TestJAT(PotentialChecks):
    options = JAT(**SMALL)


class TestJATOtherOptions(PotentialChecks):
    options = JAT(**SMALL, n_heads=4, update="gru")


class TestJATOfTheThesis(PotentialChecks):
    options = JAT(**SMALL, n_heads=2, envelope=False)

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        for group in (1, 2):
            assert self._jump(model, group, 1e-6) > 0.1 * self._jump(model, group, 1e-3) > 0


# ------------------------------------------------------------------------------------- slow reference


class Reference:
    """The thesis' equations, atom by atom and neighbor by neighbor.

    Parameters
    ----------
    options : JAT
    weights : dict of str to ndarray
        Parameters by name.
    """

    names: ClassVar[dict[str, str]] = {"W_r": "receiver.weight", "W_s": "sender.weight", "a": "score.weight"}

    def __init__(self, options, weights):
        self.options, self.weights = options, weights

    def contributions(self, atoms: Atoms) -> list[float]:
        neighbors = [self.neighbors(atoms, i) for i in range(len(atoms))]
        h = [self.weights["embedding.weight"][number] for number in atoms.numbers]
        for t in range(self.options.n_layers):
            h = [self.updated(h, i, neighbors[i], t) for i in range(len(atoms))]
        return [self.readout(one) for one in h]

    def neighbors(self, atoms, i):
        """Index and distance of each neighbor, images of the atom itself included."""
        found = []
        for j, shift in product(range(len(atoms)), product(range(-4, 5), repeat=3)):
            vector = atoms.positions[j] + np.array(shift) @ atoms.cell.array - atoms.positions[i]
            distance = float(np.sqrt(vector @ vector))
            if 0 < distance < self.options.cutoff_A and (atoms.pbc.any() or not any(shift)):
                found.append((j, distance))
        return found

    def updated(self, h, i, neighbors, t):
        """Eq. (3.3) with the recurrent unit in its place where it is asked for, and the normalisation."""
        layer = {name: self.weights[f"layers.{t}.{key}"] for name, key in self.names.items()}
        n_heads = self.options.n_heads
        width = len(h[i]) // n_heads
        messages = np.zeros(len(h[i]))
        for k in range(n_heads):
            part = slice(k * width, (k + 1) * width)
            shares = self.attention(h, i, neighbors, layer, k, part)
            for (j, _), share in zip(neighbors, shares, strict=True):
                messages[part] += share * (layer["W_s"] @ h[j])[part]
        new = self.recurrent(messages, h[i], t) if self.options.update == "gru" else h[i] + swish(messages)
        return new if t == self.options.n_layers - 1 else self.normalised(new, f"layers.{t}.norm")

    def attention(self, h, i, neighbors, layer, k, part):
        """Eqs. (3.1) and (2.10) of head k; with the envelope, weights and a 1 in the sum."""
        exponentials = []
        for j, distance in neighbors:
            lifted = swish(layer["W_r"] @ h[i] + layer["W_s"] @ h[j])[part]
            length = distance * (distance / self.options.cutoff_A) ** k
            score = layer["a"][k] @ np.array([*lifted, length])
            exponentials.append(np.exp(score) * self.weight(distance))
        total = sum(exponentials) + (1 if self.options.envelope else 0)
        return [one / total for one in exponentials]

    def weight(self, distance):
        if not self.options.envelope:
            return 1.0
        return float(smooth_cutoff(torch.tensor(distance, dtype=torch.float64), self.options.cutoff_A))

    def recurrent(self, messages, h, t):
        """Gated recurrent unit of Cho et al., arXiv:1406.1078, with reset, update and candidate in a row."""
        name = f"layers.{t}.update"
        of_messages = np.split(self.linear(messages, name, "_ih"), 3)
        of_state = np.split(self.linear(h, name, "_hh"), 3)
        reset, update = (1 / (1 + np.exp(-of_messages[gate] - of_state[gate])) for gate in (0, 1))
        candidate = np.tanh(of_messages[2] + reset * of_state[2])
        return (1 - update) * candidate + update * h

    def linear(self, values, name, suffix=""):
        return self.weights[f"{name}.weight{suffix}"] @ values + self.weights[f"{name}.bias{suffix}"]

    def normalised(self, values, name):
        scaled = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def readout(self, h):
        for stage in range(4):
            h = self.weights[f"head.hidden.{stage}.0.weight"] @ h
            h = swish(self.normalised(h, f"head.hidden.{stage}.1"))
        return float(self.linear(h, "head.last")[0])


def swish(values):
    return values / (1 + np.exp(-values))


@pytest.mark.parametrize(
    "atoms", [small_crystal(ELEMENTS, 1.3), cluster(ELEMENTS, 1.3)], ids=["crystal", "molecule"]
)
@pytest.mark.parametrize(
    "options",
    [
        JAT(**SMALL),
        JAT(**SMALL, n_heads=2, update="gru"),
        JAT(**SMALL, n_heads=4, envelope=False),
        JAT(**SMALL, update="gru", envelope=False),
    ],
)
def test_it_is_the_loop_over_atoms_and_neighbors(options, atoms):
    potential = untrained_model(options).potential
    weights = {name: value.numpy() for name, value in potential.state_dict().items()}
    inputs = with_ghost(AtomGraph.from_atoms(atoms, options.cutoff_A), options.cutoff_A)
    found = potential(inputs).contributions[:-1, 0].detach().numpy()
    expected = Reference(options, weights).contributions(atoms)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert np.ptp(expected) > 1e-3


# ------------------------------------------------------------------------------------------- attention


def attention_of(options, atoms):
    """Attention weights of the last layer, the ghost's left out, and the edges."""
    model, found = untrained_model(options), []
    model.potential.attentions[-1].register_forward_hook(lambda part, inputs, weights: found.append(weights))
    graph = AtomGraph.from_atoms(atoms, options.cutoff_A)
    model.potential(with_ghost(graph, options.cutoff_A))
    inside = graph.edge_vectors.norm(dim=1) < options.cutoff_A
    return found[0][inside].detach(), graph.edge_index[:, inside]


@pytest.mark.parametrize("envelope", [True, False])
def test_attention_is_shared_among_neighbors(envelope):
    atoms = cluster(ELEMENTS, 1.3)
    weights, (centres, _) = attention_of(JAT(**SMALL, n_heads=2, envelope=envelope), atoms)
    sums = torch.zeros(len(atoms), 2, dtype=torch.float64).index_add(0, centres, weights)
    assert (weights > 0).all()
    assert (sums < 1).all() if envelope else torch.allclose(sums, torch.ones_like(sums))


def test_the_only_neighbor_leaves_without_a_jump():
    """In the thesis it has all the attention until it is gone."""
    for envelope, expected in ((True, 0.0), (False, 1.0)):
        pair = Atoms("CO", [[0, 0, 0], [0, 0, 4 - 1e-6]])
        weights, _ = attention_of(JAT(**SMALL, envelope=envelope), pair)
        assert weights.flatten().tolist() == pytest.approx([expected, expected], abs=1e-12)


# ------------------------------------------------------------------------------------ options, compiling


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ConfigError, match="multiple of n_heads"):
        parse_options({"hidden_channels": 48, "n_heads": 5}, JAT, source="train.yaml")


def test_published_sizes():
    """By hand: 7 layers of 2·48² + 49 weights, 6 norms, the pyramid and its norms, 100 elements."""
    layers = 7 * (2 * 48 * 48 + 49) + 6 * 2 * 48
    head = 48 * 64 + 64 * 32 + 32 * 16 + 16 * 16 + 2 * (64 + 32 + 16 + 16) + 17
    potential = JAT().build()
    assert sum(one.numel() for one in potential.parameters()) == 100 * 48 + layers + head


def batch(cutoff):
    return with_ghost(
        collate([AtomGraph.from_atoms(cluster(ELEMENTS, 1.3, n), cutoff) for n in (4, 6)]), cutoff
    )


@pytest.mark.parametrize("update", ["skip", "gru"])
@pytest.mark.parametrize("envelope", [True, False])
@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_traced_training_step(update, envelope, dynamic):
    model = untrained_model(JAT(**SMALL, n_heads=2, update=update, envelope=envelope))
    inputs = batch(model.cutoff)
    check_training_step(model, inputs, dynamic=dynamic)


@pytest.mark.slow
def test_compiled_is_eager(tmp_path):
    model = untrained_model(JAT(**SMALL), dtype=torch.float32)
    inputs = batch(model.cutoff)
    assert compiled_agrees(model, edge_list_program(inputs), tmp_path)
    check_training_step(model, inputs, compiled=True)
