"""Scans: geometry, projected forces by finite differences, what is refused, what goes on, what is found."""

import errno
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from pydantic import ValidationError
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.analysis.scan.curve import extrema
from asecalc_ml.analysis.scan.scan import ScanAnalysis
from asecalc_ml.cli import md
from asecalc_ml.errors import AnalysisError, ConfigError, ModelError, RunError, StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.scan.coordinate import Coordinate
from asecalc_ml.md_protocols.scan.coordinate_choice import choose
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.runs import EVALUATIONS, SCAN_TABLE, RunReader, RunWriter
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.structure.loading import load_structure

EMT_NAME = "ase.calculators.emt:EMT"
MORSE = {
    "ase.calculators.morse:MorsePotential": {"epsilon": 3.0, "r0": 1.1, "rho0": 4.0, "rcut1": 8, "rcut2": 9}
}
COORDINATES = ["CH2-O", "C-CH2-O", "CH3-C-O-H"]


def ethanol() -> Atoms:
    return load_structure("ethanol")


def scan(directory: Path, atoms=None, **options) -> RunReader:
    given = {
        "calculator": EMT_NAME,
        "coordinate": "C-O",
        "start": 1.3,
        "stop": 1.7,
        "points": 5,
        "relax": False,
    }
    return Scan(**given | options).run(atoms or ethanol(), directory, quiet=True)


