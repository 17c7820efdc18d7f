"""The inherited checks, and a law of each plugin."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from asecalc_example.andersen import Andersen
from asecalc_example.csv_file import COLUMNS, ExampleCSV
from asecalc_example.gyration import RadiusOfGyration
from asecalc_example.huber import HUBER
from asecalc_example.network import ExampleNetwork

from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.potentials.datasets.options import make_frame
from asecalc_ml.testing import AnalysisChecks, DatasetChecks, PotentialChecks, ProtocolChecks

EMT = "ase.calculators.emt:EMT"


class TestNetwork(PotentialChecks):
    options = ExampleNetwork(hidden_channels=8, n_layers=2, n_rbf=6, cutoff_A=4.0)

    def test_walks_are_offered_although_the_block_takes_keywords(self):
        from asecalc_ml.analysis.relevance import explain

        found = explain(
            self.model(), self.molecule(3), method="walks,grad-cam", compared_frames=0, quiet=True
        )
        assert len(found.of("walks").frames[0].walks) > 0
        assert len(found.of("grad-cam").frames[0].blocks) == 2


class TestAndersen(ProtocolChecks):
    options = Andersen(
        structure="water",
        calculator=EMT,
        relax_fmax_eV_A=0.3,
        equilibration_ps=0.01,
        steps=30,
        write_every=5,
        thermo_every=3,
        checkpoint_every=7,
        collision_probability=0.2,
    )
    refused = (Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], constraint=FixAtoms([0])),)

    def test_the_mean_kinetic_energy_is_that_of_the_temperature(self, tmp_path):
        """Within four standard errors; collisions are frequent enough that rows are independent."""
        changes = {"steps": 3000, "thermo_every": 30, "collision_probability": 0.5}
        found = self.run(tmp_path / "run", **changes).read_thermo()["temperature_K"]
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - 300) < 4 * error

    def test_it_is_an_ensemble_of_a_sequence(self, tmp_path):
        common = {"structure": "water", "calculator": EMT, "relax": False, "equilibration_ps": 0}
        parts = [{"ensemble": "andersen", "steps": 20, "collision_probability": 0.1}]
        run = Sequence(**common, sequence=[*parts, {"ensemble": "nve", "steps": 20}]).run(
            directory=tmp_path / "run", quiet=True
        )
        assert run.read_thermo()["step"][-1] == 40


class TestGyration(AnalysisChecks):
    options = RadiusOfGyration()

    def make_run(self, directory):
        rng, frames = np.random.default_rng(0), []
        for _ in range(20):
            atoms = molecule("CH3CH2OH")
            atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
            frames.append(atoms)
        return MemoryRun.from_frames(frames, frame_interval_fs=2.0)

    def refused_runs(self):
        return [MemoryRun.from_frames([Atoms("Ar")] * 3, frame_interval_fs=2.0)]

    def test_two_equal_atoms_have_half_their_distance(self):
        run = MemoryRun.from_frames([Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])] * 2, frame_interval_fs=1.0)
        assert self.options.run(run).mean_A == pytest.approx(0.6)

    def test_it_is_in_the_report_of_a_run(self, tmp_path):
        directory = TestAndersen().run(tmp_path / "run").directory
        (result,) = run_analyses(directory, {"radius-of-gyration": None})
        assert len(result.radius_A) == 7


class TestCSV(DatasetChecks):
    options = ExampleCSV(path="frames.atoms.csv", energy_unit="Hartree")

    def write(self, path):
        hartree, rng, lines, frames = 27.211386024367243, np.random.default_rng(0), [",".join(COLUMNS)], []
        for k in range(3):
            positions, forces, energy = *rng.normal(size=(2, 3, 3)), -76.0 - k
            for symbol, xyz, f in zip("OHH", positions, forces, strict=True):
                lines.append(",".join(map(str, [k, symbol, *xyz.tolist(), *f.tolist(), energy])))
            frames.append(make_frame(Atoms("OH2", positions), energy * hartree, forces * hartree))
        path.write_text("\n".join(lines) + "\n")
        return frames

    def test_commands_choose_it_by_the_suffix(self, file):
        from asecalc_ml.cli.structures import reader

        assert type(reader(str(file))) is ExampleCSV


def test_huber_is_quadratic_below_and_linear_above():
    found = HUBER.function(torch.tensor([0.05, -2.0]), 0.1)
    assert found.tolist() == pytest.approx([0.05**2 / 2 / 0.1, 2.0 - 0.05])


def test_a_training_takes_the_loss():
    from asecalc_ml.potentials.training.losses import penalty_of
    from asecalc_ml.potentials.training.options import LossOptions

    assert penalty_of(LossOptions(function="huber").function) is HUBER


def test_a_training_takes_the_target():
    from asecalc_ml.targets import parse_targets

    (target,) = parse_targets({"boiling-point": {"pooling": "softmax"}})
    assert str(target.as_quantity()) == "boiling-point (K)"
    assert target.as_quantity().pooling == "softmax"


def test_a_run_logs_to_the_tracker(tmp_path):
    changes = {"tracking": {"json-lines": {"group": "waters"}}}
    run = TestAndersen.options.model_copy(update=changes).run(directory=tmp_path / "run", quiet=True)
    first, *rows = map(json.loads, (run.directory / "log.jsonl").read_text().splitlines())
    assert (first["run"], first["group"]) == ("run", "waters")
    assert [row["temperature_K"] for row in rows] == run.read_thermo()["temperature_K"].tolist()
