"""Heads: vectors and tensors turn with the structure, averages and sums are what their names say."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from asecalc_ml.errors import ModelError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.heads.single import single
from asecalc_ml.model.heads.values import rounding_of_values, values_of
from asecalc_ml.model.model import N_ELEMENTS, Model
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.potentials.mpnn import MPNN
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing.structures import cluster, random_rotation

ALL = [
    "homo",
    {"gap": {"pooling": "softmax"}},
    "zpve",
    "mu",
    "dipole",
    "polarizability",
    "hyperpolarizability",
]
SMALL = {"n_atom_basis": 12, "n_interactions": 1}


def model_of(options, targets, seed=0):
    """A model in float64 whose heads, scales and shifts are random numbers."""
    torch.manual_seed(seed)
    potential = options.build()
    heads = build_heads([target.as_quantity() for target in parse_targets(targets)], potential)
    model = Model(potential, heads=heads).set_dtype(torch.float64)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    numbers = torch.arange(N_ELEMENTS, dtype=torch.float64).expand(model.scale.shape)
    model.scale, model.shift = 1 + numbers / 50, numbers / 10
    return model.eval().requires_grad_(False)


PAINN = model_of(PaiNN(**SMALL), ALL)
SCHNET = model_of(SchNet(**SMALL), ALL)


def values(model, atoms):
    (of_structure,) = values_of(model, [AtomGraph.from_atoms(atoms, model.cutoff)])
    return {name: value.numpy() for name, value in of_structure.items()}


def turned(value, matrix):
    """A value in axes that a matrix turns."""
    letters = "abc"[: value.ndim]
    factors = ",".join(f"{new}{old}" for new, old in zip("ijk", letters, strict=False))
    return (
        value
        if not letters
        else np.einsum(f"{factors},{letters}->{'ijk'[: value.ndim]}", *[matrix] * value.ndim, value)
    )


@pytest.mark.parametrize("model", [PAINN, SCHNET], ids=["own vectors", "vectors of edges"])
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), mirrored=st.booleans())
def test_values_turn_with_the_structure(model, seed, mirrored):
    atoms, matrix = cluster(("H", "C", "O"), 1.3, 6, seed), random_rotation(seed)
    matrix = -matrix if mirrored else matrix
    moved = Atoms(atoms.symbols, positions=atoms.positions @ matrix.T + [3.0, -7.0, 11.0])
    before, after = values(model, atoms), values(model, moved)
    for name, value in before.items():
        scale = np.abs(value).max()
        assert np.abs(after[name] - turned(value, matrix)).max() < 1e-9 * max(scale, 1), name
        assert scale > 1e-3, name  # nothing is zero for want of a term


@pytest.mark.parametrize("model", [PAINN, SCHNET])
def test_the_order_of_atoms_does_not_count(model):
    atoms = cluster(("H", "C", "O"), 1.3, 7, 3)
    order = np.random.default_rng(0).permutation(len(atoms))
    before, after = values(model, atoms), values(model, atoms[order])
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("model", [PAINN, SCHNET])
def test_tensors_are_symmetric_and_sums_add_up(model):
    """Of two molecules that do not see each other: sums of extensive values, means of intensive ones."""
    first, second = molecule("CH3OH"), molecule("H2O")
    far = second.copy()
    far.positions += 100.0
    one, other, both = values(model, first), values(model, second), values(model, first + far)
    for name in ("zpve", "dipole", "polarizability", "hyperpolarizability"):
        assert both[name] == pytest.approx(one[name] + other[name], rel=1e-9, abs=1e-9), name
    mean = (6 * one["homo"] + 3 * other["homo"]) / 9
    assert both["homo"] == pytest.approx(mean, rel=1e-9)
    assert both["mu"] ** 2 == pytest.approx(np.sum(both["mu"] ** 2))
    alpha, beta = both["polarizability"], both["hyperpolarizability"]
    assert np.abs(alpha - alpha.T).max() < 1e-10
    for order in ((0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)):
        assert np.abs(beta - beta.transpose(order)).max() < 1e-10


def test_by_symmetry_vectors_vanish():
    """Methane has no dipole, an isotropic polarizability, and one independent hyperpolarizability."""
    found = values(PAINN, molecule("CH4"))
    assert np.abs(found["dipole"]).max() < 1e-10
    assert found["mu"] == pytest.approx(1e-6, abs=1e-9)  # the smallest norm there is
    assert np.abs(found["polarizability"] - found["polarizability"][0, 0] * np.eye(3)).max() < 1e-9
    beta = found["hyperpolarizability"]
    xyz = sorted({(a, b, c) for a in range(3) for b in range(3) for c in range(3) if len({a, b, c}) < 3})
    assert max(abs(beta[place]) for place in xyz) < 1e-10
    assert abs(beta[0, 1, 2]) > 1e-4
    carbon_dioxide = values(PAINN, molecule("CO2"))
    assert np.abs(carbon_dioxide["dipole"]).max() < 1e-10
    assert np.abs(carbon_dioxide["hyperpolarizability"]).max() < 1e-10


def test_the_norm_is_that_of_a_vector_and_has_a_slope_at_zero():
    model = model_of(PaiNN(**SMALL), "mu")
    methane = AtomGraph.from_atoms(molecule("CH4"), model.cutoff)
    inputs = with_ghost(methane, model.cutoff)
    vectors = inputs.edge_vectors.requires_grad_(True)
    (slope,) = torch.autograd.grad(model(inputs._replace(edge_vectors=vectors)).systems[0].sum(), vectors)
    assert torch.isfinite(slope).all()


def test_softmax_weights_begin_as_the_mean_and_then_choose():
    torch.manual_seed(0)
    potential = SchNet(**SMALL).build()
    quantities = [target.as_quantity() for target in parse_targets({"gap": {"pooling": "softmax"}})]
    model = Model(potential, heads=build_heads(quantities, potential)).set_dtype(torch.float64)
    mean = Model(potential, pooling="mean").set_dtype(torch.float64)
    graph = with_ghost(AtomGraph.from_atoms(molecule("CH3OH"), model.cutoff), model.cutoff)
    assert model(graph).systems[0].item() == pytest.approx(mean(graph).systems[0].item(), rel=1e-12)
    model.heads[0].score.weight.data += 20.0
    contributions = mean(graph).atoms[:-1]
    chosen = model(graph).systems[0].item()
    assert contributions.min() <= chosen <= contributions.max()
    assert chosen != pytest.approx(float(contributions.mean()), rel=1e-3)


def test_a_batch_is_one_by_one():
    structures = [molecule(name) for name in ("CH3OH", "H2O", "CO2")]
    graphs = [AtomGraph.from_atoms(atoms, PAINN.cutoff) for atoms in structures]
    for together, atoms in zip(values_of(PAINN, graphs), structures, strict=True):
        for name, alone in values(PAINN, atoms).items():
            assert together[name].numpy() == pytest.approx(alone, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["homo", "gap", "zpve"])
def test_one_quantity_of_several_is_a_model_whose_contributions_are_linear(name):
    own = single(PAINN, name)
    graph = collate([AtomGraph.from_atoms(molecule(n), own.cutoff) for n in ("CH3OH", "H2O")])
    inputs = with_ghost(graph, own.cutoff)
    expected = PAINN.by_name(PAINN(inputs).systems)[name]
    output = own(inputs)
    assert torch.allclose(output.systems, expected, rtol=1e-12)
    assert torch.allclose(own.pool(output.atoms, inputs), expected, rtol=1e-12)
    weight, bias = own.potential.last_linear
    linear = output.potential.features @ weight.T + bias
    assert torch.allclose(linear, output.potential.contributions, rtol=1e-10)


def test_one_quantity_that_is_none_or_no_scalar_is_refused():
    for name, problem in (("dipole", "vector"), ("gpa", "did you mean 'gap'"), (None, "predicts homo, gap")):
        with pytest.raises(ModelError, match=problem):
            single(PAINN, name)


@pytest.mark.parametrize("options", [MPNN(readout="set2set"), CGCNN(readout="crystal")])
def test_a_readout_of_the_whole_structure_has_scalars_and_names_who_has_tensors(options):
    model = model_of(options, ["homo", "zpve"])
    assert set(values(model, molecule("CH3OH"))) == {"homo", "zpve"}
    with pytest.raises(ModelError, match="readout: "):
        model_of(options, "dipole")


def test_electrostatic_energies_are_no_part_of_other_quantities():
    from asecalc_ml.potentials.physnet import PhysNet

    options = PhysNet(hidden_channels=8, n_layers=1, n_rbf=8, charges=True)
    model = model_of(options, "homo")
    graph = with_ghost(AtomGraph.from_atoms(molecule("H2O"), model.cutoff), model.cutoff)
    output = model(graph)
    assert output.potential.electrostatics.abs().max() > 0
    scaled = model.scale[graph.atomic_numbers] * output.potential.contributions[:, 0]
    assert torch.allclose(output.atoms, scaled + model.shift[graph.atomic_numbers])


@pytest.mark.parametrize("model", [PAINN, SCHNET])
def test_rounding_explains_float32(model):
    import copy

    graph = AtomGraph.from_atoms(cluster(("H", "C", "O"), 1.3, 8, 1), model.cutoff)
    inputs = with_ghost(graph, model.cutoff)
    exact, single_precision = model(inputs).systems[0], copy.deepcopy(model).set_dtype(torch.float32)
    off = (single_precision(inputs).systems[0] - exact).abs()
    bounds = rounding_of_values(single_precision, inputs)[0]
    assert (off <= bounds).all()
    assert (bounds < 1e-2 * exact.abs().max()).all()
