"""Which atoms a prediction rests on: a known truth, symmetries, brute force, conservation, bad input."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from raising import told
from torch import nn

from asecalc_ml.analysis import relevance
from asecalc_ml.analysis.relevance import METHODS, RelevanceResult
from asecalc_ml.analysis.relevance.methods import gradients
from asecalc_ml.analysis.relevance.output.comparison import spearman
from asecalc_ml.analysis.relevance.subject import embedding_modules
from asecalc_ml.errors import AnalysisError, ConfigError, ModelError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.heads.single import single as single_quantity
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.model.potential import AtomOutput, Potential
from asecalc_ml.plugins import get, names
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing import untrained_model
from asecalc_ml.testing.structures import cluster, random_rotation, real_molecule, small_crystal

SMALL = {
    "cutoff_A": 4.0,
    "coulomb_cutoff_A": 5.0,
    "hidden_channels": 8,
    "output_channels": 8,
    "n_layers": 2,
    "n_passes": 2,
    "n_heads": 2,
    "n_rbf": 6,
    "n_radial": 4,
    "n_atom_basis": 8,
    "n_interactions": 2,
    "basis_spacing_A": 0.5,
    "atom_channels": 8,
    "pair_channels": 8,
    "final_channels": 8,
    "n_max": 2,
    "max_atomic_number": 20,
}
SPECIAL = {
    "ani": {"elements": ["H", "C", "O"], "hidden_channels": [6, 5]},
    "neuralil": {"elements": ["H", "C", "O"], "hidden_channels": [8, 6]},
    "lennard-jones": {"epsilon_eV": 0.3, "sigma_A": 1.2},
    "zbl": {"reach": 2.0},
}
ARCHITECTURES = names("architectures")
QUICK = ("ani", "equivariant-transformer", "jat", "schnet")  # angles, vectors, attention, and none of these
#: Those of molecular graphs take no clusters and crystals; `PotentialChecks` has their relevance.
MOLECULES_ONLY = ("graph-convolutions", "gated-graph")
EACH = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in ARCHITECTURES
    if name not in MOLECULES_ONLY
]


def small_model(name: str, seed: int = 0, **changes) -> Model:
    """A small network of this architecture with random weights."""
    options = get("architectures", name)
    known = {key: value for key, value in SMALL.items() if key in options.model_fields}
    return untrained_model(options(**{**known, **SPECIAL.get(name, {}), **changes}), seed)


def molecule(seed: int = 0, n_atoms: int = 5) -> Atoms:
    return cluster(("H", "C", "O"), 1.3, n_atoms, seed)


def maps(model, atoms, **options) -> dict[str, relevance.RelevanceResult]:
    quick = {"pairs": "all", "compared_frames": 0, "integration_points": 3}
    found = relevance.explain(model, atoms, **{**quick, **options})
    return {one.method: one.frames for one in found.methods}


def energy_of(model: Model, atoms: Atoms) -> float:
    return float(Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).energy[0])


def assert_close(found, expected, tolerance=1e-8):
    scale = max(np.abs(np.asarray(expected)).max(initial=0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


# ------------------------------------------------------------------------------------- a known truth


class OneBond(Potential):
    r"""The energy of ethanol's C–O bond, and of nothing else: E = −4 eV tanh Σ_j a_ij with

    a_ij = φ(r_ij) (C_i O_j + O_i C_j), where φ ends at 1.9 Å and does not reach the other carbon. Features
    have three more channels, full of every element and every neighbor, which the last map does not read.
    """

    cutoff = 1.9

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 5)
        self.interaction = Bonding()
        self.head = Head()
        with torch.no_grad():
            self.embedding.weight[:, :2] = 0
            self.embedding.weight[6, 0] = self.embedding.weight[8, 1] = 1.5

    def forward(self, inputs):
        return self.head(self.interaction(self.embedding(inputs.atomic_numbers), inputs))

    @property
    def embeddings(self):
        return [self.embedding]

    @property
    def interactions(self):
        return [self.interaction]

    @property
    def attentions(self):
        return [self.interaction.attention]

    @property
    def readout(self):
        return self.head

    @property
    def last_linear(self):
        return self.head.last.weight, torch.zeros_like(self.head.last.weight[0, :1])


class Bonding(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.Identity()

    def forward(self, h, inputs):
        i, j = inputs.edge_index
        weights = smooth_cutoff(torch.linalg.vector_norm(inputs.edge_vectors, dim=1), OneBond.cutoff)[:, None]
        at, near = take(h, i), take(h, j)
        pairs = self.attention(weights * (at[:, :1] * near[:, 1:2] + at[:, 1:2] * near[:, :1]))
        others = h[:, 2:] + segment_sum(weights * near[:, 2:], i, len(h))
        return torch.cat([segment_sum(pairs, i, len(h)), others], dim=1)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.activation = nn.Tanh()
        self.last = nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            self.last.weight[:] = torch.tensor([[-2.0, 0, 0, 0]])

    def forward(self, x):
        features = self.activation(x)
        return AtomOutput(features=features, contributions=self.last(features))


def one_bond() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(OneBond()).set_dtype(torch.float64)


def shaken_ethanol(n_frames: int = 40) -> list[Atoms]:
    random, frames = np.random.default_rng(0), []
    for _ in range(n_frames):
        atoms = load_structure("ethanol")
        atoms.positions += random.normal(scale=0.05, size=(len(atoms), 3))
        frames.append(atoms)
    return frames


def bond_of(atoms: Atoms) -> set[int]:
    """The oxygen and the carbon next to it."""
    oxygen = int(np.flatnonzero(atoms.symbols == "O")[0])
    carbons = np.flatnonzero(atoms.symbols == "C")
    return {oxygen, int(carbons[np.argmin(atoms.get_distances(oxygen, carbons))])}


def fraction_ranked_first(frames, atoms: list[Atoms]) -> float:
    hits = [
        set(np.argsort(-np.abs(frame.atoms))[:2].tolist()) == bond_of(one)
        for frame, one in zip(frames, atoms, strict=True)
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("target", ["energy", "force:OC"])
@pytest.mark.parametrize("method", METHODS)
def test_the_one_bond_that_counts_is_ranked_first(method, target):
    atoms = shaken_ethanol(5 if method in ("lrp", "walks") else 40)
    oxygen = int(np.flatnonzero(atoms[0].symbols == "O")[0])
    (carbon,) = bond_of(atoms[0]) - {oxygen}
    target = target.replace("OC", f"{oxygen}-{carbon}")
    found = maps(one_bond(), atoms, method=method, target=target, pairs="bonds")[method]
    assert fraction_ranked_first(found, atoms) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_the_one_bond_is_ranked_first_in_rmd17(method, shared_data):
    data = np.load(shared_data / "rmd17" / "rmd17_ethanol_test_01.npz")
    positions = data["coords"][:: 200 if method in ("lrp", "walks") else 10]
    atoms = [Atoms(data["nuclear_charges"], one) for one in positions]
    assert fraction_ranked_first(maps(one_bond(), atoms, method=method)[method], atoms) >= 0.95


@pytest.mark.parametrize("method", ["saliency", "gradient-edges", "attention", "occlusion"])
def test_the_one_bond_is_the_first_of_all_pairs(method):
    atoms = shaken_ethanol(20)
    found = relevance.explain(one_bond(), atoms, method=method, pairs="all")
    for structure, frame, one in zip(found.structures, found.of(method).frames, atoms, strict=True):
        assert set(structure.pairs[int(np.argmax(np.abs(frame.pairs)))]) == bond_of(one)


def test_the_truth_is_what_it_says():
    """The energy follows from one distance, in closed form, and features of other atoms are not zero."""
    model, atoms = one_bond(), load_structure("ethanol")
    distance = torch.tensor(atoms.get_distance(*bond_of(atoms)))
    expected = -4 * torch.tanh(1.5**2 * smooth_cutoff(distance, 1.9))
    assert energy_of(model, atoms) == pytest.approx(float(expected), rel=1e-6)
    assert float(expected) < -0.1


# ---------------------------------------------------------------------------------- every architecture


@pytest.mark.parametrize("target", ["energy", "force:1-3"])
@pytest.mark.parametrize("name", EACH)
def test_relevance_is_that_of_the_molecule_and_not_of_its_place(name, target):
    model, atoms = small_model(name), molecule(n_atoms=4)
    moved = atoms.copy()
    moved.positions = atoms.positions @ random_rotation(3).T + [3.0, -20.0, 7.0]
    before, after = (maps(model, one, method="all", target=target) for one in (atoms, moved))
    assert before.keys() == after.keys()
    for method in before:
        by_differences = method in ("lrp", "walks") and target != "energy"
        tolerance = 1e-5 if by_differences else 1e-8
        assert_close(after[method][0].atoms, before[method][0].atoms, tolerance)
        assert_close(after[method][0].pairs, before[method][0].pairs, tolerance)


@pytest.mark.parametrize("name", EACH)
def test_relevance_goes_with_the_atom_when_atoms_change_places(name):
    model, atoms = small_model(name), molecule()
    order = np.random.default_rng(1).permutation(len(atoms))
    before, after = (maps(model, one, method="all") for one in (atoms, atoms[order]))
    for method in before:
        assert_close(after[method][0].atoms, np.array(before[method][0].atoms)[order])


@pytest.mark.parametrize("name", EACH)
def test_other_weights_give_another_map(name):
    models = [small_model(name, seed) for seed in (0, 1)]
    if not list(models[0].parameters()):
        pytest.skip("nothing is trained in this potential")
    first, second = (maps(model, molecule(), method="all") for model in models)
    for method in first:
        change = np.abs(np.subtract(first[method][0].atoms, second[method][0].atoms)).max()
        assert change > 1e-3 * np.abs(first[method][0].atoms).max() > 0


@pytest.mark.parametrize("name", EACH)
def test_a_batch_is_one_by_one(name):
    model = small_model(name)
    frames = [molecule(), small_crystal(("H", "C", "O"), 1.3), molecule(1, n_atoms=3)]
    together, alone = maps(model, frames, method="all"), [maps(model, one, method="all") for one in frames]
    for method, found in together.items():
        for frame, single in zip(found, alone, strict=True):
            assert_close(frame.atoms, single[method][0].atoms)
            assert_close(frame.pairs, single[method][0].pairs)
            assert frame.absorbed.keys() == single[method][0].absorbed.keys()
            assert_close(list(frame.absorbed.values()), list(single[method][0].absorbed.values()))


@pytest.mark.parametrize("target", ["energy", pytest.param("force:1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_shared_out_is_all_there_is(name, target):
    """Relevance and what is absorbed sum to the target, for methods that say so."""
    model, atoms = small_model(name), real_molecule() if name in MOLECULES_ONLY else molecule()
    result = relevance.explain(
        model, atoms, method="all", target=target, compared_frames=0, integration_points=3
    )
    value = result.structures[0].value
    shared_out = [one for one in result.methods if one.frames[0].absorbed]
    assert shared_out
    for one in shared_out:
        frame = one.frames[0]
        assert sum(frame.atoms) + sum(frame.absorbed.values()) == pytest.approx(value, abs=1e-6)


# ------------------------------------------------------------------------------------------- brute force


@pytest.mark.parametrize("name", ["equivariant-transformer", "painn", "ani"])
def test_saliency_is_the_size_of_the_forces(name):
    model, atoms = small_model(name), molecule()
    forces = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).forces
    assert_close(maps(model, atoms, method="saliency")["saliency"][0].atoms, forces.norm(dim=1))


def test_saliency_of_a_pair_is_the_slope_of_its_energy():
    model = untrained_model(Morse(cutoff_A=4.0))
    pair = Atoms("CO", [[0, 0, 0], [0.3, 0.4, 1.2]])
    frame = maps(model, pair, method="saliency")["saliency"][0]
    assert frame.pairs == pytest.approx([frame.atoms[0]])


@pytest.mark.parametrize("make", [molecule, lambda: small_crystal(("H", "C", "O"), 1.3)])
def test_gradient_times_edges_is_the_trace_of_the_virial(make):
    model, atoms = small_model("schnet"), make()
    virial = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).virial[0]
    frame = maps(model, atoms, method="gradient-edges")["gradient-edges"][0]
    assert_close(sum(frame.atoms), virial.trace())
    assert_close(sum(frame.pairs), virial.trace())


@pytest.mark.parametrize("target", ["energy", "force:2-0"])
@pytest.mark.parametrize("name", ["equivariant-transformer", "dimenet-plus-plus", "tensornet"])
def test_gradient_times_embeddings_is_the_slope_of_fading(name, target):
    model, atoms = small_model(name), molecule()
    found = maps(model, atoms, method="gradient-embeddings", target=target)["gradient-embeddings"][0].atoms
    for atom in range(len(atoms)):
        values = [_faded(model, atoms, atom, 1 + step, target) for step in (1e-4, -1e-4)]
        assert (values[0] - values[1]) / 2e-4 == pytest.approx(found[atom], rel=1e-4, abs=1e-6)


def _faded(model, atoms, atom, factor, target) -> float:
    """The target with all embeddings of one atom multiplied."""

    def scale(module, inputs, output):
        factors = torch.ones(len(output), 1, dtype=output.dtype)
        factors[atom] = factor
        return output * factors

    handles = [table.register_forward_hook(scale) for table in embedding_modules(model.potential)]
    try:
        if target == "energy":
            return energy_of(model, atoms)
        forces = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).forces.numpy()
        first, other = map(int, target.removeprefix("force:").split("-"))
        direction = atoms.positions[other] - atoms.positions[first]
        return float(forces[first] @ direction / np.linalg.norm(direction))
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", ["schnet", "equivariant-transformer", "physnet"])
def test_integrated_gradients_are_complete(name):
    frame = maps(small_model(name), molecule(), method="integrated-gradients", integration_points=200)
    (frame,) = frame["integrated-gradients"]
    assert abs(frame.absorbed["quadrature"]) < 1e-5


@pytest.mark.parametrize(
    ("name", "target"),
    [("schnet", "energy"), ("equivariant-transformer", "force:1-2"), ("physnet", "charge:1")],
)
def test_copies_that_pass_together_are_those_that_pass_alone(name, target, monkeypatch):
    """Integrated gradients of several structures, all scales at once and one after the other."""
    third = molecule(2) if name == "physnet" else small_crystal(("H", "C", "O"), 1.6)
    model, frames = small_model(name), [molecule(0), molecule(1, n_atoms=7), third]
    options = {"method": "integrated-gradients", "target": target, "integration_points": 6}
    sizes, forward = [], Model.forward

    def counted(self, inputs):
        sizes.append(inputs.n_systems - 1)
        return forward(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "forward", counted)
        together = maps(model, frames, **options)["integrated-gradients"]
    assert 8 * len(frames) in sizes  # six points and both ends, in one pass
    monkeypatch.setattr(gradients, "BATCH_ATOMS", 1)
    alone = [maps(model, atoms, **options)["integrated-gradients"][0] for atoms in frames]
    for ours, theirs in zip(together, alone, strict=True):
        assert_close(ours.atoms, theirs.atoms)
        for part, value in theirs.absorbed.items():
            assert ours.absorbed[part] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("name", ["painn", "jat", "physnet"])
def test_contributions_are_energies_of_atoms_without_references(name):
    model, atoms = small_model(name), molecule()
    energies = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).energies.numpy()
    shifts = model.shift[atoms.numbers].numpy()
    frame = maps(model, atoms, method="contributions")["contributions"][0]
    assert_close(frame.atoms, energies - shifts)
    assert frame.absorbed["reference energies"] == pytest.approx(shifts.sum())


@pytest.mark.parametrize("method", ["contributions", "cam", "occlusion"])
@pytest.mark.parametrize("target", ["force:1", "force:1-3"])
def test_shares_of_a_force_are_slopes_of_shares(method, target):
    """Finite differences along the direction of the target."""
    model, atoms = small_model("painn"), molecule()
    if target == "force:1":
        force = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).forces[1].numpy()
        direction = force / np.linalg.norm(force)
    else:
        direction = atoms.positions[3] - atoms.positions[1]
        direction = direction / np.linalg.norm(direction)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1] += sign * 1e-4 * direction
        ends.append(np.array(maps(model, moved, method=method)[method][0].atoms))
    found = maps(model, atoms, method=method, target=target)[method][0].atoms
    assert_close(found, -(ends[0] - ends[1]) / 2e-4, 1e-5)


def test_cam_is_contributions_without_the_bias():
    model, atoms = small_model("schnet"), molecule()
    found = maps(model, atoms, method=["cam", "contributions"])
    bias = float(model.potential.last_linear[1][0].detach())
    scaled = bias * model.scale[atoms.numbers].numpy()
    assert_close(np.subtract(found["contributions"][0].atoms, found["cam"][0].atoms), scaled)
    assert found["cam"][0].absorbed["biases"] == pytest.approx(scaled.sum())


def test_grad_cam_of_the_last_features_by_hand():
    """∂E/∂A of the only channel that counts is −2 (1 − tanh²); its mean times the channel is the map."""
    model, atoms = one_bond(), load_structure("ethanol")
    hidden = np.zeros(len(atoms))
    distance = torch.tensor(atoms.get_distance(*bond_of(atoms)))
    hidden[list(bond_of(atoms))] = 1.5**2 * float(smooth_cutoff(distance, 1.9))
    slope = np.mean(-2 * (1 - np.tanh(hidden) ** 2))
    frame = maps(model, atoms, method="grad-cam")["grad-cam"][0]
    assert_close(frame.atoms, slope * hidden)
    assert list(frame.blocks) == ["block 1"]


def test_grad_cam_has_a_map_for_each_block():
    model = small_model("painn")
    frame = maps(model, molecule(), method="grad-cam")["grad-cam"][0]
    assert len(frame.blocks) == len(model.potential.interactions)
    assert_close(np.mean(list(frame.blocks.values()), axis=0), frame.atoms)


@pytest.mark.parametrize("name", ["schnet", "tensornet", "ani"])
def test_occlusion_is_the_energy_of_carrying_an_atom_away(name):
    model, atoms = small_model(name), molecule()
    found = maps(model, atoms, method="occlusion")["occlusion"][0].atoms
    for atom in range(len(atoms)):
        far = atoms.copy()
        far.positions[atom] += [100.0, 0, 0]
        assert found[atom] == pytest.approx(energy_of(model, atoms) - energy_of(model, far), abs=1e-9)


def test_occlusion_of_a_pair_of_a_pair_potential_is_its_energy():
    model, atoms = untrained_model(Morse(cutoff_A=4.0)), molecule()
    found = relevance.explain(model, atoms, method="occlusion", pairs="all")
    for pair, value in zip(found.structures[0].pairs, found.of("occlusion").frames[0].pairs, strict=True):
        two = atoms[list(pair)]
        alone = sum(energy_of(model, two[[k]]) for k in (0, 1))
        scale = model.scale[two.numbers].mean() / 1.0
        assert scale > 0
        assert value == pytest.approx(energy_of(model, two) - alone, abs=1e-9)


def test_attention_received_sums_to_the_attention_paid():
    """Without a cutoff in its softmax an atom pays 1 in all; the ghost's payments do not count."""
    model = small_model("jat", envelope=False)
    frame = maps(model, molecule(), method="attention")["attention"][0]
    assert sum(frame.atoms) == pytest.approx(len(molecule()))
    assert sum(frame.pairs) == pytest.approx(len(molecule()))


