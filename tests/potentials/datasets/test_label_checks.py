"""The summary of labels: no false alarm on real data, and every fault that is put into them is found."""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from places import EXAMPLES
from raising import told
from typer.testing import CliRunner

from asecalc_ml.cli.ml import app
from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets import ANI1, RMD17, AseFile, Mlearn, NeuralILJson
from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions
from asecalc_ml.potentials.datasets.label_checks import examine
from asecalc_ml.potentials.datasets.label_checks.clusters import two_clusters
from asecalc_ml.potentials.datasets.label_checks.copies import find_copies
from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled
from asecalc_ml.potentials.datasets.label_checks.near import near_pairs
from asecalc_ml.potentials.datasets.label_checks.units import name_factor
from asecalc_ml.potentials.training import TrainOptions, train

HARTREE_PER_BOHR = units.Hartree / units.Bohr


def labelled(atoms: Atoms, **labels) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def copies(frames: Sequence[Atoms]) -> list[Atoms]:
    """The same frames, whose labels can be changed."""
    fresh = []
    for atoms in frames:
        labels = {key: atoms.calc.results[key] for key in ("energy", "forces") if key in atoms.calc.results}
        fresh.append(labelled(atoms.copy(), **labels))
    return fresh


# --- sets ---------------------------------------------------------------------------------------------------


def water_pbc(shared: Path) -> list[Atoms]:
    """Water of DeePMD-kit: eV and Å."""
    frames = []
    for folder in sorted((shared / "water_pbc").glob("data_*")):
        names = (folder / "type_map.raw").read_text().split()
        symbols = [names[k] for k in np.loadtxt(folder / "type.raw", dtype=int)]
        for part in sorted(folder.glob("set.*")):
            arrays = [
                np.load(part / f"{name}.npy").astype(float) for name in ("coord", "box", "energy", "force")
            ]
            for coordinates, box, energy, force in zip(*arrays, strict=True):
                atoms = Atoms(symbols, coordinates.reshape(-1, 3), cell=box.reshape(3, 3), pbc=True)
                frames.append(labelled(atoms, energy=float(np.ravel(energy)[0]), forces=force.reshape(-1, 3)))
    return frames


def water_response(shared: Path) -> list[Atoms]:
    """Water monomers: Hartree, and gradients in place of forces."""
    path = shared / "water_response" / "water_monomers_1k_with_energies_and_gradients.xyz"
    frames = []
    for atoms in read(path, ":"):
        atoms.pbc, gradients = False, atoms.calc.results.get("forces", atoms.arrays.get("force"))
        energy = atoms.info["potential"] * units.Hartree
        frames.append(labelled(atoms.copy(), energy=energy, forces=-gradients * HARTREE_PER_BOHR))
    return frames


def small_molecules(shared: Path, per_atom: bool = False) -> list[Atoms]:
    frames = read(shared / "qm9" / "small_molecules-1000.xyz", ":")
    for atoms in frames:
        atoms.pbc = False
        energy = atoms.info["dft_formation_energy_per_atom_in_eV"]
        labelled(atoms, energy=energy * (1 if per_atom else len(atoms)))
    return frames


def qm9(shared: Path) -> list[Atoms]:
    frames = read(shared / "qm9" / "qm9_reduced_100.xyz", ":")
    return [labelled(atoms, energy=atoms.info["U0"] * units.Hartree) for atoms in frames]


def rmd17(shared: Path, molecule: str, part: str = "train") -> list[Atoms]:
    return RMD17(path=shared / "rmd17" / f"rmd17_{molecule}_{part}_01.npz").read()


def mlearn(shared: Path, element: str, part: str = "training") -> list[Atoms]:
    return Mlearn(path=shared / "mlearn" / element / f"{part}.json").read()


REAL = {
    "rmd17-ethanol": lambda shared: rmd17(shared, "ethanol"),
    "rmd17-uracil": lambda shared: rmd17(shared, "uracil"),
    "rmd17-benzene": lambda shared: rmd17(shared, "benzene"),
    "rmd17-malonaldehyde": lambda shared: rmd17(shared, "malonaldehyde"),
    "mlearn-si": lambda shared: mlearn(shared, "Si"),
    "mlearn-li": lambda shared: mlearn(shared, "Li"),
    "ean": lambda shared: NeuralILJson(path=shared / "ean" / "validation_original.json").read(),
    "ani1": lambda shared: ANI1(path=shared / "ani1" / "ani_gdb_s01.h5", high_energy=True).read(),
    "qm9": qm9,
    "small-molecules": small_molecules,
    "water-pbc": water_pbc,
    "water-response": water_response,
}