def curve(run: RunReader, calculator: int = 0, member: int = -1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = run.read_scan_table()
    rows = (table["calculator"] == calculator) & (table["member"] == member)
    return table["value"][rows], table["energy_eV"][rows], table["force"][rows]


# ---------------------------------------------------------------------- geometry


@pytest.mark.parametrize("moves", ["fragment", "atom"])
@pytest.mark.parametrize("pattern", COORDINATES)
def test_only_the_coordinate_changes(pattern, moves):
    """Within what moves, and within what stays, every distance is as before."""
    atoms, coordinate = choose(ethanol(), pattern, None, moves)
    value = coordinate.measure(atoms) + {"bond": 0.3, "angle": 7.0, "dihedral": 50.0}[coordinate.kind]
    moved = coordinate.displaced(atoms, value)
    assert (coordinate.measure(moved) - value + 180) % 360 == pytest.approx(180, abs=1e-9)
    inner = list(coordinate.moved)
    outer = [i for i in range(len(atoms)) if i not in inner]
    for part in (inner, outer):
        before, after = (one.get_all_distances()[np.ix_(part, part)] for one in (atoms, moved))
        assert after == pytest.approx(before, abs=1e-12)
    assert (moved.positions[outer] == atoms.positions[outer]).all()


def test_the_fragment_is_what_lies_behind_the_bond():
    atoms = ethanol()
    hydroxyl = int(next(i for i in range(9) if atoms.symbols[i] == "H" and atoms.get_distance(i, 2) < 1.1))
    assert choose(atoms, [1, 2], None, "fragment")[1].moved == tuple(sorted((2, hydroxyl)))
    assert len(choose(atoms, [2, 1], None, "fragment")[1].moved) == 7
    assert choose(atoms, [1, 2], None, "atom")[1].moved == (2,)


@pytest.mark.parametrize("moves", ["fragment", "atom"])
@pytest.mark.parametrize("pattern", COORDINATES)
def test_projected_force_is_minus_the_slope_of_the_energy(pattern, moves):
    """Central differences of the energy along rigid displacements, for a potential with nothing special."""
    atoms, coordinate = choose(ethanol(), pattern, None, moves)
    atoms = coordinate.displaced(atoms, coordinate.measure(atoms) + 0.05)
    calculator = MorsePotential(epsilon=1.0, r0=1.5, rho0=3.0, rcut1=8, rcut2=9)
    step = 1e-4
    value = coordinate.measure(atoms)
    ends = [calculator.get_potential_energy(coordinate.displaced(atoms, value + s)) for s in (step, -step)]
    per_unit = 1 if coordinate.kind == "bond" else np.pi / 180
    slope = (ends[0] - ends[1]) / (2 * step * per_unit)
    forces = calculator.get_forces(atoms)
    found = coordinate.projected(atoms.positions, forces)
    assert found == pytest.approx(-slope, rel=1e-5, abs=1e-6)
    assert abs(found) > 1e-3


def test_a_straight_angle_can_be_bent():
    atoms = molecule("CO2")
    coordinate = Coordinate((1, 0, 2), (2,))
    assert coordinate.measure(coordinate.displaced(atoms, 150.0)) == pytest.approx(150)


def test_a_molecule_across_a_boundary_moves_in_one_piece(tmp_path):
    atoms = ethanol()
    atoms.set_cell([12, 12, 12])
    atoms.pbc = True
    inside, coordinate = choose(atoms, [1, 2], None, "fragment")
    cut = atoms.copy()
    cut.positions -= cut.positions[2] + 0.01
    cut.wrap()
    assert np.ptp(cut.positions) > 6  # it lies at several faces
    crossed, same = choose(cut, [1, 2], None, "fragment")
    assert same == coordinate
    for value in (1.2, 2.0):
        expected = coordinate.displaced(inside, value).get_all_distances(mic=True)
        assert same.displaced(crossed, value).get_all_distances(mic=True) == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------------- the run


@pytest.mark.smoke
def test_a_morse_curve_is_its_formula(tmp_path):
    run = scan(
        tmp_path / "run", molecule("N2"), calculator=MORSE, coordinate=[0, 1], start=0.9, stop=3.0, points=22
    )
    r, energies, forces = curve(run)
    x = np.exp(-4.0 * (r / 1.1 - 1))
    assert energies == pytest.approx(3.0 * (x**2 - 2 * x), abs=1e-9)
    assert forces == pytest.approx(3.0 * 4.0 / 1.1 * 2 * (x**2 - x), abs=1e-9)
    (result,) = run_analyses(run.directory)
    (found,) = result.curves
    assert found.minimum.at == pytest.approx(1.1, abs=2e-3)
    assert found.barrier is None
    assert [frame.get_distance(0, 1) for frame in run.frames()] == pytest.approx(r)
    assert result.values[result.zero] == pytest.approx(1.1)
    assert result.curves[0].energies_eV[result.zero] == 0


def test_several_calculators_share_the_geometries_of_a_rigid_scan(tmp_path):
    run = scan(
        tmp_path / "run", more_calculators=[MORSE], reference=EMT_NAME, relax=True, relax_fmax_eV_A=0.1
    )
    labels = [one["label"] for one in run.read_scan()["calculators"]]
    assert labels == [f"{EMT_NAME} (1)", "ase.calculators.morse:MorsePotential", f"{EMT_NAME} (2)"]
    frames = list(run.frames())
    assert len(frames) == 15
    for first, second, third in zip(frames[:5], frames[5:10], frames[10:], strict=True):
        assert (first.positions == second.positions).all()
        assert (first.positions == third.positions).all()
    assert (curve(run, 0)[1] == curve(run, 2)[1]).all()
    result = ScanAnalysis().run(run)
    assert [(e.label, e.energy_mae_meV, e.force_max) for e in result.errors if e.label == labels[0]] == [
        (labels[0], 0, 0)
    ]
    assert result.errors[1].energy_max_meV > 1


def test_calculators_of_one_name_are_told_apart_by_what_differs():
    from asecalc_ml.md_protocols.scan.plan import _labels

    dft = [{"pyscf-dft": {"basis": "x", "spin": spin}} for spin in (0, 2)]
    assert _labels(["a", *dft]) == ["a", "pyscf-dft (spin: 0)", "pyscf-dft (spin: 2)"]
    assert _labels(["a", {"a": {"dtype": "float64"}}, "b", "b"]) == [
        "a",
        "a (dtype: float64)",
        "b (1)",
        "b (2)",
    ]


def test_each_makes_its_own_geometries_if_told(tmp_path):
    run = scan(
        tmp_path / "run",
        more_calculators=[MORSE],
        geometries="each",
        relax=True,
        relax_fmax_eV_A=0.3,
        points=2,
    )
    frames = list(run.frames())
    assert not np.allclose(frames[0].positions, frames[2].positions)


def test_the_reference_can_make_the_geometries_of_all(tmp_path):
    """Relaxed by the reference, and computed by the other there, whose springs are half as stiff."""
    stiff = {"toy_calculators:Springs": {"molecule_name": "H2O", "stiffness": 60.0}}
    options = {"coordinate": [0, 1], "start": 0.9, "stop": 1.1, "points": 3, "relax_fmax_eV_A": 1e-4}
    run = scan(
        tmp_path / "run",
        molecule("H2O"),
        calculator="toy_calculators:Springs",
        reference=stiff,
        kind="relaxed",
        geometries="reference",
        **options,
    )
    assert {one["geometries_of"] for one in run.read_scan()["calculators"]} == {
        run.read_scan()["calculators"][1]["label"]
    }
    frames = list(run.frames())
    for ours, theirs in zip(frames[:3], frames[3:], strict=True):
        assert (ours.positions == theirs.positions).all()
    assert curve(run, 1)[1] == pytest.approx(2 * curve(run, 0)[1])


@pytest.mark.parametrize(
    ("pattern", "start", "stop"), [("C-O", 1.3, 1.6), ("C-C-O", 100, 115), ("C-C-O-H", 60, 80)]
)
def test_a_relaxed_scan_keeps_the_coordinate_and_relaxes_the_rest(pattern, start, stop, tmp_path):
    pytest.importorskip("tblite")
    options = {"coordinate": pattern, "start": start, "stop": stop, "points": 3, "calculator": "gfn2-xtb"}
    fmax = 0.02
    rigid = scan(tmp_path / "rigid", relax=True, relax_fmax_eV_A=fmax, **options)
    relaxed = scan(tmp_path / "relaxed", kind="relaxed", relax_fmax_eV_A=fmax, **options)
    values, energies, forces = curve(relaxed)
    assert (energies <= curve(rigid)[1] + 1e-3).all()
    assert energies.sum() < curve(rigid)[1].sum() - 1e-3
    atoms = relaxed.read_scan()["atoms"]
    coordinate = Coordinate(tuple(atoms), tuple(relaxed.read_scan()["moved"]))
    for value, force, frame in zip(values, forces, relaxed.frames(), strict=True):
        assert coordinate.measure(frame) == pytest.approx(value, abs=1e-3)
        tangent = coordinate.tangent(frame.positions)
        assert np.sum(frame.get_forces() * tangent) == pytest.approx(force)


def test_a_relaxed_curve_has_its_projected_force_as_slope(tmp_path):
    """The envelope theorem: dE/dq along relaxed structures is the partial derivative."""
    pytest.importorskip("tblite")
    options = {"calculator": "gfn2-xtb", "coordinate": [0, 1], "start": 0.94, "stop": 0.98, "points": 5}
    run = scan(tmp_path / "run", molecule("H2O"), kind="relaxed", relax_fmax_eV_A=1e-3, **options)
    values, energies, forces = curve(run)
    slopes = (energies[2:] - energies[:-2]) / (values[2:] - values[:-2])
    assert forces[1:-1] == pytest.approx(-slopes, abs=0.02)


# ---------------------------------------------------------------------- bad input


COORDINATE = {"name": "coordinate"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coordinate": "C-N"}, COORDINATE | {"value": "C-N", "remedy": "[0, 5]"}),
        (
            {"coordinate": "C-H"},
            COORDINATE | {"value": "C-H", "allowed": [(0, 3)], "problem": "5 bonds", "remedy": "[0, 3]"},
        ),
        ({"coordinate": "C-H", "molecule": 1}, COORDINATE | {"problem": "molecule 1 of 1", "remedy": True}),
        ({"coordinate": [1, 9]}, COORDINATE | {"value": [1, 9], "allowed": "0 to 8", "remedy": "0 to 8"}),
        ({"coordinate": [1, 1]}, COORDINATE | {"value": [1, 1], "problem": "twice"}),
        ({"coordinate": "0-2"}, {"name": "C0", "remedy": "moves: atom"}),
        ({"start": 0.2}, {"value": 0.2, "problem": "0.2 Å", "remedy": "start and stop"}),
        ({"coordinate": "C-C-O", "start": 5, "stop": 90}, {"value": 5.0, "problem": "5 °", "remedy": True}),
    ],
)
def test_what_cannot_be_scanned_is_told_before_anything_is_computed(options, said, tmp_path):
    with pytest.raises(StructureError, check=told(**said)):
        scan(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": -1.0}, {"name": "start", "value": -1.0, "allowed": "above 0"}),
        ({"stop": 100.0}, {"name": "stop", "value": 100.0, "allowed": "50 Å", "remedy": "1 (100 pm)"}),
        (
            {"coordinate": "C-C-O", "start": 90, "stop": 190},
            {"value": (90.0, 190.0), "allowed": "180 degrees"},
        ),
        ({"geometries": "gfn2"}, {"value": "gfn2", "allowed": ["each", EMT_NAME], "remedy": EMT_NAME}),
        ({"reference_values": "nowhere.csv"}, {"name": "nowhere.csv"}),
        ({"reference": "gfn3-xtb"}, {"problem": "gfn3-xtb"}),
    ],
)
def test_options_that_do_not_fit(options, said, tmp_path):
    with pytest.raises((ConfigError, ModelError), check=told(**said)):
        scan(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"coordinate": [1]},
        {"coordinate": [1, 2], "molecule": 0},
        {"start": None},
        {"start": None, "stop": None},
        {"stop": 1.3},
        {"reference": EMT_NAME, "reference_values": "x.csv"},
        {"start": None, "stop": None, "reference_values": "x.csv", "points": 5},
    ],
)
def test_options_that_contradict_each_other(wrong):
    with pytest.raises(ValidationError):
        Scan(**{"coordinate": "C-O", "start": 1.3, "stop": 1.7, "points": 5} | wrong)


