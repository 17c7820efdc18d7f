"""DTNN obeys the laws of every architecture, and is the paper's equations written as loops."""

import numpy as np
import pytest
from ase import Atoms

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.potentials.dtnn import DTNN
from asecalc_ml.testing import PotentialChecks
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

SMALL = {
    "hidden_channels": 6,
    "n_factors": 8,
    "readout_channels": 5,
    "cutoff_A": 4.0,
    "max_atomic_number": 20,
}


class TestDTNN(PotentialChecks):
    options = DTNN(**SMALL, n_passes=2, basis_spacing_A=0.5)


class TestDTNNOfThePaper(PotentialChecks):
    options = DTNN(**SMALL, n_passes=2, basis_spacing_A=0.5, envelope=False)

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        assert self._jump(model, 2, 1e-6) > 0.1 * self._jump(model, 2, 1e-3) > 0


# -------------------------------------------------------------------------------------- slow reference


def contributions_by_loops(atoms: Atoms, weights: dict, options: DTNN) -> np.ndarray:
    """Ê_i of the paper's Methods, steps 1 to 4, with neighbors found by brute force."""
    c = np.array([weights["embedding.weight"][number] for number in atoms.numbers])
    for _ in range(options.n_passes):
        corrections = np.zeros_like(c)
        for i, j, distance in _pairs(atoms, options.cutoff_A):
            corrections[i] += _cutoff(distance, options) * _interaction(c[j], distance, weights, options)
        c = c + corrections
    hidden = np.tanh(
        c @ weights["readout_network.hidden.0.weight"].T + weights["readout_network.hidden.0.bias"]
    )
    return hidden @ weights["readout_network.output.weight"][0] + weights["readout_network.output.bias"]


def _interaction(c_j: np.ndarray, distance: float, weights: dict, options: DTNN) -> np.ndarray:
    spacing, centre, d_hat = options.basis_spacing_A, -1.0, []
    while centre <= options.cutoff_A + 1e-9:
        d_hat.append(np.exp(-((distance - centre) ** 2) / (2 * spacing**2)))
        centre += spacing
    layer = "tensor_layer."
    atom = weights[layer + "atom_factors.weight"] @ c_j + weights[layer + "atom_factors.bias"]
    along = weights[layer + "distance_factors.weight"] @ d_hat + weights[layer + "distance_factors.bias"]
    return np.tanh(weights[layer + "joined.weight"] @ (atom * along))


def _cutoff(distance: float, options: DTNN) -> float:
    x = distance / options.cutoff_A
    return 1 - 6 * x**5 + 15 * x**4 - 10 * x**3 if options.envelope else 1.0


def _pairs(atoms: Atoms, cutoff: float):
    """Centre, neighbor and distance, the images in five cells each way among them."""
    reach = range(-5, 6) if atoms.pbc.all() else range(1)
    for i in range(len(atoms)):
        for j in range(len(atoms)):
            for shift in np.ndindex(len(reach), len(reach), len(reach)):
                cells = np.array([reach[k] for k in shift])
                vector = atoms.positions[j] + cells @ atoms.cell.array - atoms.positions[i]
                if 0 < np.linalg.norm(vector) < cutoff:
                    yield i, j, np.linalg.norm(vector)


@pytest.mark.parametrize("envelope", [True, False])
@pytest.mark.parametrize("structure", [cluster(("H", "C", "O"), 1.3), small_crystal(("H", "C", "O"), 1.3)])
def test_it_is_the_papers_equations(structure, envelope):
    options = DTNN(**SMALL, n_passes=3, basis_spacing_A=0.2, envelope=envelope)
    potential = untrained_model(options).potential
    weights = {name: value.numpy() for name, value in potential.state_dict().items()}
    found = potential(with_ghost(AtomGraph.from_atoms(structure, 4.0), 4.0)).contributions
    expected = contributions_by_loops(structure, weights, options)
    assert np.abs(found[:-1, 0].detach().numpy() - expected).max() < 1e-10
