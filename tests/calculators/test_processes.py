"""Predictions and errors by several processes against those of one."""

import os
import signal

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import write
from raising import told
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.calculators.batches.processes import computing
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import RunError, StructureError
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.evaluate import evaluate_model


class Ending(LennardJones):
    """A calculator whose process is killed."""

    def calculate(self, *arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)


class Fixed(LennardJones):
    """A calculator that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("it holds a socket")


def rattled(n_frames=30, seed=0):
    """Frames by place."""
    random, frames = np.random.default_rng(seed), {}
    for number in range(n_frames):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        frames[f"ethanol@{number}"] = atoms
    return frames


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 40)  # four molecules


def test_predictions_do_not_depend_on_the_number_of_processes(small_batches):
    for calculator in (MLCalculator("torchmdnet-ethanol"), Committee(["schnet-ethanol", "painn-ethanol"])):
        assert predict(calculator, rattled(), processes=2).as_csv() == predict(calculator, rattled()).as_csv()


def test_errors_do_not_depend_on_the_number_of_processes(small_batches, tmp_path):
    frames = list(rattled().values())
    for atoms in frames:
        atoms.calc = MLCalculator("schnet-ethanol")
        atoms.get_forces()
    write(tmp_path / "labelled.xyz", frames, format="extxyz")
    data = get("datasets", "ase")(path=str(tmp_path / "labelled.xyz"))
    one, two = (evaluate_model("torchmdnet-ethanol", data, processes=n) for n in (1, 2))
    assert one.metrics == two.metrics


def test_a_refused_structure_is_named_as_by_one_process():
    frames = rattled(3) | {"odd@0": molecule("H2O")}
    frames["odd@0"].positions[1] = frames["odd@0"].positions[0]
    messages = []
    for processes in (1, 2):
        with pytest.raises(StructureError) as caught:
            predict(MLCalculator("torchmdnet-ethanol"), frames, processes=processes)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "odd@0" in messages[0]


def test_a_lost_process_and_a_calculator_that_stays_here_are_told():
    with pytest.raises(
        RunError, match="a process that computed structures has ended", check=told(name="processes")
    ):
        predict(Ending(), rattled(3), processes=2)
    with pytest.raises(RunError, match="Fixed cannot be copied to other processes"):
        predict(Fixed(), rattled(3), processes=2)


def test_results_come_in_order_though_many_are_under_way():
    batches = [[(place, atoms)] for place, atoms in rattled(20).items()]
    with computing(LennardJones(), ["energy"], processes=2) as compute:
        computed = list(compute(iter(batches)))
    assert [batch for batch, _ in computed] == batches
    expected = [LennardJones().get_potential_energy(atoms) for ((_, atoms),) in batches]
    assert [results["energy"] for _, (results,) in computed] == pytest.approx(expected, rel=1e-12)


def test_the_commands_take_a_number_of_processes(tmp_path):
    write(tmp_path / "ethanol.xyz", list(rattled(5).values()), format="extxyz")
    path, printed = str(tmp_path / "ethanol.xyz"), []
    for number in ("1", "2"):
        result = CliRunner().invoke(app, ["predict", "schnet-ethanol", path, "--processes", number])
        assert result.exit_code == 0, result.stderr
        printed.append(result.stdout)
    assert printed[0] == printed[1]
    assert CliRunner().invoke(app, ["predict", "schnet-ethanol", path, "--processes", "0"]).exit_code == 2