def test_a_ring_bond_has_nothing_behind_it(tmp_path):
    ring = molecule("C3H6_D3h")
    options = {"coordinate": [0, 1], "start": 1.4, "stop": 1.6}
    with pytest.raises(StructureError, check=told(name="C0-C1", remedy="moves: atom")):
        scan(tmp_path / "run", ring, **options)
    run = scan(tmp_path / "run", ring, moves="atom", **options)
    assert run.read_scan()["moved"] == [1]


def test_a_crystal_has_nothing_behind_a_bond():
    with pytest.raises(StructureError, check=told(name="Cu0-Cu1", remedy="moves: atom")):
        choose(bulk("Cu", cubic=True), [0, 1], None, "fragment")


def test_a_molecule_is_chosen_by_its_number():
    one = ethanol()
    two = one.copy()
    two.positions += [0, 0, 8]
    both = one + two
    with pytest.raises(StructureError, check=told(value="C-O", allowed=[(1, 2), (10, 11)])):
        choose(both, "C-O", None, "fragment")
    assert choose(both, "C-O", 1, "fragment")[1].atoms == (10, 11)
    moved = choose(both, [1, 11], None, "fragment")[1].moved  # not bonded: the whole other molecule
    assert moved == tuple(range(9, 18))


def test_the_atom_named_last_moves():
    assert choose(ethanol(), "C-O", None, "atom")[1].atoms == (1, 2)
    assert choose(ethanol(), "O-C", None, "atom")[1].atoms == (2, 1)


