"""Readers: units converted once, against numbers converted by hand; damaged files answered in words."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from hypothesis import given
from hypothesis import strategies as st
from raising import told

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.plugins import get
from asecalc_ml.potentials.datasets import RMD17, AseFile, Mlearn, dataset_hash
from asecalc_ml.potentials.datasets.extxyz import convert
from asecalc_ml.potentials.datasets.labels import label_counts
from asecalc_ml.potentials.datasets.options import parse_slice

KCAL_PER_MOL_IN_EV = 4184 / 1.602176634e-19 / 6.02214076e23  # SI, exact since 2019
BOHR_IN_A = 0.529177210903  # CODATA 2018
HARTREE_IN_EV = 27.211386245988  # CODATA 2018
ASE_CONSTANTS = 1e-6  # ASE keeps CODATA 2014


def arrays(n_frames: int = 4) -> dict[str, np.ndarray]:
    """Carbon monoxide that moves along x, labels counted up."""
    coords = np.zeros((n_frames, 2, 3))
    coords[:, 1, 0] = 1.1 + 0.01 * np.arange(n_frames)
    forces = np.zeros((n_frames, 2, 3))
    forces[:, 0, 0], forces[:, 1, 0] = 1.0 + np.arange(n_frames), -1.0 - np.arange(n_frames)
    energies = -10.0 * (1 + np.arange(n_frames))
    numbers = np.array([6, 8], "u1")
    return {"nuclear_charges": numbers, "coords": coords, "energies": energies, "forces": forces}


@pytest.fixture
def npz(tmp_path):
    def save(**changes):
        path = tmp_path / "co.npz"
        np.savez(path, **{key: value for key, value in {**arrays(), **changes}.items() if value is not None})
        return path

    return save


# ------------------------------------------------------------------------------------------------ rMD17


def test_rmd17_in_kcal_per_mol(npz):
    frame = RMD17(path=npz()).read()[2]
    assert frame.get_potential_energy() == pytest.approx(-30 * KCAL_PER_MOL_IN_EV, rel=ASE_CONSTANTS)
    assert frame.get_forces()[0, 0] == pytest.approx(3 * KCAL_PER_MOL_IN_EV, rel=ASE_CONSTANTS)
    assert frame.get_distance(0, 1) == pytest.approx(1.12)
    assert frame.get_chemical_symbols() == ["C", "O"]


def test_units_named_in_the_options_win(npz):
    frame = RMD17(path=npz(), energy_unit="Hartree", length_unit="Bohr").read()[0]
    assert frame.get_potential_energy() == pytest.approx(-10 * HARTREE_IN_EV, rel=ASE_CONSTANTS)
    assert frame.get_distance(0, 1) == pytest.approx(1.1 * BOHR_IN_A, rel=ASE_CONSTANTS)
    assert frame.get_forces()[0, 0] == pytest.approx(HARTREE_IN_EV / BOHR_IN_A, rel=ASE_CONSTANTS)


def test_frames_are_a_slice(npz):
    frames = RMD17(path=npz(), frames="1:3", energy_unit="eV").read()
    assert [frame.get_potential_energy() for frame in frames] == [-20, -30]


def test_charge_and_spin_reach_every_frame(npz):
    frames = RMD17(path=npz(), charge=1, spin=1).read()
    assert all((frame.info["charge"], frame.info["spin"]) == (1, 1) for frame in frames)
    assert RMD17(path=npz()).read()[0].info == {"charge": 0, "spin": 0}


def test_provenance_comes_with_the_reader_and_can_be_overruled(npz):
    options = parse_options({"path": str(npz()), "temperature_K": 300}, RMD17)
    assert (options.licence, options.level_of_theory) == ("CC0-1.0", "PBE/def2-SVP")
    assert options.temperature_K == 300


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        (
            {"forces": None},
            "lacks forces",
            {"value": ["nuclear_charges", "coords", "energies"], "allowed": ["forces"], "remedy": "rMD17"},
        ),
        (
            {"forces": np.zeros((4, 3, 3))},
            "npz",
            {"name": "forces", "value": (4, 3, 3), "allowed": [(4, 2, 3)]},
        ),
        ({"coords": np.zeros((3, 2, 3))}, "npz", {"name": "coords", "value": (3, 2, 3)}),
        ({"energies": np.array([0, 1, np.nan, 3])}, "frame 2", {"name": "energy", "remedy": "`frames`"}),
        ({"forces": np.full((4, 2, 3), np.inf)}, "frame 0", {"name": "forces", "remedy": "`frames`"}),
        ({"coords": np.full((4, 2, 3), np.nan)}, "frame 0", {"name": "positions", "remedy": "`frames`"}),
        (
            {"energies": np.array(["a", "b", "c", "d"])},
            "npz",
            {"name": "energies", "value": "<U1", "allowed": "numbers"},
        ),
        ({"energies": np.array([None] * 4)}, "npz is damaged", {}),  # a pickle: never loaded
    ],
)
def test_rmd17_with_a_fault(npz, changes, place, expected):
    with pytest.raises(DatasetError, match=place, check=told(**expected)):
        RMD17(path=npz(**changes)).read()


def test_no_frames_left(npz):
    with pytest.raises(DatasetError, check=told(name="npz", value="100:", remedy="`frames`")):
        RMD17(path=npz(), frames="100:").read()


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(DatasetError, check=told(name="none.npz", remedy="data fetch")):
        RMD17(path=tmp_path / "none.npz").read()
    with pytest.raises(DatasetError, check=told(name=str(tmp_path), remedy="file")):
        RMD17(path=tmp_path).read()


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_truncated_archive(npz, part):
    path = npz()
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DatasetError, check=told(name="npz", remedy="fetch it again")):
        RMD17(path=path).read()


def test_a_damaged_byte_is_noticed(npz):
    path = npz()
    content = bytearray(path.read_bytes())
    content[content.find(np.float64(-20.0).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, check=told(name="npz", remedy="fetch it again")):
        RMD17(path=path).read()


def test_real_rmd17(shared_data):
    path = shared_data / "rmd17" / "rmd17_ethanol_test_01.npz"
    frames = RMD17(path=path, frames=":50").read()
    raw = np.load(path)
    energies = np.array([frame.get_potential_energy() for frame in frames])
    assert energies == pytest.approx(raw["energies"][:50] * KCAL_PER_MOL_IN_EV, rel=ASE_CONSTANTS)
    assert frames[0].get_chemical_formula() == "C2H6O"
    assert abs(np.sum([frame.get_forces() for frame in frames], axis=1)).max() < 1e-5


# ------------------------------------------------------------------------------------- files of ASE's


def labelled(energy: float = -1.5) -> Atoms:
    atoms = Atoms("HF", [[0, 0, 0], [0, 0, 0.9]], cell=[5, 6, 7], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=[[0, 0, 0.25], [0, 0, -0.25]])
    return atoms


@pytest.mark.parametrize("name", ["frames.xyz", "frames.extxyz", "frames.traj"])
def test_any_format_of_ase(tmp_path, name):
    write(tmp_path / name, [labelled(-1.5), labelled(-2.5)])
    frames = AseFile(path=tmp_path / name).read()
    assert [frame.get_potential_energy() for frame in frames] == [-1.5, -2.5]
    assert frames[1].get_forces()[0, 2] == 0.25
    assert frames[1].cell.lengths() == pytest.approx([5, 6, 7])


def test_every_length_is_converted_once(tmp_path):
    write(tmp_path / "frames.xyz", labelled())
    frame = AseFile(path=tmp_path / "frames.xyz", energy_unit="Hartree", length_unit="Bohr").read()[0]
    assert frame.get_potential_energy() == pytest.approx(-1.5 * HARTREE_IN_EV, rel=ASE_CONSTANTS)
    assert frame.get_forces()[0, 2] == pytest.approx(0.25 * HARTREE_IN_EV / BOHR_IN_A, rel=ASE_CONSTANTS)
    assert frame.get_distance(0, 1) == pytest.approx(0.9 * BOHR_IN_A, rel=ASE_CONSTANTS)
    assert frame.cell.lengths()[0] == pytest.approx(5 * BOHR_IN_A, rel=ASE_CONSTANTS)


STRESS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]  # xx yy zz yz xz xy


def with_stress(**changes) -> Atoms:
    atoms = labelled()
    atoms.calc.results.update(stress=np.array(STRESS))
    atoms.info.update(changes)
    return atoms


@pytest.mark.parametrize("name", ["frames.xyz", "frames.traj"])
def test_stress_is_read_where_a_frame_has_it(tmp_path, name):
    write(tmp_path / name, [with_stress(), labelled()])
    first, second = AseFile(path=tmp_path / name).read()
    assert first.get_stress() == pytest.approx(STRESS)
    assert "stress" not in second.calc.results


def test_stress_is_energy_per_cubed_length(tmp_path):
    write(tmp_path / "frames.xyz", with_stress())
    with pytest.warns(UserWarning, match="GPa"):
        frame = AseFile(path=tmp_path / "frames.xyz", energy_unit="Hartree", length_unit="Bohr").read()[0]
    expected = np.array(STRESS) * HARTREE_IN_EV / BOHR_IN_A**3
    assert frame.get_stress() == pytest.approx(expected, rel=ASE_CONSTANTS)


def test_stress_under_another_name_and_as_a_matrix(tmp_path):
    matrix = np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]) / 100
    write(tmp_path / "frames.xyz", with_stress(REF_stress=2 * matrix))
    frame = AseFile(path=tmp_path / "frames.xyz", stress_key="REF_stress").read()[0]
    assert frame.get_stress() == pytest.approx(2 * np.array(STRESS))


def test_a_molecule_has_no_stress(tmp_path):
    atoms, calculator = Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]), with_stress().calc
    calculator.atoms = atoms.copy()
    atoms.calc = calculator
    write(tmp_path / "frames.traj", atoms)
    assert "stress" not in AseFile(path=tmp_path / "frames.traj").read()[0].calc.results


@pytest.mark.parametrize(
    ("stress", "expected"),
    [(np.zeros(3), {"value": (3,), "allowed": [(6,)]}), (np.full(6, np.nan), {"remedy": "`frames`"})],
)
def test_a_stress_with_a_fault(tmp_path, stress, expected):
    write(tmp_path / "frames.traj", with_stress(wrong=stress))
    with pytest.raises(DatasetError, check=told(name="stress", **expected)):
        AseFile(path=tmp_path / "frames.traj", stress_key="wrong").read()


def test_labels_under_other_names(tmp_path):
    atoms = labelled()
    atoms.info.update(REF_energy=-7.0, charge=-1)
    atoms.arrays["REF_forces"] = np.ones((2, 3))
    atoms.calc = None
    write(tmp_path / "frames.xyz", atoms)
    check = told(name="frames.xyz", allowed=["energy", "forces"], remedy="`energy_key`")
    with pytest.raises(DatasetError, match="REF_energy, REF_forces", check=check):
        AseFile(path=tmp_path / "frames.xyz").read()
    frame = AseFile(path=tmp_path / "frames.xyz", energy_key="REF_energy", forces_key="REF_forces").read()[0]
    assert frame.get_potential_energy() == -7.0
    assert frame.get_forces().tolist() == np.ones((2, 3)).tolist()
    assert frame.info["charge"] == -1


def test_a_file_without_forces(tmp_path):
    atoms = labelled()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write(tmp_path / "frames.xyz", atoms)
    assert set(AseFile(path=tmp_path / "frames.xyz").read()[0].calc.results) == {"energy"}


def test_constraints_do_not_hide_forces(tmp_path):
    atoms = labelled()
    atoms.set_constraint(FixAtoms([0]))
    write(tmp_path / "frames.traj", atoms)
    assert AseFile(path=tmp_path / "frames.traj").read()[0].get_forces()[0, 2] == 0.25


@pytest.mark.parametrize("content", ["", "2\nbroken\nH 0 0\n", "not a structure"])
def test_a_file_that_ase_cannot_read(tmp_path, content):
    (tmp_path / "frames.xyz").write_text(content)
    with pytest.raises(DatasetError, check=told(name="frames.xyz")):
        AseFile(path=tmp_path / "frames.xyz").read()


# ---------------------------------------------------------------------------------------------- options


def test_readers_are_plugins():
    assert get("datasets", "rmd17") is RMD17
    assert get("datasets", "ase") is AseFile
    assert get("datasets", "mlearn") is Mlearn


def test_unknown_unit_is_answered_with_the_allowed_ones():
    with pytest.raises(ConfigError, check=told(name="energy_unit", value="kcal", allowed=["kcal/mol"])):
        parse_options({"path": "x.npz", "energy_unit": "kcal"}, RMD17)


@pytest.mark.parametrize("text", ["5", "a:b", "1:2:3:4", "::0", ""])
def test_frames_that_are_no_slice(text):
    with pytest.raises(ConfigError, check=told(name="frames", problem="0:950")):
        parse_options({"path": "x.npz", "frames": text}, RMD17)


@given(*[st.none() | st.integers(-20, 20)] * 2, st.none() | st.integers(-5, 5).filter(bool))
def test_slices_are_pythons(start, stop, step):
    numbers = list(range(10))
    text = ":".join("" if value is None else str(value) for value in (start, stop, step))
    assert numbers[parse_slice(text)] == numbers[start:stop:step]


# ------------------------------------------------------------------------------------------------- hash


def test_hash_sees_every_number_and_the_order(npz):
    frames = RMD17(path=npz()).read()
    hashes = {dataset_hash(frames), dataset_hash(frames[::-1]), dataset_hash(frames[:-1])}
    for key, value in (("coords", 1e-9), ("energies", 1e-9), ("forces", 1e-9), ("nuclear_charges", 1)):
        changed = arrays()[key].copy()
        changed.flat[0] += value
        hashes.add(dataset_hash(RMD17(path=npz(**{key: changed})).read()))
    assert len(hashes) == 7


def test_hash_does_not_see_the_file(npz, tmp_path):
    frames = RMD17(path=npz(), energy_unit="eV").read()
    write(tmp_path / "co.traj", frames)
    assert dataset_hash(AseFile(path=tmp_path / "co.traj").read()) == dataset_hash(frames)
    for frame in frames:
        frame.positions[0] = -0.0
    assert dataset_hash(AseFile(path=tmp_path / "co.traj").read()) == dataset_hash(frames)


# ------------------------------------------------------------------------- units of each label by itself

TRUE_ENERGY, TRUE_FORCES = -4.0, np.array([[0, 0, 0.5], [0, 0, -0.5]])  # eV, eV/Å


def plain(path, energy, forces, length: float = 1.0, **info):
    """The true frame as a file has it whose units are so many eV, eV/Å and Å."""
    atoms = Atoms(
        "HF", np.array([[0, 0, 0], [0, 0, 0.9]]) / length, cell=np.array([5, 6, 7]) / length, pbc=True
    )
    atoms.info.update(E=TRUE_ENERGY / energy, **info)
    atoms.arrays["F"] = TRUE_FORCES / forces
    write(path, atoms)
    return {"path": path, "energy_key": "E", "forces_key": "F"}


@pytest.mark.parametrize(
    ("energy", "length", "forces"),
    [
        ("Hartree", "Angstrom", "Hartree/Bohr"),
        ("Hartree", "Bohr", None),
        ("Hartree", "Bohr", "eV/Angstrom"),
        ("eV", "Angstrom", "meV/Angstrom"),
        ("kcal/mol", "Angstrom", None),
        ("kJ/mol", "nm", None),
        ("kJ/mol", "Angstrom", "kJ/mol/nm"),
    ],
)
def test_positions_energy_and_forces_in_units_of_their_own(tmp_path, energy, length, forces):
    joule_mol = 1 / 96485.33212  # eV
    energies = {"eV": 1, "meV": 1e-3, "Hartree": HARTREE_IN_EV, "kcal/mol": KCAL_PER_MOL_IN_EV}
    energies["kJ/mol"] = 1000 * joule_mol
    lengths = {"Angstrom": 1, "Bohr": BOHR_IN_A, "nm": 10}
    unit_energy, _, unit_length = (forces or f"{energy}/{length}").rpartition("/")
    given = plain(
        tmp_path / "f.extxyz", energies[energy], energies[unit_energy] / lengths[unit_length], lengths[length]
    )
    frame = AseFile(**given, energy_unit=energy, length_unit=length, forces_unit=forces).read()[0]
    assert frame.get_potential_energy() == pytest.approx(TRUE_ENERGY, rel=ASE_CONSTANTS)
    assert frame.get_forces() == pytest.approx(TRUE_FORCES, rel=3e-6)  # written with eight decimals
    assert frame.get_distance(0, 1) == pytest.approx(0.9, rel=ASE_CONSTANTS)
    assert frame.cell.lengths() == pytest.approx([5, 6, 7], rel=ASE_CONSTANTS)


def test_forces_of_an_archive_have_a_unit_of_their_own(npz):
    frame = RMD17(path=npz(), energy_unit="Hartree", forces_unit="Hartree/Bohr").read()[0]
    assert frame.get_forces()[0, 0] == pytest.approx(HARTREE_IN_EV / BOHR_IN_A, rel=ASE_CONSTANTS)
    assert frame.get_distance(0, 1) == pytest.approx(1.1)


def crystal_by_emt() -> tuple[Atoms, np.ndarray, float]:
    """A strained crystal, its strain derivative dE/dε by finite differences (eV), and its volume (Å³)."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array @ np.array([[1.01, 0.02, 0], [0.02, 0.98, 0.01], [0, 0.01, 1]]), True)
    derivative, step = np.zeros((3, 3)), 1e-5
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                moved = atoms.copy()
                moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                moved.calc = EMT()
                energies.append(moved.get_potential_energy())
            derivative[i, j] = (energies[0] - energies[1]) / (2 * step)
    return atoms, derivative, atoms.get_volume()


