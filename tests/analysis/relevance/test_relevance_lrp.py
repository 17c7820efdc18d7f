"""Layer-wise relevance propagation and relevant walks: rules by hand, brute force, conservation."""

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from raising import told
from torch import nn

from asecalc_ml.analysis import relevance
from asecalc_ml.analysis.relevance import source
from asecalc_ml.analysis.relevance.lrp import method, rules
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput, joined, weighted_sum
from asecalc_ml.analysis.relevance.targets import parse_target
from asecalc_ml.errors import AnalysisError, PluginError
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.model.potential import AtomOutput, Potential
from asecalc_ml.plugins import get
from asecalc_ml.testing import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

WIDTH = 3


class Messages(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH, bias=False)
        self.activation = nn.Tanh()

    def forward(self, h, edge_index, weights):
        i, j = edge_index
        return self.activation(h + segment_sum(weights * take(self.linear(h), j), i, len(h)))


class ToyNetwork(Potential):
    """h ← tanh(h_i + Σ_j φ(r_ij) W h_j), n times, then v·h_i + b: small enough for loops."""

    cutoff = 3.0

    def __init__(self, n_blocks=3):
        super().__init__()
        self.embedding = nn.Embedding(10, WIDTH)
        self.blocks = nn.ModuleList(Messages() for _ in range(n_blocks))
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, inputs):
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        weights = smooth_cutoff(distances, self.cutoff)[:, None]
        h = self.embedding(inputs.atomic_numbers)
        for block in self.blocks:
            h = block(h, inputs.edge_index, weights)
        return AtomOutput(features=h, contributions=self.last(h))

    @property
    def embeddings(self):
        return [self.embedding]

    @property
    def interactions(self):
        return self.blocks

    @property
    def readout(self):
        return self.last

    @property
    def last_linear(self):
        return self.last.weight, self.last.bias


def toy(n_blocks=3) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Model(ToyNetwork(n_blocks)).set_dtype(torch.float64)


def molecule(n_atoms=4):
    return cluster(("H", "C", "O"), 1.3, n_atoms)


def loops(model, atoms):
    """Hidden states, slopes of the secants, and weights of neighbors, from the equations, by numpy."""
    potential = model.potential
    distances = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=2)
    weights = smooth_cutoff(torch.from_numpy(distances), potential.cutoff).numpy() * (distances > 0)
    h, slopes = [potential.embedding.weight.detach().numpy()[atoms.numbers]], []
    for block in potential.blocks:
        z = h[-1] + weights @ h[-1] @ block.linear.weight.detach().numpy().T
        h.append(np.tanh(z))
        slopes.append(np.tanh(z) / z)
    return h, slopes, weights


def walk_by_hand(model, atoms, walk) -> float:
    """v · D₃ A₃ D₂ A₂ D₁ A₁ h₀ along the atoms of a walk, with A = φ W, plus 1 where an atom stays."""
    h, slopes, weights = loops(model, atoms)
    value = h[0][walk[0]]
    for number, (start, end) in enumerate(itertools.pairwise(walk)):
        matrix = weights[end, start] * model.potential.blocks[number].linear.weight.detach().numpy()
        if start == end:
            matrix = matrix + np.eye(WIDTH)
        value = slopes[number][end] * (matrix @ value)
    return float(model.potential.last.weight.detach().numpy()[0] @ value)


def frame(model, atoms, method="lrp", **options):
    quick = {"pairs": "all", "compared_frames": 0}
    return relevance.explain(model, atoms, method=method, **{**quick, **options}).of(method).frames[0]


