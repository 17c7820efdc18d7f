"""Degrees of freedom and motions of the whole under every constraint of ASE, against brute force."""

import tracemalloc

import ase.constraints
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.constraints import (
    ExternalForce,
    FixAtoms,
    FixBondLength,
    FixBondLengths,
    FixCartesian,
    FixCartesianParametricRelations,
    FixCom,
    FixedLine,
    FixedMode,
    FixedPlane,
    FixInternals,
    FixLinearTriatomic,
    FixScaled,
    FixScaledParametricRelations,
    FixSubsetCom,
    Hookean,
    MirrorForce,
    MirrorTorque,
)
from ase.constraints.constraint import FixConstraint
from ase.filters import UnitCellFilter
from ase.md.verlet import VelocityVerlet
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.integrators import degrees_of_freedom as temperature
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.relax import Relax
from asecalc_ml.structure.constraints import HELD, REFUSED, check_constraints, n_removed
from asecalc_ml.structure.rigid_motions import is_linear, rotations, translations

LJ = LennardJones(sigma=0.9, epsilon=0.1, rc=20.0)
N_ATOMS = 9
DIAGONAL = (1, 1, 1)


def ethanol(*constraints, pbc=False) -> Atoms:
    """Turned and without symmetry, in a box with right angles."""
    atoms = molecule("CH3CH2OH")
    atoms.rotate(37, (1, 2, 3))
    atoms.rattle(0.05, seed=1)
    atoms.set_cell([10.0, 11.0, 12.0])
    atoms.pbc = pbc
    atoms.calc = LJ
    atoms.set_constraint(constraints)
    return atoms


def carbon_dioxides(*constraints) -> Atoms:
    atoms = molecule("CO2")
    other = molecule("CO2")
    other.rotate(50, (1, 2, 0))
    other.translate([3.5, 0.4, 0.2])
    atoms += other
    atoms.calc = LJ
    atoms.set_constraint(constraints)
    return atoms


def removed_by_brute_force(atoms: Atoms) -> int:
    """3N minus the rank of the map that ASE applies to momenta."""
    probe, columns = atoms.copy(), []
    for column in np.eye(3 * len(atoms)):
        probe.set_momenta(column.reshape(-1, 3))
        columns.append(probe.get_momenta().ravel())
    return 3 * len(atoms) - np.linalg.matrix_rank(np.array(columns), tol=1e-8)


def rigid_motions(atoms: Atoms) -> list[np.ndarray]:
    """The six, about the centre of mass."""
    centred = atoms.positions - atoms.get_center_of_mass()
    axes = np.eye(3)
    return [np.tile(one, (len(atoms), 1)) for one in axes] + [np.cross(one, centred) for one in axes]


def free_by_brute_force(atoms: Atoms) -> np.ndarray:
    """Combinations of the six motions, shape (n, 6), that change neither energy nor constraints anywhere."""
    rng, changes, step = np.random.default_rng(0), [], 1e-4
    for _ in range(10):
        moved = atoms.copy()
        moved.calc = LJ
        moved.set_positions(atoms.positions + rng.normal(scale=0.1, size=(len(atoms), 3)))
        rows = []
        for motion in rigid_motions(moved):
            power = (moved.get_forces(md=True) * motion).sum()
            kept = moved.copy()
            kept.set_positions(moved.positions + step * motion)
            broken = (kept.positions - moved.positions) / step - motion
            rows.append([power, *broken.ravel()])
        changes.append(np.array(rows).T)
    _, sizes, combinations = np.linalg.svd(np.concatenate(changes))
    return combinations[int((sizes > 1e-3).sum()) :]


def held_apart() -> list[Hookean]:
    return [Hookean(0, [0.0, 0.0, -2.0], k=3.0, rt=0.0), Hookean(1, [4.0, 0.0, 0.0], k=3.0, rt=0.0)]


