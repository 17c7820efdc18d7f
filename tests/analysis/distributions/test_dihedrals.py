"""Dihedrals of known geometries, means around the circle, and conformers that are counted by hand."""

import json
import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml.analysis.distributions.conformers import Conformers, ConformersResult, population
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals, DihedralsResult
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.statistics.time_series import CondensedSeries, block_average, circular_average
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.topology.bonds import find_bonds

HOOH = molecule("H2O2")  # atoms O O H H
RNG = np.random.default_rng(0)


def turned(angles_deg) -> MemoryRun:
    """Hydrogen peroxide with given dihedrals."""
    frames = []
    for angle in angles_deg:
        atoms = HOOH.copy()
        atoms.set_dihedral(2, 0, 1, 3, angle, indices=[3])
        frames.append(atoms)
    return MemoryRun.from_frames(frames, 1.0)


def test_dihedrals_counted_by_hand():
    given_angles = [60.0, -60.0, 180.0, 0.0, 179.999, -179.999, 90.0]
    found = Dihedrals(patterns=["H-O-O-H"]).run(turned(given_angles)).values("H-O-O-H").ravel()
    expected = [60.0, -60.0, -180.0, 0.0, 179.999, -179.999, 90.0]
    assert found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_sign_and_size_are_those_of_ase(seed):
    atoms = Atoms("C4", np.random.default_rng(seed).normal(size=(4, 3)))
    result = Dihedrals(patterns=["0-1-2-3"]).run(MemoryRun.from_frames([atoms], 1.0))
    expected = (atoms.get_dihedral(0, 1, 2, 3) + 180) % 360 - 180
    assert result.values("0-1-2-3").item() == pytest.approx(expected, abs=1e-6)


def test_dihedrals_equal_those_of_mdanalysis():
    """MDAnalysis works in single precision, and has the same sign."""
    mda = pytest.importorskip("MDAnalysis")
    propanol = load_structure("1-propanol")
    positions = propanol.positions + RNG.normal(scale=0.1, size=(10, len(propanol), 3))
    result = Dihedrals(patterns=["C-C-C-O", "H-C-C-H"]).run(MemoryRun(propanol, positions))
    for one in result.patterns:
        chains = np.array([member.atoms for member in one.members]).T
        for ours, frame in zip(result.values(one.pattern), positions.astype(np.float32), strict=True):
            theirs = np.degrees(mda.lib.distances.calc_dihedrals(*(frame[atoms] for atoms in chains)))
            assert (ours - theirs + 180) % 360 - 180 == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("centre", [0.0, 90.0, 180.0, -175.0])
def test_mean_and_spread_do_not_know_where_the_circle_is_cut(centre):
    scatter = RNG.normal(scale=10, size=2000)
    result = Dihedrals().run(turned(centre + scatter))
    average = result["H-O-O-H"].average
    assert (average.mean - centre - scatter.mean() + 180) % 360 - 180 == pytest.approx(0, abs=0.05)
    assert average.std == pytest.approx(scatter.std(), rel=0.02)
    assert average.error == pytest.approx(10 / np.sqrt(2000), rel=0.5)


