"""Lennard-Jones, Morse and ZBL: the answers of pencil and paper, of ASE and of other libraries."""

import importlib

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.morse import MorsePotential as AseMorse
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluation, Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import ZBL, LennardJones, Morse
from asecalc_ml.potentials.torchmdnet import upstream

FAR = 1000.0  # a cutoff at which the cutoff function is 1 to 1e-7 for all that happens here
LJ = LennardJones(epsilon_eV=0.3, sigma_A=1.1, cutoff_A=FAR)
MORSE = Morse(depth_eV=2.0, steepness_per_A=1.5, r0_A=1.2, cutoff_A=FAR)
BOTTOM = {LJ: 2 ** (1 / 6) * 1.1, MORSE: 1.2}
DEPTH = {LJ: 0.3, MORSE: 2.0}

some = settings(max_examples=25)
both = pytest.mark.parametrize("options", [LJ, MORSE], ids=["lennard-jones", "morse"])


def evaluate(options, atoms: Atoms) -> Evaluation:
    return Evaluator(Model(options.build()))(AtomGraph.from_atoms(atoms, options.cutoff_A))


def dimer(distance: float) -> Atoms:
    direction = np.array([0.36, 0.48, 0.80])
    return Atoms("Ar2", [[0, 0, 0], distance * direction])


def energy(options, distance: float) -> float:
    return float(evaluate(options, dimer(distance)).energy[0])


def pull(options, distance: float) -> float:
    """Force on the second atom along the bond; positive pushes it away."""
    return float(evaluate(options, dimer(distance)).forces[1].numpy() @ [0.36, 0.48, 0.80])


@both
@pytest.mark.smoke
def test_bottom_of_the_well(options):
    assert energy(options, BOTTOM[options]) == pytest.approx(-DEPTH[options], rel=1e-6)
    assert pull(options, BOTTOM[options]) == pytest.approx(0, abs=1e-5)
    assert pull(options, 0.9 * BOTTOM[options]) > 0 > pull(options, 1.1 * BOTTOM[options])


def test_lennard_jones_is_zero_at_sigma():
    assert energy(LJ, 1.1) == pytest.approx(0, abs=1e-8)
    assert pull(LJ, 1.1) == pytest.approx(24 * 0.3 / 1.1, rel=1e-6)  # −dv/dr = 24 ε/σ


def test_morse_far_and_near():
    assert energy(MORSE, 30.0) == pytest.approx(0, abs=1e-9)
    softness = np.log(2) / 1.5  # where exp(−a (r − r0)) = 2, the energy is zero and the slope 4 a D
    assert energy(MORSE, 1.2 - softness) == pytest.approx(0, abs=1e-9)
    assert pull(MORSE, 1.2 - softness) == pytest.approx(4 * 1.5 * 2.0, rel=1e-6)


@some
@given(st.floats(0.9, 4.0))
def test_ases_lennard_jones(distance):
    reference = AseLennardJones(epsilon=0.3, sigma=1.1, rc=FAR)
    atoms = dimer(distance)
    assert energy(LJ, distance) == pytest.approx(reference.get_potential_energy(atoms), abs=1e-6)
    assert evaluate(LJ, atoms).forces.numpy() == pytest.approx(
        reference.get_forces(atoms), abs=1e-5, rel=1e-6
    )


@some
@given(st.floats(0.8, 4.0))
def test_ases_morse(distance):
    """ASE's cutoff is one that switches off between 1.9 and 2 Å unless it is told otherwise."""
    reference = AseMorse(epsilon=2.0, rho0=1.5 * 1.2, r0=1.2, rcut1=FAR, rcut2=FAR + 1)
    atoms = dimer(distance)
    assert energy(MORSE, distance) == pytest.approx(reference.get_potential_energy(atoms), abs=1e-6)
    assert evaluate(MORSE, atoms).forces.numpy() == pytest.approx(
        reference.get_forces(atoms), abs=1e-5, rel=1e-6
    )


@both
def test_a_molecule_is_the_sum_of_its_pairs(options):
    atoms = molecule("CH3CH2OH")
    distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
    assert float(evaluate(options, atoms).energy[0]) == pytest.approx(
        sum(energy(options, d) for d in distances)
    )
    assert float(evaluate(options, atoms).energies.sum()) == pytest.approx(
        float(evaluate(options, atoms).energy[0])
    )


@both
def test_atoms_share_a_pair_equally(options):
    energies = evaluate(options, dimer(1.4)).energies
    assert energies[0] == energies[1]


@both
def test_virial_of_a_pair(options):
    """dE/dε = v'(r) r n ⊗ n, so the trace is minus the outward force times the distance."""
    virial = evaluate(options, dimer(1.5)).virial[0].numpy()
    n = np.array([0.36, 0.48, 0.80])
    assert virial == pytest.approx(-pull(options, 1.5) * 1.5 * np.outer(n, n), abs=1e-9)


def test_energy_of_a_crystal_is_a_lattice_sum():
    """Images add up: fcc, each atom with 12 neighbors at a/√2, and nothing else within the cutoff."""
    options = Morse(cutoff_A=3.0)
    crystal = bulk("Ar", "fcc", a=3.2)
    nearest = 3.2 / np.sqrt(2)
    expected = 12 / 2 * energy(options, nearest)
    assert expected != 0
    assert float(evaluate(options, crystal).energy[0]) == pytest.approx(expected, rel=1e-12)
    assert evaluate(options, crystal).forces.abs().max() < 1e-12