# ------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    "function", [torch.tanh, nn.functional.silu, torch.sigmoid, torch.exp, nn.functional.softplus, torch.cos]
)
def test_a_secant_has_the_value_and_shares_it_out(function):
    x = torch.tensor([-2.0, -1e-9, 0.0, 1e-7, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    sources = []

    def source(value):
        sources.append(value.clone().requires_grad_(True))
        return sources[-1]

    found = rules.secant(function, x, source)
    torch.testing.assert_close(found, function(x), rtol=0, atol=1e-12)
    for k in range(len(x)):
        slopes = torch.autograd.grad(found[k], [x, *sources], retain_graph=True)
        shared = (x * slopes[0]).sum() + sum((s * g).sum() for s, g in zip(sources, slopes[1:], strict=True))
        assert float(shared.detach()) == pytest.approx(float(found[k].detach()), abs=1e-12)


def test_a_root_keeps_its_value_however_near_to_zero():
    """It has no slope at zero, so that the secant is all there is: 7e-7 has the root 8e-4."""
    x = torch.tensor([0.0, 1e-12, 7e-7, 2.0], dtype=torch.float64, requires_grad=True)
    for found in (rules.secant(torch.sqrt, x, None), rules.power(x, 0.5, None)):
        torch.testing.assert_close(found, x.sqrt(), rtol=0, atol=1e-12)
        (slope,) = torch.autograd.grad(found.sum(), x)
        torch.testing.assert_close(x * slope, x.sqrt(), rtol=0, atol=1e-12)


def test_a_square_goes_through_its_secant_and_an_inverse_is_a_weight():
    x = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(rules.power(x, 2.0, lambda value: value).sum(), x)
    torch.testing.assert_close(slope, x.detach())
    assert not rules.power(x, -1.0, lambda value: value).requires_grad


def test_products_are_halved_and_gates_are_weights():
    a, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (2.0, 5.0))
    multiply = torch.ops.aten.mul.Tensor
    for gates, expected in (
        ((False, False), (2.5, 1.0)),
        ((True, False), (0.0, 2.0)),
        ((False, True), (5.0, 0.0)),
    ):
        found = rules.bilinear(multiply, a, b, gates)
        assert float(found.detach()) == 10.0
        slopes = torch.autograd.grad(found, (a, b), allow_unused=True)
        assert [0.0 if slope is None else float(slope) for slope in slopes] == list(expected)


def test_relevance_of_the_toy_by_loops():
    model, atoms = toy(2), molecule()
    by_hand = np.zeros(len(atoms))
    for walk in itertools.product(range(len(atoms)), repeat=3):
        by_hand[walk[0]] += walk_by_hand(model, atoms, walk)
    found = frame(model, atoms)
    np.testing.assert_allclose(found.atoms, by_hand, atol=1e-12)
    bias = float(model.potential.last.bias.detach()[0])
    assert found.absorbed["biases"] == pytest.approx(len(atoms) * bias)


def test_relevance_of_a_pair_potential_is_half_of_each_pair():
    model, atoms = untrained_model(Morse(cutoff_A=4.0)), molecule()
    lrp, contributions = frame(model, atoms), frame(model, atoms, "contributions")
    occlusion = frame(model, atoms, "occlusion")
    np.testing.assert_allclose(lrp.pairs, occlusion.pairs, atol=1e-10)
    assert sum(lrp.atoms) == pytest.approx(sum(contributions.atoms))


def test_relevance_of_charges_is_shared_out():
    options = get("architectures", "physnet")(
        cutoff_A=4.0, coulomb_cutoff_A=5.0, hidden_channels=8, n_layers=2
    )
    result = relevance.explain(untrained_model(options), molecule(), method="lrp", target="charge:1")
    one = result.of("lrp").frames[0]
    total = sum(one.atoms) + sum(one.absorbed.values())
    assert total == pytest.approx(result.structures[0].value, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("equivariant-transformer", {"activation": "ssp", "attention_activation": "tanh", "n_layers": 1}),
        ("equivariant-transformer", {"activation": "sigmoid", "neighbor_embedding": False, "n_layers": 1}),
        ("tensornet", {"group": "SO(3)", "n_layers": 1}),
        ("schnet", {"aggregation": "mean", "n_interactions": 1}),
        ("so3net", {"lmax": 3, "n_interactions": 1}),
        ("jat", {"update": "gru", "n_layers": 2, "hidden_channels": 8}),
        ("cgcnn", {"readout": "crystal", "envelope": False}),
        ("mpnn", {"readout": "set2set", "hidden_channels": 8}),
    ],
)
def test_other_options_share_everything_out_too(name, changes):
    model = untrained_model(
        get("architectures", name)(**{"cutoff_A": 4.0, "max_atomic_number": 20, **changes})
    )
    for atoms in (molecule(), small_crystal(("H", "C", "O"), 1.3)):
        result = relevance.explain(model, atoms, method="lrp", compared_frames=0)
        one = result.of("lrp").frames[0]
        assert sum(one.atoms) + sum(one.absorbed.values()) == pytest.approx(
            result.structures[0].value, abs=1e-6
        )
        assert np.abs(one.atoms).max() > 1e-6


