"""DimeNet++ obeys the laws of every architecture, the paper's equations in loops, and PyTorch Geometric."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.special import eval_legendre, spherical_jn

from asecalc_ml.model.model import Model
from asecalc_ml.potentials.dimenet import DimeNetPlusPlus
from asecalc_ml.potentials.dimenet.bases import bessel_zeros, envelope, legendre, spherical_bessel
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import PotentialChecks, untrained_model

SMALL = {
    "cutoff_A": 4.0,
    "hidden_channels": 8,
    "triplet_channels": 5,
    "basis_channels": 3,
    "output_channels": 6,
    "n_radial": 3,
    "n_spherical": 3,
    "max_atomic_number": 20,
}


class TestDimeNetPlusPlus(PotentialChecks):
    options = DimeNetPlusPlus(**SMALL, n_layers=2, n_output_layers=2)


class TestDimeNetPlusPlusOtherOptions(PotentialChecks):
    options = DimeNetPlusPlus(
        **{**SMALL, "n_spherical": 1},
        n_layers=1,
        envelope_exponent=5,
        n_before_skip=0,
        n_after_skip=0,
        n_output_layers=1,
    )


# ------------------------------------------------------------------------------------------------- bases


def test_bessel_zeros_are_zeros_and_none_is_missing():
    zeros = bessel_zeros(7, 6)
    orders = np.arange(7)[:, None]
    np.testing.assert_allclose(spherical_jn(orders, zeros), 0, atol=1e-12)
    np.testing.assert_allclose(zeros[:2, 0], [math.pi, 4.493409457909064], rtol=1e-14)
    fine = np.linspace(1e-3, zeros[:, -1] + 1e-3, 20000, axis=1)
    changes = (np.diff(np.sign(spherical_jn(orders, fine)), axis=1) != 0).sum(axis=1)
    assert changes.tolist() == 7 * [6]


def test_bessel_functions_are_those_of_scipy():
    zeros, x = bessel_zeros(7, 6), np.linspace(0.08, 1.0, 50)
    arguments = x[:, None, None] * zeros
    expected = spherical_jn(np.arange(7)[:, None], arguments)
    np.testing.assert_allclose(spherical_bessel(torch.from_numpy(arguments)), expected, rtol=0, atol=1e-12)


def test_bessel_functions_have_two_derivatives_at_short_distances():
    """At 0.4 Å of 5 Å, from float32; j_l'' by Bessel's equation."""
    zeros = bessel_zeros(7, 6).astype(np.float32)
    arguments = (torch.from_numpy(zeros) * 0.08)[None].requires_grad_()
    (first,) = torch.autograd.grad(spherical_bessel(arguments).sum(), arguments, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), arguments)
    orders, x = np.arange(7)[:, None], arguments[0].detach().double().numpy()
    slope = spherical_jn(orders, x, derivative=True)
    curvature = -2 / x * slope - (1 - orders * (orders + 1) / x**2) * spherical_jn(orders, x)
    np.testing.assert_allclose(first[0].detach(), slope, rtol=0, atol=1e-6)
    np.testing.assert_allclose(second[0], curvature, rtol=0, atol=1e-5)


def test_legendre_polynomials_are_those_of_scipy():
    x = np.linspace(-1, 1, 21)
    expected = eval_legendre(np.arange(7), x[:, None])
    np.testing.assert_allclose(legendre(torch.from_numpy(x), 7), expected, rtol=0, atol=1e-14)


def test_the_envelope_ends_with_two_derivatives():
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    value = envelope(x, 6)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x, create_graph=True)
    assert max(abs(float(one.detach())) for one in (value, first, second)) < 1e-12
    assert float(envelope(torch.zeros(()), 6)) == 1


# ---------------------------------------------------------------------------------- the paper's equations


