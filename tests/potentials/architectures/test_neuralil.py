"""NeuralIL is its papers' equations, obeys the laws of every architecture, and compiles."""

from functools import cache
from itertools import combinations_with_replacement, pairwise, product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from raising import told
from scipy.optimize import brentq
from scipy.special import eval_legendre, spherical_jn
from training_steps import check_training_step

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, TrainingError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.compile.edge_list import edge_list_program
from asecalc_ml.potentials.neuralil import NeuralIL
from asecalc_ml.potentials.neuralil.power_spectrum import PowerSpectrum, RadialPolynomials
from asecalc_ml.potentials.neuralil.solid_harmonics import solid_harmonics
from asecalc_ml.potentials.neuralil.spherical_bessel import radial_functions
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.testing import PotentialChecks, untrained_model
from asecalc_ml.testing.models import compiled_agrees
from asecalc_ml.testing.structures import cluster, small_crystal

ELEMENTS = ["H", "C", "O"]
SMALL = {"elements": ELEMENTS, "hidden_channels": [8, 6], "n_max": 2}


@pytest.mark.smoke
class TestNeuralIL(PotentialChecks):
    options = NeuralIL(**SMALL)


class TestNeuralILOtherOptions(PotentialChecks):
    options = NeuralIL(
        elements=["O", "H", "Si", "C"],
        hidden_channels=[8],
        n_max=4,
        embedding_dimensions=3,
        cutoff_A=4.0,
    )


# ------------------------------------------------------------------------------------- slow reference


@cache
def root(l, n):  # noqa: E741
    """The n-th positive root of j_l, counted from 0, where its sign changes on a fine grid."""
    grid = np.arange(0.5 + l, 60, 0.01)
    values = spherical_jn(l, grid)
    left = grid[:-1][values[:-1] * values[1:] < 0][n]
    return brentq(lambda u: spherical_jn(l, u), left, left + 0.01, xtol=1e-14)


@cache
def normalised(l, n, cutoff):  # noqa: E741
    """f_nl, a combination of two Bessel functions whose slope is zero at the cutoff, of norm 1."""
    u, v = root(l, n), root(l, n + 1)

    def shape(r):
        slopes = (w * spherical_jn(l, w, derivative=True) for w in (u, v))
        return spherical_jn(l, u * r / cutoff) / next(slopes) - spherical_jn(l, v * r / cutoff) / next(slopes)

    norm = inner(shape, shape, cutoff) ** 0.5
    sign = np.sign(shape(np.array([1e-3]))[0])
    return lambda r: sign * shape(r) / norm


def inner(f, g, cutoff):
    """The integral of f g r² up to the cutoff."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r = cutoff * (nodes + 1) / 2
    return float(np.sum(weights * f(r) * g(r) * r**2) * cutoff / 2)


@cache
def g(l, n, cutoff):  # noqa: E741
    """g_nl: f_nl made orthogonal to all before it, by Gram and Schmidt's procedure."""
    f, before = normalised(l, n, cutoff), [g(l, k, cutoff) for k in range(n)]
    overlaps = [inner(f, one, cutoff) for one in before]

    def orthogonal(r):
        return f(r) - sum(s * one(r) for s, one in zip(overlaps, before, strict=True))

    norm = inner(orthogonal, orthogonal, cutoff) ** 0.5
    return lambda r: orthogonal(r) / norm


def neighbors(atoms, i, cutoff):
    """Element and vector of each neighbor, images of the atom itself included."""
    shifts = list(product(range(-3, 4), repeat=3)) if atoms.pbc.any() else [(0, 0, 0)]
    found = []
    for symbol, position in zip(atoms.symbols, atoms.positions, strict=True):
        for shift in shifts:
            vector = position + np.array(shift) @ atoms.cell.array - atoms.positions[i]
            if 0 < np.linalg.norm(vector) < cutoff:
                found.append((symbol, vector))
    return found


def spectrum(atoms, i, elements, n_max, cutoff):
    """Power spectrum of one atom by a double loop over neighbors and Legendre polynomials."""
    near = neighbors(atoms, i, cutoff)
    r = np.array([np.linalg.norm(vector) for _, vector in near])
    found = []
    for l in range(n_max + 1):  # noqa: E741
        radial = [g(l, n, cutoff)(r) for n in range(n_max - l + 1)]
        for pair in combinations_with_replacement(elements, 2):
            totals = np.zeros(n_max - l + 1)
            for (j, (a, u)), (k, (b, v)) in product(enumerate(near), repeat=2):
                if (a, b) == pair:
                    angular = eval_legendre(l, u @ v / (r[j] * r[k])) * (2 * l + 1) / (4 * np.pi)
                    totals += [values[j] * values[k] * angular for values in radial]
            found.extend(totals)
    return np.array(found)