def test_stress_of_a_crystal_by_hand():
    """Isotropic: E(a) of the lattice sum gives the pressure, p = −dE/dV."""
    options = Morse(cutoff_A=3.0)
    virial = evaluate(options, bulk("Ar", "fcc", a=3.2)).virial[0].numpy()
    nearest = 3.2 / np.sqrt(2)
    slope = -pull(options, nearest)  # dv/dr
    assert virial == pytest.approx(np.eye(3) * 12 / 2 * slope * nearest / 3, abs=1e-10)


@both
def test_nothing_at_the_cutoff(options):
    short = options.model_copy(update={"cutoff_A": 2.0})
    assert energy(short, 2.0) == 0
    assert energy(short, 1.9999) == pytest.approx(0, abs=1e-9)
    assert energy(short, 1.5) != 0


@both
def test_single_precision(options):
    model = Model(options.build()).set_dtype(torch.float32)
    assert model.dtype == torch.float32
    single = Evaluator(model)(AtomGraph.from_atoms(dimer(1.3), options.cutoff_A))
    assert float(single.energy[0]) == pytest.approx(energy(options, 1.3), rel=1e-5)


@pytest.mark.parametrize("bad", [{"epsilon_eV": -1}, {"sigma_A": 0}, {"cutoff_A": -5}])
def test_options_must_make_sense(bad):
    with pytest.raises(ConfigError, check=told(name=next(iter(bad)), value=next(iter(bad.values())))):
        parse_options(bad, LennardJones)


# --------------------------------------------------------------------------------------------------- ZBL

UNENDED = ZBL(reach=1000.0)  # the cutoff function is one
PAIRS = [("C2", 0.5), ("OH", 0.6), ("Au2", 1.0), ("SiC", 1.7)]


def repulsion(options: ZBL, symbols: str, distance: float) -> float:
    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, distance]])
    return float(evaluate_within(options, atoms).energy[0])


def evaluate_within(options: ZBL, atoms: Atoms) -> Evaluation:
    model = Model(options.build())
    return Evaluator(model)(AtomGraph.from_atoms(atoms, model.potential.cutoff))


def test_zbl_by_hand():
    """Two protons at one Bohr radius: a = 0.8854 a₀ / 2, so x = 2 / 0.8854, in Hartree."""
    x = 2 / 0.8854
    screening = sum(
        c * np.exp(-d * x)
        for c, d in [(0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)]
    )
    assert repulsion(UNENDED, "H2", 0.529177210544) == pytest.approx(27.211386246 * screening, rel=1e-7)


def test_zbl_is_coulombs_law_where_nuclei_meet():
    """14.4 eV Å / r between two charges e."""
    assert repulsion(UNENDED, "OC", 1e-5) == pytest.approx(48 * 14.39964548 / 1e-5, rel=1e-3)


@pytest.mark.parametrize(("symbols", "distance"), PAIRS)
def test_torchmd_nets_zbl(symbols, distance):
    """It rounds coefficients to four digits, which do not quite sum to one."""
    with upstream._without_warp():
        module = importlib.import_module("torchmdnet.priors.zbl")
    si = {"distance_scale": 1e-10, "energy_scale": 1 / units.J}
    prior = module.ZBL(5.0, 10, atomic_number=torch.arange(100), **si)
    both = torch.tensor([[0, 1], [1, 0]]), torch.full((2,), distance, dtype=torch.float64), None
    prior.distance.forward = lambda *_: both
    prior.cutoff.forward = torch.ones_like
    numbers = torch.from_numpy(Atoms(symbols).numbers).long()
    zero = torch.zeros(1, 1, dtype=torch.float64)
    theirs = prior.post_reduce(zero, numbers, None, torch.zeros(2, dtype=torch.int64))
    assert repulsion(UNENDED, symbols, distance) == pytest.approx(float(theirs), rel=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("symbols", "distance"), PAIRS)
def test_schnetpacks_zbl(symbols, distance, monkeypatch):
    """It keeps its constants in single precision."""
    from torch.utils.data import dataloader

    monkeypatch.setattr(dataloader, "T_co", None, raising=False)  # schnetpack 2.0 looks for it
    module = pytest.importorskip("schnetpack.atomistic.nuclear_repulsion")
    theirs = module.ZBLRepulsionEnergy("eV", "Angstrom", "energy", trainable=False).double()
    found = theirs(
        {
            "_atomic_numbers": torch.from_numpy(Atoms(symbols).numbers).long(),
            "_Rij": torch.tensor([[0, 0, distance], [0, 0, -distance]], dtype=torch.float64),
            "_idx_i": torch.tensor([0, 1]),
            "_idx_j": torch.tensor([1, 0]),
            "_idx_m": torch.zeros(2, dtype=torch.int64),
        }
    )
    assert repulsion(UNENDED, symbols, distance) == pytest.approx(float(found["energy"]), rel=1e-6)


def test_zbl_ends_at_each_pairs_own_distance():
    """Energy and force are zero there, and small before it."""
    options = ZBL(reach=0.7)
    for symbols in ("C2", "OH", "Au2"):
        numbers = Atoms(symbols).numbers
        end = 0.7 * covalent_radii[numbers].sum()
        assert repulsion(options, symbols, end) == 0
        assert 0 < repulsion(options, symbols, end - 1e-3) < 1e-4
        assert repulsion(options, symbols, 0.9 * end) < repulsion(UNENDED, symbols, 0.9 * end)
        edge = Atoms(symbols, [[0, 0, 0], [0, 0, end - 1e-4]])
        assert evaluate_within(options, edge).forces.abs().max() < 1e-2