def test_error_of_a_mean_direction():
    """The scatter of means of many series, beside the error that each of them gives."""
    means, errors = [], []
    for seed in range(200):
        angles = np.radians(170 + 20 * np.random.default_rng(seed).normal(size=300))
        average = circular_average(np.cos(angles), np.sin(angles))
        means.append((average.mean - 170 + 180) % 360 - 180)
        errors.append(average.error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(means) == pytest.approx(0, abs=4 * np.std(means) / np.sqrt(200))


def test_angles_all_around_have_no_mean():
    angles = np.linspace(0, 2 * np.pi, 1000, endpoint=False)[np.random.default_rng(0).permutation(1000)]
    average = circular_average(np.cos(angles), np.sin(angles))
    assert (average.error, average.note) == (None, "spread over all angles")


def test_too_short_for_an_error():
    average = Dihedrals().run(turned([60, 61, 62]))["H-O-O-H"].average
    assert (average.error, average.note) == (None, "too short")
    assert average.mean == pytest.approx(61)


def test_files_hold_the_result(tmp_path):
    result = Dihedrals().run(turned(RNG.normal(110, 20, 100)))
    paths = result.write(tmp_path)
    again = DihedralsResult.model_validate_json(paths[0].read_text())
    assert again.model_dump() == result.model_dump()
    ax = result.plot()
    assert (ax.get_xlabel(), ax.get_xlim()) == ("dihedral (°)", (-180, 180))
    wild = Dihedrals(patterns=["*-O-O-*"]).run(turned([1.0]))
    assert [path.name for path in wild.write(tmp_path)][-1] == "dihedrals__-O-O-_.csv"


def test_bins_must_fit_the_circle():
    with pytest.raises(ConfigError, check=told(name="bin_deg", value=7)):
        parse_options({"bin_deg": 7}, Dihedrals)
    with pytest.raises(ConfigError, check=told(name="bin_deg", value=8)):
        parse_options({"bin_deg": 8}, Dihedrals)  # 180 degrees lie in the middle of one


# ------------------------------------------------------------------------------------------ conformers


def turn(atoms: Atoms, chain: list[int], angle: float) -> None:
    """Set a dihedral, with all atoms beyond its bond."""
    beyond, edge = {chain[2]}, [chain[2]]
    while edge:
        edge = [j for i in edge for j in atoms_bonded(atoms, i) if j not in beyond and j != chain[1]]
        beyond |= set(edge)
    atoms.set_dihedral(*chain, angle, indices=sorted(beyond))


def gauche_and_trans(angles_deg) -> MemoryRun:
    """1,2-Dichloroethane with given dihedrals."""
    atoms = load_structure("smiles:ClCCCl")
    (chain,) = Conformers().run(MemoryRun.from_frames([atoms], 1.0)).rotors[0].atoms
    frames = {}
    for angle in np.unique(angles_deg):
        frames[angle] = atoms.copy()
        turn(frames[angle], chain, angle)
    return MemoryRun.from_frames([frames[angle] for angle in angles_deg], 1.0)


def test_wells_counted_by_hand():
    result = Conformers().run(gauche_and_trans([60, 60, -60, 180, 179, -179, 119.9, 120.1]))
    fractions = {name: one.fraction for name, one in result["Cl-C-C-Cl"].items()}
    assert fractions == {"g-": 1 / 8, "g+": 3 / 8, "t": 4 / 8}
    assert {one.name: one.n_changes for one in result.molecules[0].conformers} == {"g+": 3, "g-": 2, "t": 3}
    assert all(one.error is None and one.note == "too short" for one in result["Cl-C-C-Cl"].values())


def jumping(n_frames: int, populations, stay: float, seed: int = 0) -> np.ndarray:
    """A Markov chain between wells with known populations: it stays, or draws a well anew."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(populations), n_frames, p=populations)
    last = np.maximum.accumulate(np.where(rng.random(n_frames) > stay, np.arange(n_frames), 0))
    return drawn[last]


def test_populations_with_their_errors():
    """Known populations; the true error of a mean over frames of correlation time (1 + s) / (1 - s)."""
    true, stay, n_frames = np.array([0.2, 0.3, 0.5]), 0.8, 5_000
    angles = np.array([-60.0, 60.0, 180.0])[jumping(n_frames, true, stay)]
    wells = Conformers().run(gauche_and_trans(angles))["Cl-C-C-Cl"]
    for name, p in zip(("g-", "g+", "t"), true, strict=True):
        exact = np.sqrt(p * (1 - p) * (1 + stay) / (1 - stay) / n_frames)
        assert wells[name].error == pytest.approx(exact, rel=0.6)
        assert wells[name].fraction == pytest.approx(p, abs=4 * exact)


def test_a_well_that_is_never_left_has_no_error():
    wells = Conformers().run(gauche_and_trans(60.0 + RNG.integers(-5, 6, 1000)))["Cl-C-C-Cl"]
    assert (wells["g+"].fraction, wells["g+"].error, wells["g+"].note) == (1.0, None, "too short")
    assert (wells["t"].fraction, wells["t"].error) == (0.0, None)


@pytest.mark.parametrize(("stay", "has_error"), [(0.9998, False), (0.8, True)])
def test_many_molecules_that_never_turn_have_no_error_together(stay, has_error):
    """In 50 molecules something changes often; each has to change often itself."""
    is_there = np.array([jumping(2000, [0.5, 0.5], stay, seed) for seed in range(50)]).T == 0
    found = population("g+", is_there)
    assert found.n_changes >= 10
    assert (found.error is not None) == has_error
    if has_error:
        assert found.error == pytest.approx(np.sqrt(0.25 * 9 / 2000 / 50), rel=0.6)


@pytest.mark.parametrize("smiles", ["O=CCCCO", "OCCC(=O)C"])
def test_dihedrals_of_one_pattern_with_other_wells_are_kept_apart(smiles):
    """Around a carbonyl's carbon there are two wells, around the others three."""
    atoms = load_structure(f"smiles:{smiles}")
    result = Conformers().run(MemoryRun.from_frames([atoms] * 2, 1.0))
    wells = {}
    for one in result.rotors:
        for chain in one.atoms:
            planar = any(len(atoms_bonded(atoms, i)) == 3 and atoms.symbols[i] == "C" for i in chain[1:3])
            wells.setdefault(planar, set()).add(tuple(well.name for well in one.wells))
    assert wells == {True: {("cis", "trans")}, False: {("g-", "g+", "t")}}
    assert len({one.pattern for one in result.rotors}) == len(result.rotors)


def atoms_bonded(atoms: Atoms, index: int) -> list[int]:
    return [int(i + j - index) for i, j in find_bonds(atoms) if index in (i, j)]


def test_propanol_has_two_bonds_that_turn():
    propanol = load_structure("1-propanol")
    chain = propanol.copy()
    result = Conformers().run(MemoryRun.from_frames([chain] * 3, 1.0))
    assert [one.pattern for one in result.rotors] == ["C-C-C-O", "C-C-O-H"]
    (molecule_found,) = result.molecules
    assert molecule_found.patterns == ["C-C-C-O", "C-C-O-H"]
    assert len(molecule_found.conformers) == 1
    assert molecule_found.conformers[0].fraction == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CH3CH2OH", {"C-C-O-H": ["g-", "g+", "t"]}),
        ("CH3COOH", {"C-C-O-H": ["cis", "trans"]}),  # or O-C-O-H: both are heaviest, O wins
        ("C6H6", None),
        ("C2H6", None),
        ("CH3CH2NH2", {"C-C-N-H": ["g-", "g+", "t"]}),
        ("trans-butane", {"C-C-C-C": ["g-", "g+", "t"]}),
        ("isobutane", None),
        ("bicyclobutane", None),
    ],
)
def test_bonds_that_turn(name, expected):
    run = MemoryRun.from_frames([molecule(name)] * 2, 1.0)
    if expected is None:
        with pytest.raises(AnalysisError, check=told(remedy="dihedrals")):
            Conformers().run(run)
    else:
        result = Conformers().run(run)
        found = {one.pattern: [well.name for well in one.wells] for one in result.rotors}
        if name == "CH3COOH":
            expected = {"H-O-C-O": ["cis", "trans"]}
        assert found == expected