@cache
def real(name: str, shared: Path) -> list[Atoms]:
    """A set, read once; whoever changes frames takes copies."""
    return REAL[name](shared)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> list[Atoms]:
    """Frames of water from dynamics with GFN2-xTB."""
    pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")
    path = tmp_path_factory.mktemp("sampled") / "water.xyz"
    GenerateOptions(
        structure="water",
        temperatures_K=[300],
        n_frames=120,
        interval_fs=10,
        equilibration_ps=0.2,
        output=path,
    ).run(quiet=True)
    return AseFile(path=path).read()


# --- no false alarm -----------------------------------------------------------------------------------------


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ani1", "water-pbc")]
QUICK = [name for name in REAL if name not in ("ani1", "water-pbc")]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_real_data_cause_no_warning(name, shared_data):
    report = examine({name: real(name, shared_data)})
    assert report.warnings == []
    assert len(str(report).splitlines()) <= 15


@pytest.mark.parametrize(
    ("read_part", "subject", "parts"),
    [
        (rmd17, "ethanol", ("train", "test")),
        (rmd17, "uracil", ("train", "test")),
        (mlearn, "Si", ("training", "test")),
        (mlearn, "Li", ("training", "test")),
    ],
)
def test_test_sets_hold_no_copies_of_training_frames(read_part, subject, parts, shared_data):
    training, test = (read_part(shared_data, subject, part) for part in parts)
    report = examine({"train": training, "test": test}, training=training)
    assert (report.warnings, report.copies_of_training) == ([], {"test": 0})


def test_copies_in_a_test_set_are_counted(shared_data):
    """Five training frames, turned and with renumbered atoms, among the test frames."""
    training, test = (rmd17(shared_data, "ethanol", part) for part in ("train", "test"))
    for k in range(5):
        copy = training[10 * k][np.random.default_rng(k).permutation(9)]
        copy.rotate(50, (1, 2, k))
        test[k] = labelled(copy, energy=training[10 * k].calc.results["energy"])
    report = examine({"train": training, "test": test}, training=training)
    assert report.copies_of_training == {"test": 5}
    assert ["5 of the 1000 frames of test are copies" in text for text in report.warnings] == [True]


def test_structures_without_labels_are_summarised(shared_data):
    frames = [read(path) for path in sorted((shared_data / "hmof" / "cif").glob("*.cif"))[:20]]
    report = examine({"hmof": frames})
    assert (report.warnings, report.energy_per_atom_eV, report.forces_rms_eV_A) == ([], None, None)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("data_*.yaml")), ids=lambda path: path.stem)
def test_generated_data_cause_no_warning(path, tmp_path):
    pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")
    from asecalc_ml.config.options import load_options

    options = load_options(path, GenerateOptions)
    options = options.model_copy(update={"n_frames": 200, "output": tmp_path / "frames.xyz"})
    report = examine({"generated": AseFile(path=options.run(quiet=True)).read()})
    assert report.warnings == []
    assert report.slope == pytest.approx(1, abs=0.15)


def test_sampled_water_agrees_with_itself(sampled):
    report = examine({"water": sampled})
    assert report.warnings == []
    assert report.slope == pytest.approx(1, abs=0.02)


def scan(
    symbols: str, distances: np.ndarray, energy: Callable[[float], float], slope: Callable[[float], float]
) -> list[Atoms]:
    """A diatomic along a line."""
    return [
        labelled(
            Atoms(symbols, [[0, 0, 0], [0, 0, r]]),
            energy=energy(r),
            forces=np.array([[0, 0, slope(r)], [0, 0, -slope(r)]]),
        )
        for r in distances
    ]


def morse(symbols: str, distances: np.ndarray, depth: float, a: float, r0: float) -> list[Atoms]:
    def bond(r):
        return np.exp(-a * (r - r0))

    return scan(
        symbols,
        distances,
        lambda r: depth * ((1 - bond(r)) ** 2 - 1) - 3500,
        lambda r: 2 * depth * a * bond(r) * (1 - bond(r)),
    )