def test_charges_are_explained_too():
    model, atoms = small_model("physnet"), molecule()
    result = relevance.explain(model, atoms, method="all", target="charge:2", integration_points=3)
    evaluation = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff))
    assert result.structures[0].value == pytest.approx(float(evaluation.charges[2]))
    assert result.target_unit == "e"
    assert "contributions" not in {one.method for one in result.methods}


def test_a_force_along_its_own_direction_is_its_size():
    model, atoms = small_model("schnet"), molecule()
    force = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).forces[2]
    result = relevance.explain(model, atoms, method="saliency", target="force:2")
    assert result.structures[0].value == pytest.approx(float(force.norm()))


def test_a_direction_leads_to_the_nearest_image():
    model, atoms = small_model("schnet"), small_crystal(("H", "C", "O"), 1.3)
    outside = atoms.copy()
    outside.positions[1] += atoms.cell[0]
    values = [
        relevance.explain(model, one, method="saliency", target="force:0-1", compared_frames=0)
        for one in (atoms, outside)
    ]
    assert values[0].structures[0].value == pytest.approx(values[1].structures[0].value)


# --------------------------------------------------------------------------------------------- results


def test_spearman_by_hand():
    assert spearman([1, -2, 3, 4], [10, 20, -30, 40]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, -2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2], [1, 2]) is None