def reference(atoms, options, weights):
    """Contributions of all atoms from the descriptors above, layer by layer."""
    found = []
    for i, atom in enumerate(atoms):
        own = weights["embedding.weight"][options.elements.index(atom.symbol)]
        x = np.array([*spectrum(atoms, i, options.elements, options.n_max, options.cutoff_A), *own])
        x = swish(linear(x, weights, "pyramid.hidden.0"))
        for k in range(1, len(options.hidden_channels)):
            x = linear(x, weights, f"pyramid.hidden.{3 * k - 1}")
            scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
            norm = f"pyramid.hidden.{3 * k}"
            x = swish(scaled * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])
        found.append(float(linear(x, weights, "pyramid.last")[0]))
    return found


def linear(x, weights, name):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("atoms", [small_crystal(ELEMENTS, 1.3), cluster(ELEMENTS, 1.3)])
@pytest.mark.parametrize(
    "options", [NeuralIL(**SMALL), NeuralIL(**{**SMALL, "elements": ["C", "O", "N", "H"]})]
)
def test_it_is_the_double_loop_over_neighbors(options, atoms):
    potential = untrained_model(options).potential
    weights = {name: value.numpy() for name, value in potential.state_dict().items()}
    found = potential(with_ghost(AtomGraph.from_atoms(atoms, options.cutoff_A), options.cutoff_A))
    expected = reference(atoms, options, weights)
    np.testing.assert_allclose(found.contributions[:-1, 0].detach(), expected, rtol=0, atol=1e-10)
    assert np.ptp(expected) > 1e-3


def descriptors(atoms, options):
    slots = torch.tensor([options.elements.index(symbol) for symbol in atoms.symbols])
    graph = AtomGraph.from_atoms(atoms, options.cutoff_A, "vesin")
    return PowerSpectrum(options).double()(slots, graph.edge_index, graph.edge_vectors)


def test_published_sizes_against_the_double_loop():
    options = NeuralIL()
    atoms = cluster(["N", "H", "C", "O"], 1.3)
    found = descriptors(atoms, options)
    assert found.shape[1] == 150  # as the paper says
    for i in range(2):
        expected = spectrum(atoms, i, options.elements, 4, 3.5)
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-10)


def test_values_of_kocer_mason_and_erturk():
    """Those with which the authors of NeuralIL compare theirs (bessel_descriptors.py), to six decimals."""
    positions = [
        [0.00000, 0.00000, 0.00000],
        [1.3681827, -1.3103517, -1.3131874],
        [-1.5151760, 1.3360077, -1.3477119],
        [-1.3989598, -1.2973683, 1.3679189],
        [1.2279369, 1.3400378, 1.4797429],
    ]
    expected = [0.000416, 0.000514, 0.000580, 0.001099, 0.002311, 0.002641, 0.003456, 0.005239]
    expected += [0.031871, 0.099814, 0.106035, 0.138079, 0.367765, 0.483945, 0.654837]
    found = descriptors(Atoms("C5", positions), NeuralIL(elements=["C"], cutoff_A=3.7711))
    np.testing.assert_allclose(found[0].sort().values, expected, rtol=0, atol=2e-6)


# ---------------------------------------------------------------------------------------- radial functions


def test_radial_functions_are_orthonormal():
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r = 3.5 * (nodes + 1) / 2
    for l in range(5):  # noqa: E741
        values = radial_functions(l, 5 - l, r, 3.5)
        np.testing.assert_allclose(values * weights * r**2 * 1.75 @ values.T, np.eye(5 - l), atol=1e-12)


def test_polynomials_are_the_radial_functions():
    """Down to distances where closed forms of Bessel functions lose all digits; float32 to its own."""
    x = np.linspace(1e-3, 1, 200)
    polynomials = RadialPolynomials(4, 3.5)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = polynomials.to(dtype)(torch.tensor(x**2, dtype=dtype))
        for l, values in enumerate(found):  # noqa: E741
            expected = radial_functions(l, 5 - l, x * 3.5, 3.5)
            np.testing.assert_allclose(values.double().T.numpy() * x**l, expected, rtol=0, atol=tolerance)


