"""PhysNet: its laws, an independent slow reference, and what it says of charges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch.nn.functional import softplus

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import N_ELEMENTS, Model
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.testing import PotentialChecks
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {
    "hidden_channels": 6,
    "n_rbf": 5,
    "n_layers": 2,
    "cutoff_A": 4.0,
    "coulomb_cutoff_A": 5.0,
    "n_residual_interaction": 1,
    "n_residual_atomic": 1,
    "max_atomic_number": 10,
}


class TestPhysNet(PotentialChecks):
    options = PhysNet(**SMALL)


class TestPhysNetWithoutCharges(PotentialChecks):
    options = PhysNet(**SMALL, charges=False)


class TestPhysNetOneModule(PotentialChecks):
    options = PhysNet(**{**SMALL, "n_layers": 1, "n_residual_atomic": 0, "coulomb_cutoff_A": 4.0})


class Reference:
    """The paper's equations in NumPy, with loops over atoms, neighbors and modules."""

    def __init__(self, options: PhysNet, weights: dict[str, torch.Tensor]):
        self.options = options
        self.weights = {name: tensor.numpy() for name, tensor in weights.items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.weights[f"{name}.weight"] @ x + self.weights.get(f"{name}.bias", 0.0)

    def residual(self, name: str, x: np.ndarray) -> np.ndarray:
        inner = softplus_shifted(self.linear(f"{name}.change.1", softplus_shifted(x)))
        return x + self.linear(f"{name}.change.3", inner)

    def radial(self, r: float) -> np.ndarray:
        centres = np.log1p(np.exp(self.weights["radial_basis.raw_centres"]))
        widths = np.log1p(np.exp(self.weights["radial_basis.raw_widths"]))
        return switch(r / self.options.cutoff_A) * np.exp(-widths * (np.exp(-r) - centres) ** 2)

    def interaction(self, m: int, x: np.ndarray, neighbors: list[list[tuple[int, float]]]) -> np.ndarray:
        name, found = f"interaction_modules.{m}", []
        for i, around in enumerate(neighbors):
            v = softplus_shifted(self.linear(f"{name}.centre.0", softplus_shifted(x[i])))
            for j, r in around:
                mask = self.weights[f"{name}.mask.weight"] @ self.radial(r)
                v = v + mask * softplus_shifted(self.linear(f"{name}.neighbor.0", softplus_shifted(x[j])))
            for k in range(self.options.n_residual_interaction):
                v = self.residual(f"{name}.message.{k}", v)
            new = self.weights[f"{name}.gates"] * x[i] + self.linear(f"{name}.update", softplus_shifted(v))
            for k in range(self.options.n_residual_atomic):
                new = self.residual(f"{name}.refinement.{k}", new)
            found.append(new)
        return np.array(found)

    def output(self, m: int, x: np.ndarray) -> np.ndarray:
        for k in range(self.options.n_residual_output):
            x = self.residual(f"output.outputs.{m}.hidden.{k}", x)
        return self.linear(f"output.outputs.{m}.linear", softplus_shifted(x))

    def coulomb(self, charges: np.ndarray, neighbors: list[list[tuple[int, float]]]) -> np.ndarray:
        """Half of each pair's energy to each of its atoms, by Hartree times Bohr in eV Å."""
        energies, end = np.zeros(len(charges)), self.options.coulomb_cutoff_A
        for i, around in enumerate(neighbors):
            for j, r in around:
                near, far = (1 / s + s / end**2 - 2 / end for s in (np.sqrt(r**2 + 1), r))
                weight = switch(2 * r / self.options.cutoff_A)
                energies[i] += (
                    7.199822675975274 * charges[i] * charges[j] * (weight * near + (1 - weight) * far)
                )
        return energies

    def __call__(self, atoms: Atoms) -> dict[str, np.ndarray]:
        neighbors = neighbors_of(atoms, self.options.coulomb_cutoff_A)
        x = self.weights["embedding.weight"][atoms.numbers]
        outputs = []
        for m in range(self.options.n_layers):
            x = self.interaction(m, x, neighbors)
            outputs.append(np.array([self.output(m, one) for one in x]))
        scale, shift = (
            self.weights["output.scale"][atoms.numbers],
            self.weights["output.shift"][atoms.numbers],
        )
        values = scale * sum(outputs) + shift
        charges = values[:, 1] - (values[:, 1].sum() - atoms.info.get("charge", 0)) / len(atoms)
        ratios = [b**2 / (b**2 + a**2 + 1e-7) for a, b in itertools.pairwise(outputs)]
        return {
            "contributions": values[:, :1],
            "charges": charges,
            "electrostatics": self.coulomb(charges, neighbors),
            "penalty": np.array([sum(ratio.mean() for ratio in ratios)]),
        }


def softplus_shifted(x: np.ndarray) -> np.ndarray:
    return np.log(np.exp(x) + 1) - np.log(2)


def switch(x: float) -> float:
    return 1 - 6 * x**5 + 15 * x**4 - 10 * x**3 if x < 1 else 0.0


def neighbors_of(atoms: Atoms, cutoff: float) -> list[list[tuple[int, float]]]:
    """Neighbors of each atom with their distances, images of all cells near enough, itself included."""
    repeats = range(-4, 5) if atoms.pbc.any() else [0]
    found = [[] for _ in atoms]
    for i, j in itertools.product(range(len(atoms)), repeat=2):
        for shift in itertools.product(repeats, repeat=3):
            r = np.linalg.norm(atoms.positions[j] - atoms.positions[i] + np.array(shift) @ atoms.cell.array)
            if (i != j or any(shift)) and r < cutoff:
                found[i].append((j, r))
    return found


@pytest.mark.parametrize("charge", [0, -1])
@pytest.mark.parametrize("structure", [cluster, small_crystal])
def test_it_is_the_paper(structure, charge):
    """The crystal's cell is smaller than either cutoff, so that atoms see their own images."""
    options = PhysNet(**SMALL)
    model, atoms = untrained_model(options), structure("HCO", 1.3)
    atoms.info["charge"] = charge
    assert not atoms.pbc.any() or atoms.cell.lengths().max() < options.cutoff_A
    found = model(with_ghost(AtomGraph.from_atoms(atoms, model.cutoff), model.cutoff)).potential
    expected = Reference(options, model.potential.state_dict())(atoms)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name)[:-1].detach(), value, rtol=0, atol=1e-10)