def test_a_trained_model_shares_its_energy_out():
    from asecalc_ml.structure.loading import load_structure

    result = relevance.explain(
        "torchmdnet-ethanol", load_structure("ethanol"), method="lrp", compared_frames=0
    )
    one = result.of("lrp").frames[0]
    assert sum(one.atoms) + sum(one.absorbed.values()) == pytest.approx(result.structures[0].value, abs=1e-6)


class Strange(ToyNetwork):
    def forward(self, inputs):
        output = super().forward(inputs)
        return output._replace(contributions=torch.cumsum(output.contributions, dim=0))


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(AnalysisError, check=told(name="cumsum", remedy="register_rule")):
        frame(Model(Strange()), molecule())


# ------------------------------------------------------------------------------------------------- walks


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_walks_are_those_of_brute_force(n_blocks):
    """Every walk, as a product of matrices along its atoms."""
    model, atoms = toy(n_blocks), molecule(3)
    found = {tuple(one.atoms): one.relevance for one in frame(model, atoms, "walks", top_walks=1000).walks}
    every = itertools.product(range(3), repeat=n_blocks + 1)
    by_hand = {walk: walk_by_hand(model, atoms, walk) for walk in every}
    assert found.keys() <= by_hand.keys()
    for walk, relevance_by_hand in by_hand.items():
        assert found.get(walk, 0.0) == pytest.approx(relevance_by_hand, abs=1e-12)


def test_shorter_walks_are_sums_over_the_atoms_between():
    model, atoms = toy(3), molecule(3)
    found = {
        tuple(one.atoms): one.relevance
        for one in frame(model, atoms, "walks", walk_length=1, top_walks=1000).walks
    }
    for start, end in itertools.product(range(3), repeat=2):
        between = itertools.product(range(3), repeat=2)
        by_hand = sum(walk_by_hand(model, atoms, (start, *middle, end)) for middle in between)
        assert found.get((start, end), 0.0) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    "name", ["schnet", "painn", "so3net", "equivariant-transformer", "tensornet", "jat", "physnet", "mpnn"]
)
def test_walks_sum_to_the_relevance_of_embeddings(name):
    """Whatever lies between: those that start at an atom have what the atom has."""
    options = get("architectures", name)
    small = {"hidden_channels": 8, "n_atom_basis": 8, "n_layers": 2, "n_interactions": 2, "n_heads": 2}
    known = {key: value for key, value in small.items() if key in options.model_fields}
    model = untrained_model(options(**known, cutoff_A=4.0, max_atomic_number=20))
    result = relevance.explain(
        model, molecule(), method=["walks", "lrp"], compared_frames=0, top_walks=10_000, pairs="all"
    )
    walks, whole = (result.of(one).frames[0] for one in ("walks", "lrp"))
    by_start, halves = np.zeros(4), np.zeros(4)
    for one in walks.walks:
        by_start[one.atoms[0]] += one.relevance
    for pair, value in zip(result.structures[0].pairs, whole.pairs, strict=True):
        halves[list(pair)] += value / 2
    np.testing.assert_allclose(by_start + halves, whole.atoms, atol=1e-9 * np.abs(whole.atoms).max())
    assert sum(walks.atoms) == pytest.approx(sum(whole.atoms), abs=1e-9)
    assert len({one.atoms[-1] for one in walks.walks}) == 4


class Keywords(Messages):
    """Takes keyword arguments, one of them in a dict, and returns a dict."""

    def forward(self, *, state, geometry):
        return {"number": 3, "h": super().forward(state["h"], geometry[0], geometry[1])}


