"""SchNetPack's architectures: the laws of `asecalc_ml.testing`, and schnetpack's own energies and forces."""

import contextlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from pydantic import ValidationError
from training_steps import check_training_step

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.compile.compiled_graph import INDUCTOR_OPTIONS
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet, SO3net
from asecalc_ml.potentials.schnetpack.spherical_harmonics import SphericalHarmonics, clebsch_gordan, degrees
from asecalc_ml.potentials.schnetpack.upstream import layers, whole_package
from asecalc_ml.potentials.training.optimization.agreement import DeviationError
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.testing import PotentialChecks, register_untrained, untrained_model

CUTOFF_A = 4.0
SMALL = {"n_atom_basis": 16, "n_interactions": 2, "n_rbf": 8, "cutoff_A": CUTOFF_A, "max_atomic_number": 20}


@pytest.mark.smoke
class TestSchNet(PotentialChecks):
    options = SchNet(**SMALL)


class TestSchNetOtherOptions(PotentialChecks):
    options = SchNet(
        **SMALL, n_filters=12, radial_basis="bessel", activation="tanh", readout_activation="ssp"
    )


class TestSchNetMean(PotentialChecks):
    options = SchNet(**SMALL, aggregation="mean")


class TestSchNetMeanOfThePaper(PotentialChecks):
    options = SchNet(**SMALL, aggregation="mean", envelope=False)

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        assert self._jump(model, 2, 1e-6) > 0.1 * self._jump(model, 2, 1e-3) > 0


@pytest.mark.smoke
class TestPaiNN(PotentialChecks):
    options = PaiNN(**SMALL)


class TestPaiNNOtherOptions(PotentialChecks):
    options = PaiNN(**{**SMALL, "n_interactions": 1}, radial_basis="bessel", activation="tanh")


@pytest.mark.smoke
class TestSO3net(PotentialChecks):
    options = SO3net(**SMALL)


class TestSO3netOtherOptions(PotentialChecks):
    options = SO3net(**{**SMALL, "n_interactions": 1}, lmax=3, radial_basis="bessel")


# ----------------------------------------------------------------------------------------- schnetpack's own

CASES = {
    "schnet": SchNet(**SMALL),
    "schnet, other options": SchNet(
        **SMALL, n_filters=12, radial_basis="bessel", activation="silu", readout_activation="ssp"
    ),
    "painn": PaiNN(**SMALL),
    "painn, other options": PaiNN(**SMALL, radial_basis="bessel", activation="ssp"),
    "so3net": SO3net(**SMALL),
    "so3net, other options": SO3net(**SMALL, lmax=3, radial_basis="bessel", readout_activation="tanh"),
}

each_case = pytest.mark.parametrize("case", CASES)
each_architecture = pytest.mark.parametrize("case", ["schnet", "painn", "so3net"])


@pytest.fixture(scope="module")
def schnetpack():
    """Schnetpack as its users have it, imported after ours."""
    layers()
    return whole_package()


@pytest.fixture
def pair(schnetpack):
    """Our model and schnetpack's, with the same weights; biases are not left at zero."""

    def make(case: str, dtype: torch.dtype = torch.float64, exact_tables: bool = True):
        ours = untrained_model(CASES[case], dtype=dtype)
        theirs = upstream_model(schnetpack, CASES[case]).to(dtype)
        if exact_tables and case.startswith("so3net"):
            make_tables_exact(theirs.representation)
        return ours, theirs, theirs.load_state_dict(ours.potential.state_dict(), strict=False)

    return make


def upstream_model(spk, options) -> torch.nn.Module:
    """The model that schnetpack's configuration files describe, with forces and stress."""
    activations = {
        "ssp": spk.nn.shifted_softplus,
        "silu": torch.nn.functional.silu,
        "tanh": torch.tanh,
    }
    radial = {"gaussian": spk.nn.GaussianRBF, "bessel": spk.nn.BesselRBF}[options.radial_basis]
    own = {name: getattr(options, name) for name in ("n_filters", "lmax") if hasattr(options, name)}
    if hasattr(options, "activation"):
        own["activation"] = activations[options.activation]
    representation = getattr(spk.representation, type(options).__name__)(
        n_atom_basis=options.n_atom_basis,
        n_interactions=options.n_interactions,
        radial_basis=radial(n_rbf=options.n_rbf, cutoff=CUTOFF_A),
        cutoff_fn=spk.nn.CosineCutoff(CUTOFF_A),
        **own,
    )
    representation.embedding = torch.nn.Embedding(options.max_atomic_number + 1, options.n_atom_basis)
    readout = spk.atomistic.Atomwise(
        n_in=options.n_atom_basis,
        activation=activations[options.readout_activation],
        output_key="energy",
        per_atom_output_key="energies",
    )
    return spk.model.NeuralNetworkPotential(
        representation,
        input_modules=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances()],
        output_modules=[readout, spk.atomistic.Forces(calc_stress=True)],
    ).eval()


