"""Damaged files, one kind a test: the error names file, place and remedy; counts take no memory."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.checks.connectivity import ConnectivityResult
from asecalc_ml.analysis.pipeline import read_results
from asecalc_ml.cli.md import app as md
from asecalc_ml.config.options import parse_options, read_yaml
from asecalc_ml.errors import AnalysisError, ConfigError, RunError, TrainingError
from asecalc_ml.files.reading import damage_named, read_json, read_npz, read_text
from asecalc_ml.files.writing import write_whole
from asecalc_ml.md_protocols.campaign.state import CampaignFolder
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.scan.plan import read_values
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.metrics_file import processor_hours
from asecalc_ml.runs import RunReader
from asecalc_ml.runs.contents import CardFile, EvaluationLine
from asecalc_ml.runs.trajectories.hdf5 import StringHeap, check_heap
from asecalc_ml.statistics.histogram import SlicedCounts
from asecalc_ml.store.card import Golden

OPTIONS = {"structure": "H2O", "calculator": "ase.calculators.emt:EMT", "relax": False, "equilibration_ps": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directory of a short run, analysed."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    options = OPTIONS | {"timestep_fs": 0.1, "steps": 20, "write_every": 5, "analyses": {"connectivity": {}}}
    NVE(**options).run(directory=directory, quiet=True)
    assert CliRunner().invoke(md, ["report", str(directory), "-q"]).exit_code == 0
    return directory


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(finished, tmp_path / "run")


def replaced(path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


# ---------------------------------------------------------------------- the readers


def test_bytes_that_are_no_text_are_found_by_line(tmp_path):
    (tmp_path / "a.csv").write_bytes("Å\nb\nc\xff\n".encode("latin-1"))
    with pytest.raises(RunError, check=told(name="a.csv", value="line 1 holds bytes", remedy="copy")):
        read_text(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes("Å\nb\n".encode() + b"\xff\n")
    with pytest.raises(TrainingError, check=told(name="a.csv", value="line 3", remedy="remove it")):
        read_text(tmp_path / "a.csv", TrainingError, "remove it")


class Numbered(BaseModel):
    number: float


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting|EOF"),
        ("[" * 100_000, "recursion"),
        ('{"number": "text"}', "number: Input should be a valid number"),
        ("[1]", "Input should be an object"),
        ('{"number": 1, "text": "\\ud800"}', "hex escape|surrogate"),
    ],
)
def test_json_that_is_none_or_has_other_contents(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, check=told(name="a.json", remedy="copy it again")) as error:
        read_json(tmp_path / "a.json", Numbered)
    assert re.search(said, error.value.value)


def test_a_key_that_is_missing_names_its_file(tmp_path):
    (tmp_path / "a.json").write_text('{"number": 1, "inner": {"a": [{}]}}')
    found = read_json(tmp_path / "a.json", Numbered)
    assert (found["number"], found.get("other")) == (1, None)
    with pytest.raises(RunError, check=told(name="a.json", value="b", remedy="copy it again")):
        found["inner"]["a"][0]["b"]


def test_what_the_system_refuses_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError), damage_named(tmp_path):
        (tmp_path / "none").read_bytes()


def test_an_array_of_a_trillion_numbers_takes_no_memory(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"(3,), }            ", b"(9999999999999,), }"))
    with pytest.raises(RunError, check=told(name="a.npz", remedy="copy it again")):
        read_npz(tmp_path / "a.npz")


# ---------------------------------------------------------------------- files of runs


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("thermo.csv", b"\n20,", b"\n2\xff,", "thermo.csv is damaged .line 4 holds bytes that are not UTF-8"),
        ("thermo.csv", b"\n20,", b"\nnan,", "thermo.csv is damaged .line 4: a number is not finite"),
        ("thermo.csv", b"\n20,", b"\n20", "thermo.csv is damaged .line 4 has 5 values for 6 columns"),
        ("thermo.csv", b"time_fs", b"step", "thermo.csv is damaged: a column stands twice"),
        ("provenance.json", b'"frame_interval_fs": 0.5', b'"frame_interval_fs": "x"', "interval_fs: Input"),
        ("provenance.json", b'"frame_interval_fs"', b'"frame-interval_fs"', "it has no 'frame_interval_fs'"),
        ("protocol.yaml", b"steps: 20", b"steps: abc", "protocol.yaml is damaged .steps: Input should be"),
        ("protocol.yaml", b"steps: 20", b"steps: 2026-11-29", "protocol.yaml is damaged .*serializable"),
        ("events.jsonl", b'"kind"', b'"kinds"', "events.jsonl is damaged in line 1 .kind: Field required"),
    ],
)  # fmt: skip
def test_report_of_a_run_with_a_damaged_file(run, name, old, new, said):
    replaced(run / name, old, new)
    result = CliRunner().invoke(md, ["report", str(run)])
    assert result.exit_code == 2, result.output
    assert re.search(said, " ".join(result.stderr.split())), result.stderr


@pytest.mark.parametrize("column", ["energy_eV", "largest_force_eV_A"])
def test_a_relaxation_has_every_number(run, column):
    columns = ["step", "energy_eV", "largest_force_eV_A"]
    values = ["nan" if name == column else "1" for name in columns]
    (run / "relaxation.csv").write_text(f"{','.join(columns)}\n{','.join(values)}\n")
    with pytest.raises(RunError, check=told(name="relaxation.csv", value="line 2: ", remedy=True)):
        _ = RunReader(run).read_relaxation()


def test_a_result_that_has_changed_is_refused(run):
    path = run / "results" / "connectivity.json"
    assert ConnectivityResult.model_validate_json(path.read_bytes()).n_frames == 5
    replaced(path, b'"n_frames": 5', b'"n_frames": 6')
    with pytest.raises(ValidationError, match="its checksum differs"):
        ConnectivityResult.model_validate_json(path.read_bytes())


def test_a_result_of_a_newer_version_is_refused(run):
    path = run / "results" / "connectivity.json"
    data = json.loads(path.read_text())
    del data["sha256"]
    path.write_text(json.dumps(data | {"schema_version": data["schema_version"] + 1}))
    with pytest.raises(
        RunError,
        check=told(name="connectivity.json", problem="newer asecalc-ml", remedy="`asecalc-md report"),
    ):
        read_results(run)


def test_results_of_older_versions_have_no_checksum(run):
    path = run / "results" / "connectivity.json"
    data = json.loads(path.read_text())
    del data["sha256"], data["schema_version"]
    path.write_text(json.dumps(data))
    assert ConnectivityResult.model_validate_json(path.read_bytes()).n_frames == 5


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_checkpoint_of_other_shape(run, has_checksum):
    """Its archive is whole, so that only its contents tell."""
    replaced(run / "provenance.json", b'"finished": "', b'"finished": null, "ended": "')
    for path in run.glob("checkpoint*.npz"):
        arrays = read_npz(path)
        if not has_checksum:
            values = json.loads(str(arrays["values"]))
            del values["sha256"]
            arrays["values"] = np.array(json.dumps(values))
        np.savez(path, **arrays | {"positions": arrays["positions"][:-1]})
    said = "its checksum differs" if has_checksum else "wrong shape"
    with pytest.raises(RunError, check=told(name="checkpoint.npz", value=said, remedy="--overwrite")):
        resume_run(run, quiet=True)


def test_a_checkpoint_that_is_whole_is_read(run):
    values = json.loads(str(read_npz(run / "checkpoint.npz")["values"]))
    assert re.fullmatch("[0-9a-f]{64}", values["sha256"])
    replaced(run / "provenance.json", b'"finished": "', b'"finished": null, "ended": "')
    assert resume_run(run, quiet=True).finished


def test_a_start_that_is_no_structure(run):
    number = struct.pack("<3q", 8, 1, 1)
    replaced(run / "start.traj", number, struct.pack("<3q", 8, 1, 10**15))
    with pytest.raises(RunError, check=told(name="start.traj", value="atomic numbers", remedy="copy")):
        RunReader(run).frame_chunks()


def test_evaluations_are_whole():
    right = {"calculator": "a", "positions": [[0, 0, 0]], "energy": 1.0, "forces": [[0, 0, 0]]}
    EvaluationLine.model_validate(right)
    for wrong in ({"forces": [[0, 0]]}, {"forces": []}, {"energy": None}, {"positions": [[0, 0, 0]] * 2}):
        with pytest.raises(ValidationError):
            EvaluationLine.model_validate(right | wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"start": 10**12}, {"width": 1e-12}, {"width": 1e300}, {"period": 1e-9}, {"counts": [1, 10**25]}],
)
def test_a_card_whose_histogram_would_take_all_memory(wrong):
    right = {"width": 0.01, "start": 90, "counts": [1, 2, 1], "mean": 0.915, "std": 0.01}
    CardFile.model_validate({"domain": {"distances": {"H-O bonded": right}}})
    with pytest.raises(ValidationError, match=r"domain\.distances\.H-O bonded"):
        CardFile.model_validate({"domain": {"distances": {"H-O bonded": right | wrong}}})


@pytest.mark.parametrize("far", [1e9, 1e300])
def test_a_histogram_of_what_lies_too_far(far):
    counts = SlicedCounts(0.01)
    expected = told(name="values", value=far, remedy=True)
    with pytest.raises(AnalysisError, check=expected):  # noqa: PT012 - the first or the second of them
        counts.add(np.array([[1.0], [far]]))
        counts.histogram(1.0, 1.0)


# ---------------------------------------------------------------------- other files


def test_sizes_in_a_heap_of_strings():
    """From such a size HDF5's library never returns."""
    heap = StringHeap(address=0)
    heap.attribute("name", "one", "another")
    content = heap.encoded()
    check_heap(b"before" + content)
    first = struct.pack("<HH4xQ", 1, 1, 3)
    with pytest.raises(ValueError, match="do not add up"):
        check_heap(content.replace(first, struct.pack("<HH4xQ", 1, 1, 2**64 - 16)))