class KeywordNetwork(ToyNetwork):
    def __init__(self, n_blocks=3):
        super().__init__(n_blocks)
        self.blocks = nn.ModuleList(Keywords() for _ in range(n_blocks))

    def forward(self, inputs):
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        weights = smooth_cutoff(distances, self.cutoff)[:, None]
        h = self.embedding(inputs.atomic_numbers)
        for block in self.blocks:
            h = block(state={"h": h}, geometry=(inputs.edge_index, weights))["h"]
        return AtomOutput(features=h, contributions=self.last(h))


@pytest.mark.parametrize("method", ["lrp", "walks", "grad-cam"])
def test_how_a_block_is_called_does_not_count(method):
    """Keyword arguments, dicts and tuples give what positional arguments and one tensor give."""
    model, atoms = toy(), molecule(3)
    other = Model(KeywordNetwork()).set_dtype(torch.float64)
    other.load_state_dict(model.state_dict())
    found, expected = (frame(one, atoms, method, top_walks=1000) for one in (other, model))
    assert found == expected
    assert bool(found.walks) == (method == "walks")


class Box:
    def __init__(self, h):
        self.h = h


class Boxed(Messages):
    """Returns an object that no hook can look into."""

    def forward(self, h, edge_index, weights):
        return Box(super().forward(h, edge_index, weights))


class BoxedNetwork(ToyNetwork):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Boxed()])

    def forward(self, inputs):
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        weights = smooth_cutoff(distances, self.cutoff)[:, None]
        h = self.blocks[0](self.embedding(inputs.atomic_numbers), inputs.edge_index, weights).h
        return AtomOutput(features=h, contributions=self.last(h))


def test_a_block_that_returns_no_tensor_is_told_what_to_return():
    with pytest.raises(PluginError, check=told(name="Boxed", value="Box", remedy=True)):
        frame(Model(BoxedNetwork()).set_dtype(torch.float64), molecule(), "grad-cam")


class TwoTables(nn.Module):
    def forward(self, numbers):
        return (numbers[:, None] / 10.0).expand(-1, WIDTH), numbers


class OddEmbedding(ToyNetwork):
    def __init__(self):
        super().__init__()
        self.embedding = TwoTables()

    def forward(self, inputs):
        h = self.embedding(inputs.atomic_numbers)[0].to(inputs.edge_vectors.dtype)
        return AtomOutput(features=h, contributions=self.last(h))


@pytest.mark.parametrize("method", ["lrp", "gradient-embeddings"])
def test_an_embedding_that_returns_no_tensor_is_told_what_to_return(method):
    with pytest.raises(PluginError, check=told(name="TwoTables", value="tuple", remedy=True)):
        frame(Model(OddEmbedding()).set_dtype(torch.float64), molecule(), method)


@pytest.fixture
def erf_without_a_rule():
    """Whatever plugins of other tests have registered in this process."""
    before = set(rules.ELEMENTWISE)
    rules.ELEMENTWISE.discard(torch.ops.aten.erf.default)
    yield torch.ops.aten.erf.default
    rules.ELEMENTWISE.clear()
    rules.ELEMENTWISE.update(before)


class Erf(ToyNetwork):
    def forward(self, inputs):
        output = super().forward(inputs)
        return output._replace(contributions=torch.erf(output.contributions))


def test_an_operation_can_be_given_a_rule(erf_without_a_rule):
    """Which is that of an activation: what atoms and constants have sums to the energy."""
    model, atoms = Model(Erf()).set_dtype(torch.float64), molecule(3)
    with pytest.raises(AnalysisError, check=told(name="aten.erf.default", remedy="register_rule")):
        frame(model, atoms)
    rules.register_rule(erf_without_a_rule, "elementwise")
    result = relevance.explain(model, atoms, method="lrp", compared_frames=0)
    one = result.of("lrp").frames[0]
    assert sum(one.atoms) + sum(one.absorbed.values()) == pytest.approx(result.structures[0].value, abs=1e-12)
    with pytest.raises(AnalysisError, check=told(name="aten.erf.default", value="linear")):
        rules.register_rule(erf_without_a_rule, "linear")
    with pytest.raises(
        AnalysisError, check=told(value="quadratic", allowed=["linear", "elementwise", "weight"])
    ):
        rules.register_rule(erf_without_a_rule, "quadratic")


