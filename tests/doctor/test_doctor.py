"""`asecalc-ml doctor`: what is broken on purpose is found, with a remedy; what is in order passes."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from typer.testing import CliRunner

from asecalc_ml._checkout import ROOT, is_checkout
from asecalc_ml.cli.ml import app
from asecalc_ml.doctor import cleaning, compiled_step, examination, folders, machine, models, requirements
from asecalc_ml.doctor.finding import Finding
from asecalc_ml.errors import ModelError
from asecalc_ml.files.in_use import is_in_use, mark_in_use
from asecalc_ml.files.user_cache import cache_folder
from asecalc_ml.model.compile.compiled_functions import CompiledFunctions
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.outcome import OUTCOMES
from asecalc_ml.store.model_file import SHIPPED

#: Exit status of a command that found something wrong, as `asecalc-ml check` has it.
FAILED = 1


def by_name(findings) -> dict[str, Finding]:
    """Findings by name; each has a word of the vocabulary, one line of text, and a remedy if it failed."""
    findings = list(findings)
    for finding in findings:
        assert finding.outcome in OUTCOMES
        assert "\n" not in finding.text + finding.remedy
    return {finding.name: finding for finding in findings}


def failed(findings) -> dict[str, Finding]:
    """Findings that failed, by name."""
    return {name: one for name, one in by_name(findings).items() if one.outcome == "failed"}


def script(path: Path, *lines: str) -> Path:
    """An executable shell script."""
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


# ---------------------------------------------------------------------- packages


def test_this_installation_passes():
    found = by_name(requirements.check_versions())
    assert {one.outcome for one in found.values()} == {"passed"}
    assert f"torch {metadata.version('torch')}" in found["required packages"].text


@pytest.mark.skipif(not is_checkout(), reason="compares with setup.cfg")
def test_every_extra_has_a_purpose():
    extras = set(requirements.declared()) - {""}
    assert extras == set(requirements.PURPOSES)


def test_modules_of_all_installed_requirements_are_found():
    declared = [one for some in requirements.declared().values() for one in some]
    states = [requirements.package_state(one) for one in declared]
    assert not [state.fault for state in states if state.fault]


def test_a_version_outside_its_range(monkeypatch):
    monkeypatch.setattr(requirements, "declared", lambda: {"": [Requirement("numpy>=99")]})
    found = failed(requirements.check_versions())
    assert f"numpy {metadata.version('numpy')} is installed, and >=99 is needed" in found["numpy"].text
    assert found["numpy"].remedy == 'pip install "numpy>=99"'
    assert found["required packages"].text.startswith("0 of 1")


def test_an_extra_that_is_not_installed_is_no_fault(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(requirements.metadata, "version", version)
    monkeypatch.setattr(requirements, "declared", lambda: {"molecules": [Requirement("rdkit")]})
    (found,) = requirements.check_extras()
    assert found.outcome == "not applicable"
    assert "rdkit missing (for structures from SMILES" in found.text
    assert found.remedy == 'pip install "asecalc-ml[molecules]"'


def test_an_extra_whose_module_cannot_be_imported_failed(monkeypatch):
    pytest.importorskip("rdkit")
    monkeypatch.setitem(sys.modules, "rdkit", None)
    found = by_name(requirements.check_extras())["molecules"]
    assert found.outcome == "failed"
    assert "its module rdkit cannot be found" in found.text
    assert "--force-reinstall" in found.remedy


# ---------------------------------------------------------------------- the machine


def test_the_compiler_of_this_machine(monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on PATH")
    monkeypatch.delenv("CXX", raising=False)
    found = by_name(machine.check_compiler())
    assert found["C++ compiler"].outcome == "passed"
    assert "g++" in found["C++ compiler"].text


@pytest.mark.parametrize("by", ["CXX", "PATH"])
def test_a_broken_compiler(by, tmp_path, monkeypatch):
    broken = script(tmp_path / "g++", 'echo "broken on purpose" >&2', "exit 1")
    monkeypatch.setenv(by, str(broken if by == "CXX" else tmp_path))
    if by == "PATH":
        monkeypatch.delenv("CXX", raising=False)
    (found,) = machine.check_compiler()
    assert found.outcome == "failed"
    assert "broken on purpose" in found.text
    assert "install g++" in found.remedy


def test_a_compiler_that_is_not_there(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    (found,) = machine.check_compiler()
    assert found.outcome == "failed"
    assert "No such file" in found.text


def test_a_compiler_that_compiles_nothing(tmp_path, monkeypatch):
    broken = script(
        tmp_path / "g++", '[ "$1" = --version ] && exit 0', 'echo "cc1plus: error: lost" >&2', "exit 4"
    )
    monkeypatch.setenv("CXX", str(broken))
    assert "cc1plus: error: lost" in failed(machine.check_compiler())["C++ compiler"].text


@pytest.mark.parametrize("how", ["does not link", "runs one thread"])
def test_a_compiler_without_openmp(how, tmp_path, monkeypatch):
    real = shutil.which("g++")
    if real is None or sys.platform == "darwin":
        pytest.skip("needs g++")
    answer = 'echo "ld: cannot find -lgomp" >&2; exit 1' if how == "does not link" else "set -- -fno-openmp"
    lines = ['for one in "$@"; do if [ "$one" = -fopenmp ]; then lacks=1; fi; done']
    lines += (
        [f'if [ "$lacks" ]; then {answer}; fi']
        if how == "does not link"
        else ['if [ "$lacks" ]; then set -- $(printf "%s " "$@" | sed s/-fopenmp//); fi']
    )
    monkeypatch.setenv("CXX", str(script(tmp_path / "g++", *lines, f'exec {real} "$@"')))
    found = by_name(machine.check_compiler())
    assert found["C++ compiler"].outcome == "passed"
    assert found["OpenMP"].outcome == "failed"
    assert "libgomp" in found["OpenMP"].remedy


def test_more_threads_than_cores():
    n_cores, _ = machine.usable_cores({})
    found = by_name(machine.check_threads({"OMP_NUM_THREADS": str(n_cores + 1), "MKL_NUM_THREADS": "1"}))
    assert found["OMP_NUM_THREADS"].outcome == "failed"
    assert found["OMP_NUM_THREADS"].remedy == f"export OMP_NUM_THREADS={n_cores}, or 1"
    assert found["MKL_NUM_THREADS"].outcome == "passed"
    assert (
        by_name(machine.check_threads({"OMP_NUM_THREADS": "many"}))["OMP_NUM_THREADS"].outcome == "undecided"
    )


def test_cores_of_a_batch_system_count():
    assert machine.usable_cores({"SLURM_CPUS_PER_TASK": "1"})[0] == 1
    found = by_name(machine.check_threads({"SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "2"}))
    assert found["OMP_NUM_THREADS"].outcome == "failed"


# ---------------------------------------------------------------------- folders


@pytest.mark.parametrize("place", ["a file", "/proc"])
def test_a_cache_that_cannot_be_written(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache" if place == "/proc" else str(tmp_path / "file"))
    found = failed(folders.check_caches())
    assert set(found) >= {"compiled models", "data sets as arrays"}
    assert found["compiled models"].remedy == folders.ANOTHER_CACHE
    assert "cannot be written to" in found["compiled models"].text


def test_a_full_file_system(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    found = folders.state_of(folders.Folder("cache", tmp_path, "move it"), "caches")
    assert found.outcome == "failed"
    assert "1.0 MB free" in found.text
    assert "--clean" in found.remedy


def test_the_size_of_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(10**6))
    (tmp_path / "link").symlink_to("/")
    n_bytes, n_files, is_complete = folders.measure(tmp_path)
    assert (n_files, is_complete) == (1, True)
    assert 1e6 <= n_bytes < 1.1e6
    assert folders.measure(tmp_path, limit_s=-1)[2] is False
    assert folders.used(tmp_path / "missing") == "nothing yet"


def test_the_place_of_torchs_cache(monkeypatch, tmp_path):
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert folders.inductor_cache().path == Path(default_cache_dir())
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert folders.inductor_cache().path == tmp_path


# ---------------------------------------------------------------------- models


def test_the_models_that_ship():
    (found,) = models.check_shipped()
    assert found.outcome == "passed"
    assert f"{len(list(SHIPPED.glob('*.safetensors')))} of" in found.text


def test_damaged_and_missing_models(tmp_path):
    copy = tmp_path / "models"
    shutil.copytree(SHIPPED, copy)
    with (copy / "torchmdnet-ethanol.safetensors").open("r+b") as file:
        file.seek(-7, os.SEEK_END)
        file.write(b"\x01")
    (copy / "jat-ean.safetensors").unlink()
    found = failed(models.check_shipped(copy))
    assert set(found) == {"torchmdnet-ethanol.safetensors", "jat-ean.safetensors", "shipped models"}
    assert "has changed" in found["torchmdnet-ethanol.safetensors"].text
    assert "is missing" in found["jat-ean.safetensors"].text
    assert "reinstall" in found["jat-ean.safetensors"].remedy


def test_a_damaged_registered_model(tiny_model, own_home):
    assert not failed(models.check_registry())
    path = own_home / "models" / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-5] + b"12345")
    found = failed(models.check_registry())
    assert "checksum" in found["tiny"].text
    assert found["tiny"].remedy


def test_a_registry_in_which_nothing_can_be_registered(tmp_path, monkeypatch):
    monkeypatch.setenv("ASECALC_ML_HOME", f"/proc/models{os.pathsep}/proc/others")
    found = failed(models.check_registry())
    assert "ASECALC_ML_HOME" in found["registry"].remedy


# ---------------------------------------------------------------------- the step


@pytest.fixture
def compiled_to(monkeypatch):
    """Let what is compiled compute as plain PyTorch does, with fields of the result changed."""
    call = Evaluator.__call__

    def replace_by(**changes):
        def changed(self, graph):
            if self.compiled.compile != "always":
                return call(self, graph)
            self.compiled._functions[1, graph.n_atoms] = list
            result = self.eagerly(graph)
            return replace(
                result, **{name: change(getattr(result, name)) for name, change in changes.items()}
            )

        monkeypatch.setattr(Evaluator, "__call__", changed)
        monkeypatch.setattr(CompiledFunctions, "prepare", lambda self, programs: None)

    return replace_by


def test_a_step_that_agrees(compiled_to):
    compiled_to()
    found = by_name(compiled_step.check_step())
    assert [one.outcome for one in found.values()] == ["passed", "passed"]
    assert "ms a step" in found["compiled"].text


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": lambda energy: energy + 1e-3},
        {"forces": lambda forces: forces * 1.001},
        {"forces": lambda forces: forces * float("nan")},
        {"energy": lambda energy: energy * float("nan")},
    ],
    ids=["energy", "forces", "forces not a number", "energy not a number"],
)
def test_a_compiled_step_that_gives_another_value(changes, compiled_to):
    compiled_to(**changes)
    found = failed(compiled_step.check_step())
    assert set(found) == {"compiled"}
    assert "is off by" in found["compiled"].text
    assert "compile: never" in found["compiled"].remedy


def test_a_model_that_cannot_be_compiled(monkeypatch):
    def prepare(self, programs):
        raise ModelError("it cannot be compiled here;", remedy="install one")

    monkeypatch.setattr(CompiledFunctions, "prepare", prepare)
    found = failed(compiled_step.check_step())
    assert found["compiled"].text == "it cannot be compiled here"
    assert found["compiled"].remedy == "install one"


def test_a_model_that_does_not_reproduce_its_card(compiled_to, monkeypatch):
    from asecalc_ml.model.model import Model

    compiled_to()
    forward = Model.forward

    def slightly_more(self, inputs):
        output = forward(self, inputs)
        return output._replace(systems=output.systems * (1 + 1e-6))

    monkeypatch.setattr(Model, "forward", slightly_more)
    assert "compared with its card" in failed(compiled_step.check_step())["plain PyTorch"].text


def test_without_a_compiler_the_step_is_undecided():
    found = by_name(compiled_step.check_step(may_compile=False))
    assert found["plain PyTorch"].outcome == "passed"
    assert found["compiled"].outcome == "undecided"


def test_a_check_that_breaks_does_not_end_the_examination(monkeypatch):
    def breaks():
        raise OSError("libgomp.so.1: cannot open shared object file")
        yield

    monkeypatch.setattr(machine, "check_devices", breaks)
    monkeypatch.setattr(compiled_step, "check_step", lambda *given: iter(()))
    found = by_name(examination.examine({}))
    assert "libgomp.so.1" in found["devices"].text
    assert found["devices"].outcome == "failed"


# ---------------------------------------------------------------------- the command


def test_the_command_with_a_broken_compiler(tmp_path):
    """In a process of its own, as torch reads CXX when it is imported."""
    broken = script(tmp_path / "g++", 'echo "broken on purpose" >&2', "exit 1")
    environment = {**os.environ, "CXX": str(broken), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "asecalc_ml.cli.ml_doctor_test"]
    code = "from asecalc_ml.cli.ml import main; main()"
    command = [sys.executable, "-c", code, "doctor", "--json", str(tmp_path / "doctor.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == FAILED, done.stderr
    assert done.stdout.splitlines()[-1] == "1 failed: C++ compiler"
    lines = done.stdout.splitlines()
    (place,) = (k for k, line in enumerate(lines) if "broken on purpose" in line)
    assert lines[place + 1].strip().startswith("→ install g++")
    content = json.loads((tmp_path / "doctor.json").read_text())
    assert content["counts"]["failed"] == 1
    outcomes = {one["name"]: one["outcome"] for one in content["findings"]}
    assert (outcomes["C++ compiler"], outcomes["compiled"]) == ("failed", "undecided")


def test_the_command_when_nothing_is_wrong(monkeypatch):
    findings = [Finding("packages", "Python", "passed", "3.11"), Finding("extras", "a", "not applicable", "")]
    monkeypatch.setattr(examination, "examine", lambda *given: iter(findings))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Nothing is wrong."


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--yes"], "add --clean"),
        (["--clean", "--json", "x.json"], "leave out --json"),
        (["--model", "torchmdnet-ethanl"], "torchmdnet-ethanol"),
        (["--json", "/proc/x.json"], "cannot write"),
    ],
)
def test_wrong_arguments(arguments, told):
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


# ---------------------------------------------------------------------- cleaning


LONG_AGO = time.time() - 86_400


def entry(path: Path, *names: str) -> Path:
    """A folder with files, all of them old."""
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_bytes(bytes(5000))
    for file in (*path.iterdir(), path):
        os.utime(file, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def caches(tmp_path, monkeypatch) -> dict[str, Path]:
    """Caches with one entry each that can be removed, next to files that have to stay."""
    temporary, torchs = tmp_path / "tmp", tmp_path / "inductor"
    temporary.mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(torchs))
    monkeypatch.setattr(folders.tempfile, "tempdir", str(temporary))
    golden = cache_folder("golden")
    golden.mkdir(parents=True)
    (golden / ("0" * 32)).touch()
    stay = entry(cache_folder("datasets"), "qm9-0.npz")
    entry(temporary / "someone-elses", "file")
    entry(cache_folder("compiled") / "notes", "file")
    entry(own_models := tmp_path / "models", "mine.safetensors")
    return {
        "compiled": entry(cache_folder("compiled") / ("a" * 32), "package.pt2", "manifest.json"),
        "unfinished": entry(cache_folder("compiled") / "tmpabcd_fgh", "made"),
        "unpacked": entry(temporary / "aotinductor_Ab12Cd", "model.so"),
        "torch": entry(torchs / "ab", "kernel.so"),
        "golden": golden / ("0" * 32),
        "stay": stay,
        "models": own_models,
    }


REMOVED = ("compiled", "unfinished", "unpacked", "torch", "golden")


def clean(*arguments: str, answer: str | None = None):
    return CliRunner().invoke(app, ["doctor", "--clean", *arguments], input=answer)


def listed() -> set[Path]:
    return {path for group in cleaning.removable() for path in group.entries}


def test_cleaning_lists_and_asks_first(caches):
    result = clean(answer="n\n")
    assert result.exit_code == 0
    assert "Remove 5 entries" in result.output
    assert "Nothing was removed" in result.output
    assert all(path.exists() for path in caches.values())
    assert listed() == {caches[name] for name in REMOVED}


@pytest.mark.parametrize("how", ["yes", "asked"])
def test_cleaning_removes_what_can_be_made_again_alone(how, caches, tmp_path):
    result = clean("--yes") if how == "yes" else clean(answer="y\n")
    assert result.exit_code == 0, result.output
    assert {name for name, path in caches.items() if not path.exists()} == set(REMOVED)
    assert (caches["stay"] / "qm9-0.npz").is_file()
    assert (caches["models"] / "mine.safetensors").is_file()
    assert (cache_folder("compiled") / "notes" / "file").is_file()
    assert (tmp_path / "tmp" / "someone-elses" / "file").is_file()
    assert "Nothing can be removed" in clean().output


HOLDER = """
import ctypes, mmap, sys, time
from asecalc_ml.files.in_use import mark_in_use
from pathlib import Path
how, path = sys.argv[1], Path(sys.argv[2])
if how == "locked":
    mark_in_use(path)
