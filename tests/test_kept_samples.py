"""What earlier versions have written is read, gone on with and loaded: files that they left, see samples/."""

import importlib
import inspect
import json
import pickle
import pickletools
import platform
import runpy
import shutil
import sys
import tarfile
import zipfile
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path, PurePosixPath

import ase.io
import numpy as np
import pytest
from typer.testing import CliRunner

import asecalc_ml
from asecalc_ml import MLCalculator, plugins
from asecalc_ml._moved import current_name
from asecalc_ml.analysis.pipeline import read_results, run_analyses
from asecalc_ml.calculators import make_calculator
from asecalc_ml.cli import md, ml
from asecalc_ml.config import dump_yaml, read_yaml
from asecalc_ml.conformance.result import CheckResult, Report
from asecalc_ml.md_protocols.engine.differences import other_calculator
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.outcome import current_word
from asecalc_ml.runs import RunReader
from asecalc_ml.store.golden import golden_atoms
from asecalc_ml.store.registry import Registry
from asecalc_ml.versions import installed_versions

SAMPLES = Path(__file__).parent / "samples"
VERSION = SAMPLES / "version_0_1_0"
NEEDS = {"scan": "tblite", "gfn2-xtb": "tblite", "corrected-gfn2-xtb": "tblite", "pyscf-dft": "pyscf"}
#: Plain numpy, unless named here: self-consistent fields converge to a threshold, networks round otherwise.
TOLERANCE = {"scan": 1e-6, "gfn2-xtb": 1e-6, "corrected-gfn2-xtb": 1e-6, "pyscf-dft": 1e-5}
TOLERANCE |= {"model": 1e-8, "committee": 1e-8}


def archived(name: str) -> list[str]:
    """What lies in the folder that an archive holds."""
    with tarfile.open(VERSION / f"{name}.tar.xz") as packed:
        paths = map(PurePosixPath, packed.getnames())
        return sorted(path.name for path in paths if len(path.parts) == 2)


def unpack(*names: str) -> None:
    """Put files of the samples into the working directory: folders such as "finished/nvt", or files."""
    for name in names:
        with tarfile.open(VERSION / f"{name.partition('/')[0]}.tar.xz") as packed:
            members = [one for one in packed if PurePosixPath(one.name).is_relative_to(name)]
            packed.extractall(members=members, filter="data")
        for path in Path(name).rglob("*.json"):
            if path.name in ("provenance.json", "scan.json", "transfer.json"):
                as_if_begun_here(path)