ALL = range(N_ATOMS)
X_FOR_Y = ["x", "y", "0", "x", "y", "1"]
#: Constraints with what they remove, and how many translations and rotations of the whole they leave.
KNOWN = [
    ([], 0, 3, 3),
    ([FixAtoms([0])], 3, 0, 0),
    ([FixAtoms([0, -1])], 6, 0, 0),
    ([FixAtoms([-1]), FixAtoms([8])], 3, 0, 0),
    ([FixAtoms([])], 0, 3, 3),
    ([FixCartesian([0, 1], (True, False, True))], 4, 1, 0),
    ([FixCartesian([0], (True, False, False))], 1, 2, 1),
    ([FixCartesian(ALL, (True, True, True))], 27, 0, 0),
    ([FixScaled([0, 1], (False, True, False))], 2, 2, 1),
    ([FixedPlane([0, 1], DIAGONAL)], 2, 2, 1),
    ([FixedPlane(ALL, DIAGONAL)], 9, 2, 1),
    ([FixedPlane([0], DIAGONAL), FixedPlane([1], DIAGONAL)], 2, 2, 1),
    ([FixedPlane([0], (0, 0, 1)), FixedPlane([1], (0, 1, 0))], 2, 1, 0),
    ([FixedLine([0, 1], (1, 2, 3))], 4, 1, 0),
    ([FixedLine(ALL, (1, 2, 3))], 18, 1, 0),
    ([FixCom()], 3, 0, 3),
    ([FixCom(), FixCom()], 3, 0, 3),
    ([FixCom(), FixedPlane(ALL, (0, 0, 1))], 11, 0, 1),
    ([FixBondLength(0, 1)], 1, 3, 3),
    ([FixBondLengths([[0, 1], [0, 1]])], 1, 3, 3),
    ([FixBondLengths([[0, 1], [1, 2], [0, 2], [3, -1]])], 4, 3, 3),
    ([FixBondLength(0, 1), FixCom()], 4, 0, 3),
    ([FixBondLength(0, 1), FixAtoms([0, 1, 2])], 9, 0, 0),
    ([Hookean(0, 1, k=5.0, rt=0.5)], 0, 3, 3),
    ([Hookean(0, (0.0, 0.5, 1.0), k=1.0, rt=0.0)], 0, 0, 0),
    (held_apart(), 0, 0, 0),
    ([Hookean(0, (1.0, 1.0, 1.0, 3.0), k=1.0)], 0, 2, 1),
    ([Hookean(0, (0.0, 0.5, 1.0), k=1.0, rt=0.0), FixCom()], 3, 0, 1),  # about the line to the point
    ([*held_apart(), FixCom()], 3, 0, 0),
    ([Hookean(0, 1, k=5.0, rt=0.5), FixCom()], 3, 0, 3),
    ([Hookean(0, (0.0, 0.0, 1.0, 3.0), k=1.0), FixedPlane([3], (0, 0, 1))], 1, 2, 1),
]


def name(case) -> str:
    return "+".join(type(one).__name__ for one in case) if isinstance(case, list) else str(case)


@pytest.mark.parametrize(("constraints", "removed", "n_translations", "n_rotations"), KNOWN, ids=name)
def test_what_a_constraint_takes(constraints, removed, n_translations, n_rotations):
    atoms = ethanol(*constraints)
    check_constraints(atoms)
    assert (n_removed(atoms), removed_by_brute_force(atoms)) == (removed, removed)
    directions, axes = translations(atoms), rotations(atoms, linear=False)
    assert (len(directions), len(axes)) == (n_translations, n_rotations)
    free = free_by_brute_force(atoms)
    assert len(free) == n_translations + n_rotations
    for motion in (*np.pad(directions, ((0, 0), (0, 3))), *np.pad(axes, ((0, 0), (3, 0)))):
        assert np.linalg.norm(free @ motion) == pytest.approx(1, abs=1e-6)
    n = 3 * N_ATOMS - removed - n_translations
    assert temperature.degrees_of_freedom(atoms) == n - n_rotations
    assert temperature.degrees_of_freedom(atoms, rotates=True) == n


