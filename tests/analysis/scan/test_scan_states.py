"""Scans in several spin states, and other distances along a scan."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from places import HELPERS
from raising import told

from asecalc_ml.analysis.scan.curve import Curve
from asecalc_ml.analysis.scan.scan import ScanAnalysis
from asecalc_ml.analysis.scan.states import crossings, is_lowest, states_of_methods
from asecalc_ml.errors import AnalysisError
from asecalc_ml.md_protocols.scan.options import Scan

STATES = "toy_calculators:SpinStates"
SINGLET, TRIPLET = {STATES: {"offset": -7000.0}}, {STATES: {"offset": -7000.0, "spin": 2}}
OTHER = {STATES: {"offset": 12.0, "spin": 2}}  # another method
EMT_NAME = "ase.calculators.emt:EMT"


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


def scan(directory: Path, **options):
    given = {"coordinate": [0, 1], "start": 1.2, "stop": 1.9, "points": 8, "relax": False}
    dimer = Atoms("NO", positions=[[0, 0, 0], [0, 0, 1.4]])
    return Scan(**given | options).run(dimer, directory, quiet=True)


@pytest.mark.parametrize("ends", [{}, {"start": 1.9, "stop": 1.2}])
def test_states_of_one_method_share_a_zero_and_cross_where_their_formulas_do(ends, tmp_path):
    """2 (r - 1.4)² = 2 (r - 1.6)² + 0.05 at r = 1.5625."""
    run = scan(tmp_path / "run", calculator=SINGLET, more_calculators=[TRIPLET, OTHER], **ends)
    result = ScanAnalysis().run(run)
    singlet, triplet, other = result.curves
    at = np.array(result.values)
    assert singlet.energies_eV == pytest.approx(2 * (at - 1.4) ** 2, abs=1e-9)
    assert triplet.energies_eV == pytest.approx(2 * (at - 1.6) ** 2 + 0.05, abs=1e-9)
    assert other.energies_eV[result.zero] == 0
    assert singlet.lowest == (at < 1.5625).tolist()
    assert triplet.lowest == (at > 1.5625).tolist()
    assert other.lowest == []
    (crossing,) = result.crossings
    assert (crossing.below, crossing.above) == (singlet.label, triplet.label)
    assert crossing.at == pytest.approx(1.5625, abs=1e-9)
    assert crossing.energy_eV == pytest.approx(2 * 0.1625**2, abs=1e-9)
    (table,) = [one for one in result.tables() if one.key == "states"]
    assert table.rows == [[singlet.label, triplet.label, crossing.at, crossing.energy_eV]]
    assert result.plot(panel="energy").get_lines()


def test_a_reference_among_the_states_is_the_zero_of_all(tmp_path):
    run = scan(tmp_path / "run", calculator=SINGLET, more_calculators=[OTHER], reference=TRIPLET)
    result = ScanAnalysis().run(run)
    singlet, other, triplet = result.curves
    at = np.array(result.values)
    assert result.values[result.zero] == pytest.approx(1.6)
    assert triplet.energies_eV == pytest.approx(2 * (at - 1.6) ** 2, abs=1e-9)
    assert singlet.energies_eV == pytest.approx(2 * (at - 1.4) ** 2 - 0.05, abs=1e-9)
    assert other.energies_eV[result.zero] == 0


def test_states_that_do_not_cross_say_so(tmp_path):
    run = scan(tmp_path / "run", calculator=SINGLET, more_calculators=[TRIPLET], stop=1.5)
    result = ScanAnalysis().run(run)
    (table,) = [one for one in result.tables() if one.key == "states"]
    assert table.rows == []
    assert "No two states" in table.caption
    assert all(result.curves[0].lowest)


def curve(label: str, energies: np.ndarray) -> Curve:
    known = {
        "label": label,
        "is_reference": False,
        "minimum": None,
        "barrier": None,
        "seen": [],
        "inside": [],
    }
    empty = {"forces": [None] * len(energies), "energy_stds_eV": [], "force_stds": []}
    return Curve(energies_eV=[None if np.isnan(e) else e for e in energies], **known, **empty)


def test_states_that_are_one_do_not_cross():
    """As a singlet with and without broken symmetry, which part somewhere and differ by noise before."""
    at = np.linspace(1, 3, 9)
    noise = 1e-9 * np.random.default_rng(0).standard_normal(9)
    restricted, broken = np.maximum(at - 2, 0) + noise, np.zeros(9)
    states = [curve("restricted", restricted), curve("broken", broken)]
    assert crossings(at, states, per_unit=1.0) == []
    assert is_lowest(states) == [(at <= 2).tolist(), [True] * 9]


def test_a_crossing_at_a_point_is_found_and_one_beside_a_failed_point_is_not():
    at = np.linspace(1, 3, 9)
    states = [curve("first", at - 2), curve("second", np.zeros(9))]
    (found,) = crossings(at, states, per_unit=1.0)
    assert (found.below, found.at) == ("first", pytest.approx(2.0))
    failed = np.where(at == 2, np.nan, at - 2)
    assert crossings(at, [curve("first", failed), states[1]], per_unit=1.0) == []


def test_the_same_calculator_twice_is_no_pair_of_states():
    same = {"name": "a", "parameters": {"spin": 0}}
    assert states_of_methods([same, same, {"name": "b"}, {"name": "b"}]) == []
    assert states_of_methods([same, {"name": "b"}, {"name": "a", "parameters": {"spin": 2}}]) == [[0, 2]]


def test_other_distances_are_those_of_the_structures(tmp_path):
    """Each calculator that relaxes has its own; a point that failed has none."""
    water, pairs = molecule("H2O"), [(0, 2), (1, 2)]
    options = {"coordinate": [0, 1], "start": 0.9, "stop": 1.1, "points": 3, "kind": "relaxed"}
    options |= {"calculator": EMT_NAME, "more_calculators": ["gfn2-xtb"]}
    run = Scan(**options).run(water, tmp_path / "run", quiet=True)
    result = ScanAnalysis(follow=pairs).run(run)
    assert [one.calculator for one in result.followed] == [EMT_NAME] * 2 + ["gfn2-xtb"] * 2
    frames = list(run.frames())
    assert len(frames) == 6
    for k, one in enumerate(result.followed):
        own = frames[:3] if k < 2 else frames[3:]
        assert one.distances_A == pytest.approx([atoms.get_distance(*pairs[k % 2]) for atoms in own])
    assert [panel.key for panel in result.panels()] == ["energy", "force", "O0-H2", "H1-H2"]
    lines = result.plot(panel="H1-H2").get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [one.distances_A for one in result.followed[1::2]]
    assert [line.get_color() for line in lines] == [
        line.get_color() for line in result.plot(panel="energy").lines
    ]
    assert f"O0-H2 {EMT_NAME} (Å)" in result.data()[0].columns


def test_a_point_without_a_structure_has_no_distance(tmp_path, monkeypatch):
    from ase.calculators.emt import EMT

    from asecalc_ml.errors import CalculationError

    whole = EMT.calculate

    def failing(self, atoms=None, *args, **kwargs):
        if atoms.get_distance(0, 1) > 1.5:
            raise CalculationError("too far")
        return whole(self, atoms, *args, **kwargs)

    monkeypatch.setattr(EMT, "calculate", failing)
    run = scan(tmp_path / "run", calculator=EMT_NAME, points=3)
    (followed,) = ScanAnalysis(follow=[(1, 0)]).run(run).followed
    assert followed.distances_A == [pytest.approx(1.2), None, None]


@pytest.mark.parametrize("pair", [(0, 2), (1, 1), (-1, 0)])
def test_atoms_to_follow_that_do_not_exist(pair, tmp_path):
    run = scan(tmp_path / "run", calculator=SINGLET)
    with pytest.raises(AnalysisError, check=told(name="follow", value=list(pair), allowed="0 to 1")):
        ScanAnalysis(follow=[pair]).run(run)
