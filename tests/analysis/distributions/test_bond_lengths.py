"""Bond lengths that can be counted by hand, images that must not matter, and MDAnalysis beside us."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told

from asecalc_ml.analysis.distributions.bond_lengths import BondLengths, BondLengthsResult
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts


def shaken(atoms: Atoms, n_frames: int, amplitude: float = 0.05, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=amplitude, size=(n_frames, len(atoms), 3))
    return atoms.positions + noise


def two_frames_of_n2() -> MemoryRun:
    frames = [
        Atoms("N2", [(0, 0, 0), (0, 0, 1.1)]),
        Atoms("N2", [(0, 0, 0), (0.9, 1.2, 0)]),
    ]  # 1.1 Å, then 1.5 Å
    return MemoryRun.from_frames(frames, frame_interval_fs=2.0)


def test_lengths_counted_by_hand():
    result = BondLengths(patterns=["N-N"]).run(two_frames_of_n2())
    assert result.values("N-N").ravel() == pytest.approx([1.1, 1.5])
    average = result["N-N"].average
    assert (average.mean, average.std) == pytest.approx((1.3, 0.2))
    assert average.error is None
    assert average.note == "too short"


def test_result_is_frozen():
    result = BondLengths().run(two_frames_of_n2())
    with pytest.raises(ValueError, match="frozen"):
        result.patterns = []
    with pytest.raises(ValueError, match="read-only"):
        result.values("N-N")[0] = 0.0


def test_all_bonds_without_hydrogen_by_default():
    ethanol = molecule("CH3CH2OH")
    result = BondLengths().run(MemoryRun(ethanol, shaken(ethanol, 3)))
    assert [one.pattern for one in result.patterns] == ["C-C", "C-O"]


def test_bonds_with_hydrogen_where_there_are_no_others():
    water = molecule("H2O")
    result = BondLengths().run(MemoryRun(water, shaken(water, 3)))
    assert [(one.pattern, len(one.members)) for one in result.patterns] == [("H-O", 2)]


def test_two_bonds_of_one_pattern_are_told_apart():
    ethane = molecule("C3H8")
    positions = np.repeat(ethane.positions[None], 40, axis=0)
    result = BondLengths(patterns=["C-C"]).run(MemoryRun(ethane, positions))
    first, second = result["C-C"].members
    start = [ethane.get_distance(*one.atoms) for one in (first, second)]
    assert [first.average.mean, second.average.mean] == pytest.approx(start)
    assert first.atoms != second.atoms


@pytest.mark.parametrize("size", [1, 7, 56])
def test_running_twice_and_other_chunks_change_nothing(size):
    ethanol = molecule("CH3CH2OH")
    run = MemoryRun(ethanol, shaken(ethanol, 57))
    measurement = BondLengths().prepare(run)
    for frames in run.frame_chunks(size):
        measurement.frames(frames)
    assert BondLengths().run(run) == BondLengths().run(run) == measurement.conclude()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_wrapping_atoms_into_the_cell_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    ethanol = molecule("CH3CH2OH")
    ethanol.set_cell(7 * np.eye(3) + rng.uniform(-1.5, 1.5, (3, 3)))
    path = np.cumsum(rng.normal(scale=0.4, size=(40, 1, 3)), axis=0)  # the molecule drifts through the faces
    positions = shaken(ethanol, 40, seed=seed) + path
    expected = BondLengths().run(MemoryRun(ethanol, positions))
    ethanol.pbc = True
    wrapped = [Atoms(ethanol.symbols, one, cell=ethanol.cell, pbc=True) for one in positions]
    for atoms in wrapped:
        atoms.wrap()
    found = BondLengths().run(MemoryRun.from_frames(wrapped, 1.0))
    for pattern in ("C-C", "C-O"):
        assert found.values(pattern) == pytest.approx(expected.values(pattern), abs=1e-12)


def test_cell_smaller_than_two_bonds():
    diamond = bulk("C", "diamond", a=3.57)  # two atoms; each is bonded to four images of the other
    moved = diamond.positions + np.array([[0, 0, 0], [0.1, 0.0, 0.0]])
    result = BondLengths().run(MemoryRun(diamond, np.array([diamond.positions, moved])))
    bonds, shifts = find_bonds_and_shifts(diamond)
    by_hand = np.linalg.norm(moved[bonds[:, 1]] - moved[bonds[:, 0]] + shifts @ diamond.cell.array, axis=1)
    assert result.values("C-C").shape == (2, 4)
    assert result.values("C-C")[0] == pytest.approx(3.57 * np.sqrt(3) / 4)
    assert result.values("C-C")[1] == pytest.approx(by_hand)


def test_no_match_names_what_there_is():
    ethanol = molecule("CH3CH2OH")
    with pytest.raises(
        AnalysisError,
        check=told(value="C-N", allowed=["C-C", "C-H", "C-O", "H-O"], remedy="C-C, C-H, C-O, H-O"),
    ):
        BondLengths(patterns=["C-N"]).run(MemoryRun(ethanol, shaken(ethanol, 2)))


def test_no_bond_at_all():
    argon = Atoms("Ar2", [(0, 0, 0), (0, 0, 3.8)])
    with pytest.raises(AnalysisError, check=told(name="Ar2", remedy=True)):
        BondLengths().run(MemoryRun(argon, shaken(argon, 2)))


def test_no_frames():
    water = molecule("H2O")
    with pytest.raises(AnalysisError, check=told(name="trajectory", remedy="run longer")):
        BondLengths().run(MemoryRun(water, np.empty((0, 3, 3))))


@pytest.mark.parametrize("pattern", ["C-Q", "C-C-O", "C", ""])
def test_bad_pattern_is_refused_when_options_are_read(pattern):
    with pytest.raises(ConfigError, check=told(name="patterns", value=pattern)):
        parse_options({"patterns": [pattern]}, BondLengths)


def card(histogram: Histogram) -> dict:
    return {
        "dataset": {"name": "hot", "temperature_K": 500.0},
        "domain": {"distances": {"N-N bonded": histogram.model_dump()}},
    }


def test_training_data_stand_beside_the_run():
    seen = Histogram.from_samples(np.linspace(1.0, 1.2, 200), width=0.02)
    run = two_frames_of_n2()
    result = BondLengths().run(MemoryRun(run.atoms, run.positions, model_card=card(seen)))
    training = result["N-N"].training
    assert (training.dataset, training.temperature) == ("hot", "500 K")
    assert training.histogram == seen
    assert (training.values_outside, training.frames_outside) == (0.5, 0.5)  # 1.5 Å was never seen
    (verdict,) = result.verdicts()
    assert verdict.status == "failed"


def test_distance_to_the_training_data():
    seen = Histogram.from_samples([1.11, 1.51], width=0.02)
    run = two_frames_of_n2()
    result = BondLengths().run(MemoryRun(run.atoms, run.positions, model_card=card(seen)))
    assert result["N-N"].training.distance == pytest.approx(0.0, abs=1e-12)  # same bins
    assert result.verdicts()[0].status == "passed"


@pytest.mark.parametrize(
    ("n_training", "shift", "status"),
    [
        (250, 0.0, "passed"),
        (250, 0.0055, "passed"),
        (250, 0.34, "failed"),
        (250, 0.2, "failed"),
        (20, 0.34, "failed"),
    ],
)
def test_a_cold_run_in_a_sparse_histogram_stays_inside(n_training, shift, status):
    """All its values may lie in one empty bin of the training data without being outside."""
    seen = Histogram.from_samples(np.random.default_rng(1).normal(1.1, 0.03, n_training), width=0.001)
    lengths = 1.1 + shift + 1e-4 * np.random.default_rng(0).normal(size=400)
    positions = np.zeros((400, 2, 3))
    positions[:, 1, 2] = lengths
    run = MemoryRun(two_frames_of_n2().atoms, positions, model_card=card(seen))
    (verdict,) = BondLengths().run(run).verdicts()
    assert verdict.status == status, verdict.text


def test_too_few_training_values_decide_nothing():
    seen = Histogram.from_samples(np.linspace(1.09, 1.13, 20), width=0.001)
    lengths = np.where(np.arange(100) < 25, 1.3, 1.1)
    positions = np.zeros((100, 2, 3))
    positions[:, 1, 2] = lengths
    run = MemoryRun(two_frames_of_n2().atoms, positions, model_card=card(seen))
    (verdict,) = BondLengths().run(run).verdicts()
    assert verdict.status == "undecided"
    assert "25 % of values (at most 36 % by chance, with 20 training values)" in verdict.text


def test_no_verdict_without_a_card():
    assert BondLengths().run(two_frames_of_n2()).verdicts() == []


def test_files_hold_the_result(tmp_path):
    ethanol = molecule("CH3CH2OH")
    result = BondLengths().run(MemoryRun(ethanol, shaken(ethanol, 300)))
    paths = result.write(tmp_path)
    names = [
        "bond-lengths.json",
        "bond-lengths_statistics.csv",
        "bond-lengths_C-C.csv",
        "bond-lengths_C-O.csv",
    ]
    assert [path.name for path in paths] == names
    again = BondLengthsResult.model_validate_json(paths[0].read_text())
    assert again.model_dump() == result.model_dump()
    with pytest.raises(AnalysisError, check=told(name="values per frame", remedy="bond-lengths")):
        again.values("C-C")
    assert json.loads(paths[0].read_text())["patterns"][0]["average"]["mean"] == result["C-C"].average.mean
    density = np.genfromtxt(paths[2], delimiter=",", skip_header=1)[:, 2]
    assert density.sum() * 0.01 == pytest.approx(1.0)


def test_plot_has_title_axes_and_units():
    result = BondLengths().run(two_frames_of_n2())
    ax = result.plot()
    assert ax.get_title() == "N-N bond length"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("bond length (Å)", "density (1/Å)")
    with pytest.raises(AnalysisError, check=told(value="C-C", allowed=["N-N"], remedy="N-N")):
        result.plot(panel="C-C")


@pytest.mark.parametrize("cell", [None, [14.0, 15.0, 16.0, 80.0, 95.0, 100.0]])
def test_lengths_equal_those_of_mdanalysis(cell):
    """MDAnalysis works in single precision."""
    mda = pytest.importorskip("MDAnalysis")
    ethanol = molecule("CH3CH2OH")
    positions = shaken(ethanol, 25)
    if cell is not None:
        ethanol.set_cell(cell)
        ethanol.pbc = True
        positions = positions - positions[:, :1] + 0.1  # across the faces
        inside = np.einsum("fai,ij->faj", positions, np.linalg.inv(ethanol.cell.array)) % 1.0
        positions = inside @ ethanol.cell.array
        ethanol.positions = positions[0]
    ours = BondLengths(patterns=["C-C", "C-O", "C-H"]).run(MemoryRun(ethanol, positions))
    universe = mda.Universe.empty(len(ethanol), trajectory=True)
    universe.load_new(positions.astype(np.float32), order="fac")
    for one in ours.patterns:
        first, second = np.array([member.atoms for member in one.members]).T
        for frame, step in enumerate(universe.trajectory):
            theirs = mda.lib.distances.calc_bonds(
                step.positions[first], step.positions[second], box=cell, backend="serial"
            )
            assert ours.values(one.pattern)[frame] == pytest.approx(theirs, abs=1e-5)