@pytest.fixture
def sample(tmp_path, monkeypatch) -> Path:
    """The folder where one works: with the calculator, the plugin and the models that one has."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(VERSION / "springs.py", tmp_path)
    shutil.copytree(VERSION / "plugin", tmp_path / "plugin")
    unpack("models")
    monkeypatch.setenv("PYTHONPATH", f"{Path(asecalc_ml.__file__).parents[1]}:{tmp_path}:{tmp_path}/plugin")
    for folder in (tmp_path, tmp_path / "plugin", SAMPLES):
        monkeypatch.syspath_prepend(folder)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("springs", "asecalc_example")]:
        del sys.modules[name]


def as_if_begun_here(path: Path) -> None:
    """Put the versions of the packages that are installed here into a JSON file of a run.

    A run goes on with those that it began with only. Calculator, options and sources stay as they were.
    """

    def with_versions_of_here(fields: dict) -> dict:
        if "versions" in fields:
            python = {"python": platform.python_version()}
            here = python | installed_versions(fields["versions"])
            fields["versions"] = {name: here.get(name, was) for name, was in fields["versions"].items()}
        return fields

    path.write_text(json.dumps(json.loads(path.read_text(), object_hook=with_versions_of_here)))


def assert_equal_numbers(found: dict, expected: dict, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", archived("interrupted"))
def test_a_run_that_was_killed_goes_on_as_if_never_interrupted(name, sample):
    """Without ``allow_different``: calculator, options and sources count as the same."""
    from measured import measured

    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    directory, reference = Path(f"interrupted/{name}"), Path(f"uninterrupted/{name}.json")
    unpack(str(directory), str(reference))
    expected = json.loads(reference.read_text())
    assert not RunReader(directory).finished
    run = resume_run(directory, quiet=True)
    assert run.finished
    assert_equal_numbers(measured(directory), expected, TOLERANCE.get(name, 1e-9))
    warnings = [event["message"] for part in [directory, *run.parts] for event in resumptions(part)]
    assert all(text.startswith("resumed with processor") for text in warnings)


def resumptions(directory: Path) -> list[dict]:
    events = RunReader(directory).events
    return [one for one in events if one["kind"] == "warning" and one["message"].startswith("resumed with")]


def test_a_class_whose_module_has_moved_is_the_same_class():
    """What a run of an earlier version stores, against what is stored now; another class still differs."""
    described = {"model_hash": None, "parameters": {}}
    before, now, other = (
        described | {"class": name}
        for name in ("asecalc_ml.xtb:GFN2", "asecalc_ml.calculators.xtb:GFN2", "asecalc_ml.dft:DFT")
    )
    assert other_calculator(before, now) == []
    (difference,) = other_calculator(before, other)
    assert (
        difference == "calculator asecalc_ml.calculators.dft:DFT instead of asecalc_ml.calculators.xtb:GFN2"
    )
    assert current_name("springs:Springs") == "springs:Springs"


@pytest.mark.smoke
def test_the_command_goes_on_with_a_run_and_analyses_it(sample):
    unpack("interrupted/nve")
    result = CliRunner().invoke(md.app, ["resume", "interrupted/nve", "--quiet"])
    assert result.exit_code == 0, result.output
    assert Path("interrupted/nve/report.html").is_file()
    assert read_results("interrupted/nve")


def test_a_finished_run_is_read(sample):
    unpack("finished/nvt")
    run = RunReader("finished/nvt")
    assert run.finished
    assert run.options["protocol"] == "nvt"
    assert run.n_frames == 41
    assert run.frame_interval_fs == 2.0
    assert run.production.segments[0].temperature_K == ((0.0, 300.0), (80.0, 300.0))
    assert len(run.thermo["step"]) == 41
    assert "finished" in [event["kind"] for event in run.events]
    frames = list(run.frames())
    calculator = make_calculator("springs:Springs")
    assert frames[-1].get_forces() == pytest.approx(calculator.get_forces(frames[-1].copy()), abs=1e-12)
    assert frames[-1].get_potential_energy() == pytest.approx(run.thermo["potential_eV"][-1], abs=1e-12)
    assert run.universe().trajectory.n_frames == 41


def test_the_calculator_that_frames_name_is_found(sample):
    """GFN2-xTB below corrections is stored by the name of its module."""
    pytest.importorskip("tblite")
    unpack("interrupted/corrected-gfn2-xtb")
    frame = next(RunReader("interrupted/corrected-gfn2-xtb").frames())
    stored = ase.io.read("interrupted/corrected-gfn2-xtb/trajectory.traj@0").calc.parameters
    (name,) = stored["calculator"]
    assert name == "asecalc_ml.xtb:GFN2"
    again = make_calculator(name, corrections=stored["corrections"])
    assert again.get_potential_energy(frame.copy()) == pytest.approx(frame.get_potential_energy(), abs=1e-6)


@pytest.mark.parametrize("name", archived("finished"))
def test_results_are_read(name, sample):
    """Every number of the files that has kept its name has kept its value; words of outcomes are today's."""
    unpack(f"finished/{name}")
    files = Path(f"finished/{name}/results").glob("*.json")
    stored = {path.stem: json.loads(path.read_text(), object_hook=with_words_of_today) for path in files}
    results = {result.analysis: result for result in read_results(f"finished/{name}")}
    assert results.keys() == stored.keys() - {"relevance"}
    assert results
    for analysis, result in results.items():
        found = json.loads(result.model_dump_json())
        common = found.keys() & stored[analysis].keys()
        assert len(common) > 1
        assert {key: found[key] for key in common} == {key: stored[analysis][key] for key in common}


def with_words_of_today(fields: dict) -> dict:
    return {name: current_word(value) if "status" in name else value for name, value in fields.items()}