class Reference:
    """Contributions of atoms in loops over images, from equations (6)-(9) of arXiv:2003.03123.

    With the interaction of arXiv:2011.14115 and, as in the authors' code, u(d)/x in both bases, no constant
    in the radial one, no c³ in the spherical one, and π − ∠kji.
    """

    def __init__(self, options: DimeNetPlusPlus, weights: dict[str, np.ndarray]):
        self.o, self.w = options, weights
        self.zeros = bessel_zeros(options.n_spherical, options.n_radial)

    def __call__(self, atoms: Atoms) -> np.ndarray:
        o = self.o
        edges = self.edges(atoms)  # messages j → i: (i, j, vector from i to j)
        distances = [float(np.linalg.norm(vector)) for _, _, vector in edges]
        waves = [self.waves(d) for d in distances]
        incoming = [self.incoming(edges, waves, edge) for edge in edges]
        radial = [self.radial(d) for d in distances]
        messages = [
            self.embedding(atoms.numbers[i], atoms.numbers[j], e)
            for (i, j, _), e in zip(edges, radial, strict=True)
        ]
        found = self.output(0, messages, radial, edges, len(atoms))
        for block in range(o.n_layers):
            messages = self.interaction(block, messages, radial, incoming)
            found = found + self.output(block + 1, messages, radial, edges, len(atoms))
        return found

    def edges(self, atoms: Atoms) -> list[tuple]:
        shifts = list(product(*(range(-4, 5) if periodic else (0,) for periodic in atoms.pbc)))
        n = len(atoms)
        images = [(i, j, s) for i in range(n) for j in range(n) for s in shifts if i != j or any(s)]
        vectors = [
            (i, j, atoms.positions[j] + np.array(s) @ atoms.cell.array - atoms.positions[i])
            for i, j, s in images
        ]
        return [one for one in vectors if np.linalg.norm(one[2]) < self.o.cutoff_A]

    def incoming(
        self, edges: list[tuple], waves: list[np.ndarray], edge: tuple
    ) -> list[tuple[int, np.ndarray]]:
        """Messages k → j for a message j → i, k another atom or image than i, and the spherical basis."""
        _, j, vector = edge
        found = []
        for number, (centre, _, onward) in enumerate(edges):
            if centre == j and np.linalg.norm(vector + onward) > 1e-9:
                angle = math.pi - self.angle(-vector, onward)
                found.append((number, (waves[number] * self.harmonics(angle)[:, None]).ravel()))
        return found

    @staticmethod
    def angle(first: np.ndarray, second: np.ndarray) -> float:
        return math.atan2(np.linalg.norm(np.cross(first, second)), first @ second)

    def u_over_x(self, x: float) -> float:
        p = self.o.envelope_exponent
        u = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        return u / x

    def radial(self, d: float) -> np.ndarray:
        x = d / self.o.cutoff_A
        return np.array([self.u_over_x(x) * math.sin(f * x) for f in self.w["radial_basis.frequencies"]])

    def waves(self, d: float) -> np.ndarray:
        """The spherical basis without its angle, shape (n_spherical, n_radial)."""
        x = d / self.o.cutoff_A
        return np.array(
            [
                [
                    self.u_over_x(x)
                    * math.sqrt(2 / spherical_jn(order + 1, z) ** 2)
                    * spherical_jn(order, z * x)
                    for z in self.zeros[order]
                ]
                for order in range(self.o.n_spherical)
            ]
        )

    def harmonics(self, angle: float) -> np.ndarray:
        orders = range(self.o.n_spherical)
        return np.array(
            [math.sqrt((2 * o + 1) / (4 * math.pi)) * eval_legendre(o, math.cos(angle)) for o in orders]
        )

    def dense(self, name: str, x: np.ndarray, active: bool = True) -> np.ndarray:
        y = self.w[f"{name}.weight"] @ x + self.w.get(f"{name}.bias", 0.0)
        return y / (1 + np.exp(-y)) if active else y

    def filters(self, name: str, basis: np.ndarray) -> np.ndarray:
        return self.w[f"{name}.1.weight"] @ (self.w[f"{name}.0.weight"] @ basis)

    def embedding(self, z_i: int, z_j: int, e: np.ndarray) -> np.ndarray:
        h = self.w["embedding.elements.weight"]
        return self.dense(
            "embedding.combine.0", np.concatenate([h[z_i], h[z_j], self.dense("embedding.radial.0", e)])
        )

    def interaction(self, block: int, messages: list, radial: list, incoming: list) -> list[np.ndarray]:
        at = f"layers.{block}"
        arriving = [
            self.dense(f"{at}.down.0", self.dense(f"{at}.incoming.0", m) * self.filters(f"{at}.radial", e))
            for m, e in zip(messages, radial, strict=True)
        ]
        updated = []
        for message, neighbors in zip(messages, incoming, strict=True):
            total = np.zeros(self.o.triplet_channels)
            for number, basis in neighbors:
                total += arriving[number] * self.filters(f"{at}.spherical", basis)
            x = self.dense(f"{at}.own.0", message) + self.dense(f"{at}.up.0", total)
            for k in range(self.o.n_before_skip):
                x = self.residual(f"{at}.before_skip.{k}", x)
            x = message + self.dense(f"{at}.skip.0", x)
            for k in range(self.o.n_after_skip):
                x = self.residual(f"{at}.after_skip.{k}", x)
            updated.append(x)
        return updated

    def residual(self, name: str, x: np.ndarray) -> np.ndarray:
        return x + self.dense(f"{name}.layers.2", self.dense(f"{name}.layers.0", x))

    def output(self, block: int, messages: list, radial: list, edges: list, n_atoms: int) -> np.ndarray:
        at, width = f"outputs.{block}", self.o.output_channels
        found = np.zeros(n_atoms)
        for atom in range(n_atoms):
            x = np.zeros(self.o.hidden_channels)
            for (i, _, _), message, e in zip(edges, messages, radial, strict=True):
                if i == atom:
                    x += message * (self.w[f"{at}.radial.weight"] @ e)
            x = self.dense(f"{at}.network.0", x, active=False)
            for k in range(self.o.n_output_layers):
                x = self.dense(f"{at}.network.{2 * k + 1}", x)
            found[atom] = self.w["last.weight"][0, block * width : (block + 1) * width] @ x
        return found