def power_law(symbols: str, distances: np.ndarray, terms: dict[int, float]) -> list[Atoms]:
    return scan(
        symbols,
        distances,
        lambda r: sum(c * r**n for n, c in terms.items()),
        lambda r: sum(n * c * r ** (n - 1) for n, c in terms.items()),
    )


def springs(base: Atoms, n_frames: int, width_A: float = 0.08) -> list[Atoms]:
    """Each atom on a spring of 5 eV/Å² at its site."""
    random, frames = np.random.default_rng(0), []
    for _ in range(n_frames):
        moved = random.normal(scale=width_A, size=(len(base), 3))
        moved -= moved.mean(axis=0)
        atoms = base.copy()
        atoms.positions += moved
        frames.append(labelled(atoms, energy=-8.9 * len(base) + 2.5 * (moved**2).sum(), forces=-5 * moved))
    return frames


def two_magnetic_states() -> list[Atoms]:
    """Iron with moments, which ASE gives it, and without at the same geometries."""
    magnetic = springs(bulk("Fe", cubic=True) * (2, 2, 2), 20)
    frames = copies(magnetic)
    for atoms in frames:
        atoms.set_initial_magnetic_moments(np.zeros(len(atoms)))
        atoms.calc.results["energy"] += 0.5 * len(atoms)
    return magnetic + frames


def minima(noise_eV_A: float) -> list[Atoms]:
    random = np.random.default_rng(0)
    return [
        labelled(
            molecule(name),
            energy=-13.0,
            forces=random.normal(scale=noise_eV_A, size=(len(molecule(name)), 3)),
        )
        for name in ("H2O", "CH4", "NH3", "C2H6", "C6H6", "CH3OH")
    ]


