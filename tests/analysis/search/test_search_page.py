"""The page of a search: its numbers are those of the trials, its figures show them, in a real browser too."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure
from search_records import LOSS, SPACE, SPEED, mixed_search, search, trial

from asecalc_ml.analysis.figures import BLUE, png
from asecalc_ml.analysis.search import importance, write_search_page
from asecalc_ml.analysis.search.result import SearchReport
from asecalc_ml.analysis.search.text import wrapped
from asecalc_ml.analysis.search.value_axis import value_axis
from asecalc_ml.errors import AnalysisError
from asecalc_ml.potentials.tuning.space import Parameter

SMALL = {"rate": SPACE["optimizer.learning_rate"], "algorithm": SPACE["optimizer.algorithm"]}


@pytest.fixture(scope="module", autouse=True)
def _few_fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "N_RESAMPLED", 10)
        patch.setattr(importance, "N_SHUFFLED", 20)
        yield


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Folders with pages of searches with one and two objectives."""
    folder = tmp_path_factory.mktemp("pages")
    write_search_page(mixed_search(40, seed=3), folder / "one")
    write_search_page(mixed_search(30, two_objectives=True), folder / "two")
    return folder


def small_search(values, state="done", objectives=(LOSS,)):
    """A search whose trials have these values of the objectives; None failed."""
    trials = []
    for number, value in enumerate(values, 1):
        row = {"rate": 1e-3, "algorithm": "adam"}
        if value is None:
            fields = {"state": "failed", "reason": f"out of memory at atom {number}"}
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            labels = [one.label for one in objectives]
            fields = {"state": state, "objectives": dict(zip(labels, numbers, strict=True))}
        trials.append(trial(number, row, SMALL, **fields))
    return search(trials, SMALL, objectives)


def table(result, key):
    return next(one for one in result.tables() if one.key == key)


def line(ax, label):
    return next(one for one in ax.lines if one.get_label() == label)


def points(ax, label):
    found = [one for one in ax.collections if one.get_label() == label]
    return found[0].get_offsets().data.tolist() if found else []


# ------------------------------------------------------------------------------------------- numbers


def test_files_lie_next_to_the_page(pages):
    names = {path.name for path in (pages / "one").iterdir()}
    tables = ("best", "states", "importance", "settings", "space", "trials")
    assert names == {"search.html", "search.json", *(f"search_{name}.csv" for name in tables)}
    stored = SearchReport.model_validate(json.loads((pages / "one" / "search.json").read_text()))
    assert stored == SearchReport.of(mixed_search(40, seed=3))


def test_the_ten_best_are_the_ten_lowest():
    record = mixed_search(40, seed=3)
    best = table(SearchReport.of(record), "best")
    expected = sorted(record.measured, key=lambda one: one.objectives[LOSS.label])[:10]
    assert [row[0] for row in best.rows] == [one.number for one in expected]
    assert best.columns == ["trial", "state", LOSS.label, "cpu_seconds", *SPACE]
    for row, one in zip(best.rows, expected, strict=True):
        assert row[1:4] == [one.state, one.objectives[LOSS.label], one.cpu_seconds]
        assert row[4:-2] == [one.values[name] for name in list(SPACE)[:-2]]
        assert row[-2] == {True: "true", False: "false"}[one.values["mixed_precision"]]


def test_the_best_of_two_objectives_are_the_pareto_front():
    objectives = (LOSS, SPEED.model_copy(update={"direction": "maximize"}))
    record = small_search(
        [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (0.5, 0.5), None, (4.0, 1.0)], objectives=objectives
    )
    assert record.ranks == {1: 1, 2: 1, 3: 2, 4: 1, 6: 4}
    result = SearchReport.of(record)
    assert [row[0] for row in table(result, "best").rows] == [4, 1, 2, 3, 6]
    assert "The Pareto front has 3 trials." in result.summary


def test_reasons_are_counted():
    record = mixed_search(40, seed=3)
    rows = table(SearchReport.of(record), "states").rows
    states = [one.state for one in record.trials]
    assert sum(row[1] for row in rows) == 40
    for state in ("done", "stopped", "failed", "running"):
        assert sum(row[1] for row in rows if row[0] == state) == states.count(state)
    (failed,) = [row for row in rows if row[0] == "failed"]
    assert re.fullmatch(r"the loss is not finite in epoch \d", failed[2])