@pytest.mark.parametrize("constraints", [[], [FixCom()], [FixedPlane([0], (1, 0, 0))]], ids=name)
@pytest.mark.parametrize("pbc", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1)])
def test_what_periodic_directions_leave(pbc, constraints):
    """A wire turns about its axis; slabs and crystals do not turn."""
    atoms = ethanol(*constraints, pbc=pbc)
    atoms.set_cell([4.0, 4.5, 5.0])  # near enough to images for these to be felt
    atoms.calc = LennardJones(sigma=0.9, epsilon=0.1, rc=5.0, smooth=True)
    directions, axes = translations(atoms), rotations(atoms, linear=False)
    n_wire = 0 if sum(pbc) > 1 else 1
    blocked = bool(constraints) and isinstance(constraints[0], FixedPlane) and pbc[0] == 0
    assert len(axes) == (0 if blocked else n_wire)
    for axis in axes:
        assert abs(axis @ pbc) == pytest.approx(1)
        motion = np.cross(axis, atoms.positions - atoms.get_center_of_mass())
        assert (atoms.get_forces() * motion).sum() == pytest.approx(0, abs=1e-9)
    for axis in () if blocked else np.array(np.eye(3)):
        if np.linalg.norm(axes @ axis) < 0.5 and not constraints:
            motion = np.cross(axis, atoms.positions - atoms.get_center_of_mass())
            assert abs((atoms.get_forces() * motion).sum()) > 1e-4
    held = {"FixCom": 3, "FixedPlane": 1}.get(name(constraints), 0)
    assert len(directions) == 3 - held


def test_linear_molecules():
    """Two rotations; of a chain that is periodic along its own axis none, of one across it one."""
    atoms = Atoms("N2", [[0, 0, 0], [1.1, 0, 0]], cell=[20, 20, 20])
    assert temperature.degrees_of_freedom(atoms, linear=True) == 1
    for pbc, n in (((1, 0, 0), 3), ((0, 1, 0), 2)):
        atoms.pbc = pbc
        assert temperature.degrees_of_freedom(atoms, linear=True) == n
    atoms.pbc = False
    atoms.set_constraint(FixedPlane([0], (0, 0, 1)))
    assert temperature.degrees_of_freedom(atoms, linear=True) == 6 - 1 - 2 - 1
    atoms.set_constraint(FixBondLength(0, 1))
    assert temperature.degrees_of_freedom(atoms, linear=True) == 0


@pytest.mark.parametrize(("triples", "removed"), [([[1, 0, 2]], 4), ([[1, 0, 2], [4, 3, 5]], 8)])
def test_rigid_linear_molecules(triples, removed):
    atoms = carbon_dioxides(FixLinearTriatomic(triples))
    check_constraints(atoms)
    assert (n_removed(atoms), removed_by_brute_force(atoms)) == (removed, removed)
    assert len(translations(atoms)) == len(rotations(atoms, linear=False)) == 3


def test_many_held_atoms_are_counted_at_once():
    atoms = Atoms("Cu10000", positions=np.random.default_rng(0).uniform(0, 100, (10_000, 3)), cell=[100] * 3)
    atoms.set_constraint([FixAtoms(range(5000)), FixedPlane(range(4000, 7000), (0, 0, 1))])
    assert n_removed(atoms) == 3 * 5000 + 2000


SOME = st.one_of(
    st.builds(lambda i: FixAtoms([i]), st.integers(-9, 8)),
    st.builds(lambda i, mask: FixCartesian([i], mask), st.integers(0, 8), st.tuples(*[st.booleans()] * 3)),
    st.builds(lambda i, j: FixedPlane([i], np.eye(3)[j]), st.integers(0, 8), st.integers(0, 2)),
    st.builds(lambda i, j: FixedLine([i], np.eye(3)[j]), st.integers(0, 8), st.integers(0, 2)),
    st.builds(
        lambda pairs: FixBondLengths([sorted(one) for one in pairs]),
        st.lists(st.sets(st.integers(0, 8), min_size=2, max_size=2), min_size=1, max_size=4),
    ),
    st.builds(lambda i: Hookean(i, (0.0, 0.0, 0.0), k=1.0, rt=0.0), st.integers(0, 8)),
    st.just(FixCom()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SOME, max_size=4))