def make_tables_exact(representation: torch.nn.Module) -> None:
    """Upstream rounds its tables to single precision; here are the same ones before that."""
    harmonics, dtype = representation.sphharm, representation.embedding.weight.dtype
    names = ("powers", "zpow", "cAm", "cBm", "cPi")
    for name, table in zip(names, harmonics._generate_Ylm_coefficients(representation.lmax), strict=True):
        setattr(harmonics, name, table.to(dtype))
    coefficients = torch.from_numpy(clebsch_gordan(representation.lmax)).to(dtype)
    for product in (*representation.so3convs, representation.so3product):
        product.clebsch_gordan = coefficients[product.idx_in_1, product.idx_in_2, product.idx_out]


def upstream_results(spk, theirs, structures: list[Atoms], dtype=torch.float64) -> dict[str, np.ndarray]:
    """What schnetpack finds with its own neighbor search; the stress times the volume."""
    convert = spk.interfaces.AtomsConverter(spk.transform.MatScipyNeighborList(CUTOFF_A), dtype=dtype)
    inputs = convert([_in_a_box(atoms) for atoms in structures])
    volumes = torch.linalg.det(inputs["_cell"])
    with default_dtype(dtype):  # in which SO3net has a square root
        found = {name: value.detach().double() for name, value in theirs(inputs).items()}
    found["virial"] = found.pop("stress") * volumes[:, None, None]
    return {name: value.numpy() for name, value in found.items()}


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _in_a_box(atoms: Atoms) -> Atoms:
    """A molecule needs a volume here, by which its stress is divided."""
    if atoms.cell.rank == 3:
        return atoms
    boxed = atoms.copy()
    boxed.cell = 30 * np.eye(3)
    return boxed


def check(ours: Model, expected: dict[str, np.ndarray], structures: list[Atoms], tolerance: float) -> None:
    graph = collate([AtomGraph.from_atoms(atoms, CUTOFF_A) for atoms in structures])
    bare = Model(ours.potential)  # without scales and shifts
    found = Evaluator(bare)(graph)
    assert np.abs(expected["forces"]).max() > 1e-3
    for name in ("energy", "forces", "virial"):
        values = getattr(found, name).numpy()
        assert values == pytest.approx(expected[name], abs=tolerance * np.abs(expected[name]).max(), rel=0)
    energies = expected["energies"].ravel()
    assert found.energies.numpy() == pytest.approx(energies, abs=tolerance * np.abs(energies).max(), rel=0)


def molecules() -> list[Atoms]:
    """Of different size, one of them a lone atom."""
    structures = [molecule(name) for name in ("CH3CH2OH", "H2O", "C6H6", "CO2", "CH3CONH2")]
    for atoms in structures:
        atoms.rattle(0.05, seed=0)
    return [*structures, Atoms("O")]


def crystals() -> list[Atoms]:
    """Cells smaller than the cutoff: a triclinic one, and one whose atom sees only its own images."""
    triclinic = Atoms(
        "HCO",
        [[0.1, 0, 0], [1.2, 0.9, 0.3], [0.4, 1.8, 1.9]],
        pbc=True,
        cell=[[3, 0, 0], [-0.4, 2.9, 0], [0.5, 0.6, 3.2]],
    )
    return [triclinic, bulk("Al", a=4.05)]


@each_case
def test_names_of_weights_are_upstreams(pair, case):
    *_, left_over = pair(case)
    assert left_over.missing_keys == left_over.unexpected_keys == []


@each_case
@pytest.mark.parametrize("structures", [molecules, crystals])
def test_energies_forces_and_stress_are_upstreams(schnetpack, pair, case, structures):
    ours, theirs, _ = pair(case)
    check(ours, upstream_results(schnetpack, theirs, structures()), structures(), 1e-10)


@each_architecture
def test_single_precision(schnetpack, pair, case):
    ours, theirs, _ = pair(case, torch.float32, exact_tables=False)
    expected = upstream_results(schnetpack, theirs, molecules(), torch.float32)
    check(ours, expected, molecules(), 1e-5)


# ------------------------------------------------------------------------------------ spherical harmonics


@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_tables_are_upstreams_before_rounding(lmax):
    theirs = layers().so3.generate_clebsch_gordan_rsh(lmax).numpy()
    assert clebsch_gordan(lmax) == pytest.approx(theirs, abs=2e-7)
    directions = unit_vectors()
    theirs = layers().so3.RealSphericalHarmonics(lmax).to(torch.float64)(directions)
    assert SphericalHarmonics(lmax).to(torch.float64)(directions).numpy() == pytest.approx(
        theirs.numpy(), abs=2e-7
    )