def test_outcomes_of_a_transfer_test_have_the_words_of_today(sample):
    unpack("finished/transfer")
    assert '"drift_status": "unclear"' in Path("finished/transfer/results/transfer.json").read_text()
    (result,) = (one for one in read_results("finished/transfer") if one.analysis == "transfer")
    runs = [run for molecule in result.molecules for run in molecule.model_runs]
    assert {run.drift_status for run in runs} == {"undecided"}
    assert {verdict.status for verdict in result.verdicts()} == {"undecided"}
    result.write("again")
    assert "unclear" not in Path("again/transfer.json").read_text()
    assert type(result).model_validate_json(Path("again/transfer.json").read_bytes()) == result


# ---------------------------------------------------------------------- pickled objects


def pickled_as(obj: object, **replaced: str) -> bytes:
    """Pickle of an object in which some text is replaced; protocol 0 stores text without its length."""
    data = pickle.dumps(obj, protocol=0)
    for now, then in replaced.items():
        assert now.encode() in data
        data = data.replace(now.encode(), then.encode())
    return data


def test_pickled_results_have_the_words_and_names_of_today(sample):
    """Also below a result: pickle does not validate, and outcomes are compared as words."""
    unpack("finished/transfer")
    (transfer,) = (result for result in read_results("finished/transfer") if result.analysis == "transfer")
    assert pickle.loads(pickled_as(transfer, undecided="unclear")) == transfer
    unpack("finished/relax")
    (relaxation,) = (result for result in read_results("finished/relax") if result.analysis == "relaxation")
    former = pickled_as(relaxation, largest_forces_eV_A="forces_eV_A", n_broken="broken", n_formed="formed")
    assert pickle.loads(former) == relaxation


@pytest.mark.parametrize(
    ("now", "then"),
    [("passed", "pass"), ("failed", "fail"), ("not applicable", "n.a."), ("undecided", "not decided")],
)
def test_a_pickled_check_has_the_word_of_today(now, then):
    """A report counts words: a former word must not turn a failed check into none."""
    check = CheckResult("symmetry", "the energy is invariant", now)
    report = Report({}, "H2O", "float64", None, (check,))
    again = pickle.loads(pickled_as(report, **{now: then}))
    assert again == report
    assert again.passed == (now in ("passed", "not applicable"))
    assert CheckResult("symmetry", "the energy is invariant", then) == check


def test_a_pickled_reader_reads_the_files_of_its_run(sample):
    """That of version 0.1.0 keeps its structure under a name that is a method now."""
    unpack("finished/nvt")
    reader = RunReader("finished/nvt")
    assert reader.atoms
    again = pickle.loads(pickle.dumps(reader))
    assert again.n_frames == reader.n_frames
    assert again.read_provenance() == reader.read_provenance()
    former = RunReader("finished/nvt")
    former.__dict__ = {"directory": former.directory, "_start": reader.atoms, "options": {}}
    data = pickle.dumps(former, protocol=0)
    data = data.replace(b"casecalc_ml.runs.reader", b"casecalc_ml.rundir.reader")
    again = pickle.loads(data)
    assert again.atoms == reader.atoms
    assert again.read_options() == reader.read_options()
    assert len(list(again.frames())) == reader.n_frames


def test_arrays_that_a_reader_shares_cannot_be_changed(sample):
    unpack("finished/nvt", "finished/vibrations")
    shared = [*RunReader("finished/nvt").read_thermo().values()]
    shared += RunReader("finished/vibrations").read_hessian().values()
    assert not [array for array in shared if array.flags.writeable]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_results_are_those_that_the_analyses_find_now(sample):
    unpack("finished/nvt")
    before = {result.analysis: result for result in read_results("finished/nvt")}
    now = run_analyses("finished/nvt", RunReader("finished/nvt").options["analyses"])
    assert {result.analysis for result in now} == before.keys()
    for result in now:
        found, expected = (json.loads(one.model_dump_json()) for one in (result, before[result.analysis]))
        assert_same_content(found, expected)