def anywhere(smiles: str, n_frames: int = 40, seed: int = 0, order=None) -> MemoryRun:
    """Molecules whose atoms are anywhere in each frame, so that all dihedrals take all values."""
    atoms = Atoms()
    for k, each in enumerate(smiles.split(".")):
        molecule = load_structure(f"smiles:{each}")
        molecule.positions += [30.0 * k, 0, 0]
        atoms += molecule
    positions = np.random.default_rng(seed).normal(size=(n_frames, len(atoms), 3))
    order = np.arange(len(atoms)) if order is None else order(len(atoms))
    return MemoryRun(atoms[order], positions[:, order], 1.0)


FLEXIBLE = [
    "CC(=O)NC",  # N-methylacetamide
    "CCN",
    "NN",
    "CCNCC",
    "CN(C)CC",
    "CCCCC",
    "CCCCCC",
    "CCCOCCC",
    "OCC(O)CO",
    "CC(C)CC(C)C",
    "NCC(=O)NCC(=O)O",
    "CCc1cccc(O)c1",
    "C(CO)(CO)(CO)CO",
    "CCO.CCCO.CCO",
]


@settings(max_examples=15)
@given(st.sampled_from(FLEXIBLE), st.integers(0, 10_000))
def test_the_order_of_atoms_changes_neither_names_nor_populations(smiles, seed):
    def mixed(n_atoms):
        return np.random.default_rng(seed).permutation(n_atoms)

    one, other = (Conformers().run(anywhere(smiles, order=order)) for order in (None, mixed))
    assert one.wells_deg == other.wells_deg
    for mine, yours in zip(one.rotors, other.rotors, strict=True):
        assert (mine.pattern, mine.n_members, mine.wells) == (yours.pattern, yours.n_members, yours.wells)
    for mine, yours in zip(
        *(sorted(each.molecules, key=lambda m: m.formula) for each in (one, other)), strict=True
    ):
        assert (mine.formula, mine.n_molecules, mine.patterns) == (
            yours.formula,
            yours.n_molecules,
            yours.patterns,
        )
        assert sorted(mine.conformers, key=str) == sorted(yours.conformers, key=str)