ARGON, TUNGSTEN = {-12: 4 * 0.0104 * 3.4**12, -6: -4 * 0.0104 * 3.4**6}, {-5: 500.0, -1: -1.0}
LEGITIMATE = {
    "H2": lambda: morse("H2", np.linspace(0.55, 4, 30), 4.7, 1.95, 0.741),
    "NO, coarse": lambda: morse("NO", np.linspace(0.9, 2.8, 20), 6.6, 2.7, 1.15),
    "NO, far": lambda: morse("NO", np.linspace(1, 5, 40), 6.6, 2.7, 1.15),
    "NO, mostly apart": lambda: morse("NO", np.linspace(0.9, 6, 100), 6.6, 2.7, 1.15),
    "argon": lambda: power_law("Ar2", np.linspace(3.4, 9, 30), ARGON),
    "ions apart": lambda: power_law("NaCl", np.linspace(5, 12, 40), {-1: -14.4}),
    "repulsion and a metal": lambda: [
        *power_law("W2", np.linspace(0.7, 3, 24), TUNGSTEN),
        *springs(bulk("W", cubic=True) * (2, 2, 2), 40),
    ],
    "compressed cesium": lambda: springs(bulk("Cs", "fcc", a=4.4, cubic=True), 5, 0.02),
    "dense hydrogen": lambda: springs(bulk("H", "bcc", a=1.7, cubic=True) * (3, 3, 3), 5, 0.02),
    "two magnetic states": two_magnetic_states,
    "printed forces": lambda: minima(1e-6),
    "converged minima": lambda: minima(3e-3),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_labels_cause_no_warning(name):
    """Scans of bonds with steep walls, atoms far apart or under pressure, hidden states and noise."""
    assert examine({name: LEGITIMATE[name]()}).warnings == []


# --- faults that are found ----------------------------------------------------------------------------------


def a_share(frames: Sequence[Atoms], share: float = 0.3) -> Sequence[Atoms]:
    chosen = np.random.default_rng(1).choice(len(frames), max(1, int(share * len(frames))), replace=False)
    return [frames[k] for k in chosen]


def with_energies(change: Callable[[float, int], float], share: float = 1.0):
    def fault(frames: Sequence[Atoms]) -> None:
        for atoms in a_share(frames, share) if share < 1 else frames:
            atoms.calc.results["energy"] = change(atoms.calc.results["energy"], len(atoms))

    return fault


def with_forces(factor: float, share: float = 1.0):
    def fault(frames: Sequence[Atoms]) -> None:
        for atoms in a_share(frames, share) if share < 1 else frames:
            atoms.calc.results["forces"] = factor * atoms.calc.results["forces"]

    return fault


def with_lengths(factor: float):
    def fault(frames: Sequence[Atoms]) -> None:
        for atoms in frames:
            atoms.set_cell(atoms.cell * factor)
            atoms.positions *= factor

    return fault


def with_noise(frames: Sequence[Atoms]) -> None:
    random = np.random.default_rng(2)
    for atoms in frames:
        forces = atoms.calc.results["forces"]
        atoms.calc.results["forces"] = random.normal(scale=forces.std(), size=forces.shape)


def with_an_overlap(frames: Sequence[Atoms]) -> None:
    frames[7].positions[0] = frames[7].positions[1] + [0.1, 0, 0]


KCAL = units.kcal / units.mol


def with_reversed_forces(frames: Sequence[Atoms]) -> None:
    for atoms in frames:
        atoms.calc.results["forces"] = atoms.calc.results["forces"][::-1].copy()


def with_energies_of_others(frames: Sequence[Atoms]) -> None:
    energies = [atoms.calc.results["energy"] for atoms in frames]
    for atoms, energy in zip(frames, np.roll(energies, 1), strict=True):
        atoms.calc.results["energy"] = energy


NEEDS_FORCES = {
    "gradients": (with_forces(-1), "gradients in place of forces"),
    "gradients in a part": (with_forces(-1, 0.3), "gradients in place of forces"),
    "Hartree and eV/Å": (
        with_energies(lambda e, n: e / units.Hartree),
        "energies in Hartree and forces in eV",
    ),
    "kcal/mol and eV/Å": (with_energies(lambda e, n: e / KCAL), "energies in kcal/mol"),
    "eV and Hartree/Bohr": (with_forces(1 / HARTREE_PER_BOHR), "energies in eV and forces in Hartree/Bohr"),
    "eV and eV/Bohr": (with_forces(units.Bohr), "energies in eV and forces in eV/Bohr"),
    "Hartree/Bohr in a part": (with_forces(1 / HARTREE_PER_BOHR, 0.3), "forces in Hartree/Bohr"),
    "energies per atom": (with_energies(lambda e, n: e / n), "energies per atom"),
    "noise": (with_noise, "do not add up to zero"),
}
ANY = {
    "Hartree in a part": (with_energies(lambda e, n: e / units.Hartree, 0.3), "look like Hartree where"),
    "another zero in a part": (with_energies(lambda e, n: e + 5, 0.3), "another method or another zero"),
    "another method in a part": (with_energies(lambda e, n: e - 1000, 0.3), "another method or another zero"),
    "one frame 500 eV up": (with_energies(lambda e, n: e + 500, 0.0), "off those of near|farther from the"),
    "one frame 500 eV down": (with_energies(lambda e, n: e - 500, 0.0), "off those of near|farther from the"),
    "coinciding atoms": (with_an_overlap, r"frame 7 of data: atoms 0 \(.*\) and 1 \(.*\) are 0.100 Å apart"),
    "nm": (with_lengths(0.1), "positions in nm read as Å: give `length_unit: nm`"),
    "Bohr": (with_lengths(1 / units.Bohr), "length_unit"),
    "Å as Bohr": (with_lengths(units.Bohr), "positions in Å read as Bohr"),
    "Å as nm": (with_lengths(10), "length_unit"),
}


@pytest.mark.parametrize("fault", [*NEEDS_FORCES, *ANY])
@pytest.mark.parametrize(
    "name",
    [
        "rmd17-ethanol",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("rmd17-uracil", "mlearn-si", "mlearn-li", "water-response")
        ),
    ],
)
def test_faults_of_real_data_are_found(name, fault, shared_data):
    make, message = (NEEDS_FORCES | ANY)[fault]
    frames = copies(real(name, shared_data))
    make(frames)
    _assert_found(frames, message)