def test_harmonics_are_scipys():
    """Of which real ones are made as in the docstring's source."""
    from scipy.special import sph_harm_y

    directions = unit_vectors()
    x, y, z = directions.numpy().T
    found = SphericalHarmonics(4).to(torch.float64)(directions).numpy()
    for column, (degree, m) in enumerate(degrees(4)):
        values = sph_harm_y(degree, abs(m), np.arccos(z), np.arctan2(y, x)) * (-1) ** m
        expected = values.real if m == 0 else math.sqrt(2) * (values.real if m > 0 else values.imag)
        assert found[:, column] == pytest.approx(expected, abs=1e-13)


def test_product_of_harmonics_is_a_harmonic():
    """Y₁ Y₂ summed with C is a multiple of Y₃ for each l₁, l₂, l₃, as SO(3) has it."""
    lmax, directions = 3, unit_vectors()
    of_each = np.array([degree for degree, _ in degrees(lmax)])
    harmonics = SphericalHarmonics(lmax).to(torch.float64)(directions).numpy()
    for l1, l2, l3 in np.ndindex(3 * (lmax + 1,)):
        part = clebsch_gordan(lmax)[of_each == l1][:, of_each == l2][:, :, of_each == l3]
        product = np.einsum("na,nb,abc->nc", harmonics[:, of_each == l1], harmonics[:, of_each == l2], part)
        third = harmonics[:, of_each == l3]
        factor = product[0, 0] / third[0, 0]
        assert product == pytest.approx(factor * third, abs=1e-13)
        allowed = abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        assert (abs(factor) > 1e-3) == allowed