GPA_IN_EV_A3 = 1e9 * 1e-30 / 1.602176634e-19
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (lambda d, v: d / v, {"stress_key": "S"}),
        (lambda d, v: d / v / GPA_IN_EV_A3, {"stress_key": "S", "stress_unit": "GPa"}),
        (
            lambda d, v: -10 * d / v / GPA_IN_EV_A3,
            {"stress_key": "S", "stress_unit": "kbar", "stress_positive_in": "compression"},
        ),
        (lambda d, v: 1e4 * d / v / GPA_IN_EV_A3, {"stress_key": "S", "stress_unit": "bar"}),
        (
            lambda d, v: d / v / HARTREE_IN_EV * BOHR_IN_A**3,
            {"stress_key": "S", "stress_unit": "Hartree/Bohr^3"},
        ),
        (lambda d, v: -d, {"virial_key": "S"}),
        (lambda d, v: -d / HARTREE_IN_EV, {"virial_key": "S", "virial_unit": "Hartree"}),
        (lambda d, v: d, {"virial_key": "S", "virial_positive_in": "tension"}),
    ],
    ids=["eV/Å³", "GPa", "VASP's kbar", "bar", "atomic", "virial", "virial in Hartree", "its other sign"],
)
@pytest.mark.parametrize("shape", [(3, 3), (9,), (6,)])
def test_stress_is_the_strain_derivative_whatever_the_file_has(tmp_path, value, options, shape):
    atoms, derivative, volume = crystal_by_emt()
    given = value(derivative, volume)
    atoms.info.update(E=0.0, S=given[VOIGT] if shape == (6,) else given.reshape(shape))
    write(tmp_path / "f.traj", atoms)
    stress = AseFile(path=tmp_path / "f.traj", energy_key="E", **options).read()[0].get_stress()
    assert stress == pytest.approx((derivative / volume)[VOIGT], rel=1e-5, abs=1e-9)