@pytest.mark.parametrize("name", ["rmd17-ethanol", "rmd17-uracil", "rmd17-benzene"])
@pytest.mark.parametrize("n_frames", [100, 1000])
@pytest.mark.parametrize("fault", [with_energies_of_others, with_reversed_forces])
def test_energies_of_other_frames_and_forces_of_other_atoms_are_found(name, n_frames, fault, shared_data):
    frames = copies(real(name, shared_data)[:n_frames])
    fault(frames)
    _assert_found(frames, "do not belong together")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ANY)
def test_faults_of_energies_alone_are_found(fault, shared_data):
    make, message = ANY[fault]
    frames = copies(real("ani1", shared_data)[::10])
    make(frames)
    _assert_found(frames, message)


@pytest.mark.parametrize("fault", [*NEEDS_FORCES, *ANY])
def test_faults_of_sampled_data_are_found(fault, sampled):
    make, message = (NEEDS_FORCES | ANY)[fault]
    frames = copies(sampled)
    make(frames)
    _assert_found(frames, message)


def _assert_found(frames: Sequence[Atoms], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        examine({"data": frames}).show(quiet=True, strict=True)


def test_energies_per_atom_of_many_compositions(shared_data):
    """The file has energies per atom; read as they are, they are recognised."""
    report = examine({"small": small_molecules(shared_data, per_atom=True)})
    assert ["per atom" in text for text in report.warnings] == [True]


@pytest.mark.parametrize("periodic", [False, True])
def test_copies_are_found_moved_turned_and_renumbered(periodic):
    random = np.random.default_rng(3)
    base = (
        bulk("NaCl", "rocksalt", 5.64, cubic=True)
        if periodic
        else Atoms("NaClOHHC", random.normal(size=(6, 3)))
    )
    frames = [base.copy() for _ in range(5)]
    for atoms in frames:
        atoms.rattle(0.1, rng=random)
    copy = frames[2][random.permutation(len(base))]
    copy.rotate(40, (1, 2, 3), rotate_cell=True)
    copy.positions += [0.3, 7.0, -1.2]
    copy.wrap()
    group = find_copies([*frames, copy])
    assert len(set(group)) == 5
    assert group[5] == group[2]


def test_crystals_that_differ_in_the_place_of_one_element_are_no_copies():
    """A B2 cell and an adatom: shifts between elements leave the sizes of structure factors alone."""
    random, alloys, slabs = np.random.default_rng(0), [], []
    for _ in range(40):
        alloys.append(bulk("CuAu", "cesiumchloride", a=3.0))
        alloys[-1].rattle(0.1, rng=random)
    for x, y in np.ndindex(8, 8):
        slabs.append(fcc100("Cu", (2, 2, 3), vacuum=8))
        add_adsorbate(slabs[-1], "O", 1.2, (0.31 * x + 0.01 * y, 0.27 * y))
    for frames in (alloys, slabs):
        assert len(set(find_copies(frames))) == len(frames)
    copy = slabs[5].copy()
    copy.positions = 0.4 - copy.positions
    assert find_copies([slabs[5], slabs[6], copy]).tolist() == [0, 1, 0]


def test_copies_of_one_frame_by_the_thousand_take_seconds():
    """Pairs of 20,000 copies are 200 million; each is compared with one."""
    benzene = molecule("C6H6")
    start = time.perf_counter()
    assert set(find_copies([benzene.copy() for _ in range(20_000)])) == {0}
    assert time.perf_counter() - start < 20


def test_copies_with_other_energies_are_a_contradiction():
    water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    frames = [labelled(water.copy(), energy=energy) for energy in (-10.0, -10.2)]
    (text,) = examine({"data": frames}).warnings
    assert text.startswith("a structure occurs more than once with different energies")
    other_state = labelled(water.copy(), energy=-3.0)
    other_state.info["charge"] = 1
    assert examine({"data": [frames[0], other_state]}).warnings == []


# --- the pieces against exact answers -----------------------------------------------------------------------


def test_the_trapezoidal_rule_is_exact_for_springs_whatever_the_rotation():
    """E = ½ k Σ (r - r0)² of a diatomic: the work of both forces is the energy difference."""
    random, frames = np.random.default_rng(0), []
    for length in np.linspace(1.0, 1.2, 12):
        axis = random.normal(size=3)
        axis /= np.linalg.norm(axis)
        pull = 30 * (length - 1.1) * axis
        atoms = Atoms("NO", [[0, 0, 0], length * axis])
        frames.append(labelled(atoms, energy=15 * (length - 1.1) ** 2, forces=np.array([pull, -pull])))
    pairs = near_pairs(Labelled(frames, [str(k) for k in range(12)]), np.random.default_rng(0))
    assert len(pairs) > 20
    np.testing.assert_allclose(pairs.difference, pairs.work, atol=1e-12)


def test_forces_of_periodic_frames_agree_across_the_boundary():
    """EMT's copper, wrapped into the cell after each displacement."""
    random, frames = np.random.default_rng(0), []
    for _ in range(30):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(0.05, rng=random)
        atoms.wrap()
        atoms.calc = EMT()
        frames.append(labelled(atoms.copy(), energy=atoms.get_potential_energy(), forces=atoms.get_forces()))
    report = examine({"copper": frames})
    assert report.warnings == []
    assert report.slope == pytest.approx(1, abs=0.05)


def test_two_clusters_of_one_distribution_are_not_apart():
    random = np.random.default_rng(0)
    for values in (random.normal(size=2000), random.uniform(size=2000), random.exponential(size=2000)):
        assert two_clusters(values)[2] < 4
    upper, distance, separation = two_clusters(
        np.concatenate([random.normal(size=90), random.normal(40, 1, 30)])
    )
    assert upper.sum() == 30
    assert distance == pytest.approx(40, abs=1)
    assert separation > 20


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (-1.0, "gradients in place of forces"),
        (1 / 27.2114, "energies in Hartree and forces in eV/Angstrom"),
        (23.06, "energies in kcal/mol and forces in eV/Angstrom"),
        (1.8897, "energies in eV and forces in eV/Bohr"),
        (51.42, "energies in eV and forces in Hartree/Bohr"),
        (0.1, "energies per atom"),
    ],
)
def test_factors_are_named(factor, text):
    assert text in name_factor(factor, n_atoms=10)


