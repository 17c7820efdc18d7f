"""`asecalc-ml explain`: structures, trajectories and data sets; a clear message where something is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.io import read, write
from typer.testing import CliRunner

from asecalc_ml.cli import ml
from asecalc_ml.structures import load_structure


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(ml.app, ["explain", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_structure_by_name(tiny_model, tmp_path):
    folder = tmp_path / "found"
    code, output = run("tiny", "ethanol", "--method", "cam,attention", "--directory", folder, "-q")
    assert code == 0, output
    assert "Rank correlation with occlusion, cam" in output
    found = json.loads((folder / "relevance.json").read_text())
    assert [one["method"] for one in found["methods"]] == ["cam", "attention"]
    written = read(folder / "relevance.extxyz")
    assert {"relevance_cam", "relevance_attention"} <= set(written.arrays)
    np.testing.assert_allclose(
        written.arrays["relevance_cam"], found["methods"][0]["frames"][0]["atoms"], atol=1e-7
    )


def test_frames_of_a_trajectory_and_options_of_the_model(tiny_model, tmp_path):
    frames = [load_structure("ethanol") for _ in range(5)]
    for k, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.01 * k
    write(tmp_path / "run.traj", frames)
    code, output = run(
        "tiny",
        tmp_path / "run.traj",
        *("--frames", "1:5:2", "--method", "saliency", "--target", "force:2-1", "--pairs", "none"),
        *("--compared-frames", "0", "--directory", tmp_path / "found", "-q"),
    )
    assert code == 0, output
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    assert len(found["structures"]) == 2
    assert found["structures"][1]["positions_A"][0][0] == pytest.approx(frames[3].positions[0, 0])
    assert found["target"] == "force:2-1"
    assert found["correlations"] == []


def test_a_data_set(tiny_model, tmp_path, shared_data):
    data = shared_data / "rmd17" / "rmd17_ethanol_test_01.npz"
    code, output = run(
        "tiny", data, "--frames", "-1", "--method", "cam", "--directory", tmp_path / "found", "-q"
    )
    assert code == 0, output
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    np.testing.assert_allclose(found["structures"][0]["positions_A"], np.load(data)["coords"][-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "ethanol", "--method", "salency"], "did you mean 'saliency'"),
        (["tiny", "ethanol", "--target", "force:20"], "numbered 0 to 8"),
        (["tiny", "ethanol", "--frames", "5"], "selects none of the 1"),
        (["tiny", "ethanol", "--frames", "a:b"], "give a slice"),
        (["tiny", "ethanole"], "Did you mean"),
        (["tiny", "ethanol", "--walk-length", "7"], "walk_length"),
        (["tiny", "ethanol", "--metod", "cam"], "did you mean 'method'"),
        (["tinny", "ethanol"], "tinny"),
        (["tiny", "."], "no run"),
        (["tiny", "water", "--target", "charge:0"], "no partial charges"),
    ],
)
def test_a_mistake_ends_in_one_clear_message(tiny_model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, output = run(*arguments, "-q")
    assert code == 2
    assert message in " ".join(output.split())
    assert "Traceback" not in output
    assert not list(tmp_path.glob("relevance-*"))


def test_help_answers_without_heavy_imports(tmp_path):
    code = (
        "import sys; sys.argv = ['asecalc-ml', 'explain', '--help']\n"
        "from asecalc_ml.cli.ml import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not set(done.stderr.split()) & {"torch", "ase", "numpy", "scipy", "matplotlib"}
    assert "force:ATOM-OTHER" in "".join(done.stdout.split()).replace("│", "")


def test_a_run_directory_with_the_charge_of_its_structure(tiny_model, tmp_path):
    from asecalc_ml.md_protocols.nve import NVE

    run_directory = tmp_path / "run"
    NVE(
        structure="ethanol",
        calculator="tiny",
        relax=False,
        equilibration_ps=0,
        steps=4,
        write_every=2,
        directory=str(run_directory),
    ).run(quiet=True)
    code, output = run("tiny", run_directory, "--method", "cam", "--directory", tmp_path / "found", "-q")
    assert code == 0, output
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    assert len(found["structures"]) == 3
    assert found["structures"][0]["symbols"] == load_structure("ethanol").get_chemical_symbols()