def test_constraints_together(constraints):
    """Together they are refused, or the rank of what ASE does to momenta is what is counted."""
    atoms = ethanol(*constraints)
    try:
        check_constraints(atoms)
    except StructureError:
        return
    assert n_removed(atoms) == removed_by_brute_force(atoms)


@pytest.mark.parametrize(
    "constraints",
    [
        [FixAtoms([0]), FixBondLength(0, 1)],  # ASE moves the fixed atom
        [FixBondLength(0, 1), FixAtoms([0])],  # ASE changes the fixed length
        [FixBondLength(0, 1), FixBondLength(1, 2)],
        [FixAtoms([0]), FixCom()],
        [FixedPlane([0], (0, 0, 1)), FixedPlane([0], (0, 1, 1))],
    ],
    ids=name,
)
def test_constraints_that_do_not_go_together_are_refused(constraints):
    with pytest.raises(StructureError, check=told(name="constraints", remedy=True)) as error:
        check_constraints(ethanol(*constraints))
    assert set(error.value.value) == {type(one).__name__ for one in ethanol(*constraints).constraints}


@pytest.mark.parametrize("held", [FixAtoms([0]), FixCartesian([0, 1])], ids=name)
def test_the_centre_beside_atoms_that_are_held_is_named(held):
    with pytest.raises(StructureError, check=told(name="constraints", remedy="Remove FixCom")):
        check_constraints(ethanol(held, FixCom()))


def test_scaled_coordinates_of_a_skewed_cell_are_refused():
    atoms = ethanol(FixScaled([0, 1], (True, False, False)))
    check_constraints(atoms)
    atoms.set_cell([[10, 0, 0], [3, 10, 0], [1, 2, 10]])
    with pytest.raises(
        StructureError, check=told(value=["FixScaled"], remedy="FixScaled in a cell with right angles")
    ):
        check_constraints(atoms)


class OfAnotherPackage(FixConstraint):
    def get_removed_dof(self, atoms):
        return 1


class FixAtomsOfAnotherPackage(FixAtoms):
    """Might do anything."""


UNKNOWN = [
    FixInternals(bonds=[[None, [0, 1]]]),
    FixedMode(np.random.default_rng(0).normal(size=(N_ATOMS, 3))),
    FixSubsetCom([0, 1]),
    ExternalForce(0, 1, 0.5),
    MirrorForce(0, 1),
    MirrorTorque(3, 0, 1, 2),
    FixCartesianParametricRelations.from_expressions([0, 1], ["x", "y"], X_FOR_Y),
    FixScaledParametricRelations.from_expressions([0, 1], ["x", "y"], X_FOR_Y),
    OfAnotherPackage(),
    FixAtomsOfAnotherPackage([0]),
]


@pytest.mark.parametrize("constraint", UNKNOWN, ids=lambda one: type(one).__name__)
def test_unknown_constraints_are_refused_by_name(constraint, tmp_path):
    atoms = ethanol(constraint)
    name = type(constraint).__name__
    expected = told(name=name, value=[name], allowed=["FixAtoms", "FixBondLengths"], remedy="use FixAtoms")
    with pytest.raises(StructureError, check=expected):
        NVT(steps=1).run(atoms, tmp_path / "run", quiet=True)
    with pytest.raises(StructureError, check=expected):
        temperature.degrees_of_freedom(atoms)


def test_every_constraint_of_ase_is_known_or_refused_with_a_reason():
    given = {one for one in ase.constraints.__all__ if isinstance(getattr(ase.constraints, one), type)}
    assert given - {"FixConstraint"} == set(HELD) | set(REFUSED)


@pytest.mark.parametrize(
    "constraint",
    [one for one in UNKNOWN if isinstance(one, (FixInternals, FixedMode, FixSubsetCom, ExternalForce))],
    ids=lambda one: type(one).__name__,
)
def test_why_they_are_refused(constraint, monkeypatch):
    """ASE moves positions otherwise than momenta under them."""
    atoms = ethanol(constraint)
    monkeypatch.setitem(HELD, type(constraint).__name__, lambda *given: np.zeros((0, 3)))
    with pytest.raises(StructureError, check=told(value=[type(constraint).__name__], remedy=True)):
        check_constraints(atoms)


