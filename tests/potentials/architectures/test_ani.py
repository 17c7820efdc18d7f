"""ANI obeys the laws of every architecture, the paper's equations in loops, and TorchANI."""

import math
import warnings
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, StructureError, TrainingError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.ani import ANI
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import PotentialChecks, register_untrained, untrained_model

SMALL = {
    "elements": ["H", "C", "O"],
    "cutoff_A": 4.0,
    "angular_cutoff_A": 3.0,
    "n_radial": 5,
    "n_angular_shifts": 2,
    "n_sections": 3,
    "radial_eta_per_A2": 4.0,
    "angular_eta_per_A2": 2.0,
}


class TestANI(PotentialChecks):
    options = ANI(**SMALL, zeta=8, hidden_channels={"H": [8, 6], "C": [7], "O": [5, 4, 3]})


class TestANIOtherOptions(PotentialChecks):
    options = ANI(**{**SMALL, "angular_cutoff_A": 4.0}, zeta=14.1, hidden_channels=[6])


# ---------------------------------------------------------------------------------- the paper's equations


def f_c(r: float, cutoff: float) -> float:
    """Equation (2)."""
    return 0.5 * math.cos(math.pi * r / cutoff) + 0.5 if r <= cutoff else 0.0


def shifts(start: float, end: float, n: int) -> list[float]:
    return [start + k * (end - start) / n for k in range(n)]


def neighbors(atoms: Atoms, i: int, cutoff: float) -> list[tuple[str, np.ndarray]]:
    """Element and vector of every image nearer than the cutoff."""
    ranges = [range(-4, 5) if periodic else (0,) for periodic in atoms.pbc]
    images = (
        (atom, atom.position + np.array(n) @ atoms.cell.array) for atom in atoms for n in product(*ranges)
    )
    vectors = [(atom.symbol, position - atoms.positions[i]) for atom, position in images]
    return [(symbol, vector) for symbol, vector in vectors if 0 < np.linalg.norm(vector) < cutoff]


def radial_functions(atoms: Atoms, i: int, element: str, o: ANI) -> list[float]:
    """Equation (3), with NeuroChem's factor of 1/4."""
    near = [np.linalg.norm(v) for symbol, v in neighbors(atoms, i, o.cutoff_A) if symbol == element]
    return [
        sum(0.25 * math.exp(-o.radial_eta_per_A2 * (r - shift) ** 2) * f_c(r, o.cutoff_A) for r in near)
        for shift in shifts(o.radial_start_A, o.cutoff_A, o.n_radial)
    ]


def angular_functions(atoms: Atoms, i: int, elements: tuple[str, str], o: ANI) -> list[float]:
    """Equation (4), each pair of neighbors once; arccos of 0.95 times the cosine."""
    near = neighbors(atoms, i, o.angular_cutoff_A)
    pairs = [
        (first, second)
        for (one, first), (other, second) in combinations(near, 2)
        if sorted((one, other)) == sorted(elements)
    ]
    found = []
    for shift in shifts(o.angular_start_A, o.angular_cutoff_A, o.n_angular_shifts):
        for section in range(o.n_sections):
            theta_s = math.pi * (2 * section + 1) / (2 * o.n_sections)
            found.append(sum(angular_term(*pair, shift, theta_s, o) for pair in pairs))
    return found


def angular_term(first: np.ndarray, second: np.ndarray, shift: float, theta_s: float, o: ANI) -> float:
    r, s = np.linalg.norm(first), np.linalg.norm(second)
    theta = math.acos(0.95 * (first @ second) / (r * s))
    angular = 2 ** (1 - o.zeta) * (1 + math.cos(theta - theta_s)) ** o.zeta
    radial = math.exp(-o.angular_eta_per_A2 * ((r + s) / 2 - shift) ** 2)
    return angular * radial * f_c(r, o.angular_cutoff_A) * f_c(s, o.angular_cutoff_A)


def environment(atoms: Atoms, i: int, o: ANI) -> np.ndarray:
    radial = [radial_functions(atoms, i, element, o) for element in o.elements]
    pairs = combinations_with_replacement(o.elements, 2)
    return np.concatenate([*radial, *(angular_functions(atoms, i, pair, o) for pair in pairs)])


def atomic_energy(network: dict, symbol: str, vector: np.ndarray) -> float:
    """A feed-forward network with CELU, alpha = 0.1."""
    layers = [name for name in network if name.startswith(f"hidden.{symbol}.") and name.endswith("weight")]
    for name in sorted(layers):
        x = network[name] @ vector + network[name.replace("weight", "bias")]
        vector = np.maximum(0, x) + np.minimum(0, 0.1 * (np.exp(x / 0.1) - 1))
    return float((network[f"last.{symbol}.weight"] @ vector + network[f"last.{symbol}.bias"])[0])


@pytest.mark.parametrize("crystal", [False, True])
def test_it_is_the_paper_in_loops(crystal):
    """In a cell smaller than the cutoff, where atoms are their own neighbors, and in a molecule."""
    checks = TestANI()
    atoms = checks.crystal() if crystal else checks.molecule()
    potential = untrained_model(checks.options).potential
    inputs = checks.inputs(atoms, Model(potential))
    vectors = np.array([environment(atoms, i, checks.options) for i in range(len(atoms))])
    np.testing.assert_allclose(potential.environments(inputs)[:-1].detach(), vectors, rtol=0, atol=1e-12)
    network = {name: tensor.numpy() for name, tensor in potential.networks.state_dict().items()}
    energies = [atomic_energy(network, *one) for one in zip(atoms.symbols, vectors, strict=True)]
    found = potential(inputs).contributions[:-1, 0].detach()
    np.testing.assert_allclose(found, energies, rtol=0, atol=1e-10)