@pytest.mark.parametrize("checks", [TestDimeNetPlusPlus(), TestDimeNetPlusPlusOtherOptions()])
@pytest.mark.parametrize("crystal", [False, True])
def test_it_is_the_paper_in_loops(checks, crystal):
    """In a cell smaller than the cutoff, where atoms are their own neighbors, and in a molecule."""
    atoms = checks.crystal() if crystal else checks.molecule()
    potential = untrained_model(checks.options).potential
    found = potential(checks.inputs(atoms, Model(potential))).contributions[:-1, 0].detach().numpy()
    weights = {name: tensor.detach().numpy() for name, tensor in potential.state_dict().items()}
    expected = Reference(checks.options, weights)(atoms)
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


# -------------------------------------------------------------------------------------- PyTorch Geometric

#: Blocks of torch_geometric's DimeNet++ and their names here.
NAMES = {
    "rbf.freq": "radial_basis.frequencies",
    "emb.emb": "embedding.elements",
    "emb.lin_rbf": "embedding.radial.0",
    "emb.lin": "embedding.combine.0",
    "lin_rbf1": "radial.0",
    "lin_rbf2": "radial.1",
    "lin_sbf1": "spherical.0",
    "lin_sbf2": "spherical.1",
    "lin_kj": "incoming.0",
    "lin_ji": "own.0",
    "lin_down": "down.0",
    "lin_up": "up.0",
    "lin": "skip.0",
    "lin1": "layers.0",
    "lin2": "layers.2",
    "interaction_blocks": "layers",
    "layers_before_skip": "before_skip",
    "layers_after_skip": "after_skip",
    "output_blocks": "outputs",
    "lin_rbf": "radial",
}