def test_a_filter_is_no_structure(tmp_path):
    with pytest.raises(
        StructureError,
        check=told(name="atoms", value="UnitCellFilter", allowed=["Atoms"], remedy="filter.atoms"),
    ):
        Relax().run(UnitCellFilter(ethanol(pbc=True)), tmp_path / "run", quiet=True)


def test_a_relaxation_asks_for_no_temperature(tmp_path):
    atoms = ethanol(FixInternals(dihedrals_deg=[[None, [3, 0, 1, 2]]]))
    run = Relax(relax_steps=2).run(atoms, tmp_path / "run", quiet=True)
    assert run.finished


@pytest.mark.parametrize("constraints", [case[0] for case in KNOWN if case[0]], ids=name)
def test_dynamics_keeps_energy_and_what_is_at_rest(constraints):
    """What is removed stays zero at constant energy: the conserved momenta are those that are counted out."""
    atoms = ethanol(*constraints)
    temperature.set_thermal_momenta(atoms, 100.0, np.random.default_rng(0), linear=False)
    directions, axes = translations(atoms), rotations(atoms, linear=False)
    if temperature.degrees_of_freedom(atoms) == 0:
        return
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.2 * units.fs).run(50)
    assert atoms.get_total_energy() == pytest.approx(before, abs=2e-4)
    scale = np.abs(atoms.get_momenta()).max()
    assert np.abs(directions @ atoms.get_momenta().sum(axis=0)).max(initial=0) < 1e-9 * scale
    assert np.abs(axes @ atoms.get_angular_momentum()).max(initial=0) < 1e-4 * scale


def mean_temperature(run) -> float:
    """Of all coordinates of all atoms, from momenta alone, K."""
    momenta = np.concatenate(list(run.chunks(quantity="momenta")))
    return float((momenta**2 / run.atoms.get_masses()[:, None]).mean() / units.kB)


CLUSTER = [[0, 0, 0], [2.4, 0, 0], [1.2, 2.1, 0], [1.2, 0.7, 2.0]]


@pytest.mark.slow
@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
@pytest.mark.parametrize(
    ("constraints", "share"),
    [
        (held_apart(), 1.0),
        ([Hookean(0, (0.0, 0.0, 1.0, -0.5), k=3.0)], None),  # 12 less two translations and a rotation
        ([FixAtoms([0])], 9 / 12),
        ([FixedPlane(range(4), (0, 0, 1)), FixBondLength(0, 1)], None),
    ],
    ids=name,
)
def test_a_thermostat_holds_the_temperature_of_the_atoms(thermostat, constraints, share, tmp_path):
    from ase.calculators.emt import EMT

    atoms = Atoms("Cu4", CLUSTER, calculator=EMT())
    atoms.set_constraint(constraints)
    options = NVT(
        thermostat=thermostat,
        steps=20_000,
        timestep_fs=4,
        friction_per_ps=5,
        equilibration_ps=2,
        equilibration_timestep_fs=2,
        relax_fmax_eV_A=0.05,
    )
    n = temperature.degrees_of_freedom(atoms, rotates=thermostat == "langevin")
    run = options.run(atoms, tmp_path / "run", quiet=True)
    assert mean_temperature(run) == pytest.approx(300 * (share or n / 12), rel=0.06)
    assert run.read_thermo()["temperature_K"].mean() == pytest.approx(300, rel=0.06)


def test_memory_grows_with_the_number_of_atoms_and_not_with_its_square():
    """30 GB for 64,000 atoms otherwise, in every check of a protocol."""
    atoms = bulk("Si", cubic=True) * 8
    tracemalloc.start()
    try:
        assert not is_linear(atoms)
        assert tracemalloc.get_traced_memory()[1] < 1000 * len(atoms)
    finally:
        tracemalloc.stop()