def test_two_derivatives_vanish_at_the_cutoff_and_the_third_does_not():
    """So the energy has two continuous derivatives, and needs no envelope."""
    squares = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    functions = torch.cat([values[0] for values in RadialPolynomials(4, 3.5).double()(squares)])
    for value in functions:
        derivatives = [value]
        for _ in range(3):
            derivatives.append(torch.autograd.grad(derivatives[-1].sum(), squares, create_graph=True)[0])
        assert all(abs(float(one.detach())) < 1e-7 for one in derivatives[:3])
        assert abs(float(derivatives[3].detach())) > 1


@pytest.mark.parametrize(("others", "power"), [([], 6), ([[0.9, 0.7, 0.2]], 3)])
def test_power_with_which_a_neighbor_leaves(others, power):
    """Descriptors are products of two sums over neighbors: of the one that leaves, with itself or another."""
    model = untrained_model(NeuralIL(**SMALL))

    def energy(distance):
        positions = torch.tensor([[0, 0, distance], *others], dtype=torch.float64)
        n = len(positions)
        inputs = with_ghost(AtomGraph.from_atoms(Atoms(["C"] + n * ["O"], np.zeros((n + 1, 3))), 3.5), 3.5)
        edges = torch.tensor([n * [0], list(range(1, n + 1))])  # to the first atom alone
        return float(model(inputs._replace(edge_index=edges, edge_vectors=positions)).atoms[0].detach())

    steps = [abs(energy(3.5 - gap) - energy(3.5)) for gap in (0.08, 0.04, 0.02)]
    for before, after in pairwise(steps):
        assert before / after == pytest.approx(2**power, rel=0.2)


# ------------------------------------------------------------------------------------- solid harmonics


def test_solid_harmonics_are_scipys():
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    r = np.linalg.norm(vectors, axis=1)
    polar, azimuth = np.arccos(vectors[:, 2] / r), np.arctan2(vectors[:, 1], vectors[:, 0])
    for l, found in enumerate(solid_harmonics(torch.from_numpy(vectors), 6)):  # noqa: E741
        for m in range(-l, l + 1):
            of_scipy = (-1) ** m * complex_harmonic(l, abs(m), polar, azimuth)  # without its phase
            expected = of_scipy.real if m == 0 else 2**0.5 * (of_scipy.imag if m < 0 else of_scipy.real)
            np.testing.assert_allclose(found[:, m + l], r**l * expected, rtol=0, atol=1e-11 * r.max() ** l)


def complex_harmonic(l, m, polar, azimuth):  # noqa: E741
    import scipy.special

    if hasattr(scipy.special, "sph_harm_y"):
        return scipy.special.sph_harm_y(l, m, polar, azimuth)
    return scipy.special.sph_harm(m, l, azimuth, polar)


# ---------------------------------------------------------------------------------- options, compiling


@pytest.mark.parametrize("elements", [[], ["H", "H"], ["H", "Xx"], ["hydrogen"]])
def test_elements_that_are_none(elements):
    with pytest.raises(ConfigError, check=told(name="elements")):
        parse_options({"elements": elements}, NeuralIL, source="train.yaml")


def test_data_with_other_elements_are_refused(tmp_path):
    frames = [cluster(["H", "S"], 1.3, 3, seed) for seed in range(4)]
    for atoms in frames:
        atoms.info["energy"], atoms.arrays["forces"] = 0.0, np.zeros((3, 3))
    write(tmp_path / "data.xyz", frames, format="extxyz")
    options = {
        "name": "sulfur",
        "data": {"format": "ase", "path": str(tmp_path / "data.xyz")},
        "split": {"n_train": 2, "n_validation": 1, "n_test": 1},
        "model": {"architecture": "neuralil"},
        "directory": str(tmp_path / "training"),
    }
    check = told(value=["S"], allowed=["H", "C", "N", "O"], remedy="model.elements")
    with pytest.raises(TrainingError, check=check):
        train(parse_options(options, TrainOptions, source="train.yaml"))


def batch(cutoff):
    graphs = [AtomGraph.from_atoms(cluster(ELEMENTS, 1.3, n), cutoff) for n in (4, 6)]
    return with_ghost(collate(graphs), cutoff)


@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_traced_training_step(dynamic):
    model = untrained_model(NeuralIL(**SMALL))
    inputs = batch(model.cutoff)
    check_training_step(model, inputs, dynamic=dynamic)


@pytest.mark.slow
def test_compiled_is_eager(tmp_path):
    model = untrained_model(NeuralIL(**SMALL), dtype=torch.float32)
    inputs = batch(model.cutoff)
    assert compiled_agrees(model, edge_list_program(inputs), tmp_path)
    check_training_step(model, inputs, compiled=True)