def test_agreement_with_occlusion_is_part_of_the_result():
    frames = [molecule(seed) for seed in range(4)]
    result = relevance.explain(small_model("schnet"), frames, method="cam", compared_frames=3)
    (one,) = result.correlations
    assert (one.method, one.n_frames) == ("cam", 3)
    both = relevance.explain(small_model("schnet"), frames, method=["cam", "occlusion"], compared_frames=4)
    expected = [spearman(both.atoms("cam")[k], both.atoms("occlusion")[k]) for k in (0, 2, 3)]
    assert one.mean == pytest.approx(np.mean(expected))
    assert one.lowest == pytest.approx(min(expected))


def test_a_result_is_written_and_read_back(tmp_path):
    from ase.io import read

    frames = [molecule(seed) for seed in range(2)]
    result = relevance.explain(small_model("equivariant-transformer"), frames, method="all")
    paths = {path.name for path in result.write(tmp_path)}
    again = RelevanceResult.model_validate(json.loads((tmp_path / "relevance.json").read_text()))
    assert again == result
    assert {"relevance.json", "relevance.extxyz", "relevance_atoms.csv", "relevance_pairs.csv"} <= paths
    written = read(tmp_path / "relevance.extxyz", ":")
    assert len(written) == 2
    for atoms, values in zip(written, result.atoms("gradient-edges"), strict=True):
        np.testing.assert_allclose(atoms.arrays["relevance_gradient_edges"], values, atol=1e-7)
    assert written[0].info["target"] == "energy"