else:
    file = path.open("r+b")
    if how == "mapped":
        mapped = mmap.mmap(file.fileno(), 0)
        file.close()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        ("compiled", "manifest.json", "locked"),
        ("unpacked", "model.so", "mapped"),
        ("unpacked", "model.so", "open"),
        ("torch", "kernel.so", "mapped"),
    ],
)
def test_what_a_running_process_uses_stays(name, file, how, caches):
    if how != "locked" and not Path("/proc/self/maps").exists():
        pytest.skip("no /proc")
    command = [sys.executable, "-c", HOLDER, how, str(caches[name] / file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline() == b"ready\n"
        result = clean("--yes")
        assert result.exit_code == 0
        assert (caches[name] / file).is_file()
        assert {key for key, path in caches.items() if not path.exists()} == set(REMOVED) - {name}
        holder.kill()
        holder.wait()
    clean("--yes")  # the lock ends with the process, however it ends
    assert not caches[name].exists()


def test_what_was_begun_within_the_hour_stays(caches):
    for name in ("unfinished", "unpacked", "torch"):
        os.utime(next(caches[name].iterdir()))
    assert listed() == {caches["compiled"], caches["golden"]}


def test_without_a_list_of_processes_only_locked_caches_are_cleaned(caches, monkeypatch):
    monkeypatch.setattr(cleaning.UsedFiles, "_files", set())
    assert listed() == {caches["compiled"], caches["unfinished"], caches["golden"]}


def test_a_registry_inside_a_cache_stays(caches, monkeypatch):
    monkeypatch.setenv("ASECALC_ML_HOME", str(caches["compiled"] / "models"))
    assert caches["compiled"] not in listed()


def test_links_are_removed_and_not_what_they_lead_to(caches, tmp_path):
    outside = entry(tmp_path / "outside", "precious")
    (caches["torch"].parent / "cd").symlink_to(outside)
    os.utime(caches["torch"].parent / "cd", (LONG_AGO, LONG_AGO), follow_symlinks=False)
    assert clean("--yes").exit_code == 0
    assert not (caches["torch"].parent / "cd").is_symlink()
    assert (outside / "precious").is_file()


def test_what_cannot_be_removed_is_reported(caches, monkeypatch):
    def unlink(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", unlink)
    result = clean("--yes")
    assert result.exit_code == FAILED
    assert "Permission denied" in result.output


def test_a_marked_file_is_in_use_until_it_is_closed(tmp_path):
    file = tmp_path / "manifest.json"
    assert not is_in_use(file)
    file.write_text("{}")
    assert not is_in_use(file)
    mark_in_use(file)
    assert is_in_use(file)
    mark_in_use(tmp_path / "missing")
    with file.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.slow
def test_a_compiled_model_is_in_use_while_its_process_lives(own_home):
    """The whole way: compiled, kept, marked, and left alone by `--clean`."""
    assert not failed(compiled_step.check_step())
    (manifest,) = cache_folder("compiled").glob("*/manifest.json")
    assert is_in_use(manifest)
    assert manifest.parent not in listed()
    assert torch.get_num_threads() >= 1
