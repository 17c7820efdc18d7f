"""The report: everything inside one page, its numbers those of the files, and a real browser to open it."""

import html
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.pipeline import read_results, run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import AnalysisError, PluginError, RunError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.statistics.histogram import Histogram

N_FRAMES = 400
OPTIONS = {
    "protocol": "nve",
    "structure": "CH3CH2OH",
    "calculator": {"ase.calculators.emt:EMT": {}},
    "temperature_K": 300.0,
    "timestep_fs": 0.5,
    "steps": 4 * (N_FRAMES - 1),
    "write_every": 4,
    "seed": 0,
}
FINISHED = {"time": "2026-01-01T00:00:00+00:00", "kind": "finished", "message": "mean temperature 305 K"}


def write_run(folder: Path, n_frames: int = N_FRAMES, events=(FINISHED,), card=None, **options) -> Path:
    """A run directory of shaken ethanol, made file by file."""
    rng, ethanol = np.random.default_rng(0), molecule("CH3CH2OH")
    folder.mkdir()
    (folder / "protocol.yaml").write_text(dump_yaml({**OPTIONS, **options}))
    provenance = {"frame_interval_fs": 2.0, "calculator": {"name": "EMT <test>"}, "seed": 0}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    if events:
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if card is not None:
        (folder / "card.json").write_text(json.dumps(card))
    write_frames(folder / "start.traj", ethanol, [ethanol.positions])
    frames = ethanol.positions + rng.normal(scale=0.03, size=(n_frames, len(ethanol), 3))
    write_frames(folder / "trajectory.traj", ethanol, frames)
    write_thermo(folder / "thermo.csv", rng, n_frames)
    return folder


def write_frames(path: Path, atoms: Atoms, frames) -> None:
    with Trajectory(path, "w") as trajectory:
        for positions in frames:
            one = atoms.copy()
            one.positions = positions
            one.calc = SinglePointCalculator(one, energy=-1.0, forces=np.zeros_like(positions))
            trajectory.write(one)


def write_thermo(path: Path, rng: np.random.Generator, n_rows: int) -> None:
    lines = ["step,time_fs,potential_eV,kinetic_eV,total_eV,temperature_K"]
    for row in range(n_rows):
        kinetic, noise = 0.27 + 0.05 * rng.normal(), 1e-5 * rng.normal()
        total = -100.0 + noise
        temperature = kinetic / 0.27 * 305
        lines.append(f"{4 * row},{2.0 * row},{total - kinetic!r},{kinetic!r},{total!r},{temperature!r}")
    path.write_text("\n".join(lines) + "\n")


def a_card() -> dict:
    seen = Histogram.from_samples(np.random.default_rng(1).normal(1.51, 0.06, 1000), width=0.02)
    return {
        "name": "some-model",
        "architecture": "morse",
        "n_parameters": 1234,
        "cutoff_A": 5.0,
        "elements": ["H", "C", "O"],
        "dtype": "float64",
        "dataset": {
            "name": "hot ethanol",
            "level_of_theory": "PBE/def2-SVP",
            "temperature_K": 500.0,
            "licence": "CC0",
            "citation": "A. Author, J. Test. 1, 2 (2020)",
            "hash": "0",
            "n_train": 950,
            "n_validation": 50,
        },
        "metrics": {
            "n_frames": 1000,
            "energy_mae_meV": 4.56,
            "energy_rmse_meV": 6.78,
            "forces_mae_meV_A": 11.7,
            "forces_rmse_meV_A": 18.9,
        },
        "domain": {"distances": {"C-C bonded": seen.model_dump()}, "angles": {}},
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", card=a_card())
    run_analyses(folder)
    write_report(folder)
    return folder


class Page(HTMLParser):
    """Elements, their attributes, and text of a page."""

    VOID = ("meta", "link", "br", "img", "input", "path", "use", "line", "rect")

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self) -> list[float]:
        return [float(attrs["value"]) for tag, attrs in self.elements if tag == "data"]


def load(folder: Path) -> Page:
    return Page(folder / "report.html")


# ------------------------------------------------------------------------------------------- the results


def test_default_analyses_all_find_something(reported):
    others = [name for name in NVE.default_analyses if name != "committee-deviation"]  # needs a committee
    assert [result.analysis for result in read_results(reported)] == others


def test_analysing_twice_gives_the_same_files(tmp_path):
    folder = write_run(tmp_path / "run")
    run_analyses(folder)
    before = {path.name: path.read_bytes() for path in (folder / "results").iterdir()}
    run_analyses(folder)
    write_report(folder)
    page = (folder / "report.html").read_bytes()
    write_report(folder)
    assert {path.name: path.read_bytes() for path in (folder / "results").iterdir()} == before
    assert (folder / "report.html").read_bytes() == page


def test_results_of_analyses_no_longer_asked_for_go_away(tmp_path):
    folder = write_run(tmp_path / "run")
    run_analyses(folder)
    run_analyses(folder, {"temperature": None})
    names = {path.name for path in (folder / "results").iterdir()}
    assert names == {"temperature.json", "temperature_statistics.csv"}