def test_every_figure_is_drawn():
    import matplotlib.pyplot as plt

    result = relevance.explain(small_model("schnet"), [molecule(0), molecule(1)], method="all")
    for panel in result.panels():
        ax = result.plot(panel=panel.key)
        assert ax.get_title() == panel.title
        assert ax.get_xlabel()
        plt.close(ax.figure)


def test_structures_of_different_size_are_drawn_one_by_one():
    frames = [molecule(n_atoms=3), molecule(n_atoms=4)]
    result = relevance.explain(small_model("schnet"), frames, method="cam")
    assert "first structure alone" in result.panels()[0].caption
    result.plot()
    with pytest.raises(AnalysisError, check=told(remedy="of(method).frames")):
        result.atoms("cam")


def test_a_notebook_shows_atoms_and_a_figure():
    result = relevance.explain(small_model("schnet"), molecule(), method=["cam", "occlusion"])
    shown = result._repr_html_()
    assert shown.count("<tr>") == 1 + len(molecule())
    assert "<svg" in shown
    assert "var(" not in shown


def test_explaining_twice_gives_the_same():
    model, frames = small_model("painn"), [molecule(seed) for seed in range(2)]
    assert maps(model, frames, method="all") == maps(model, frames, method="all")


def test_a_model_in_memory_is_left_as_it_was():
    model = small_model("schnet").set_dtype(torch.float32)
    model.train().requires_grad_(True)
    relevance.explain(model, molecule(), method="all")
    assert model.dtype == torch.float32
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_registered_model_is_named_with_its_hash(tiny_model):
    result = relevance.explain(tiny_model, load_structure("ethanol"), method="saliency")
    assert result.model == "tiny"
    assert len(result.model_hash) == 64
    assert result.architecture == "equivariant-transformer"


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "salency"}, {"name": "method", "value": "salency", "problem": "'saliency'"}),
        ({"target": "forces:1"}, {"name": "target", "value": "forces:1", "problem": "force:ATOM-OTHER"}),
        ({"target": "force:1-1"}, {"name": "target", "value": "force:1-1"}),
        ({"walk_length": 4}, {"name": "walk_length", "value": 4, "allowed": "3"}),
        ({"metod": "cam"}, {"name": "metod", "remedy": "'method'"}),
    ],
)
def test_bad_options_name_the_remedy(options, expected):
    with pytest.raises(ConfigError, check=told(**expected)):
        relevance.explain(small_model("schnet"), molecule(), **options)