def unit_vectors() -> torch.Tensor:
    """Some of them along the axes, where components vanish."""
    random = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)))
    vectors = torch.cat([random, torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    return torch.nn.functional.normalize(vectors, dim=1)


def test_tables_are_rounded_once():
    """A model of a float32 training, run in float64, has the coefficients in full."""
    back = SphericalHarmonics(2).to(torch.float64).to(torch.float32).to(torch.float64)
    assert torch.equal(back.polynomials.values, SphericalHarmonics(2).to(torch.float64).polynomials.values)


# ----------------------------------------------------------------------------------- mean over neighbors


def ssp(x: np.ndarray) -> np.ndarray:
    return np.log(0.5 * np.exp(x) + 0.5)


def schnet_in_loops(weights: dict[str, np.ndarray], atoms: Atoms, n_neighbors) -> np.ndarray:
    """Representation of SchNet, one atom after the other, from the equations of the paper."""

    def dense(x, name, bias=True):
        return weights[f"{name}.weight"] @ x + (weights[f"{name}.bias"] if bias else 0)

    graph = AtomGraph.from_atoms(atoms, CUTOFF_A, "vesin")
    (i, j), distances = graph.edge_index.numpy(), graph.edge_vectors.norm(dim=1).numpy()
    centres, gamma = np.linspace(0, CUTOFF_A, SMALL["n_rbf"]), 0.5 / (CUTOFF_A / (SMALL["n_rbf"] - 1)) ** 2
    x = weights["embedding.weight"][atoms.numbers]
    for block in (f"interactions.{k}" for k in range(SMALL["n_interactions"])):
        updates = []
        for atom in range(len(atoms)):
            total = np.zeros(x.shape[1])
            for neighbor, r in zip(j[i == atom], distances[i == atom], strict=True):
                basis = np.exp(-gamma * (r - centres) ** 2)
                filters = dense(ssp(dense(basis, f"{block}.filter_network.0")), f"{block}.filter_network.1")
                weight = 0.5 * (1 + math.cos(math.pi * r / CUTOFF_A))
                total += dense(x[neighbor], f"{block}.in2f", bias=False) * filters * weight
            mean = total / max(n_neighbors(distances[i == atom]), 1)
            updates.append(dense(ssp(dense(mean, f"{block}.f2out.0")), f"{block}.f2out.1"))
        x = x + np.array(updates)
    return x


def smooth_count(distances: np.ndarray) -> float:
    x = distances / CUTOFF_A
    return 1 + sum(1 - 10 * x**3 + 15 * x**4 - 6 * x**5)


@pytest.mark.parametrize(
    ("changes", "n_neighbors"),
    [
        ({"aggregation": "sum"}, lambda distances: 1),
        ({"aggregation": "mean", "envelope": False}, len),
        ({"aggregation": "mean"}, smooth_count),
    ],
    ids=["sum", "mean of the paper", "continuous mean"],
)
def test_schnet_is_the_papers(changes, n_neighbors):
    representation = untrained_model(SchNet(**SMALL, **changes)).potential.representation
    weights = {name: value.detach().numpy() for name, value in representation.state_dict().items()}
    for atoms in (molecule("CH3CH2OH"), *crystals(), Atoms("O")):
        inputs = with_ghost(AtomGraph.from_atoms(atoms, CUTOFF_A), CUTOFF_A)
        found, _ = representation(inputs)
        expected = schnet_in_loops(weights, atoms, n_neighbors)
        # The buffers of the Gaussians are upstream's, rounded to single precision.
        assert found[:-1].detach().numpy() == pytest.approx(expected, abs=1e-6)


# -------------------------------------------------------------------------------------------- machine code


def rattled_batch(*names: str):
    """Padded input of a few molecules, as a training takes them."""
    frames = [molecule(name) for name in names]
    for atoms in frames:
        atoms.rattle(0.05, seed=0)
    return with_ghost(collate([AtomGraph.from_atoms(atoms, CUTOFF_A) for atoms in frames]), CUTOFF_A)


@pytest.mark.slow
@each_architecture
def test_traced_training_step_is_the_eager_one(case):
    model = untrained_model(CASES[case], dtype=torch.float32)
    first, second = rattled_batch("H2O", "CO2"), rattled_batch("CH4", "CO")
    check_training_step(model, first, second, dynamic=True)


@pytest.mark.slow
@each_architecture
def test_compiled_training_step_is_the_eager_one(case):
    model = untrained_model(CASES[case], dtype=torch.float32)
    inputs = rattled_batch("CH3CH2OH", "CH3CH2OH")
    check_training_step(model, inputs, compiled=True)


@pytest.mark.slow
def test_painn_is_compiled_without_the_fusion_that_spoils_it():
    """Should the first part fail, torch has mended its code, and the second way may go."""
    model = untrained_model(PaiNN(n_atom_basis=64, n_interactions=2))
    inputs = rattled_batch("CH3CH2OH")
    with pytest.raises(DeviationError):
        check_training_step(model, inputs, compiled=True)
    check_training_step(model, inputs, compiled=True, inductor_options=INDUCTOR_OPTIONS[1])


@pytest.mark.slow
@each_architecture
def test_compiled_evaluator_is_the_eager_one(case):
    structures = [molecule("CH3CH2OH"), crystals()[0]]
    register_untrained("compiled", CASES[case], structures[0])
    stored = StoredModel.find("compiled", dtype="float64")
    compiled, eager = Evaluator(stored, compile="always"), Evaluator(stored)
    for atoms in structures:
        graph = AtomGraph.from_atoms(atoms, CUTOFF_A)
        found, again, expected = compiled(graph), compiled(graph), eager(graph)
        for name in ("energy", "forces", "virial"):
            assert torch.allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
            assert torch.equal(getattr(found, name), getattr(again, name))
    assert compiled.compiled.n_compilations == len(structures)


# ------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        (SchNet, {"n_atom_basis": 1}),
        (SchNet, {"n_rbf": 1}),
        (SchNet, {"n_filters": 0}),
        (SchNet, {"radial_basis": "expnorm"}),
        (PaiNN, {"n_interactions": 0}),
        (PaiNN, {"aggregation": "mean"}),
        (SO3net, {"lmax": 0}),
        (SO3net, {"lmax": 5}),
    ],
)
def test_wrong_options_are_refused(architecture, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        architecture(**wrong)


# ----------------------------------------------------------------------------------- a process of its own

BUILD_ALL = """
import sys
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet, SO3net
for options in (SchNet, PaiNN, SO3net):
    options().build()
"""


def run(code: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(part for part in sys.path if part)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )


def prints(code: str) -> str:
    done = run(code)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.smoke
def test_building_imports_nothing_heavy_and_prints_nothing():
    heavy = "{'schnetpack', 'lightning', 'pytorch_lightning', 'hydra', 'torchmetrics', 'tensorboard'}"
    check_modules = f"assert not {heavy} & {{name.split('.')[0] for name in sys.modules}}"
    assert prints(BUILD_ALL + check_modules) == ""


def test_upstream_may_be_imported_first(schnetpack):
    """And is as its users left it: another copy of the same classes."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("schnetpack")}
    assert layers.__wrapped__().schnet.SchNetInteraction is not schnetpack.representation.SchNetInteraction
    assert all(sys.modules[name] is module for name, module in before.items())


def test_torch_is_left_as_found(schnetpack):
    from torch.utils.data import dataloader

    assert not hasattr(dataloader, "T_co")


def test_schnetpack_alone_still_fails():
    """Should this fail, schnetpack and torch agree again, and what ``whole_package`` adds to torch can go."""
    if sys.version_info >= (3, 12):
        pytest.skip("schnetpack 2.2, which Python 3.12 takes, needs nothing")
    done = run("import schnetpack")
    assert done.returncode != 0
    assert "cannot import name 'T_co'" in done.stderr