# ---------------------------------------------------------------------- what goes wrong on the way


def test_a_point_that_fails_is_marked_and_the_scan_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_AT", "3")
    monkeypatch.setenv("TOY_BREAKS_BY", "error")
    options = {"coordinate": [0, 1], "start": 0.9, "stop": 1.1, "points": 5}
    springs = "toy_calculators:Springs"
    run = scan(
        tmp_path / "run",
        molecule("H2O"),
        calculator=springs,
        reference="toy_calculators:BreakingSprings",
        **options,
    )
    assert run.finished
    assert np.isfinite(curve(run, 0)[1]).all()
    assert np.isnan(curve(run, 1)[1]).tolist() == [False, False, True, False, False]
    (warning,) = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert "BreakingSprings at 1: no convergence; the scan goes on" in warning
    result = ScanAnalysis().run(run)
    assert result.verdicts()[0].status == "failed"
    assert result.curves[1].n_failed == 1
    assert result.errors[0].n_points == 4
    assert result.errors[0].energy_max_meV < 1e-9
    assert result.curves[1].energies_eV[2] is None


def test_a_calculator_that_always_fails_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_BREAKS_BY", "error")
    monkeypatch.setattr("toy_calculators.BreakingSprings.calculate", _failing, raising=False)
    options = {"coordinate": [0, 1], "start": 0.9, "stop": 1.1, "points": 3}
    springs = {"calculator": "toy_calculators:Springs", "reference": "toy_calculators:BreakingSprings"}
    result = ScanAnalysis().run(scan(tmp_path / "run", molecule("H2O"), **springs, **options))
    assert result.curves[1].n_failed == 3
    assert result.errors == []
    for panel in result.panels():
        result.plot(panel=panel.key)


def _failing(self, *args, **kwargs):
    raise RuntimeError("no convergence")