@pytest.mark.parametrize(
    ("architecture", "method", "allowed"),
    [
        ("schnet", "attention", ["saliency", "grad-cam"]),
        ("ani", "gradient-embeddings", ["contributions"]),
        ("morse", "grad-cam", ["contributions"]),
    ],
)
def test_a_method_that_an_architecture_lacks(architecture, method, allowed):
    with pytest.raises(AnalysisError, check=told(name=method, allowed=allowed, remedy=allowed[0])):
        relevance.explain(small_model(architecture), molecule(), method=method)


def test_a_method_of_energies_explains_no_charges():
    with pytest.raises(AnalysisError, check=told(name="cam", allowed=["saliency"], remedy="saliency")):
        relevance.explain(small_model("physnet"), molecule(), target="charge:1", method="cam")


@pytest.mark.parametrize(("target", "remedy"), [("force:9", "0 to 4"), ("charge:1", "physnet")])
def test_targets_that_a_model_or_a_structure_lacks(target, remedy):
    with pytest.raises(AnalysisError, check=told(name="target", value=target, remedy=remedy)):
        relevance.explain(small_model("schnet"), molecule(), target=target)


def test_a_readout_that_is_no_sum_has_no_contributions():
    with pytest.raises(
        AnalysisError, check=told(value="contributions", allowed=["saliency"], remedy="saliency")
    ):
        relevance.explain(small_model("mpnn", readout="set2set"), molecule(), method="contributions")