# ----------------------------------------------------------------------------------------------- TorchANI


@pytest.fixture(scope="module")
def torchani_aev():
    """TorchANI's environment vectors by the constants of ANI-1x and of ANI-2x."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of extensions that are not compiled
        aev = pytest.importorskip("torchani.aev", reason="torchani is not installed")
    return {
        "ANI-1x": aev.AEVComputer.like_1x(num_species=4),
        "ANI-2x": aev.AEVComputer.like_2x(num_species=4),
    }


ANI_2X = {
    "cutoff_A": 5.1,
    "radial_start_A": 0.8,
    "radial_eta_per_A2": 19.7,
    "angular_start_A": 0.8,
    "n_angular_shifts": 8,
    "n_sections": 4,
    "angular_eta_per_A2": 12.5,
    "zeta": 14.1,
}


@pytest.mark.parametrize(("published", "options"), [("ANI-1x", {}), ("ANI-2x", ANI_2X)])
@pytest.mark.parametrize("periodic", [False, True])
def test_environments_are_those_of_torchani(torchani_aev, published, options, periodic):
    atoms = bulk("N", "sc", a=2.1) * 5 if periodic else load_structure("ethylammonium-nitrate")
    atoms.numbers[::3] = 6
    atoms.rattle(0.2, seed=1)
    potential = ANI(**options).build().double()
    graph = AtomGraph.from_atoms(atoms, potential.cutoff)
    inputs = with_ghost(graph, potential.cutoff, triplet_cutoff=potential.triplet_cutoff)
    found = potential.environments(inputs)[:-1]
    computer = with_constants_of(potential.environments, torchani_aev[published].double())
    species = torch.tensor([["HCNO".index(symbol) for symbol in atoms.symbols]])
    cell = {"cell": graph.cell[0], "pbc": graph.pbc[0]} if periodic else {}
    expected = computer(species, graph.positions[None], **cell)[0]
    assert found.shape == expected.shape == (len(atoms), 384)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * float(expected.max()))


def with_constants_of(own: torch.nn.Module, computer: torch.nn.Module) -> torch.nn.Module:
    """TorchANI with our constants in float64, which are its own to the digits of float32."""
    radial, angular = computer.radial, computer.angular
    sections = torch.atan2(own.sin_sections, own.cos_sections)
    for one, other in (
        (radial.eta, own.radial_eta),
        (radial.shifts, own.radial_shifts),
        (angular.eta, own.angular_eta),
        (angular.zeta, own.zeta),
        (angular.shifts, own.angular_shifts),
        (angular.sections, sections),
    ):
        constants = torch.as_tensor(other, dtype=torch.float64)
        torch.testing.assert_close(one, constants.expand_as(one), rtol=1e-6, atol=0)
        one.copy_(constants)
    return computer


def test_networks_have_the_published_sizes():
    """ANI-1x: 384 inputs, hydrogen 160-128-96, carbon 144-112-96, nitrogen and oxygen 128-112-96."""
    networks = ANI().build().networks
    widths = {
        symbol: [layer.in_features for layer in network if isinstance(layer, torch.nn.Linear)]
        for symbol, network in networks.hidden.items()
    }
    assert widths == {"H": [384, 160, 128], "C": [384, 144, 112], "N": [384, 128, 112], "O": [384, 128, 112]}
    assert {layer.in_features for layer in networks.last.values()} == {96}
    assert [layer.alpha for layer in networks.modules() if isinstance(layer, torch.nn.CELU)] == 12 * [0.1]


# ----------------------------------------------------------------------------------------------- elements


def test_an_element_without_a_network_gives_no_number():
    checks = TestANI()
    assert torch.isnan(checks.evaluate(Atoms("CN", [[0, 0, 0], [1.2, 0, 0]])).energy).all()


def test_training_on_an_element_without_a_network_is_refused(tmp_path):
    frames = [bulk("Si", a=5.43 + 0.01 * k) for k in range(4)]
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    write(tmp_path / "data.xyz", frames)
    options = TrainOptions(
        name="silicon",
        data={"format": "ase", "path": str(tmp_path / "data.xyz")},
        split={"n_train": 2, "n_validation": 1, "n_test": 1},
        model={"architecture": "ani"},
        directory=tmp_path / "training",
    )
    check = told(value=["Si"], allowed=["H", "C", "N", "O"], remedy="model.elements")
    with pytest.raises(TrainingError, check=check):
        train(options)


def test_a_calculator_refuses_what_it_was_not_trained_on():
    register_untrained("ani", TestANI.options, load_structure("ethanol"))
    atoms = Atoms("CN", [[0, 0, 0], [1.2, 0, 0]], calculator=MLCalculator("ani"))
    with pytest.raises(
        StructureError, check=told(name="ani", value=["N"], allowed=["C", "H", "O"], remedy=True)
    ):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elements": ["H", "Si"]}, "no widths for Si"),
        ({"elements": ["H", "H"]}, "each once"),
        ({"elements": ["H", "Ox"]}, "give element symbols"),
        ({"angular_cutoff_A": 6.0}, "must not be above cutoff_A"),
        ({"angular_start_A": 3.6}, "must not be above angular_cutoff_A"),
        ({"hidden_channels": []}, "no widths for H"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(options, ANI)


def test_other_elements_take_widths_of_their_own():
    assert ANI(elements=["Si"], hidden_channels=[8]).build().networks.last["Si"].in_features == 8