def test_a_virial_in_another_unit_of_length(tmp_path):
    """A virial is an energy: only the volume knows the unit of length."""
    matrix = np.diag([0.3, 0.2, 0.1])
    given = plain(tmp_path / "f.extxyz", 1, 1, BOHR_IN_A, virial=matrix)
    frame = AseFile(**given, length_unit="Bohr", forces_unit="eV/Angstrom", virial_key="virial").read()[0]
    assert frame.get_stress() == pytest.approx([*-np.diag(matrix) / 210, 0, 0, 0], rel=ASE_CONSTANTS)


def test_a_virial_that_is_read_as_a_stress_is_noticed(tmp_path):
    given = plain(tmp_path / "f.extxyz", 1, 1, virial=np.eye(3) * 17.6)
    with pytest.warns(UserWarning, match=r"f\.extxyz, frame 0: a stress of 2.82e\+03 GPa\..*`virial_key`"):
        AseFile(**given, stress_key="virial").read()


def test_stress_and_virial_are_not_both_taken():
    with pytest.raises(ConfigError, match="virial_key or from stress_key"):
        parse_options({"path": "x", "virial_key": "virial", "stress_key": "stress"}, AseFile)


def test_a_matrix_that_is_not_symmetric_is_no_stress(tmp_path):
    given = plain(tmp_path / "f.traj", 1, 1, S=np.arange(9) / 100)
    with pytest.raises(DatasetError, match="frame 0", check=told(name="S", remedy="matrix")):
        AseFile(**given, stress_key="S").read()