def test_a_straight_angle_cannot_be_held_and_is_marked(tmp_path):
    options = {"coordinate": [1, 0, 2], "start": 150, "stop": 180, "points": 3}
    run = scan(tmp_path / "run", molecule("H2O"), kind="relaxed", relax_fmax_eV_A=0.05, **options)
    _, energies, _ = curve(run)
    assert np.isnan(energies).tolist() == [False, False, True]
    assert any("relaxing failed" in event["message"] for event in run.read_events())


def test_a_bond_longer_than_half_the_cell_is_not_filed_under_another_length(tmp_path):
    argon = Atoms("Ar3", [[0, 0, 0], [3.2, 0, 0], [1.5, 3.0, 0]], cell=[6.5, 9.0, 9.0], pbc=True)
    lj = {"ase.calculators.lj:LennardJones": {"sigma": 3.0, "epsilon": 0.01, "rc": 6.0}}
    options = {"coordinate": [0, 1], "start": 3.0, "stop": 4.2, "points": 3, "kind": "relaxed"}
    run = scan(tmp_path / "run", argon, calculator=lj, relax_fmax_eV_A=1e-3, **options)
    values, energies, _ = curve(run)
    kept = values[np.isfinite(energies)]
    assert kept.tolist() == pytest.approx([3.0])
    assert [atoms.get_distance(0, 1) for atoms in run.frames()] == pytest.approx(kept, abs=1e-3)


@pytest.mark.parametrize("kind", ["rigid", "relaxed"])
def test_killed_it_goes_on_at_the_next_point(kind, tmp_path, monkeypatch):
    options = {
        "coordinate": [0, 1],
        "start": 0.9,
        "stop": 1.1,
        "points": 5,
        "kind": kind,
        "relax_fmax_eV_A": 1e-3,
    }
    straight = scan(tmp_path / "straight", molecule("H2O"), calculator="toy_calculators:Springs", **options)
    monkeypatch.setenv("TOY_BREAKS_AT", "5")
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path / "run", molecule("H2O"), calculator="toy_calculators:KilledSprings", **options)
    done = (tmp_path / "run" / EVALUATIONS).read_bytes()
    assert done.count(b"\n") == {"rigid": 3, "relaxed": 4}[kind]
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    run = resume_run(tmp_path / "run", quiet=True)
    assert (run.directory / EVALUATIONS).read_bytes().startswith(done)
    assert len(run.read_evaluations()) == len(straight.read_evaluations())
    assert (run.directory / SCAN_TABLE).read_bytes() == (straight.directory / SCAN_TABLE).read_bytes()
    ours, theirs = (np.concatenate(list(one.chunks())) for one in (run, straight))
    assert (ours == theirs).all()


def test_a_full_disk_stops_it_and_it_can_be_resumed(tmp_path, monkeypatch):
    straight = scan(tmp_path / "straight")
    written = RunWriter.evaluation.__wrapped__

    def full(self, found):
        if len(RunReader(self.directory).read_evaluations()) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, found)

    with monkeypatch.context() as patch:
        from asecalc_ml.runs.writer import _says_what_to_do

        patch.setattr(RunWriter, "evaluation", _says_what_to_do(full))
        with pytest.raises(RunError, match=r"No space left on device.*asecalc-md resume"):
            scan(tmp_path / "run")
    run = resume_run(tmp_path / "run", quiet=True)
    assert (run.directory / SCAN_TABLE).read_bytes() == (straight.directory / SCAN_TABLE).read_bytes()
    assert len(run.read_evaluations()) == 5


def test_a_full_gpu_is_no_point_that_fails(tmp_path, monkeypatch):
    import torch

    def full(self, atoms, *arguments):
        if atoms.get_distance(0, 1) > 1.6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed(self, atoms, *arguments)

    computed = EMT.calculate
    with monkeypatch.context() as patch:
        patch.setattr(EMT, "calculate", full)
        with pytest.raises(MemoryError, match="CUDA out of memory"):
            scan(tmp_path / "run", coordinate=[0, 1])
    assert len(resume_run(tmp_path / "run", quiet=True).read_evaluations()) == 5


