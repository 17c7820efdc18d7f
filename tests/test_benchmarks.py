"""Benchmarks run, and the page of their figures is that of their records. No time is asserted."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import ROOT

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="benchmarks are part of the checkout alone"
)

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "publish(" in path.read_text(encoding="utf-8"))
RECORDS = sorted((FOLDER / "results").glob("*.json"))


@pytest.fixture
def measuring(monkeypatch):
    """The benchmarks' own modules, as their scripts import them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import page
    from measuring import record, turns

    yield SimpleNamespace(record=record, turns=turns, page=page)
    for name in [name for name in sys.modules if name.split(".")[0] in ("measuring", "page")]:
        del sys.modules[name]


def cells_of(markdown: str) -> list[list[str]]:
    """Rows of all tables of a page, without the lines below the heads."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and set(line) != set("| -")]
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]


def check_page(record, markdown: str) -> None:
    """Every cell of the record stands in the page, in its place, and so does where it was measured."""
    from measuring.record import shown

    expected = []
    for table in record.tables:
        expected += [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
        assert table.title in markdown
        assert table.method in markdown
    rows = cells_of(markdown)
    assert all(row in rows for row in expected)
    machine = record.machine
    for fact in (record.title, record.command, machine.processor, machine.commit, *machine.versions.values()):
        assert fact in markdown


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs(script, tmp_path, measuring):
    """With smallest sizes, as a process of its own."""
    file = tmp_path / "record.json"
    command = [sys.executable, str(FOLDER / script), "--quick", "--json", str(file)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    record = measuring.record.Record.model_validate_json(file.read_text())
    assert record.benchmark == script.removesuffix(".py")
    assert "--json" not in record.command
    assert all(len(row) == len(table.columns) for table in record.tables for row in table.rows)
    assert sum(len(table.rows) for table in record.tables) > 0
    check_page(record, measuring.page.page([record]))


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_without_one(tmp_path):
    environment = os.environ | {"DEVICE": "cpu", "QUICK": "--quick", "PYTHON": sys.executable}
    command = [str(FOLDER / "gpu.sh"), str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Single molecule" in (tmp_path / "page.md").read_text()


def test_page_of_a_record_without_loss(measuring):
    record = made_up(measuring.record)
    again = measuring.record.Record.model_validate_json(record.model_dump_json())
    assert again == record
    check_page(again, measuring.page.page([again]))


def made_up(module):
    """A record with every kind of cell, and a bar in a text."""
    spread = module.Spread.of([3.0, 1.0, 2.0], factor=1e3)
    table = module.Table(
        title="Steps",
        method="By hand.",
        columns=["model", "n", "step (ms)", "error"],
        rows=[["a|b", 12_345, spread, 1.5e-7], ["", 0, 0.25, ""]],
    )
    machine = module.Machine(
        processor="a processor",
        device="cpu",
        threads=1,
        python="3.11",
        versions={"torch": "2.13"},
        commit="abc",
    )
    return module.Record(
        benchmark="steps", title="Made up", command="python steps.py", machine=machine, tables=[table]
    )


@pytest.mark.skipif(not RECORDS, reason="no records are kept")
def test_the_page_in_the_documentation_is_that_of_the_records(measuring):
    records = [measuring.record.Record.model_validate_json(path.read_text()) for path in RECORDS]
    assert (ROOT / "docs" / "benchmarks.md").read_text() == measuring.page.page(records)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.6, "1,235"), (13.54, "13.5"), (0.2436, "0.244"), (5.01e-7, "5.0e-07")],
)
def test_three_digits(measuring, value, text):
    assert measuring.record.shown(value) == text


@pytest.mark.parametrize("to_file", [[], ["--json", "a.json"], ["--json=a.json"]])
def test_the_command_measures_again(measuring, to_file):
    command = measuring.record.command_of("/somewhere/steps.py", *to_file, "ET 64 × 4", "--steps", "2")
    assert command == "python benchmarks/steps.py 'ET 64 × 4' --steps 2"


def test_ratios_are_taken_within_turns(measuring):
    """A machine that is ten times slower in one turn slows both sides, and changes no ratio."""
    faster = np.array([1.0, 10.0, 1.0, 1.1])
    ratio = measuring.turns.ratio(2 * faster, faster)
    assert (ratio.lower, ratio.median, ratio.upper) == pytest.approx((2, 2, 2))


def test_work_takes_turns(measuring):
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = measuring.turns.alternate(works, 3)
    assert "".join(calls) == "abbaab"
    assert {name: times.shape for name, times in seconds.items()} == {"a": (3,), "b": (3,)}


def test_work_may_measure_itself(measuring):
    seconds = measuring.turns.alternate({"a": lambda: 2.0, "b": lambda: 3.0}, 2, measuring.turns.own_time)
    assert {name: times.tolist() for name, times in seconds.items()} == {"a": [2, 2], "b": [3, 3]}


def test_what_pages_cite_is_there():
    """Every `python benchmarks/NAME.py` in a page is a script."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *FOLDER.glob("*.md")]
    cited = {
        name for page in pages for name in re.findall(r"python benchmarks/(\w+\.py)", page.read_text("utf-8"))
    }
    assert cited
    assert not [name for name in cited if not (FOLDER / name).is_file()]


def test_records_are_of_scripts_that_are_there():
    assert not [path for path in RECORDS if f"{json.loads(path.read_text())['benchmark']}.py" not in SCRIPTS]
