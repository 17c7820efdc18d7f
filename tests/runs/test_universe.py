"""Runs in MDAnalysis: what it reads of them, and its own analyses beside ours."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.runs import START, RunReader, RunWriter
from asecalc_ml.structure.loading import load_structure

mda = pytest.importorskip("MDAnalysis")
PROPANOL = load_structure("1-propanol")


def shaken(n_frames: int = 15) -> MemoryRun:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(n_frames, len(PROPANOL), 3))
    return MemoryRun(PROPANOL, PROPANOL.positions + noise, 2.5)


@pytest.fixture
def directory(tmp_path):
    """The same frames as a run directory."""
    run = shaken()
    writer = RunWriter.create(tmp_path / "run")
    writer.write_structure(START, PROPANOL)
    writer.write_json("provenance.json", {"frame_interval_fs": 2.5})
    writer.write("protocol.yaml", "protocol: nve\n")
    for positions in run.positions:
        atoms = PROPANOL.copy()
        atoms.positions = positions
        writer.frame(atoms, 0.0, np.zeros_like(positions))
    writer.close()
    return tmp_path / "run"


def test_what_mdanalysis_reads_of_a_run_directory(directory):
    run = RunReader(directory)
    universe = run.universe()
    assert universe.atoms.elements.tolist() == PROPANOL.get_chemical_symbols()
    assert universe.atoms.masses == pytest.approx(PROPANOL.get_masses())
    assert len(universe.bonds) == len(run.bonds) == 11
    assert universe.dimensions is None
    assert (len(universe.trajectory), universe.trajectory.dt) == (15, 0.0025)
    assert universe.trajectory[3].positions == pytest.approx(next(run.chunks())[3], abs=1e-5)
    assert len(universe.select_atoms("element C and bonded element O")) == 1


def test_its_dihedrals_are_ours(directory):
    from MDAnalysis.analysis.dihedrals import Dihedral

    run = RunReader(directory)
    ours = Dihedrals(patterns=["C-C-C-O"]).run(run)
    (member,) = ours["C-C-C-O"].members
    theirs = Dihedral([run.universe().atoms[member.atoms]]).run().results.angles
    assert ours.values("C-C-C-O") == pytest.approx(theirs, abs=1e-3)


def test_its_distances_are_ours_in_a_skewed_cell_that_changes():
    """MDAnalysis turns cells; distances across their faces stay what they are, left-handed cells included."""
    from MDAnalysis.lib.distances import calc_bonds

    rng = np.random.default_rng(1)
    frames = []
    for _ in range(6):
        atoms = Atoms("N2", positions=[[0, 0, 0.2], [0, 0.3, -0.8]], pbc=True)
        atoms.set_cell(9 * np.eye(3)[[1, 0, 2]] + rng.uniform(-1.5, 1.5, (3, 3)))
        atoms.positions += rng.normal(scale=0.05, size=(2, 3))
        atoms.wrap()
        frames.append(atoms)
    run = MemoryRun.from_frames(frames, 1.0)
    assert np.linalg.det(frames[0].cell) < 0
    ours = BondLengths().run(run).values("N-N")[:, 0]
    theirs = [calc_bonds(*step.positions, box=step.dimensions).item() for step in run.universe().trajectory]
    assert ours == pytest.approx(theirs, abs=1e-5)
    volumes = [step.volume for step in run.universe().trajectory]
    assert volumes == pytest.approx([atoms.get_volume() for atoms in frames], rel=1e-5)


def test_handedness_is_kept():
    """A dihedral in a left-handed cell keeps its sign."""
    atoms = molecule("H2O2")
    atoms.set_cell([[0, 9, 0], [9, 0, 0], [0, 0, 9]])
    atoms.pbc = True
    run = MemoryRun.from_frames([atoms], 1.0)
    ours = Dihedrals().run(run)["H-O-O-H"]
    universe = run.universe()
    theirs = universe.atoms[ours.members[0].atoms].dihedral.value()
    assert ours.average.mean == pytest.approx(theirs, abs=1e-3)


def test_images_of_one_atom_are_no_bonds():
    assert not hasattr(MemoryRun.from_frames([bulk("Cu")], 1.0).universe(), "bonds")


def test_a_trajectory_that_is_cut_is_analysed_as_far_as_it_goes(directory):
    """And what is missing is said, by the pipeline and in the report."""
    from asecalc_ml.analysis.pipeline import run_analyses
    from asecalc_ml.analysis.report.report import write_report

    path = directory / "trajectory.traj"
    path.write_bytes(path.read_bytes()[:-3000])
    run = RunReader(directory)
    assert 0 < run.n_frames < 15
    assert run.n_frames + run.n_lost_frames == 15
    with pytest.warns(UserWarning, match=rf"{run.n_lost_frames} of its 15 frames cannot be read"):
        (result,) = run_analyses(directory, {"bond-lengths": None})
    assert result["C-C"].n_frames == run.n_frames
    assert "the end of the trajectory is missing" in write_report(directory).read_text()


def test_compare_from_the_command_line(directory, tmp_path, capsys):
    from asecalc_ml.cli import md

    arguments = ["compare", str(directory), "-p", "C-C", "-p", "C-C-O", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        md.app(arguments)
    assert ended.value.code == 0
    assert (tmp_path / "out" / "comparison.html").read_text().count("<svg") == 2
    for wrong, message in (
        (["-p", "C-N"], "no bond in C3H8O matches 'C-N'"),
        (["-p", "CO"], "joined by hyphens"),
    ):
        with pytest.raises(SystemExit) as ended:
            md.app(["compare", str(directory), *wrong])
        assert ended.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