def our_name(name: str) -> str:
    """Name of a parameter of torch_geometric's here."""
    for theirs in ("rbf.freq", "emb.emb", "emb.lin_rbf", "emb.lin"):
        if name.startswith(theirs) and name[len(theirs) :] in ("", ".weight", ".bias"):
            return NAMES[theirs] + name[len(theirs) :]
    parts = name.split(".")
    if parts[0] == "output_blocks" and parts[2] in ("lin_up", "lins"):
        place = 0 if parts[2] == "lin_up" else 2 * int(parts[3]) + 1
        return f"outputs.{parts[1]}.network.{place}.{parts[-1]}"
    return ".".join(NAMES.get(part, part) for part in parts)


@pytest.mark.slow  # for what it imports
def test_it_is_that_of_torch_geometric():
    """With its weights, and its angles by atan2; its zeros of Bessel functions are float32."""
    reason = "torch_geometric is not installed"
    dimenet = pytest.importorskip("torch_geometric.nn.models.dimenet", reason=reason)
    torch.manual_seed(0)
    theirs = dimenet.DimeNetPlusPlus(16, 1, 2, 8, 4, 12, 4, 3, output_initializer="glorot_orthogonal")
    sizes = {"hidden_channels": 16, "n_layers": 2, "triplet_channels": 8, "basis_channels": 4}
    options = DimeNetPlusPlus(**sizes, output_channels=12, n_spherical=4, n_radial=3, max_atomic_number=94)
    potential, atoms, state = options.build(), load_structure("ethanol"), theirs.state_dict()
    last = torch.cat([state.pop(f"output_blocks.{k}.lin.weight") for k in range(3)], dim=1)
    ours = {our_name(name): value for name, value in state.items()}
    potential.load_state_dict({**ours, "last.weight": last})
    inputs = TestDimeNetPlusPlus().inputs(atoms, Model(potential.double()))
    with torch.no_grad():
        found = potential(inputs).contributions[:-1].sum()
        expected = energy_of_geometric(theirs.double(), atoms)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def energy_of_geometric(network: torch.nn.Module, atoms: Atoms) -> torch.Tensor:
    """Its forward pass without its search for neighbors, which needs a compiled library."""
    positions, numbers = torch.from_numpy(atoms.positions), torch.from_numpy(atoms.numbers)
    distances = torch.cdist(positions, positions)
    i, j = ((distances < 5.0) & (distances > 0)).nonzero().T
    # Messages k → j and j → i: pairs of edges (j, k) and (i, j).
    idx_kj, idx_ji = ((i[:, None] == j[None, :]) & (j[:, None] != i[None, :])).nonzero().T
    idx_i, idx_j, idx_k = i[idx_ji], j[idx_ji], j[idx_kj]
    to_j, to_i = positions[idx_j] - positions[idx_k], positions[idx_i] - positions[idx_j]
    sines = torch.cross(to_i, to_j, dim=1).norm(dim=-1)
    angle = torch.atan2(sines, (to_i * to_j).sum(dim=-1))
    d = (positions[i] - positions[j]).norm(dim=1)
    radial, spherical = network.rbf(d), network.sbf(d, angle, idx_kj)
    x = network.emb(numbers, radial, i, j)
    energy = network.output_blocks[0](x, radial, i, num_nodes=len(atoms)).sum()
    for interaction, output in zip(network.interaction_blocks, network.output_blocks[1:], strict=True):
        x = interaction(x, radial, spherical, idx_kj, idx_ji)
        energy = energy + output(x, radial, i, num_nodes=len(atoms)).sum()
    return energy


def test_padding_does_not_grow():
    """A thousand pairs of the ghost's edge and itself through many layers, in float32."""
    checks = TestDimeNetPlusPlus()
    model = untrained_model(DimeNetPlusPlus(**SMALL, n_layers=8), dtype=torch.float32)
    plain, padded = (model(checks.inputs(checks.molecule(), model, n)).potential for n in (0, 1000))
    assert padded.features[-1].abs().max() < 1e4 * plain.features[-1].abs().max()
    torch.testing.assert_close(padded.features[:-1], plain.features[:-1], rtol=1e-5, atol=1e-5)