def test_one_analysis_that_finds_nothing_does_not_lose_the_others(tmp_path):
    folder = write_run(tmp_path / "run")
    with pytest.raises(
        AnalysisError, match=r"^analysis bond-lengths: ", check=told(value="C-N", allowed=["C-C"])
    ):
        run_analyses(folder, {"bond-lengths": {"patterns": ["C-N"]}, "temperature": {}})
    assert [result.analysis for result in read_results(folder)] == ["temperature"]


def test_unknown_analysis(tmp_path):
    with pytest.raises(PluginError, check=told(name="bond-length", remedy="'bond-lengths'")):
        run_analyses(write_run(tmp_path / "run"), {"bond-length": {}})


def test_damaged_result_names_the_remedy_and_loses_no_other(tmp_path):
    folder = write_run(tmp_path / "run")
    run_analyses(folder)
    (folder / "results" / "temperature.json").write_text("{")
    with pytest.raises(RunError, check=told(name="temperature.json", remedy="asecalc-md report")):
        read_results(folder)
    with pytest.warns(UserWarning, match=r"temperature\.json is damaged.*asecalc-md report"):
        page = load(write_report(folder).parent)
    assert "the analysis temperature worked" in page.text
    assert "the total energy was conserved" in page.text


# ---------------------------------------------------------------------------------------------- the page


def test_page_is_well_formed_and_its_ids_are_unique(reported):
    page = load(reported)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    known = {f"#{one}" for one in ids}
    links = [attrs[key] for _, attrs in page.elements for key in ("href", "xlink:href") if key in attrs]
    assert {link for link in links if link.startswith("#")} <= known


def test_page_asks_for_nothing(reported):
    page = load(reported)
    assert not [tag for tag, _ in page.elements if tag in ("iframe", "object", "embed", "base")]
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert [attrs.get("type") for attrs in scripts] == ["application/json", None]  # a viewer's data, its code
    for _, attrs in page.elements:
        for key in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            assert (attrs.get(key) or "#").startswith(("#", "data:"))
    text = (reported / "report.html").read_text()
    assert "@import" not in text
    assert all(part.startswith("#") for part in text.split("url(")[1:])


def test_numbers_are_those_of_the_files(reported):
    shown = load(reported).values()
    for result in ("bond-lengths", "angles"):
        for one in json.loads((reported / "results" / f"{result}.json").read_text())["patterns"]:
            average = one["members"][0]["average"]
            for key in ("mean", "std", "error", "correlation_time_fs"):
                assert average[key] in shown
    drift = json.loads((reported / "results" / "energy-drift.json").read_text())
    assert drift["slope_meV_atom_ps"] in shown
    temperature = json.loads((reported / "results" / "temperature.json").read_text())
    assert temperature["mean_K"] in shown


def test_page_says_what_was_run(reported):
    text = load(reported).text
    for expected in (
        "The run is complete: 1,596 steps.",
        "4.56 meV mean absolute",
        "11.7 meV/Å mean absolute",
        "on 1,000 frames that training never saw",
        "PBE/def2-SVP",
        "A. Author, J. Test. 1, 2 (2020)",
        "hot ethanol, 500 K",
        "time step of",
        "EMT <test>",
        "ase.calculators.emt:EMT()",
    ):
        assert expected in text


def test_each_check_has_a_verdict(reported):
    text = load(reported).text
    for result in read_results(reported):
        for verdict in result.verdicts():
            assert f"{verdict.check} {verdict.text}" in text
    assert "the molecule stayed bound" in text
    assert "bond lengths stayed inside the training data" in text


def test_each_figure_has_title_axes_and_caption(reported):
    page = load(reported)
    figures = [attrs for tag, attrs in page.elements if tag == "svg"]
    panels = [panel for result in read_results(reported) for panel in result.panels()]
    assert [attrs["aria-label"] for attrs in figures] == [f"{one.title}. {one.caption}" for one in panels]
    for expected in (
        "C-C bond length",
        "bond length (Å)",
        "density (1/Å)",
        "angle (°)",
        "training data, 500 K",
        "time (ps)",
        "temperature (K)",
        "total energy − start (meV/atom)",
        "this run",
    ):
        assert expected in page.text


# --------------------------------------------------------------------------------- runs that did not end


def test_run_without_a_card_and_without_results(tmp_path):
    folder = write_run(tmp_path / "run")
    write_report(folder)
    text = load(folder).text
    assert "the run recorded no bond that broke or formed" in text
    assert "training data" not in text


def test_run_that_stopped_says_so_and_why(tmp_path):
    stopped = {"kind": "stopped", "message": "energy is NaN at step 396"}
    folder = write_run(tmp_path / "run", n_frames=100, events=[stopped])
    run_analyses(folder)
    write_report(folder)
    text = load(folder).text
    assert "The run stopped early, after 396 of 1,596 steps: energy is NaN at step 396" in text
    assert text.index("stopped early") < text.index("Checks")