@pytest.mark.parametrize("option", ["forces_unit", "stress_unit"])
def test_a_unit_that_is_none_is_answered(option):
    with pytest.raises(ConfigError, check=told(name=option, value="eV/A")):
        parse_options({"path": "x", option: "eV/A"}, AseFile)


# ------------------------------------------------------------------------------------------ absent labels


def test_frames_keep_the_labels_that_they_have(tmp_path):
    frames = [with_stress(), labelled(), Atoms("H", calculator=None)]
    frames[2].calc = SinglePointCalculator(frames[2], energy=-1.0)
    frames += [frames[1].copy(), frames[1].copy()]
    frames[3].calc = SinglePointCalculator(frames[3], forces=np.ones((2, 3)))
    write(tmp_path / "f.traj", frames)
    found = AseFile(path=tmp_path / "f.traj").read()
    labels = [{"energy", "forces", "stress"}, {"energy", "forces"}, {"energy"}, {"forces"}, set()]
    assert [set(atoms.calc.results) for atoms in found] == labels
    assert label_counts(found) == {"energy": 3, "forces": 3, "stress": 1, "dipole": 0}


def test_what_is_converted_lacks_the_same_labels(tmp_path):
    frames = [with_stress(), Atoms("H"), labelled()]
    frames[1].calc = SinglePointCalculator(frames[1], energy=-1.0)
    frames[2].calc = SinglePointCalculator(frames[2], forces=np.ones((2, 3)))
    write(tmp_path / "f.traj", frames)
    assert convert(AseFile(path=tmp_path / "f.traj"), tmp_path / "g.extxyz") == 3
    before, after = (AseFile(path=tmp_path / name).read() for name in ("f.traj", "g.extxyz"))
    assert [set(atoms.calc.results) for atoms in after] == [set(atoms.calc.results) for atoms in before]
    assert dataset_hash(after) == dataset_hash(before)