def test_frames_that_lack_labels_or_a_cell_are_looked_at_all_the_same():
    water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    no_cell = Atoms("He", pbc=True)
    atom = labelled(Atoms("H"), energy=-13.6)
    frames = [labelled(water.copy(), energy=-10.0), water.copy(), atom, no_cell]
    report = examine({"data": frames})
    assert ["cell" in text for text in report.warnings] == [True]
    assert report.n_frames == {"data": 4}


def test_frames_of_which_none_has_a_cell_are_summarised():
    """pbc without a lattice."""
    frames = [Atoms("Ar2", [[0, 0, 0], [3 + 0.1 * k, 0, 0]], pbc=True) for k in range(12)]
    frames = [labelled(atoms, energy=-1.0) for atoms in frames]
    report = examine({"data": frames})
    assert ["12 frames cannot be searched" in text for text in report.warnings] == [True]
    assert report.compositions == {"Ar2": 12}


# --- where a user meets them --------------------------------------------------------------------------------


def test_a_training_warns_or_refuses(tmp_path, sampled):
    frames = copies(sampled)
    with_forces(-1)(frames)
    write(tmp_path / "flipped.xyz", frames, format="extxyz")
    options = training_on(tmp_path / "flipped.xyz", tmp_path)
    with pytest.raises(DatasetError, check=told(value="gradients in place of forces")):
        train(options, quiet=True, strict=True)
    assert not (tmp_path / "training").exists()
    with pytest.warns(UserWarning, match="gradients in place of forces"):
        train(options, quiet=True)
    stored = json.loads((tmp_path / "training" / "labels.json").read_text())
    assert stored["slope"] == pytest.approx(-1, abs=0.02)
    assert stored["n_frames"] == {"train": 60, "validation": 20, "test": 20}


def test_a_training_that_learns_nothing_says_so(tmp_path, sampled):
    write(tmp_path / "frames.xyz", sampled, format="extxyz")
    options = training_on(tmp_path / "frames.xyz", tmp_path)
    with pytest.warns(UserWarning, match="learned nothing of the energy"):
        card = train(options, quiet=True).card
    assert any("learned nothing of the energy" in note for note in card.notes)