def test_a_complete_run_has_the_steps_that_were_asked_for(tmp_path):
    """Also where the last row of thermo.csv stands before the last step."""
    folder = write_run(tmp_path / "run", n_frames=100, steps=399)
    write_report(folder)
    assert "The run is complete: 399 steps." in load(folder).text


@pytest.mark.parametrize("events", [[], [{"kind": "stopped", "message": "full"}, {"kind": "resumed"}]])
def test_run_that_was_killed_is_unfinished(tmp_path, events):
    folder = write_run(tmp_path / "run", n_frames=100, events=events)
    write_report(folder)
    assert "The run is unfinished, 396 of 1,596 steps" in load(folder).text


def test_run_that_never_began(tmp_path):
    folder = write_run(tmp_path / "run", events=[])
    for name in ("trajectory.traj", "thermo.csv"):
        (folder / name).unlink()
    assert run_analyses(folder) == []
    write_report(folder)
    text = load(folder).text
    assert "0 of 1,596 steps" in text
    assert "No analysis has left a result" in text
    with pytest.raises(AnalysisError, check=told(name="trajectory", remedy="run longer")):
        run_analyses(folder, {"bond-lengths": {}})


def test_broken_bond_is_told_from_events(tmp_path):
    broken = {"kind": "bonds", "message": "broken: C1-O2", "broken": [[1, 2]], "formed": []}
    folder = write_run(tmp_path / "run", events=[broken, FINISHED])
    write_report(folder)
    assert "✗ failed the molecule stayed bound broken: C1-O2" in load(folder).text


# ------------------------------------------------------------------------------------------ in a browser


def test_page_opens_in_a_browser_and_asks_for_nothing(reported, browser):
    page = reported / "report.html"
    browser.open(page)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    picture = browser.screenshot()
    dark = picture[..., :3].max(axis=-1) < 0.5
    for part in np.array_split(dark, 6):  # text all the way down
        assert 0.005 < part.mean() < 0.5
    blue = (picture[..., 2] > 0.6) & (picture[..., 0] < 0.2)  # curves are drawn in their colour
    assert blue.sum() > 500


def test_a_request_would_be_seen(reported, browser, tmp_path):
    page = tmp_path / "asking.html"
    text = (reported / "report.html").read_text()
    page.write_text(text.replace("</main>", '<img src="http://example.invalid/x.png"></main>'))
    browser.open(page)
    assert browser.refused == ["csp"]
    assert ["Content Security Policy" in one for one in browser.complaints] == [True]


def test_frames_of_the_run_can_be_looked_at(reported, browser):
    browser.open(reported / "report.html")
    last = browser.js("document.querySelector('.frame').max")
    assert last == "99"  # of 400 frames
    before = browser.pixels()
    browser.choose(".frame", 50, "input")
    assert (browser.pixels() != before).any(axis=-1).sum() > 1000
    state = browser.js("document.querySelector('.state').textContent")
    assert state == "frame 202 of 399, 0.404 ps"


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_in_one_direction(reported, browser, width):
    browser.open(reported / "report.html", width=width, height=844, mobile=True)
    assert browser.js("document.documentElement.scrollWidth") == width


def test_paper_has_the_picture_and_no_controls(reported, browser, tmp_path):
    browser.open(reported / "report.html")
    assert browser.pdf(tmp_path / "report.pdf").stat().st_size > 10_000
    browser.call("Emulation.setEmulatedMedia", media="print")
    for name, shown in (("canvas", True), (".controls", False)):
        found = browser.js(f"getComputedStyle(document.querySelector('{name}')).display != 'none'")
        assert found == shown


# ------------------------------------------------------------------------------------------- several runs


def test_reports_of_several_runs_and_a_comparison(tmp_path, monkeypatch):
    folders = [write_run(tmp_path / name, n_frames=40) for name in ("one", "other")]
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(md.app, ["report", *map(str, folders)])
    assert result.exit_code == 0, result.output
    assert all((folder / "report.html").is_file() for folder in folders)
    page = Page(tmp_path / "comparison" / "comparison.html")
    assert "Comparison of one and other" in page.text
    assert not [tag for tag, _ in page.elements if tag == "script"]  # no viewer there


def test_runs_that_cannot_be_compared_have_their_reports(tmp_path, monkeypatch):
    folders = [write_run(tmp_path / name, n_frames=40) for name in ("one", "other")]
    (folders[1] / "trajectory.traj").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="no comparison: other: "):
        result = CliRunner().invoke(md.app, ["report", *map(str, folders), "-q"])
    assert result.exit_code == 0, result.output
    assert all((folder / "report.html").is_file() for folder in folders)


# ---------------------------------------------------------------------------------------------- notebooks


def test_every_result_shows_itself_in_a_notebook(reported):
    for result in read_results(reported):
        shown = result._repr_html_()
        for verdict in result.verdicts():
            assert html.escape(verdict.text) in shown
        assert shown.count("<table>") == len(result.tables())
        assert ("<svg" in shown) == bool(result.panels())
        assert "var(--" not in shown