def test_all_trials_are_in_a_table(pages):
    record = mixed_search(40, seed=3)
    rows = list(csv.DictReader((pages / "one" / "search_trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == [str(one.number) for one in record.trials]
    assert [row["ended after (s)"] for row in rows[:2]] == ["60.0", "120.0"]
    assert sorted(int(row["rank"]) for row in rows if row["rank"]) == list(range(1, len(record.measured) + 1))


def test_a_search_without_an_ended_trial_has_nothing_to_report(tmp_path):
    record = search([trial(1, {"rate": 1e-3, "algorithm": "adam"}, SMALL, state="running")], SMALL)
    with pytest.raises(AnalysisError, match="no trial of the search ethanol-search has ended"):
        write_search_page(record, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_search_whose_trials_all_failed_says_why(tmp_path):
    page = write_search_page(small_search([None] * 3), tmp_path)
    text = page.read_text()
    assert "No trial has a result." in text
    assert "out of memory at atom 1" in text
    assert "<svg" not in text


def test_settings_that_do_not_apply_are_left_out():
    rows = dict(table(SearchReport.of(mixed_search()), "settings").rows)
    assert rows["method"] == "bayesian"
    assert rows["objective (minimized)"] == LOSS.label
    assert "budget in hours" not in rows


# ------------------------------------------------------------------------------------------- figures


def drawn(record, key):
    return SearchReport.of(record).plot(Figure().add_subplot(), key)


@pytest.mark.parametrize("key", ["over-trials", "over-time"])
def test_the_best_so_far_is_the_lowest_up_to_then(key):
    ax = drawn(small_search([5.0, 7.0, None, 3.0, 4.0, 2.5]), key)
    best = line(ax, "best so far")
    scale = {"over-trials": 1, "over-time": 60 / 60}[key]  # minutes
    np.testing.assert_allclose(best.get_xdata(), scale * np.array([1, 2, 4, 5, 6, 6]))
    assert best.get_ydata().tolist() == [5.0, 5.0, 3.0, 3.0, 2.5, 2.5]
    assert points(ax, "done") == [[scale * x, y] for x, y in ((1, 5), (2, 7), (4, 3), (5, 4), (6, 2.5))]
    (ticks,) = [one for one in ax.collections if one.get_label() == "failed"]
    assert [segment[0][0] for segment in ticks.get_segments()] == [3 * scale]


def test_the_best_of_what_is_maximized_is_the_highest():
    stability = LOSS.model_copy(update={"direction": "maximize"})
    ax = drawn(small_search([0.0, 2.0, 1.0, 3.0], objectives=(stability,)), "over-trials")
    assert line(ax, "best so far").get_ydata().tolist() == [0, 2, 2, 3, 3]


def test_stopped_trials_are_told_apart():
    record = small_search([3.0, 2.0])
    trials = [record.trials[0], record.trials[1].model_copy(update={"state": "stopped"})]
    ax = drawn(record.model_copy(update={"trials": trials}), "over-trials")
    assert points(ax, "done") == [[1, 3]]
    assert points(ax, "stopped early") == [[2, 2]]


def test_a_trial_that_blew_up_does_not_squeeze_the_rest():
    values = [1.0, 1.2, 1.1, 1.3, 3e17, 1.15]
    ax = drawn(small_search(values), "over-trials")
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[1] < 1.5
    ((number, place),) = points(ax, "beyond the axis")
    assert (number, place) == (5, pytest.approx(1.3))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 30.0, 900.0], "log"),
        ([1.0, 2.0, 5.0], "linear"),
        ([-1.0, 30.0, 90.0], "linear"),
        ([2.0], "linear"),
    ],
)
def test_values_over_decades_have_a_logarithmic_axis(values, scale):
    ax = drawn(small_search(values), "over-trials")
    assert ax.get_yscale() == scale
    low, high = ax.get_ylim()
    assert low < min(values) <= max(values) < high


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=30), st.sampled_from(["minimize", "maximize"]))
def test_the_best_value_and_half_of_all_are_within_an_axis(values, direction):
    objective = LOSS.model_copy(update={"direction": direction})
    axis = value_axis(values, objective)
    best = min(values) if direction == "minimize" else max(values)
    places = axis.places(axis.shown(values))
    assert axis.low < axis.high
    assert not axis.is_beyond([best])[0]
    assert axis.is_beyond(values).mean() <= 0.5
    assert np.all((places > -1e-6) & (places < 1 + 1e-6))


@pytest.mark.parametrize(
    "directions", [(a, b) for a in ("minimize", "maximize") for b in ("minimize", "maximize")]
)
def test_steps_of_the_pareto_front_go_through_dominated_points_alone(directions):
    random = np.random.default_rng(0)
    objectives = tuple(
        one.model_copy(update={"direction": way}) for one, way in zip((LOSS, SPEED), directions, strict=True)
    )
    record = small_search(
        [tuple(map(float, pair)) for pair in random.uniform(1, 2, (40, 2))], objectives=objectives
    )
    ax = drawn(record, "pareto-front")
    front = points(ax, "Pareto front")
    assert len(front) == sum(rank == 1 for rank in record.ranks.values())
    (line,) = ax.lines
    corners = np.transpose(STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data()))
    assert len(corners) == 2 * len(front) - 1
    signs = np.array([1 if way == "maximize" else -1 for way in directions])
    for corner in corners:
        assert any((signs * (np.array(point) - corner) >= -1e-12).all() for point in front)