def two_ions() -> Model:
    """A network that says nothing but that sodium has +1 e and chlorine −1 e, with a scale of 7."""
    options = PhysNet(**{**SMALL, "max_atomic_number": 20, "coulomb_cutoff_A": 12.0})
    model = Model(options.build(), scale=torch.full((N_ELEMENTS,), 7.0, dtype=torch.float64))
    model.set_dtype(torch.float64)
    with torch.no_grad():
        model.potential.output.shift[[11, 17], 1] = torch.tensor([1.0, -1.0], dtype=torch.float64)
    return model


@pytest.mark.parametrize("r", [2.5, 6.0, 11.9])
def test_two_ions_attract_each_other_as_coulomb_says(r):
    """−e²/4πε₀ (1/r + r/R² − 2/R) in eV, which no scale may change; nothing is damped from 2 Å on."""
    evaluator = Evaluator(two_ions())
    found = evaluator(AtomGraph.from_atoms(Atoms("NaCl", [[0, 0, 0], [0, 0, r]]), 12.0))
    coulomb = units._e / (4 * np.pi * units._eps0) * 1e10  # V Å
    assert found.energy[0] == pytest.approx(-coulomb * (1 / r + r / 12**2 - 2 / 12), rel=1e-6)
    assert found.forces[0, 2] == pytest.approx(coulomb * (1 / r**2 - 1 / 12**2), rel=1e-6)
    np.testing.assert_allclose(found.charges, [1, -1])


def test_close_ions_have_a_finite_energy():
    """Damped to 1 / √(r² + 1)."""
    evaluator = Evaluator(two_ions())
    atoms = Atoms("NaCl", [[0, 0, 0], [0, 0, 1e-3]])
    energy = evaluator(AtomGraph.from_atoms(atoms, 12.0)).energy[0]
    assert energy == pytest.approx(-14.4 * (1 - 2 / 12 + 1 / 144), abs=0.01)


@pytest.mark.parametrize("charge", [0, 1])
def test_charges_are_conserved_in_every_system(charge):
    """Each of two in a batch has its own total; in a cell as in a molecule."""
    model, structures = untrained_model(PhysNet(**SMALL)), [cluster("HCO", 1.3), small_crystal("HCO", 1.3)]
    structures[1].info["charge"] = charge
    graphs = [AtomGraph.from_atoms(atoms, model.cutoff) for atoms in structures]
    found = Evaluator(model)(collate(graphs)).charges
    assert found[:6].sum() == pytest.approx(0, abs=1e-12)
    assert found[6:].sum() == pytest.approx(charge, abs=1e-12)


def test_continuous_at_the_shorter_cutoff_too():
    """Messages end there, the Coulomb energy does not."""
    model = untrained_model(PhysNet(**SMALL))
    energies = []
    for r in (4 - 1e-6, 4 + 1e-6):
        atoms = Atoms("HCO", [[0, 0, 0], [0, 1.2, 0], [0, 0, r]])
        energies.append(Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)))
    assert energies[0].energy[0] == pytest.approx(energies[1].energy[0].item(), abs=1e-4)
    np.testing.assert_allclose(energies[0].forces, energies[1].forces, atol=1e-4)


def test_as_published_before_training():
    """Masks and outputs are zero, the rest orthogonal, and centres and widths those of the paper."""
    with torch.random.fork_rng(devices=[]):
        network = PhysNet(hidden_channels=8, n_rbf=4, cutoff_A=2.0, coulomb_cutoff_A=2.0).build()
    basis, module = network.radial_basis, network.interaction_modules[0]
    centres, widths = (softplus(raw).detach() for raw in (basis.raw_centres, basis.raw_widths))
    np.testing.assert_allclose(centres, np.linspace(1, np.exp(-2), 4), rtol=1e-5)
    np.testing.assert_allclose(widths, (2 / 4 * (1 - np.exp(-2))) ** -2, rtol=1e-5)
    assert not any(part.weight.any() for part in (module.mask, network.output.outputs[0].linear))
    product = module.update.weight @ module.update.weight.T
    np.testing.assert_allclose(product.detach() / product[0, 0].item(), np.eye(8), atol=1e-5)
    assert module.update.weight.var(correction=0).item() == pytest.approx(1 / 8)


def test_a_coulomb_cutoff_below_the_other_is_refused():
    with pytest.raises(ConfigError, match="coulomb_cutoff_A"):
        parse_options({"cutoff_A": 6.0, "coulomb_cutoff_A": 5.0}, PhysNet, "model")
    assert PhysNet(cutoff_A=20.0, charges=False).build().cutoff == 20.0
