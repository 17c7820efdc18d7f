"""Angles that can be counted by hand, images that must not matter, and MDAnalysis beside us."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st
from raising import told

from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.structure.topology.chains import angle_between


def shaken(atoms: Atoms, n_frames: int) -> np.ndarray:
    return atoms.positions + np.random.default_rng(0).normal(scale=0.05, size=(n_frames, len(atoms), 3))


def test_right_angle_then_straight():
    bent = Atoms("HOH", [(1, 0, 0), (0, 0, 0), (0, 1, 0)])
    straight = Atoms("HOH", [(1, 0, 0), (0, 0, 0), (-1, 0, 0)])
    result = Angles(patterns=["H-O-H"]).run(MemoryRun.from_frames([bent, straight], 1.0))
    assert result.values("H-O-H").ravel() == pytest.approx([90.0, 180.0])
    assert result["H-O-H"].members[0].atoms == [0, 1, 2]
    assert result["H-O-H"].average.mean == pytest.approx(135.0)


@given(st.floats(1e-7, np.pi - 1e-7), st.floats(0, 2 * np.pi))
def test_angle_is_accurate_down_to_the_ends(angle, turn):
    first = np.array([np.cos(turn), np.sin(turn), 0.0])
    second = np.array([np.cos(turn + angle), np.sin(turn + angle), 0.0])
    assert angle_between(first, second) == pytest.approx(np.degrees(angle), abs=1e-11)


def test_default_pattern_and_reading_backwards():
    ethanol = molecule("CH3CH2OH")
    run = MemoryRun(ethanol, shaken(ethanol, 10))
    assert [one.pattern for one in Angles().run(run).patterns] == ["C-C-O"]
    assert Angles(patterns=["O-C-C"]).run(run) == Angles(patterns=["C-C-O"]).run(run)


def test_ideal_tetrahedron_across_every_face():
    diamond = bulk("C", "diamond", a=3.57)
    result = Angles().run(MemoryRun(diamond, diamond.positions[None]))
    assert result.values("C-C-C").shape == (1, 12)  # six around each of the two atoms
    assert result.values("C-C-C") == pytest.approx(np.degrees(np.arccos(-1 / 3)))


def test_no_match_names_what_there_is():
    ethanol = molecule("CH3CH2OH")
    with pytest.raises(
        AnalysisError,
        check=told(
            value="O-C-O",
            allowed=["C-C-H", "C-C-O", "C-O-H", "H-C-H", "H-C-O"],
            remedy="C-C-H, C-C-O, C-O-H, H-C-H, H-C-O",
        ),
    ):
        Angles(patterns=["O-C-O"]).run(MemoryRun(ethanol, shaken(ethanol, 2)))


def test_no_angle_in_two_atoms():
    with pytest.raises(AnalysisError, check=told(name="N2", remedy=True)):
        Angles().run(MemoryRun.from_frames([molecule("N2")], 1.0))


def test_bond_pattern_is_no_angle():
    with pytest.raises(ConfigError, check=told(name="patterns", value="C-O")):
        parse_options({"patterns": ["C-O"]}, Angles)


@pytest.mark.parametrize("size", [1, 7, 56])
def test_running_twice_and_other_chunks_change_nothing(size):
    ethanol = molecule("CH3CH2OH")
    run = MemoryRun(ethanol, shaken(ethanol, 57))
    measurement = Angles().prepare(run)
    for frames in run.frame_chunks(size):
        measurement.frames(frames)
    assert Angles().run(run) == Angles().run(run) == measurement.conclude()


def test_angles_equal_those_of_mdanalysis():
    """MDAnalysis works in single precision."""
    mda = pytest.importorskip("MDAnalysis")
    ethanol = molecule("CH3CH2OH")
    positions = shaken(ethanol, 25)
    ours = Angles(patterns=["C-C-O", "H-C-H"]).run(MemoryRun(ethanol, positions))
    for one in ours.patterns:
        ends = np.array([member.atoms for member in one.members]).T
        for frame, step in enumerate(positions.astype(np.float32)):
            theirs = np.degrees(mda.lib.distances.calc_angles(*(step[atoms] for atoms in ends)))
            assert ours.values(one.pattern)[frame] == pytest.approx(theirs, abs=1e-3)