@pytest.mark.parametrize(("omega", "name"), [(180, "trans"), (0, "cis")])
def test_a_peptide_bond_is_named_by_its_chain(omega, name):
    """ω is CA-C-N-CA: the usual peptide bond is trans, although O and CA are on one side."""
    atoms = load_structure("smiles:CC(=O)NC")
    (nitrogen,) = atoms.symbols.search("N")
    (oxygen,) = atoms.symbols.search("O")
    carbonyl = next(i for i in atoms_bonded(atoms, oxygen))
    first = next(i for i in atoms_bonded(atoms, carbonyl) if atoms.symbols[i] == "C")
    last = next(i for i in atoms_bonded(atoms, nitrogen) if atoms.symbols[i] == "C" and i != carbonyl)
    turned_too = [i for i in range(len(atoms)) if i == last or last in atoms_bonded(atoms, i)]
    atoms.set_dihedral(
        first, carbonyl, nitrogen, last, omega, indices=[i for i in turned_too if i != nitrogen]
    )
    result = Conformers().run(MemoryRun.from_frames([atoms] * 2, 1.0))
    assert {well.name: well.fraction for well in result["C-C-N-C"].values()}[name] == 1.0
    assert [one.name for one in result.molecules[0].conformers] == [name]


@pytest.mark.parametrize(
    ("smiles", "pattern", "angle", "name"),
    [
        ("O=NO", "H-O-N-O", 0, "cis"),  # and its partner trans: two planar forms
        ("N=N", "H-N-N-H", 0, "cis"),
        ("CC=NO", "C-N-O-H", 180, "trans"),
        ("CN=NC", "C-N-N-C", 180, "trans"),
        ("CB(O)OC", "C-O-B-O", 0, "cis"),
        ("OO", "H-O-O-H", 112, "P"),  # the equilibrium angle, and its scatter beyond 120
        ("OO", "H-O-O-H", 130, "P"),
        ("CSSC", "C-S-S-C", -85, "M"),
        ("CNO", "C-N-O-H", 124, "trans"),
        ("CNO", "C-N-O-H", 115, "trans"),
        ("CC(=S)NC", "C-C-N-C", 180, "trans"),  # as an amide
        ("CS(=O)(=O)CC", "C-C-S-C", 70, "g+"),
    ],
)
def test_minima_lie_inside_wells_that_a_chemist_names(smiles, pattern, angle, name):
    """Not at a border of two, where a vibration alone would change the conformer."""
    atoms = load_structure(f"smiles:{smiles}")
    rotors = Conformers().run(MemoryRun.from_frames([atoms], 1.0)).rotors
    turn(atoms, next(one.atoms[0] for one in rotors if one.pattern == pattern), angle)
    wells = Conformers().run(MemoryRun.from_frames([atoms] * 2, 1.0))[pattern]
    assert wells[name].fraction == 1.0