def test_labels_in_info_are_converted_too(tmp_path):
    """ASE's writer raises a KeyError where info has a key that is also among the results."""
    atoms = Atoms("H", info={"energy": -2.0})
    write(tmp_path / "f.traj", atoms)
    convert(AseFile(path=tmp_path / "f.traj"), tmp_path / "g.extxyz")
    assert AseFile(path=tmp_path / "g.extxyz").read()[0].get_potential_energy() == -2.0


def test_the_hash_tells_which_labels_are_absent():
    hashes = set()
    for labels in (
        {"energy": 0.0},
        {"forces": np.zeros((1, 3))},
        {"energy": 0.0, "forces": np.zeros((1, 3))},
        {},
    ):
        atoms = Atoms("H")
        atoms.calc = SinglePointCalculator(atoms, **labels)
        hashes.add(dataset_hash([atoms]))
    assert len(hashes) == 4


def test_a_named_key_that_no_frame_has(tmp_path):
    given = plain(tmp_path / "f.extxyz", 1, 1)
    check = told(name="forces_key", value="forse", allowed=["E", "F"], remedy="E, F")
    with pytest.raises(DatasetError, check=check):
        AseFile(**{**given, "forces_key": "forse"}).read()


def test_forces_under_another_name_are_not_overlooked(tmp_path):
    atoms = labelled()
    atoms.arrays["force"] = np.ones((2, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write(tmp_path / "f.xyz", atoms)
    with pytest.warns(UserWarning, match=r"no frame has forces, but there is force\. .*`forces_key`"):
        AseFile(path=tmp_path / "f.xyz").read()


# ---------------------------------------------------------------------------------------------- several files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files a, b and c with 2, 1 and 3 frames, whose energies count up from file to file."""
    monkeypatch.chdir(tmp_path)
    numbers = iter(range(6))
    for name, n_frames in (("a", 2), ("b", 1), ("c", 3)):
        write(f"{name}.xyz", [labelled(-float(next(numbers))) for _ in range(n_frames)])


@pytest.mark.parametrize(
    ("path", "frames", "expected"),
    [
        ("*.xyz", None, [0, 1, 2, 3, 4, 5]),
        (["c.xyz", "a.xyz"], None, [3, 4, 5, 0, 1]),
        (["c.xyz", "[ab].xyz"], "2:5", [5, 0, 1]),
        ("*.xyz", "-2:", [4, 5]),
        ("*.xyz", "::2", [0, 2, 4]),
        ("b*.xyz", "0:1", [2]),
        (["./c.xyz"], "1:", [4, 5]),
    ],
)
def test_frames_are_those_of_all_files_one_after_the_other(files, path, frames, expected):
    found = AseFile(path=path, frames=frames).read()
    assert [-atoms.get_potential_energy() for atoms in found] == expected


def test_several_files_are_named_by_their_entries(files):
    assert AseFile(path=["c.xyz", "[ab].xyz"]).label == "c, [ab].xyz"
    assert AseFile(path="*.xyz", name="mine").label == "mine"


@pytest.mark.parametrize(
    ("path", "name", "remedy"),
    [
        ("d*.xyz", "d*.xyz", "correct `path`"),
        (["a.xyz", "*.xyz"], "a.xyz", "once"),
        (["a.xyz", "d.xyz"], "d.xyz", "data fetch"),
    ],
)
def test_files_that_are_not_there_or_twice(files, path, name, remedy):
    with pytest.raises(DatasetError, check=told(name=name, remedy=remedy)):
        AseFile(path=path).read()


def test_a_file_whose_name_looks_like_a_pattern(files):
    write("[a].xyz", labelled(-7.0))
    assert AseFile(path="[a].xyz").read()[0].get_potential_energy() == -7.0


def test_an_error_names_the_file_and_the_frame_in_it(files):
    broken = labelled()
    broken.calc.results["forces"][0, 0] = np.nan
    write("b.xyz", [labelled(), broken])
    with pytest.raises(DatasetError, match=r"^b\.xyz, frame 1", check=told(name="forces", remedy=True)):
        AseFile(path="*.xyz", frames="3:4").read()


def test_archives_may_be_several_too(tmp_path, npz):
    npz().rename(tmp_path / "a.npz")
    npz(energies=-np.arange(4.0)).rename(tmp_path / "b.npz")
    frames = RMD17(path=str(tmp_path / "*.npz"), frames="3:6", energy_unit="eV").read()
    assert [atoms.get_potential_energy() for atoms in frames] == [-40, 0, -1]


def test_no_list_is_no_path():
    with pytest.raises(ConfigError, check=told(name="path", value=[], allowed="at least 1 item")):
        parse_options({"path": []}, AseFile)
