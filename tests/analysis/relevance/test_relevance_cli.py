"""`asecalc-ml explain`: structures, trajectories and data sets; a clear message where something is wrong."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from ase.io import read, write
from typer.testing import CliRunner

from asecalc_ml.cli import md, ml
from asecalc_ml.structure.loading import load_structure


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


def test_methods_may_be_repeated_or_have_commas_between_them(tiny_model, tmp_path):
    for k, given in enumerate((["saliency", "--method", "cam"], ["saliency,cam"], ["saliency, cam"])):
        folder = tmp_path / str(k)
        arguments = ["explain", "tiny", "ethanol", "--directory", str(folder), "-q", "--method", *given]
        result = CliRunner().invoke(ml.app, arguments)
        assert result.exit_code == 0, result.output
        methods = json.loads((folder / "relevance.json").read_text())["methods"]
        assert {one["method"] for one in methods} >= {"saliency", "cam"}


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
        (["tiny", "ethanol", "--target", "force:20"], "0 to 8"),
        (["tiny", "ethanol", "--frames", "5"], "selects none of the 1"),
        (["tiny", "ethanol", "--frames", "a:b"], "give a slice"),
        (["tiny", "ethanole"], "Did you mean"),
        (["tiny", "ethanol", "--walk-length", "7"], "walk_length"),
        (["tiny", "ethanol", "--metod", "cam"], "did you mean 'method'"),
        (["tinny", "ethanol"], "tinny"),
        (["tiny", "."], "no run"),
        (["tiny", "water", "--target", "charge:0"], "charge:0"),
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


@pytest.fixture
def run_directory(tiny_model, tmp_path):
    from asecalc_ml.md_protocols.nve import NVE

    directory = tmp_path / "run"
    NVE(
        structure="ethanol",
        calculator="tiny",
        relax=False,
        equilibration_ps=0,
        steps=4,
        write_every=2,
        directory=str(directory),
    ).run(quiet=True)
    return directory


def test_a_run_directory_with_the_charge_of_its_structure(run_directory, tmp_path):
    code, output = run("tiny", run_directory, "--method", "cam", "--directory", tmp_path / "found", "-q")
    assert code == 0, output
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    assert len(found["structures"]) == 3
    assert found["structures"][0]["symbols"] == load_structure("ethanol").get_chemical_symbols()
    assert (tmp_path / "found" / "relevance.html").is_file()
    assert not (run_directory / "report.html").exists()


def test_a_run_has_it_in_its_results_and_its_report(run_directory, tmp_path):
    code, output = run("tiny", run_directory, "--method", "grad-cam,cam", "-q")
    assert code == 0, output
    assert (run_directory / "results" / "relevance_blocks.csv").is_file()
    code, output = run("tiny", run_directory, "--method", "cam,saliency", "-q")
    assert code == 0, output
    assert f"Wrote {run_directory / 'report.html'}" in output.replace("\n", "")
    assert not (run_directory / "results" / "relevance_blocks.csv").exists()  # of the methods before
    page = (run_directory / "report.html").read_text()
    assert page.count('<figure class="viewer"') == 2  # relevance, and the frames
    assert "Class activation map of the energy" in page
    code = CliRunner().invoke(md.app, ["report", str(run_directory), "-q"]).exit_code
    assert code == 0
    assert (run_directory / "report.html").read_text().count('<figure class="viewer"') == 2  # still there


def test_what_can_be_read_of_a_cut_trajectory_is_explained_and_the_rest_is_told(run_directory, tmp_path):
    path = run_directory / "trajectory.traj"
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    with pytest.warns(UserWarning, match=r"of its 3 frames cannot be read"):
        code, output = run("tiny", run_directory, "--method", "cam", "--directory", tmp_path / "found", "-q")
    assert code == 0, output
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    assert 1 <= len(found["structures"]) < 3
    path.write_bytes(b"")
    code, output = run("tiny", run_directory, "--method", "cam", "-q")
    assert code == 2
    assert "holds no frame" in output


def test_a_damaged_result_of_a_run_names_the_remedy(run_directory):
    (run_directory / "results").mkdir(exist_ok=True)
    (run_directory / "results" / "relevance.json").write_text("{")
    result = CliRunner().invoke(md.app, ["report", str(run_directory), "-q"])
    assert result.exit_code == 2
    assert "asecalc-ml explain" in result.output


# ---------------------------------------------------------------------------------------------- chemiscope


def test_a_file_for_chemiscope_reads_back(tiny_model, tmp_path):
    chemiscope = pytest.importorskip("chemiscope")
    file = tmp_path / "files" / "water.json.gz"
    frames = [load_structure("water") for _ in range(2)]
    frames[1].positions[0, 0] += 0.1
    write(tmp_path / "two.xyz", frames)
    where = ("--directory", tmp_path / "found")
    code, output = run(
        "tiny", tmp_path / "two.xyz", "--method", "cam,saliency", "--chemiscope", file, *where, "-q"
    )
    assert code == 0, output
    content = json.loads(gzip.decompress(file.read_bytes()))
    found = json.loads((tmp_path / "found" / "relevance.json").read_text())
    shown = content["properties"]["Saliency"]
    assert (shown["target"], shown["units"]) == ("atom", "eV/Å")
    expected = [value for frame in found["methods"][1]["frames"] for value in frame["atoms"]]
    np.testing.assert_allclose(shown["values"], expected)
    assert content["properties"]["energy"]["values"] == [one["value"] for one in found["structures"]]
    np.testing.assert_allclose(content["structures"][1]["x"], frames[1].positions[:, 0], atol=1e-7)
    assert len(content["environments"]) == 6
    color = content["settings"]["structure"][0]["color"]
    assert color["min"] == -color["max"]
    widget = chemiscope.show_input(str(file))  # checks settings, too
    assert json.loads(json.dumps(widget.settings))["target"] == "atom"


def test_chemiscope_is_asked_for_before_anything_is_computed(tiny_model, tmp_path, monkeypatch):
    code, output = run("tiny", "water", "--chemiscope", tmp_path / "water.txt", "-q")
    assert code == 2
    assert "ends in .json or .json.gz" in " ".join(output.split())
    monkeypatch.setitem(sys.modules, "chemiscope", None)
    monkeypatch.chdir(tmp_path)
    code, output = run("tiny", "water", "--chemiscope", tmp_path / "water.json", "-q")
    assert code == 2
    assert "pip install 'asecalc-ml[explain]'" in " ".join(output.split())
    assert not list(tmp_path.glob("relevance-*"))