def assert_same_content(found, expected, place: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_same_content(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for k, value in enumerate(expected):
            assert_same_content(found[k], value, f"{place}[{k}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9), place
    else:
        assert found == expected, place


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_reports_and_comparisons_are_written(sample):
    """The report shows what explains a model, too, which is not computed again."""
    unpack("finished/nvt")
    result = CliRunner().invoke(md.app, ["report", "finished/nvt", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "contributions" in Path("finished/nvt/report.html").read_text()
    shutil.copytree("finished/nvt", "again")
    result = CliRunner().invoke(md.app, ["compare", "finished/nvt", "again", "--pattern", "C-O", "--quiet"])
    assert result.exit_code == 0, result.output


def test_scans_and_transfer_tests_say_what_they_consist_of(sample):
    unpack("finished/scan", "finished/transfer")
    scan = RunReader("finished/scan").scan
    assert [one["is_reference"] for one in scan["calculators"]] == [False, False, False, True]
    run = RunReader("finished/transfer")
    assert len(run.parts) == 6
    assert run.transfer["molecules"][0]["is_trained"]


# ---------------------------------------------------------------------- campaigns


@pytest.fixture
def campaign(sample) -> Path:
    """A campaign of which one run is done, one was killed, and one has not begun."""
    unpack("campaign")
    Path("campaign/seed=0/report.html").touch()  # a copy of the files need not keep their age
    return Path("campaign/campaign.yaml")


def test_a_campaign_knows_how_far_it_is(campaign):
    result = CliRunner().invoke(md.app, ["campaign", str(campaign), "--status"])
    assert result.exit_code == 0, result.output
    for state in ("done", "unfinished", "waiting"):
        assert state in result.output


def test_a_campaign_is_finished(campaign):
    campaign.write_text(dump_yaml(read_yaml(campaign) | {"grid": {"seed": [0, 1]}}))  # the third takes time
    result = CliRunner().invoke(md.app, ["campaign", str(campaign), "--quiet"])
    assert result.exit_code == 0, result.output
    assert all(RunReader(f"campaign/seed={seed}").finished for seed in range(2))
    assert not RunReader("campaign/seed=0").provenance.get("resumed")
    assert len(RunReader("campaign/seed=1").provenance["resumed"]) == 1


# ---------------------------------------------------------------------- models and trainings


@pytest.mark.parametrize("name", [name.partition(".")[0] for name in archived("models")])
def test_a_model_finds_the_energy_and_forces_of_its_card(name, sample):
    entry = Registry().find(name)
    assert entry.card.architecture in (name, "schnet")
    calculator, golden = MLCalculator(name, dtype="float64"), entry.card.golden
    atoms = golden_atoms(golden)
    assert calculator.get_potential_energy(atoms) == pytest.approx(golden.energy_eV, rel=1e-12)
    assert calculator.get_forces(atoms) == pytest.approx(np.array(golden.forces_eV_A), rel=1e-9, abs=1e-9)


def test_a_training_that_was_killed_goes_on(sample, monkeypatch):
    """Epoch by epoch as one that was never interrupted, and to its model."""
    unpack("interrupted-training", "uninterrupted/metrics.csv")
    Path("models/trained.safetensors").rename("expected.safetensors")
    monkeypatch.chdir("interrupted-training")
    result = CliRunner().invoke(ml.app, ["train", "train.yaml", "--resume", "--quiet"])
    assert result.exit_code == 0, result.output
    errors = [
        np.genfromtxt(file, delimiter=",", names=True)
        for file in ("training/metrics.csv", sample / "uninterrupted/metrics.csv")
    ]
    for column in errors[1].dtype.names:
        if column != "time_s" and "seconds" not in column and "_s" not in column[-2:]:
            assert errors[0][column] == pytest.approx(errors[1][column], rel=1e-6), column
    atoms = golden_atoms(Registry().find("trained").card.golden)
    energies = [
        MLCalculator(model, dtype="float64").get_potential_energy(atoms)
        for model in ("trained", str(sample / "expected.safetensors"))
    ]
    assert energies[0] == pytest.approx(energies[1], rel=1e-9)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_of_a_training_names_no_module_of_ours(name, sample):
    """What was pickled under the name of a module could not be read after the module has moved."""
    unpack("interrupted-training")
    with zipfile.ZipFile(f"interrupted-training/training/{name}") as archive:
        (pickled,) = [one for one in archive.namelist() if one.endswith("/data.pkl")]
        operations = list(pickletools.genops(archive.read(pickled)))
    named = [argument for _, argument, _ in operations if isinstance(argument, str)]
    assert any(one.startswith("torch") for one in named)
    assert not [one for one in named if "asecalc_ml" in one]


# ---------------------------------------------------------------------- plugins and import paths


def points(info: str) -> list[EntryPoint]:
    return list(PathDistribution(VERSION / info).entry_points)


OURS, THEIRS = points("installed/asecalc_ml-0.1.0.dist-info"), points("plugin/asecalc_example-1.0.dist-info")


@pytest.mark.smoke
@pytest.mark.parametrize("point", OURS, ids=lambda point: f"{point.group}:{point.name}")
def test_entry_points_of_an_installation_load_what_is_registered(point):
    """An editable installation keeps the entry points of the day on which it was made."""
    package, _, group = point.group.partition(".")
    found = point.load()
    if package == "asecalc_ml" and group in plugins.GROUPS:
        assert found is plugins.get(group, point.name)


@pytest.mark.smoke
@pytest.mark.parametrize("point", THEIRS, ids=lambda point: f"{point.group}:{point.name}")
def test_a_plugin_of_another_package_is_found_and_fulfils_its_contract(point, sample):
    group = point.group.partition(".")[2]
    assert plugins.point(group, point.name).value == point.value
    assert plugins.get(group, point.name).__module__.startswith(("asecalc_example", "asecalc_ml"))


@pytest.mark.smoke
@pytest.mark.parametrize("line", (VERSION / "documented_imports.txt").read_text().splitlines())
def test_documented_names_are_imported_from_where_they_were(line):
    """And are one object under all names: no module is executed a second time under a new one."""
    module, _, name = line.partition(" ")
    names: dict = {}
    exec(f"from {module} import {name}" if name else f"import {module}", names)  # as a reader writes it
    found = names.get(name)
    if inspect.isclass(found) or inspect.isfunction(found):
        home = importlib.import_module(found.__module__)
        assert getattr(home, found.__qualname__) is found


def test_every_module_of_then_is_found():
    """Also those that no page names: another party may use them all the same."""
    missing = []
    for module in (VERSION / "modules.txt").read_text().splitlines():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("asecalc_ml"):  # and not an optional dependency
                missing.append(module)
    assert not missing


@pytest.mark.parametrize("module", ["asecalc_ml.cli.campaign_worker", "asecalc_ml.quantities"])
def test_a_module_is_run_under_its_former_name(module, monkeypatch):
    """As ``python -m`` does in a new process, with the code of today."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    names = runpy.run_module(module, run_name="run_here")
    now = importlib.import_module(current_name(module))
    assert {name for name in vars(now) if not name.startswith("__")} <= names.keys()


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_classes_and_functions_of_then_are_found():
    """Renamed or not, in the module that answers for theirs; a few functions of no use to others are gone."""
    lines = (VERSION / "names.txt").read_text().splitlines()
    named = [(importlib.import_module(module), name) for module, name in map(str.split, lines)]
    assert not [(module.__name__, name) for module, name in named if not hasattr(module, name)]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("module", "former", "present"),
    [
        ("campaign", "Point", "GridPoint"),
        ("campaign.options", "Point", "GridPoint"),
        ("campaign.scheduler", "Driver", "Scheduler"),
        ("engine.record", "Record", "EvaluationRecord"),
        ("scan.plan", "Plan", "ScanPlan"),
        ("stages.relax", "Relax", "RelaxStage"),
        ("transfer.plan", "Molecule", "NamedMolecule"),
        ("watch.watches", "Bounds", "ThermoBounds"),
    ],
)
def test_a_renamed_class_answers_under_both_names(module, former, present):
    module = importlib.import_module(f"asecalc_ml.md_protocols.{module}")
    with pytest.warns(DeprecationWarning, match=f"{former} is now {present}"):
        under_former_name = getattr(module, former)
    assert under_former_name is getattr(module, present)
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        module.Other  # noqa: B018