def test_another_model_is_not_mixed_in(tmp_path, monkeypatch):
    options = {"coordinate": [0, 1], "start": 0.9, "stop": 1.1, "reference": "toy_calculators:Model"}
    monkeypatch.setenv("TOY_BREAKS_AT", "4")
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path / "run", molecule("H2O"), calculator="toy_calculators:KilledSprings", **options)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    monkeypatch.setenv("TOY_HASH", "b" * 64)
    with pytest.raises(RunError, check=told(name="toy_calculators:Model", remedy=True)):
        resume_run(tmp_path / "run", quiet=True)
    run = resume_run(tmp_path / "run", quiet=True, allow_different=True)
    assert run.finished
    assert any("Model is not what the run began with" in event["message"] for event in run.read_events())


# ---------------------------------------------------------------------- what is found


def test_values_of_a_file_are_a_reference(tmp_path):
    file = tmp_path / "published.csv"
    r = np.linspace(0.9, 3.0, 22)
    x = np.exp(-4.0 * (r / 1.1 - 1))
    energies = 3.0 * (x**2 - 2 * x) + 100.0 + 0.010 * (r > 2)
    file.write_text("r,E\n" + "".join(f"{a:.10f},{e:.10f}\n" for a, e in zip(r, energies, strict=True)))
    options = {"calculator": MORSE, "coordinate": [0, 1], "reference_values": str(file)}
    run = scan(tmp_path / "run", molecule("N2"), start=None, stop=None, points=None, **options)
    assert run.read_scan()["values"] == pytest.approx(r)
    result = ScanAnalysis().run(run)
    assert result.reference.label == "published"
    assert result.errors[0].energy_max_meV == pytest.approx(10, abs=1e-3)
    assert result.errors[0].force_mae is None
    assert result.reference.minimum.at == pytest.approx(1.1, abs=0.01)
    with pytest.raises(ConfigError, check=told(name="reference_values", value=1.115, remedy=True)):
        scan(tmp_path / "other", molecule("N2"), start=0.9, stop=1.33, points=3, **options)


@pytest.mark.parametrize("text", ["", "1.0,2.0\n", "1.0,2.0\n1.1,two\n", "1\n2\n", "1,2,3,4\n1,2,3,4\n"])
def test_files_that_hold_no_values(text, tmp_path):
    file = tmp_path / "values.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, check=told(name="reference_values")):
        scan(tmp_path / "run", start=None, stop=None, points=None, reference_values=str(file))


def with_card(monkeypatch, **histograms: dict[str, Histogram]) -> None:
    """Let registered models say that their training data hold such distances or dihedrals."""
    from asecalc_ml.md_protocols.scan import plan as scan_plan
    from asecalc_ml.store.card import Domain

    real = scan_plan.LabelledCalculator.describe

    def describe(self, maker):
        described = real(self, maker)
        domain = Domain(**{"distances": {}, "angles": {}, "energy_eV": (0, 1)} | histograms)
        described["cards"] = [
            card | {"domain": domain.model_dump(mode="json")} for card in described["cards"]
        ]
        return described

    monkeypatch.setattr(scan_plan.LabelledCalculator, "describe", describe)


def test_bars_are_those_of_the_card_with_their_gaps(tiny_model, tmp_path, monkeypatch):
    histogram = Histogram(  # 1.32 to 1.48 and 1.62 to 1.68, each a bin wider
        width=0.02, start=66, counts=[9] * 8 + [0] * 7 + [9] * 3, mean=1.45, std=0.1
    )
    with_card(monkeypatch, distances={"C-O bonded": histogram})
    model = {tiny_model: {"compile": "never"}}
    options = {"start": 1.25, "stop": 1.75, "points": 6, "reference": EMT_NAME}
    result = ScanAnalysis().run(scan(tmp_path / "run", calculator=model, **options))
    found = result.curves[0]
    assert found.seen == [pytest.approx((1.3, 1.5)), pytest.approx((1.6, 1.7))]
    assert found.inside == [False, True, True, False, True, False]
    regions = {error.region: error for error in result.errors}
    assert (regions["inside"].n_points, regions["outside"].n_points) == (3, 3)
    weighted = (regions["inside"].force_mae + regions["outside"].force_mae) / 2
    assert regions["all"].force_mae == pytest.approx(weighted)
    assert result.curves[1].inside == []
    verdict = result.verdicts()[1]
    assert (verdict.status, verdict.text) == ("failed", "3 of 6 points lie outside")
    for panel in result.panels():
        axes = result.plot(panel=panel.key)
        assert len(axes.collections) == 1  # one row of bars