def test_no_structure_is_an_error():
    with pytest.raises(AnalysisError, check=told(name="structures", remedy=True)):
        relevance.explain(small_model("schnet"), [])


def test_a_force_of_zero_has_no_direction():
    with pytest.raises(AnalysisError, check=told(name="target", value="force:0", remedy="force:0-1")):
        relevance.explain(small_model("schnet"), Atoms("C"), target="force:0")


def test_an_option_is_a_config_error():
    with pytest.raises(ConfigError, check=told(name="method", value=[])):
        relevance.explain(small_model("schnet"), molecule(), method=[])


def test_a_scalar_of_several_is_explained_as_if_it_were_alone():
    """Exact contributions are shares of the value, and gradients its slopes, whichever head it has."""
    potential = small_model("painn").potential
    targets = parse_targets(["homo", {"gap": {"pooling": "softmax"}}, "zpve", "dipole"])
    torch.manual_seed(0)
    heads = build_heads([target.as_quantity() for target in targets], potential)
    model = Model(potential, heads=heads).set_dtype(torch.float64)
    model.heads[1].score.weight.data += 0.3
    atoms = load_structure("ethanol")
    expected = values_of(model, [AtomGraph.from_atoms(atoms, model.cutoff)])[0]
    methods = ["contributions", "cam", "lrp", "gradient-edges", "occlusion"]
    for name in ("homo", "gap", "zpve"):
        found = relevance.explain(model, atoms, target=name, method=methods)
        assert (found.target, found.target_unit) == (name, "eV")
        assert found.structures[0].value == pytest.approx(float(expected[name]), rel=1e-9)
        for method in ("contributions", "lrp"):
            absorbed = sum(found.methods[methods.index(method)].frames[0].absorbed.values())
            shares = found.atoms(method)[0].sum() + absorbed
            assert shares == pytest.approx(float(expected[name]), rel=1e-6)
    for target, problem in ((None, "predicts homo, gap"), ("dipole", "vector"), ("gpa", "'gap'")):
        with pytest.raises(ModelError, match=problem):
            relevance.explain(model, atoms, target=target)
    with pytest.raises(AnalysisError, match="has no forces"):
        relevance.explain(single_quantity(model, "homo"), atoms, target="force:1")