def test_a_training_that_learns_has_no_notes(tmp_path, sampled):
    write(tmp_path / "frames.xyz", sampled, format="extxyz")
    options = training_on(tmp_path / "frames.xyz", tmp_path).model_copy(update={"max_epochs": 20})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*learned nothing.*")
        assert train(options, quiet=True).card.notes == []


def training_on(path: Path, folder: Path) -> TrainOptions:
    return TrainOptions(
        name="water",
        data={"format": "ase", "path": str(path)},
        split={"n_train": 60, "n_validation": 20, "n_test": 20},
        model={"architecture": "tensornet", "hidden_channels": 16, "n_layers": 1, "n_rbf": 12, "cutoff_A": 4},
        optimizer={"warmup_steps": 20, "ema_decay": 0.9, "learning_rate": 3e-3},
        loss={"energy_weight": 1.0},
        max_epochs=1,
        directory=folder / "training",
    )


def test_convert_and_label_and_eval_at_the_command_line(tmp_path, monkeypatch):
    """One frame 500 eV off: a warning, status 2 with --strict, and nothing written by convert then."""
    random, frames = np.random.default_rng(0), []
    for _ in range(20):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        frames.append(labelled(atoms.copy(), energy=atoms.get_potential_energy(), forces=atoms.get_forces()))
    frames[3].calc.results["energy"] += 500
    write(tmp_path / "copper.xyz", frames, format="extxyz")
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["data", "convert", "copper.xyz", "out.extxyz", "--strict"])
    assert (refused.exit_code, (tmp_path / "out.extxyz").exists()) == (2, False)
    assert "copper.xyz, frame 3 by +500 eV" in " ".join(refused.output.split())
    with pytest.warns(UserWarning, match="copper.xyz, frame 3"):
        done = CliRunner().invoke(app, ["data", "convert", "copper.xyz", "out.extxyz"])
    assert done.exit_code == 0
    assert "20 structures" in done.output
    assert "Cu4 20" in done.output


def test_labelled_structures_are_kept_where_they_are_refused(tmp_path, monkeypatch):
    """Coinciding atoms: the file is there, and the status is 2."""
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0] = atoms.positions[1] + [0.2, 0, 0]
    write(tmp_path / "copper.xyz", [atoms], format="extxyz")
    monkeypatch.chdir(tmp_path)
    arguments = ["copper.xyz", "--reference", "ase.calculators.emt:EMT", "--output", "out.xyz", "--strict"]
    refused = CliRunner().invoke(app, ["data", "label", *arguments])
    assert (refused.exit_code, (tmp_path / "out.xyz").exists()) == (2, True)
    assert "out.xyz is written" in " ".join(refused.output.split())


def test_structures_without_finite_positions_are_left_out_before_they_are_labelled(tmp_path, monkeypatch):
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    frames[1].positions[2, 0] = np.nan
    write(tmp_path / "copper.traj", frames)
    monkeypatch.chdir(tmp_path)
    arguments = ["copper.traj", "--reference", "ase.calculators.lj:LennardJones", "--output", "out.xyz"]
    with pytest.warns(UserWarning, match="1 of 3 structures are left out; structure 1: positions not finite"):
        done = CliRunner().invoke(app, ["data", "label", *arguments])
    assert done.exit_code == 0
    assert len(read("out.xyz", ":")) == 2


def test_frames_that_share_one_calculator_are_found(tmp_path):
    """ASE writes the results of the last structure for all of them."""
    frames, calculator = [molecule("CH3CH2OH") for _ in range(6)], EMT()
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
        atoms.calc = calculator
        atoms.get_forces()
    write(tmp_path / "shared.xyz", frames)
    report = examine({"train": read(tmp_path / "shared.xyz", ":")})
    assert any("6 of 6 frames of the same atoms have one energy" in warning for warning in report.warnings)


def test_copies_and_equal_energies_by_chance_are_no_shared_calculator():
    one, other = molecule("H2O"), molecule("H2O")
    other.rattle(0.05, seed=1)
    frames = [labelled(one.copy(), energy=-1.0), labelled(one.copy(), energy=-1.0)]
    frames += [labelled(other.copy(), energy=energy) for energy in (-1.0, -0.9, -0.8, -0.7)]
    said = " ".join(examine({"train": frames}).warnings)
    assert "one energy to the last digit" not in said
