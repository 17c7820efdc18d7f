"""A list with a skin gives, at every step, bit for bit what a search from the start gives."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.graph.neighbors import SkinNeighborList, find_tensor_pairs
from asecalc_ml.model.pair_potentials import LennardJones
from asecalc_ml.testing import register_untrained

CUTOFF_A, SKIN_A = 3.0, 1.0
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


def update(neighbors: SkinNeighborList, atoms: Atoms):
    return neighbors.update(atoms.positions, atoms.cell.array, atoms.pbc)


def search(atoms: Atoms, cutoff: float = CUTOFF_A, device: str = "cpu", backend: str = "auto"):
    positions = torch.from_numpy(atoms.positions.copy()).to(device)
    return find_tensor_pairs(positions, atoms.cell.array, atoms.pbc, cutoff, backend)


def assert_same(found, expected) -> None:
    assert torch.equal(found.edge_index, expected.edge_index)
    assert torch.equal(found.cell_shifts, expected.cell_shifts)


# ------------------------------------------------------------------------------------ any way of moving on


def displaced(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.positions += random.uniform(0, 0.5) * random.uniform(-1, 1, atoms.positions.shape)


def strained(atoms: Atoms, random: np.random.Generator) -> None:
    strain = np.eye(3) + random.uniform(0, 0.15) * random.uniform(-1, 1, (3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=bool(random.integers(2)))


def breathed(atoms: Atoms, random: np.random.Generator) -> None:
    """As a barostat does: the whole structure larger or smaller, and nothing else."""
    scale = random.uniform(0.9, 1.1)
    atoms.cell *= scale
    atoms.positions *= scale


def wrapped(atoms: Atoms, random: np.random.Generator) -> None:
    if abs(np.linalg.det(atoms.cell.array)) > 1e-6:  # ASE cannot wrap into a flat cell
        atoms.wrap(eps=0)


def moved_by_a_lattice_vector(atoms: Atoms, random: np.random.Generator) -> None:
    vectors = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    atoms.positions[random.integers(len(atoms))] += random.integers(-2, 3, 3) @ vectors


def carried_away(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.positions += random.uniform(-9, 9, 3)


def turned(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.rotate(random.uniform(0, 20), random.normal(size=3), rotate_cell=True)


def described_anew(atoms: Atoms, random: np.random.Generator) -> None:
    """The same lattice by other vectors, where it is periodic."""
    a, b = random.permutation(3)[:2]
    if atoms.pbc[a] and atoms.pbc[b]:
        atoms.cell[a] += atoms.cell[b]


def mirrored(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.cell *= -1


def exchanged(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.positions = random.permutation(atoms.positions)


def opened_or_closed(atoms: Atoms, random: np.random.Generator) -> None:
    atoms.pbc[random.integers(3)] ^= True


def with_an_atom_less(atoms: Atoms, random: np.random.Generator) -> None:
    if len(atoms) > 1:
        del atoms[int(random.integers(len(atoms)))]


def squashed(atoms: Atoms, random: np.random.Generator) -> None:
    """To a cell that is refused, until the next structure comes."""
    atoms.cell[random.integers(3)] = 0


RARE = (mirrored, exchanged, opened_or_closed, with_an_atom_less, squashed, described_anew)
OFTEN = (displaced, strained, breathed, wrapped, moved_by_a_lattice_vector, carried_away, turned)
ways = st.lists(st.tuples(st.sampled_from(OFTEN * 3 + RARE), st.integers(0, 10**6)), max_size=12)
flags = st.sampled_from([(1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 1)])


@settings(max_examples=100)
@given(ways, flags, st.integers(1, 6), st.sampled_from(["auto", "vesin", "matscipy"]), st.integers(0, 10**6))
def test_any_way_of_moving_on(steps, pbc, n_atoms, backend, seed):
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(2, 6, 3)) + random.uniform(-1, 1, (3, 3))
    atoms = Atoms(f"H{n_atoms}", random.uniform(-4, 4, (n_atoms, 3)), cell=cell, pbc=pbc)
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A, backend)
    for move, seed_of_move in ((wrapped, 0), *steps):
        move(atoms, np.random.default_rng(seed_of_move))
        try:
            expected = search(atoms, backend=backend)
        except StructureError:
            with pytest.raises(StructureError):
                update(neighbors, atoms)
        else:
            assert_same(update(neighbors, atoms), expected)


def npt_like(n_steps: int):
    """A crystal whose atoms and whose cell walk at random."""
    random = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True) * (2, 2, 1)
    for _ in range(n_steps):
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.002 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.02 * random.normal(size=atoms.positions.shape)
        yield atoms


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["auto", "vesin", "matscipy"])
def test_a_cell_that_changes_at_every_step(backend, device):
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A, backend, device)
    for atoms in npt_like(200):
        found = update(neighbors, atoms)
        assert found.edge_index.device.type == device
        assert_same(found, search(atoms, device=device))
    assert 2 < neighbors.n_builds < 50


@pytest.mark.parametrize("skin", [0.0, 0.2, 3.0])
def test_any_skin(skin):
    neighbors = SkinNeighborList(CUTOFF_A, skin)
    for atoms in npt_like(30):
        assert_same(update(neighbors, atoms), search(atoms))
    assert (neighbors.n_builds == 30) == (skin == 0)


# ------------------------------------------------------------------------------------- when it is searched


def crystal() -> Atoms:
    return bulk("Si", cubic=True) * (2, 2, 2)


def n_builds(atoms: Atoms, *moves) -> int:
    """How often a list is built that meets the structure before and after moves that add up."""
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    update(neighbors, atoms)
    for move in moves:
        move(atoms)
        assert_same(update(neighbors, atoms), search(atoms))
    return neighbors.n_builds


def test_what_keeps_all_distances_is_no_reason():
    assert n_builds(crystal(), lambda atoms: atoms.translate([30.0, -2.0, 1.0])) == 1
    assert n_builds(crystal(), lambda atoms: atoms.rotate(70, "x", rotate_cell=True)) == 1


def scaled(factor: float):
    return lambda atoms: atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)


def test_strain_uses_up_the_skin():
    """(3 + 0) / 0.75 = 4: a pair 4 Å apart comes within the cutoff when all shrinks to three quarters."""
    assert n_builds(crystal(), scaled(0.7501)) == 1
    assert n_builds(crystal(), scaled(0.7499)) == 2
    assert n_builds(crystal(), scaled(1.5)) == 1


def test_two_displacements_use_up_the_skin():
    def towards(distance):
        def move(atoms):
            atoms.positions[0] += [distance, 0, 0]
            atoms.positions[-1] -= [distance, 0, 0]

        return move

    assert n_builds(crystal(), towards(0.499)) == 1
    assert n_builds(crystal(), towards(0.501)) == 2
    assert n_builds(crystal(), towards(0.3), towards(0.3)) == 2


def test_a_pair_that_comes_in_from_beyond_is_seen():
    """Head-on, beside strain, one step at a time; each step alone is far below the skin."""
    atoms = Atoms("H2", [[0, 0, 0], [6.0, 0, 0]], cell=np.diag([30.0, 20, 20]), pbc=True)
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    for _ in range(100):
        atoms.positions[1, 0] -= 0.04
        atoms.set_cell(atoms.cell.array * [0.999, 1.001, 1.0], scale_atoms=True)
        assert update(neighbors, atoms).edge_index.shape[1] == 2 * (atoms.get_distance(0, 1) < CUTOFF_A)
    assert atoms.get_distance(0, 1) < CUTOFF_A


def test_images_that_come_in_while_atoms_rest():
    """The cell shrinks and no atom moves: lists that only look at positions go stale."""
    atoms = Atoms("H", cell=np.diag([5.0, 9.0, 9.0]), pbc=True)
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    counts = []
    for length in np.linspace(5.0, 2.9, 40):
        atoms.cell[0, 0] = length
        counts.append(update(neighbors, atoms).edge_index.shape[1])
    assert counts == [2 * (length < CUTOFF_A) for length in np.linspace(5.0, 2.9, 40)]
    assert 1 < neighbors.n_builds < 10


def test_an_atom_put_back_into_the_cell():
    atoms = crystal()
    assert n_builds(atoms, lambda atoms: atoms.positions.__iadd__(0.01), lambda atoms: atoms.wrap()) == 1
    atoms.positions[3] += atoms.cell[0]
    assert n_builds(atoms, lambda atoms: atoms.wrap()) == 2


def test_open_directions_have_no_strain():
    """What the third vector of a slab, or the cell of a large molecule, says means nothing."""
    slab = fcc111("Cu", (3, 3, 4), a=3.6)
    assert n_builds(slab, lambda atoms: atoms.cell.__setitem__(2, [1, 2, 30])) == 1
    cluster = Atoms("H40", np.random.default_rng(0).uniform(0, 9, (40, 3)))
    assert n_builds(cluster, lambda atoms: atoms.set_cell([9, 1, 1])) == 1


def test_molecules_that_take_all_pairs_are_searched_once():
    atoms = molecule("CH3CH2OH")
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    for scale in (1, 10, 100):
        atoms.positions *= scale
        assert_same(update(neighbors, atoms), search(atoms))
    assert neighbors.n_builds == 1
    del atoms[0]
    assert update(neighbors, atoms).edge_index.shape == (2, 8 * 7)
    atoms.set_cell([5, 5, 5])
    atoms.pbc = True
    assert_same(update(neighbors, atoms), search(atoms))
    assert neighbors.n_builds == 3


def test_positions_may_be_changed_in_place():
    positions = torch.zeros(2, 3, dtype=torch.float64)
    positions[1, 0] = 8.0
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    assert neighbors.update(positions, 20 * torch.eye(3), torch.ones(3)).edge_index.shape == (2, 0)
    positions[1, 0] = 2.0
    assert neighbors.update(positions, 20 * torch.eye(3), torch.ones(3)).edge_index.shape == (2, 2)


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("atoms", [molecule("H2O"), crystal()])
def test_nan_is_told_and_forgotten(atoms):
    neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
    for value in (np.nan, np.inf):
        update(neighbors, atoms)
        for broken in (atoms.copy(), atoms.copy()):
            broken.positions[1, 2] = value
            with pytest.raises(StructureError, check=told(name="positions", remedy=True)):
                update(neighbors, broken)
        assert_same(update(neighbors, atoms), search(atoms))


@pytest.mark.parametrize(("cell", "name"), [(np.full((3, 3), np.nan), "cell"), (np.zeros((3, 3)), "pbc")])
def test_a_cell_that_breaks_is_told(cell, name):
    for atoms in (crystal(), molecule("H2O")) if np.isnan(cell).any() else (crystal(),):
        neighbors = SkinNeighborList(CUTOFF_A, SKIN_A)
        update(neighbors, atoms)
        with pytest.raises(StructureError, check=told(name=name, remedy="atoms.set_cell")):
            neighbors.update(atoms.positions, cell, atoms.pbc)


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_skins_that_are_none(skin):
    expected = told(
        name="skin", value=pytest.approx(skin, nan_ok=True), allowed="positive", remedy="0 (none)"
    )
    with pytest.raises(ConfigError, check=expected):
        SkinNeighborList(CUTOFF_A, skin)


# --------------------------------------------------------------------------------------------- trajectories

N_STEPS = 120


@pytest.fixture
def argon_model() -> None:
    options = LennardJones(cutoff_A=6.0)
    register_untrained("argon", options, bulk("Ar", cubic=True, a=5.3), dtype=torch.float64)


def argon(skin: float) -> Atoms:
    """A warm crystal with a Lennard-Jones model."""
    atoms = bulk("Ar", cubic=True, a=5.3) * 3
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta * np.sqrt(units.kB * 160 * atoms.get_masses())[:, None])
    Stationary(atoms)
    atoms.calc = MLCalculator("argon", skin_A=skin)
    return atoms


def nve(atoms: Atoms):
    dynamics = VelocityVerlet(atoms, 5 * units.fs)
    return dynamics, lambda: atoms.get_potential_energy() + atoms.get_kinetic_energy()


def npt(atoms: Atoms):
    dynamics = IsotropicMTKNPT(
        atoms,
        timestep=5 * units.fs,
        temperature_K=80,
        pressure_au=0.1 * units.GPa,
        tdamp=500 * units.fs,
        pdamp=2000 * units.fs,
    )
    return dynamics, dynamics.get_conserved_energy


def recorded(ensemble, skin: float) -> tuple[list[Atoms], np.ndarray, int]:
    """Frames with forces, what the ensemble conserves at each, and how often pairs were searched."""
    atoms = argon(skin)
    dynamics, conserved = ensemble(atoms)
    frames, energies = [], []

    def record():
        frames.append(atoms.copy())
        frames[-1].arrays["forces"] = atoms.get_forces()
        frames[-1].info["stress"] = atoms.get_stress()
        energies.append(conserved())

    dynamics.attach(record)
    dynamics.run(N_STEPS)
    return frames, np.array(energies), atoms.calc._pairs.n_builds


@pytest.mark.parametrize("ensemble", [nve, npt])
def test_one_trajectory_with_and_without_a_skin(ensemble, argon_model):
    """Forces agree at every step, those of a search included, and what is conserved drifts alike."""
    frames, energies, n_builds = recorded(ensemble, skin=0.4)
    assert 5 < n_builds < N_STEPS / 4
    without = argon(skin=0.0)
    for frame in frames:
        without.set_cell(frame.cell)
        without.positions = frame.positions
        assert np.abs(without.get_forces() - frame.arrays["forces"]).max() < 1e-10
        assert np.abs(without.get_stress() - frame.info["stress"]).max() < 1e-12
    assert without.calc._pairs.n_builds == len(frames)
    _, energies_without, n_searches = recorded(ensemble, skin=0.0)
    assert n_searches > N_STEPS
    assert np.array_equal(energies, energies_without)  # so their drifts agree to the last bit
    assert np.ptp(energies) < 0.02 * 1.5 * units.kB * 80 * len(frames[0])