def test_lines_of_parallel_coordinates_go_through_the_values():
    record = mixed_search(12)
    ax = drawn(record, "parallel-coordinates")
    ordered = sorted(record.measured, key=lambda one: -record.ranks[one.number])
    failed = [one for one in record.ended if not one.objectives]
    lines = [one for one in ax.lines if len(one.get_xdata()) > 2]
    assert [len(one.get_xdata()) for one in lines] == [9] * len(failed) + [10] * len(ordered)
    best = lines[-1].get_xdata()
    assert lines[-1].get_color()[:3] == pytest.approx(
        tuple(int(BLUE[k : k + 2], 16) / 255 for k in (1, 3, 5))
    )
    values = ordered[-1].values
    assert best[0] == pytest.approx(np.log(values["optimizer.learning_rate"] / 1e-5) / np.log(1e4))
    assert best[1] == ["adamw", "adam", "sgd", "lamb", "yogi"].index(values["optimizer.algorithm"]) / 4
    assert best[2] == pytest.approx((values["batch_size"] - 4) / 60)
    assert best[4] == pytest.approx(values["optimizer.gradient_clip"] / 2)
    assert best[9] == 0


def test_bars_of_the_importance_are_the_indices():
    result = SearchReport.of(mixed_search(60, seed=3))
    ax = result.plot(Figure().add_subplot(), "importance")
    bars = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches}
    (importances,) = result.importances
    assert [bars[k] for k in range(9)] == [one.total for one in importances.parameters]
    assert [one.get_text().replace("\n", "") for one in ax.get_yticklabels()] == [
        one.name for one in importances.parameters
    ]


@pytest.mark.parametrize("two", [False, True])
def test_each_panel_is_a_picture_of_its_size(two):
    result = SearchReport.of(mixed_search(40, seed=3, two_objectives=two))
    for panel in result.panels():
        width = int.from_bytes(png(result, panel.key)[16:20], "big")
        assert width == pytest.approx(200 * (4.6 if panel.columns == 1 else 9.53), abs=2)
    assert {panel.columns for panel in result.panels()} == {1, 2}


@given(st.text(max_size=80), st.integers(2, 30), st.integers(1, 4))
def test_names_fit_into_their_room(name, width, n_lines):
    lines = wrapped(name, width, n_lines).split("\n")
    assert len(lines) <= n_lines
    assert max(len(line.replace("\\$", "$")) for line in lines) <= width


def test_a_dollar_in_a_name_is_no_mathematics(tmp_path):
    space = SMALL | {"x": Parameter(categorical=["$\\a$", "b"])}
    objective = LOSS.model_copy(update={"label": "$e^$"})
    trials = [
        trial(
            number, {"rate": 1e-3, "algorithm": "adam", "x": "b"}, space, objectives={"$e^$": float(number)}
        )
        for number in range(1, 4)
    ]
    text = write_search_page(search(trials, space, (objective,)), tmp_path).read_text()
    assert "$e^$" in text
    assert "$\\a$" in text


def test_names_break_after_dots():
    assert wrapped("optimizer.learning_rate", 14) == "optimizer.\nlearning_rate"
    assert wrapped("loss.forces_weight_of_the_training") == "loss.forces_weight_of_\nthe_training"


# ------------------------------------------------------------------------------------------- the page


class Reader(HTMLParser):
    """Notes ids, tags and what would be loaded."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.loaded += [given[key] for key in ("src", "href", "xlink:href") if key in given]


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_page_holds_everything(pages, name):
    text = (pages / name / "search.html").read_text()
    reader = Reader(text)
    assert len(reader.ids) == len(set(reader.ids))
    assert all(one.startswith(("#", "data:")) for one in reader.loaded)
    assert "the parameters explain val_forces_mae_meV_A" in text
    for parameter in SPACE:
        assert parameter in text


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_page_opens_in_a_browser(pages, name, browser):
    page = (pages / name / "search.html").resolve()
    browser.open(page)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    widths = browser.js("[...document.querySelectorAll('figure')].map(f => [f.className, f.clientWidth])")
    wide = [width for kind, width in widths if kind == "wide"]
    assert min(wide) > 1.9 * max(width for kind, width in widths if kind != "wide")
    picture = browser.screenshot()
    assert ((picture[..., 2] > 0.6) & (picture[..., 0] < 0.2)).sum() > 500  # lines are drawn in their colour


def test_a_phone_scrolls_a_wide_figure_and_not_the_page(pages, browser):
    browser.open(pages / "two" / "search.html", width=390, height=844, mobile=True)
    assert browser.js("document.documentElement.scrollWidth") == 390
    inner, outer = browser.js(
        "(d => [d.scrollWidth, d.clientWidth])(document.querySelector('.wide .drawing'))"
    )
    assert inner >= 700 > outer
