"""What the documentation shows is executed, or checked by the command that it is meant for."""

import doctest
import os
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asecalc_ml import config, plugins
from asecalc_ml._checkout import ROOMS, ROOT, is_checkout
from asecalc_ml.cli import md, ml
from asecalc_ml.cli.tune.command import check_tuning
from asecalc_ml.potentials.tuning.checks import check_search

pytestmark = pytest.mark.skipif(
    not is_checkout(), reason="README and examples are part of the checkout alone"
)

APPS = {"asecalc-md": md.app, "asecalc-ml": ml.app}
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])
WITH_PATHS = [*PAGES, ROOT / "CONTRIBUTING.md"]
EXAMPLES = sorted(file for file in (ROOT / "examples").rglob("*.yaml") if "plugin" not in file.parts)

#: Words in code on a page, and the optional package that they need with the extra that installs it.
NEEDED = {
    "GenerateOptions": ("tblite", "reference"),
    "label_file": ("tblite", "reference"),
    "openmmml": ("openmmml", "engines"),
    "i-pi": ("ipi", "engines"),
}


def modules_with_examples() -> list[str]:
    files = [file for top in ("asecalc_ml", *ROOMS) for file in (ROOT / top).rglob("*.py")]
    shown = [
        file.relative_to(ROOT).with_suffix("") for file in files if ">>> " in file.read_text(encoding="utf-8")
    ]
    parts = [file.parts if file.parts[0] == "asecalc_ml" else ("asecalc_ml", *file.parts) for file in shown]
    return sorted(".".join(one).removesuffix(".__init__") for one in parts)


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstring_examples(module):
    result = doctest.testmod(
        import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0
    assert result.attempted > 0


def examples() -> list:
    """All of them; DFT takes its time."""
    texts = {path: path.read_text(encoding="utf-8") for path in EXAMPLES}
    return [
        pytest.param(
            path, id=f"{path.parent.name}/{path.name}", marks=pytest.mark.slow if "pyscf" in text else ()
        )
        for path, text in texts.items()
    ]


@pytest.mark.parametrize("path", examples())
def test_example_is_valid(path, tmp_path, request, monkeypatch):
    """As far as their data are there: those of trainings are to be downloaded."""
    monkeypatch.chdir(tmp_path)
    data = config.read_yaml(path)
    if str(data.get("structure")).startswith("data/ean"):
        liquid(request.getfixturevalue("shared_data"))
    if str(data.get("structure")).startswith("examples/"):
        monkeypatch.chdir(ROOT)
    if "search" in data:
        check_search(check_tuning(data, str(path)))
        return
    if "data" in data:
        ml.check_training(data, str(path))
        return
    app = md.app if "protocol" in data or "grid" in data else ml.app
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", [one for one in examples() if "protocol:" in one.values[0].read_text()])
def test_example_runs(path, tmp_path, request, monkeypatch):
    """The whole way, with fewer steps, and DFT in the smallest basis."""
    options = config.read_yaml(path)
    known = plugins.get("protocols", options["protocol"]).model_fields
    parts = "[{ensemble: nvt, steps: 20}, {ensemble: nve, steps: 20}]"
    shorter = {"steps": "50", "equilibration_ps": "0.02", "points": "3", "sequence": parts}
    shorter |= {"runs": "1", "reference_runs": "2"}
    if options["protocol"] == "scan":  # which goes on from what is not relaxed
        shorter |= {"relax_steps": "10"}
    if options["structure"].startswith("data/ean"):
        monkeypatch.chdir(tmp_path)
        liquid(request.getfixturevalue("shared_data"))
        eager = f"{{{options['calculator']}: {{compile: never}}}}"  # compiling for 225 atoms takes minutes
        shorter |= {"steps": "10", "equilibration_ps": "0.005", "relax_steps": "10", "calculator": eager}
    short = [f"--{key.replace('_', '-')}={value}" for key, value in shorter.items() if key in known]
    smallest = "pyscf-dft: {basis: sto-3g, grid_level: 0, "
    file = tmp_path / path.name
    file.write_text(path.read_text(encoding="utf-8").replace("pyscf-dft: {", smallest), encoding="utf-8")
    command = ["run", str(file), *short, "--directory", str(tmp_path / "run"), "--quiet"]
    result = CliRunner().invoke(md.app, command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def liquid(shared_data: Path) -> None:
    """What the example of the ionic liquid is told to make."""
    source, target = str(shared_data / "ean" / "validation_original.json"), "data/ean.extxyz"
    arguments = ["data", "convert", source, target, "--format", "neuralil-json", "--max-energy-eV", "-1255"]
    assert CliRunner().invoke(ml.app, arguments).exit_code == 0


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands() -> list[str]:
    """Every command of ours that a page shows, alone or at the end of a chain."""
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    parts = [part.strip().removeprefix("$ ") for line in lines for part in line.split("&&")]
    return sorted({part for part in parts if part.startswith(tuple(APPS))})


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*WITH_PATHS, ROOT / "examples/plugin/README.md"], ids=lambda page: page.name
)
def test_every_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / file if file else page, heading) for file, heading in links]
    assert not [str(file) for file, _ in targets if not file.exists()]
    assert not [(file.name, heading) for file, heading in targets if heading and heading not in anchors(file)]


@pytest.mark.parametrize("page", WITH_PATHS, ids=lambda page: page.name)
def test_every_python_file_that_a_page_names_exists(page):
    """With its whole path, so that a reader finds it; files that a reader would write begin with `my_`."""
    named = re.findall(r"(?<![\w/.<>-])(?:[\w.]+/)*\w+\.py\b", page.read_text(encoding="utf-8"))
    written = [name for name in named if not Path(name).name.startswith("my_")]
    assert not [name for name in written if not (ROOT / name).is_file()]


def test_readme_shows_commands():
    assert len(commands()) > 3


@pytest.mark.parametrize("command", commands())
def test_command_exists_and_its_files_too(command):
    program, *arguments = shlex.split(command, comments=True)
    words = []
    for argument in arguments:
        if argument.startswith("-") or "/" in argument or argument.isupper():
            break
        words.append(argument)
    result = CliRunner().invoke(APPS[program], [*words[:2], "--help"])
    assert result.exit_code == 0, result.output
    assert all((ROOT / argument).is_file() for argument in arguments if argument.startswith("examples/"))


@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in PAGES for code in blocks(page, "python")],
    ids=lambda value: getattr(value, "name", "block"),
)
def test_python_on_a_page_runs(page, code, tmp_path, monkeypatch):
    for word, (package, extra) in NEEDED.items():
        if word in code:
            pytest.importorskip(package, reason=f"needs {package}: pip install 'asecalc-ml[{extra}]'")
    monkeypatch.setenv(
        "PATH", str(Path(sys.executable).parent), prepend=os.pathsep
    )  # programs of this Python
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {})