def test_bars_of_a_dihedral_go_round_the_circle(tiny_model, tmp_path, monkeypatch):
    histogram = Histogram(  # -160 to -140 and 20 to 40, each a bin wider
        width=20, start=-8, counts=[9, *[0] * 8, 9], mean=0, std=1, period=360
    )
    with_card(monkeypatch, dihedrals={"C-C-O-H": histogram})
    options = {"coordinate": "C-C-O-H", "start": 0, "stop": 360, "points": 9}
    result = ScanAnalysis().run(
        scan(tmp_path / "run", calculator={tiny_model: {"compile": "never"}}, reference=EMT_NAME, **options)
    )
    found = result.curves[0]
    assert found.seen == [pytest.approx((0, 60)), pytest.approx((180, 240))]
    assert found.inside == [True, True, False, False, True, True, False, False, True]


def test_a_committee_has_members_and_a_deviation(tiny_model, own_home, tmp_path):
    import torch

    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
    from asecalc_ml.store.model_file import save_model
    from asecalc_ml.testing import untrained_card, untrained_model

    options = EquivariantTransformer(hidden_channels=16, n_layers=1, n_rbf=8, n_heads=2, max_atomic_number=20)
    torch.manual_seed(5)
    model = untrained_model(options, dtype=torch.float32)
    save_model(
        own_home / "models" / "other.safetensors", model, untrained_card("other", options, model, ethanol())
    )
    committee = {"committee": {"members": [tiny_model, "other"], "compile": "never"}}
    run = scan(tmp_path / "run", calculator=committee, reference=EMT_NAME)
    result = ScanAnalysis().run(run)
    found = result.curves[0]
    members = [curve(run, 0, member) for member in (0, 1)]
    forces = np.array([one[2] for one in members])
    assert found.forces == pytest.approx(forces.mean(axis=0), abs=1e-6)
    assert found.force_stds == pytest.approx(forces.std(axis=0, ddof=1))
    assert found.energy_stds_eV[result.zero] == 0
    assert result.tables()[-1].key == "committee"
    assert result.curves[1].force_stds == []


@pytest.mark.parametrize("with_slopes", [True, False])
def test_minimum_and_barrier_of_a_known_curve(with_slopes):
    """E = cos(3 x): the highest maximum and the lowest minimum, whichever way it was scanned."""
    x = np.linspace(0.3, 3.9, 60)[::-1]
    slopes = -3 * np.sin(3 * x) if with_slopes else None
    energies = np.cos(3 * x) + 0.01 * x
    slopes = slopes + 0.01 if with_slopes else None
    energies[20] = np.nan
    found = extrema(x, energies, slopes)
    assert found["minimum"].at == pytest.approx(np.pi / 3, abs=0.01)
    assert found["barrier"].at == pytest.approx(2 * np.pi / 3, abs=0.01)
    assert extrema(x[:2], energies[:2], None) == {"minimum": None, "barrier": None}


def test_a_run_without_a_point_has_no_result(tmp_path):
    from asecalc_ml.md_protocols.relax import Relax

    run = Relax(calculator=EMT_NAME).run(molecule("H2O"), tmp_path / "run", quiet=True)
    with pytest.raises(AnalysisError, check=told(remedy="protocol scan")):
        ScanAnalysis().run(run)


def test_command_line_and_report(tmp_path):
    file = tmp_path / "scan.yaml"
    text = "protocol: scan\nstructure: H2O\ncalculator: ase.calculators.emt:EMT\ncoordinate: [0, 1]\n"
    file.write_text(f"{text}start: 0.8\nstop: 1.4\nreference: ase.calculators.emt:EMT\n")
    directory = tmp_path / "run"
    command = ["run", str(file), "--directory", str(directory), "--quiet"]
    result = CliRunner().invoke(md.app, [*command, "--points", "4"])
    assert result.exit_code == 0, result.output
    page = write_report(directory).read_text()
    assert "The run is complete: 4 points of O0-H1" in page
    wrong = CliRunner().invoke(md.app, [*command, "--overwrite", "--coordinate", "O-H"])
    assert wrong.exit_code == 2
    assert "2 bonds match" in wrong.stderr


def test_emt_is_what_the_scan_says(tmp_path):
    """Frames and rows are those of the calculator itself."""
    run = scan(tmp_path / "run")
    for energy, frame in zip(curve(run)[1], run.frames(), strict=True):
        assert EMT().get_potential_energy(frame.copy()) == pytest.approx(energy, abs=1e-12)