def test_walks_that_one_structure_lacks_are_zero_there():
    first, second = (
        MethodOutput(torch.zeros(2), walks=dict.fromkeys(walks, torch.ones(1)))
        for walks in ([(0, 1)], [(1, 0)])
    )
    both = joined([first, second])
    assert [both.walks[walk].tolist() for walk in ((0, 1), (1, 0))] == [[1, 0], [0, 1]]
    difference = weighted_sum([(2.0, first), (-1.0, second)])
    assert [difference.walks[walk].tolist() for walk in ((0, 1), (1, 0))] == [[2], [-1]]


@pytest.mark.parametrize("method", ["lrp", "walks"])
def test_relevance_of_a_force_is_the_slope_of_that_of_the_energy(method):
    model, atoms = toy(2), molecule(3)
    direction = atoms.positions[2] - atoms.positions[0]
    direction = direction / np.linalg.norm(direction)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0] += sign * 1e-4 * direction
        ends.append(np.array(frame(model, moved, method).atoms))
    found = frame(model, atoms, method, target="force:0-2").atoms
    np.testing.assert_allclose(found, -(ends[0] - ends[1]) / 2e-4, atol=1e-6)


def test_the_largest_walks_are_listed_first():
    walks = frame(toy(2), molecule(), "walks", top_walks=5).walks
    sizes = [abs(one.relevance) for one in walks]
    assert len(walks) == 5
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["morse", "ani", "neuralil", "dimenet-plus-plus"])
def test_networks_without_features_that_pass_on_have_no_walks(name):
    extra = {"elements": ["H", "C", "O"]} if name in ("ani", "neuralil") else {}
    with pytest.raises(AnalysisError, check=told(value="walks", allowed=["lrp"], remedy="lrp")):
        frame(untrained_model(get("architectures", name)(**extra)), molecule(), "walks")


def test_structures_of_all_sizes_take_one_pass(monkeypatch):
    """And a second one of the model itself, whose values the rules have to give."""
    frames = [molecule(n_atoms) for n_atoms in range(2, 12)]
    passes, forward = [], Model.forward

    def counted(self, inputs):
        passes.append(inputs.n_systems - 1)
        return forward(self, inputs)

    model = toy()
    subject = source.Source.of(model).subject(frames)
    target = parse_target("energy", model.quantities[0]).bind(subject)
    monkeypatch.setattr(Model, "forward", counted)
    output = method.explain(subject, target, relevance.RelevanceOptions())
    assert passes == [len(frames)] * 2
    values = subject.run().energies.detach()
    torch.testing.assert_close(
        subject.per_system(output.atoms) + sum(output.absorbed.values()), values, rtol=0, atol=1e-12
    )
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["lrp", "walks"])
def test_an_atom_alone_has_the_relevance_of_its_embedding(name):
    model = toy()
    atoms = Atoms("O")
    assert frame(model, atoms, name).atoms == pytest.approx([walk_by_hand(model, atoms, (0, 0, 0, 0))])


def test_an_atom_alone_has_no_triplets_to_take_relevance():
    """In a network that sums over triplets, whose numbers of edges and of triplets are zero."""
    options = get("architectures", "ani")(elements=["H", "O"], hidden_channels=[6, 5])
    one = relevance.explain(untrained_model(options), Atoms("O"), method="lrp", compared_frames=0)
    (explained,) = one.of("lrp").frames
    assert sum(explained.atoms) + sum(explained.absorbed.values()) == pytest.approx(one.structures[0].value)


class Branches(ToyNetwork):
    """Computes something that nobody reads, by an operation without a rule, and adds in place."""

    def forward(self, inputs):
        output = super().forward(inputs)
        torch.cumsum(output.contributions, dim=0).square_().add_(1.0)
        contributions = output.contributions.clone()
        contributions += output.contributions
        contributions.mul_(0.5)
        return output._replace(contributions=contributions)


def test_what_nobody_reads_needs_no_rule_and_operations_in_place_are_operations():
    model, atoms = toy(), molecule()
    other = Model(Branches()).set_dtype(torch.float64)
    other.load_state_dict(model.state_dict())
    np.testing.assert_allclose(frame(other, atoms).atoms, frame(model, atoms).atoms, atol=1e-14)
