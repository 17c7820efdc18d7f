"""Data made with GFN2-xTB: short real runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase.io import read
from places import EXAMPLES, ROOT
from pydantic import ValidationError
from raising import told

from asecalc_ml.config.options import load_options, parse_options
from asecalc_ml.errors import ConfigError, DatasetError, StructureError
from asecalc_ml.potentials.datasets import AseFile, dataset_hash
from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions


@pytest.fixture
def tblite():
    return pytest.importorskip("tblite", reason="needs tblite: pip install 'asecalc-ml[reference]'")


def short(tmp_path, **changes) -> GenerateOptions:
    options = {
        "structure": "water",
        "temperatures_K": [300, 500],
        "n_frames": 5,
        "interval_fs": 5,
        "equilibration_ps": 0.01,
        "output": tmp_path / "made" / "water.xyz",
    }
    return GenerateOptions(**{**options, **changes})


def test_frames_carry_labels_charge_temperature_and_origin(tblite, tmp_path):
    path = short(tmp_path, structure="nitrate").run(quiet=True)
    frames = AseFile(path=path).read()
    assert [frame.info["temperature_K"] for frame in frames] == [300, 300, 300, 500, 500]
    assert [frame.info["time_fs"] for frame in frames] == [15, 20, 25, 15, 20]
    assert {(frame.info["charge"], frame.info["spin"]) for frame in frames} == {(-1, 0)}
    assert {frame.info["method"] for frame in frames} == {"GFN2-xTB"}
    assert frames[0].info["program"].startswith("tblite ")


def test_labels_are_those_of_the_frame(tblite, tmp_path):
    from asecalc_ml.calculators.factory import make_calculator

    for frame in AseFile(path=short(tmp_path, structure="ethylammonium").run(quiet=True)).read():
        again = frame.copy()
        again.calc = make_calculator("gfn2-xtb")
        assert again.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-4)
        assert again.get_forces() == pytest.approx(frame.get_forces(), abs=1e-3)


def test_the_seed_decides_everything(tblite, tmp_path):
    options = [short(tmp_path, output=tmp_path / f"{n}.xyz", seed=seed) for n, seed in enumerate([0, 0, 1])]
    first, same, other = (dataset_hash(AseFile(path=run.run(quiet=True)).read()) for run in options)
    assert first == same
    assert first != other


def test_temperatures_start_independently(tblite, tmp_path):
    frames = list(short(tmp_path, temperatures_K=[400, 400], n_frames=2).frames())
    assert abs(frames[0].positions - frames[1].positions).max() > 1e-3


def test_the_centre_of_mass_stays(tblite, tmp_path):
    from asecalc_ml.structure.loading import load_structure

    start = load_structure("water").get_center_of_mass()
    for frame in short(tmp_path, n_frames=3).frames():
        assert frame.get_center_of_mass() == pytest.approx(start, abs=1e-9)


@pytest.mark.slow
def test_the_thermostat_reaches_its_temperature(tblite, tmp_path):
    options = short(tmp_path, temperatures_K=[400], n_frames=1500, interval_fs=10, equilibration_ps=1)
    temperatures = np.array([frame.info["kinetic_temperature_K"] for frame in options.frames()])
    blocks = temperatures.reshape(10, -1).mean(axis=1)
    assert temperatures.mean() == pytest.approx(400, abs=4 * blocks.std(ddof=1) / np.sqrt(10))
    # the kinetic energy of f = 6 momenta is Gamma-distributed: relative variance 2/f
    assert temperatures.var() / temperatures.mean() ** 2 == pytest.approx(2 / 6, rel=0.25)


def test_an_existing_file_is_kept(tblite, tmp_path):
    options = short(tmp_path, n_frames=1, temperatures_K=[300])
    options.output.parent.mkdir()
    options.output.write_text("mine")
    with pytest.raises(DatasetError, check=told(name=str(options.output), remedy="--overwrite")):
        options.run(quiet=True)
    assert options.output.read_text() == "mine"
    options.run(overwrite=True, quiet=True)
    assert len(read(options.output, ":")) == 1
    assert os.listdir(options.output.parent) == ["water.xyz"]


def test_a_run_that_fails_leaves_no_file(tblite, tmp_path, monkeypatch):
    from asecalc_ml.potentials.datasets.generation import sampling

    monkeypatch.setattr(sampling, "_labelled", lambda *args: 1 / 0)
    options = short(tmp_path)
    with pytest.raises(ZeroDivisionError):
        options.run(quiet=True)
    assert os.listdir(tmp_path) == []


def test_a_molecule_that_explodes_is_an_error(tblite, tmp_path):
    options = short(tmp_path, temperatures_K=[1e5], timestep_fs=2, interval_fs=2000, n_frames=1)
    with pytest.raises(DatasetError, match=r"after \d+ steps", check=told(remedy="timestep_fs")):
        options.run(quiet=True)


def test_lines_on_stderr_without_a_terminal(tblite, tmp_path, capsys):
    short(tmp_path).run()
    captured = capsys.readouterr()
    assert "GFN2-xTB, water: done, 90 steps" in captured.err
    assert captured.out == ""


def test_charge_and_spin_of_the_options_win(tblite, tmp_path):
    frame = next(short(tmp_path, charge=1, spin=1).frames())
    assert (frame.info["charge"], frame.info["spin"]) == (1, 1)
    with pytest.raises(StructureError, check=told(name="spin", value=0, allowed="up to 9", remedy=True)):
        next(short(tmp_path, charge=1).frames())


def test_without_tblite_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "asecalc_ml.calculators.xtb", raising=False)
    for name in ("tblite", "tblite.ase"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        DatasetError,
        check=told(name="gfn2-xtb", value="tblite", remedy="pip install 'asecalc-ml[reference]'"),
    ):
        short(tmp_path).run(quiet=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, check=told(name="x.xyz", remedy="folder")):
        short(tmp_path, output=tmp_path / "file" / "below" / "x.xyz").run()


def test_shares_and_steps(tmp_path):
    options = short(tmp_path, n_frames=7, temperatures_K=[1, 2, 3], timestep_fs=0.25, interval_fs=50)
    assert [options.frames_at(n) for n in range(3)] == [3, 2, 2]
    assert (options.steps_between_frames, options.equilibration_steps) == (200, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval_fs": 5.3}, "whole multiple"),
        ({"interval_fs": 0.1}, "whole multiple"),
        ({"temperatures_K": []}, "at least 1"),
        ({"temperatures_K": [-1]}, "greater than"),
        ({"temperatures_K": [0]}, "greater than 0"),
        ({"n_frames": 0}, "greater than or equal to 1"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_options_out_of_range(tmp_path, changes, message):
    with pytest.raises(ValidationError, match=message):
        short(tmp_path, **changes)


def test_an_unknown_method_is_answered_in_words():
    with pytest.raises(ConfigError, check=told(name="method", allowed="gfn2-xtb")):
        parse_options({"structure": "water", "output": "x.xyz", "method": "b3lyp"}, GenerateOptions)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("data_*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(path):
    options = load_options(path, GenerateOptions)
    assert options.interval_fs >= 50


def test_option_models_import_nothing_heavy():
    modules = "['torch', 'ase', 'numpy', 'tblite', 'rdkit']"
    code = (
        "import sys, asecalc_ml.potentials.datasets.generation.generate, asecalc_ml.potentials.datasets\n"
        f"assert not [name for name in {modules} if name in sys.modules]"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