def test_golden_values_have_three_numbers_an_atom():
    right = {
        "atomic_numbers": [1], "positions_A": [[0, 0, 0]], "cell_A": np.zeros((3, 3)).tolist(),
        "pbc": [False] * 3, "energy_eV": 0.0, "forces_eV_A": [[0, 0, 0]],
    }  # fmt: skip
    Golden(**right)
    for wrong in ({"forces_eV_A": [[0, 0]]}, {"positions_A": []}, {"atomic_numbers": [300]}, {"pbc": [True]}):
        with pytest.raises(ValidationError):
            Golden(**right | wrong)


def test_keys_of_yaml_that_are_no_text(tmp_path):
    (tmp_path / "a.yaml").write_text("protocol: nve\n? {a: b}\n: c\n")
    with pytest.raises(ConfigError, check=told(value={"a": "b"}, problem="a.yaml", remedy="a text")):
        parse_options(read_yaml(tmp_path / "a.yaml"), NVE, str(tmp_path / "a.yaml"))


def test_reference_values_with_a_value_twice(tmp_path):
    write_whole(tmp_path / "a.csv", "1,0.5\n2,0.1\n1,0.5\n")
    with pytest.raises(ConfigError, check=told(value=1.0, problem="a.csv", remedy="leave one")):
        read_values(str(tmp_path / "a.csv"))


def test_failures_of_a_campaign_that_are_no_texts(tmp_path):
    (tmp_path / "campaign.json").write_text('{"failures": ["text"]}')
    with pytest.raises(RunError, check=told(name="campaign.json", value="failures: ", remedy="remove it")):
        CampaignFolder(tmp_path)


def test_a_split_that_holds_no_numbers(tmp_path):
    (tmp_path / "split.json").write_text('{"train": [[1]], "validation": [2], "test": 3}')
    with pytest.raises(
        TrainingError, check=told(name="split.json", value="train.0: ", remedy="frame numbers")
    ):
        Split.read(tmp_path / "split.json")


@pytest.mark.parametrize("line", [b"x,1,2", b"1,2", b"\xff,1,2", b"1,1,nan"])
def test_a_damaged_line_of_a_training(tmp_path, line):
    (tmp_path / "metrics.csv").write_bytes(b"epoch,train_loss,cpu_s\n1,nan,3600\n" + line + b"\n")
    with pytest.raises(
        TrainingError, check=told(name="metrics.csv", problem="line 3", remedy="remove that line")
    ):
        processor_hours(tmp_path / "metrics.csv")