ALIKE = "CC(N)=O CC(=O)N(C)C NC(N)=O CC CC(C)(C)C Cc1ccccc1 CC[N+](=O)[O-] O[N+](=O)[O-] CN(C)N=O"
STRAIGHT = "CC#CC CCC#N CN=[N+]=[N-]"


@pytest.mark.parametrize("smiles", [*ALIKE.split(), *STRAIGHT.split()])
def test_what_looks_the_same_when_turned_has_no_conformers(smiles):
    with pytest.raises(AnalysisError, check=told(remedy="dihedrals")):
        Conformers().run(anywhere(smiles))


def test_an_amine_is_named_by_both_of_its_hydrogens():
    """Whichever comes first: the lone pair is trans, gauche or gauche."""
    (found,) = Conformers().run(anywhere("CCN", 2000)).molecules
    assert found.patterns == ["C-C-N-H"]
    assert {one.name for one in found.conformers} >= {"g-/g+", "g-/t", "g+/t"}
    assert sum(one.fraction for one in found.conformers) == pytest.approx(1)


@pytest.mark.parametrize(
    ("smiles", "n_rotors", "n_conformers"),
    [
        ("CCCCC", 2, (9 + 3) // 2),
        ("CCCCCC", 3, (27 + 9) // 2),
        ("CCCOCCC", 4, (81 + 9) // 2),  # of which dihedrals of one arm belong together
        ("OCC(C)CO", 4, (81 + 9) // 2),
        ("COC(OC)OC", 3, 10),  # three arms: multisets of three wells
        ("CCCO", 2, 9),
    ],
)
def test_conformers_are_counted_up_to_symmetry(smiles, n_rotors, n_conformers):
    """States of the dihedrals up to exchanges of equivalent arms, by Burnside's lemma."""
    (found,) = Conformers().run(anywhere(smiles, 4000)).molecules
    assert len(found.patterns) == n_rotors
    assert len(found.conformers) == n_conformers


def test_many_dihedrals_do_not_overflow():
    """Bonds of a zigzag of 60 atoms have 3^57 states."""
    zigzag = Atoms("Si60", [(2.0 * k, 1.2 * (k % 2), 0) for k in range(60)])
    positions = np.random.default_rng(0).normal(size=(5, 60, 3))
    (found,) = Conformers().run(MemoryRun(zigzag, positions, 1.0)).molecules
    assert len(found.patterns) == 57
    assert [one.fraction for one in found.conformers] == [0.2] * 5


def test_molecules_alike_are_counted_together():
    """Three ethanols, one of them trans."""
    ethanol = molecule("CH3CH2OH")
    several, angles = Atoms(), [60, 180, 60]
    oxygen = ethanol.symbols.search("O")[0]
    carbon = min(ethanol.symbols.search("C"), key=lambda i: ethanol.get_distance(i, oxygen))
    other = next(i for i in ethanol.symbols.search("C") if i != carbon)
    hydrogen = min(ethanol.symbols.search("H"), key=lambda i: ethanol.get_distance(i, oxygen))
    for k, angle in enumerate(angles):
        one = ethanol.copy()
        one.set_dihedral(other, carbon, oxygen, hydrogen, angle, indices=[hydrogen])
        one.translate([10 * k, 0, 0])
        several += one
    (found,) = Conformers().run(MemoryRun.from_frames([several] * 2, 1.0)).molecules
    assert (found.n_molecules, found.formula) == (3, "C2H6O")
    assert {one.name: one.fraction for one in found.conformers} == pytest.approx({"g+": 2 / 3, "t": 1 / 3})


def test_own_wells():
    wells = {"front": [-90, 90], "back": [90, -90]}
    result = Conformers(wells_deg=wells).run(turned([0, 45, 100]))
    assert {name: one.fraction for name, one in result["H-O-O-H"].items()} == pytest.approx(
        {"front": 2 / 3, "back": 1 / 3}
    )
    for bad in ({"half": [0, 180]}, {"a": [0, 200], "b": [180, 0]}, {"all": [0, 0]}):
        with pytest.raises(ConfigError, check=told(name="wells_deg", value=bad)):
            parse_options({"wells_deg": bad}, Conformers)


def test_conformers_are_written_read_and_drawn(tmp_path):
    result = Conformers().run(gauche_and_trans(RNG.uniform(-180, 180, 300)))
    paths = result.write(tmp_path)
    assert ConformersResult.model_validate_json(paths[0].read_text()) == result
    assert json.loads(paths[0].read_text())["n_frames"] == 300
    ax = result.plot()
    assert ax.get_title() == "Conformers of C2H4Cl2"
    assert len(ax.patches) == 3


# ------------------------------------------------------------------------------------- condensed series


@pytest.mark.parametrize("sizes", [[1000], [1] * 1000, [3, 500, 497]])
def test_condensed_series_is_the_average_over_frames(sizes):
    values = np.random.default_rng(0).normal(size=(1000, 2))
    series = CondensedSeries(max_values=200)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        series.add(part)
    assert series.stride == 16
    assert series.rows == pytest.approx(values[: 62 * 16].reshape(62, 16, 2).mean(axis=1))


def test_errors_survive_condensing():
    rng = np.random.default_rng(0)
    walk = np.zeros(40_000)
    for k in range(1, len(walk)):
        walk[k] = 0.95 * walk[k - 1] + rng.normal()
    series = CondensedSeries(max_values=8000)
    series.add(walk[:, None])
    exact = walk.std() * np.sqrt(39 / len(walk))
    assert series.stride == 8
    assert block_average(series.rows[:, 0]).error == pytest.approx(exact, rel=0.5)
    condensed, whole = block_average(series.rows[:, 0]), block_average(walk)
    assert condensed.mean == pytest.approx(whole.mean)
    assert condensed.correlation_time * 8 == pytest.approx(whole.correlation_time, rel=0.2)


# -------------------------------------------------------------------------------------------- large crystals


def test_memory_is_bounded_in_a_metal():
    """500 atoms of copper have 350,000 dihedrals: as Python objects and vectors of each, some 2 GB."""
    frames = rattled_copper(5, n_frames=4)
    run = MemoryRun.from_frames(frames, 1.0)
    tracemalloc.start()
    result = Dihedrals(patterns=["Cu-Cu-Cu-Cu"]).run(run)["Cu-Cu-Cu-Cu"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400e6
    assert result.n_members > 350_000
    assert sum(result.histogram.counts) == 4 * result.n_members
    assert len(result.members) == 100


def test_a_metal_is_the_sum_of_its_frames_however_few_values_are_computed_at_once(monkeypatch):
    run = MemoryRun.from_frames(rattled_copper(2, n_frames=3), 1.0)
    whole = Dihedrals(by="environment").run(run)
    monkeypatch.setattr("asecalc_ml.structure.topology.chains.VALUES_AT_ONCE", 1000)
    monkeypatch.setattr("asecalc_ml.structure.topology.bonds.CHAINS_AT_ONCE", 700)
    monkeypatch.setattr("asecalc_ml.analysis.distributions.internal_coordinates.VALUES_AT_ONCE", 1000)
    assert Dihedrals(by="environment").run(run).model_dump() == whole.model_dump()


def test_more_dihedrals_than_memory_holds_are_refused_before_they_are_listed(monkeypatch):
    monkeypatch.setattr("asecalc_ml.analysis.distributions.internal_coordinates.all_chains", None)
    with pytest.raises(AnalysisError, check=told(name="Cu8788", allowed="5,000,000", remedy="radial")):
        Dihedrals().check_start(bulk("Cu", cubic=True) * (13, 13, 13))


def test_more_distributions_than_anybody_reads_are_refused():
    with pytest.raises(AnalysisError, check=told(name="by", value="atoms", remedy="patterns")):
        Dihedrals(by="atoms").check_start(bulk("Cu", cubic=True) * (3, 3, 3))


def rattled_copper(n: int, n_frames: int) -> list[Atoms]:
    random = np.random.default_rng(0)
    frames = [bulk("Cu", cubic=True) * (n, n, n) for _ in range(n_frames)]
    for atoms in frames:
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
    return frames
