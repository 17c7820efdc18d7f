"""Importance of parameters: known Sobol indices, trials that tell nothing, and what chance gives."""

import numpy as np
import pytest
from scipy.stats import norm, sobol_indices, uniform
from search_records import LOSS, SPACE, drawn, function_search, mixed_search, search, trial

from asecalc_ml.analysis.search import importance as module
from asecalc_ml.analysis.search.importance import (
    by_chance,
    objective_ranks,
    parameter_importance,
    sobol_indices_of,
    with_categories,
)
from asecalc_ml.objectives import SearchRecord
from asecalc_ml.potentials.tuning.space import Parameter


def importance(record: SearchRecord):
    return parameter_importance(record, record.objectives[0])


def linear(*factors: float):
    return lambda x: np.array(factors) @ x


def true_indices(function, n_parameters: int) -> np.ndarray:
    """Total Sobol indices of the ranks of a function, which grow as its distribution function does."""
    values = np.sort(function(np.random.default_rng(0).random((n_parameters, 20_000))))

    def ranks(x):
        return np.searchsorted(values, function(x.reshape(n_parameters, -1))).reshape(x.shape[1:]) / len(
            values
        )

    return sobol_indices(func=ranks, n=4096, dists=[uniform()] * n_parameters, rng=0).total_order


class Ishigami:
    """Stands for a surrogate: sin x₁ + 7 sin² x₂ + 0.1 x₃⁴ sin x₁ of x in [-π, π] (Ishigami & Homma 1990)."""

    def predict(self, points: np.ndarray) -> np.ndarray:
        x = (2 * points.astype(float).T - 1) * np.pi
        return np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0])


def test_indices_of_the_ishigami_function_are_the_analytic_ones(monkeypatch):
    monkeypatch.setattr(module, "N_POINTS", 8192)
    first, total, variance = sobol_indices_of([Ishigami(), Ishigami()], [0, 0, 0, 0])
    one, three = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 8 * (0.1 * np.pi**4) ** 2 / 225
    parts, everything = np.array([one, 49 / 8, 0, 0]), one + 49 / 8 + three
    np.testing.assert_allclose(first[0], parts / everything, atol=0.01)
    np.testing.assert_allclose(total[0], (parts + np.array([three, 0, three, 0])) / everything, atol=0.01)
    np.testing.assert_allclose(variance, everything, rtol=0.01)
    np.testing.assert_array_equal(first[0], first[1])


def test_indices_of_a_constant_are_zero():
    class Constant:
        def predict(self, points):
            return np.ones(len(points))

    first, total, variance = sobol_indices_of([Constant()], [0, 3])
    assert not first.any()
    assert not total.any()
    assert not variance.any()


def test_a_linear_function_with_parameters_that_do_nothing():
    """Order, intervals, and what is called important, of two searches."""
    factors = (4.0, 2.0, 0.0, 0.0, 0.0)
    expected, n_covered = true_indices(linear(*factors), 5), 0
    for seed in range(2):
        measured = importance(function_search(linear(*factors), 5, 50, seed))
        assert measured.status == "passed"
        assert measured.rank_correlation > 0.8
        assert [one.name for one in measured.parameters[:2]] == ["x1", "x2"]
        assert measured.parameters[0].status == "passed"
        for one in measured.parameters:
            assert 0 <= one.first_order <= 1.05 * one.total + 0.02
            assert one.low <= one.total <= one.high
            if one.name not in ("x1", "x2"):
                assert one.status == "undecided"
                assert one.low < 0.05
        n_covered += sum(
            one.low <= expected[int(one.name[1]) - 1] <= one.high for one in measured.parameters[:2]
        )
    assert n_covered >= 3  # of four


def test_interacting_parameters_have_no_first_order_index():
    record = function_search(lambda x: (x[0] - 0.5) * (x[1] - 0.5), 3, 120, 0)
    measured = {one.name: one for one in importance(record).parameters}
    for name in ("x1", "x2"):
        assert measured[name].total > 0.4
        assert measured[name].first_order < 0.5 * measured[name].total
    assert measured["x3"].total < 0.3


def test_random_objectives_are_seldom_explained():
    """One in twenty searches may look as if parameters mattered."""
    n_passed = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        record = function_search(lambda x, random=random: random.random(x.shape[1]), 6, 30, seed)
        fractions = np.array([list(one.fractions.values()) for one in record.ended])
        n_passed += module.prediction_skill(fractions, objective_ranks(record, LOSS))[1] < 0.05
    assert n_passed <= 4  # more have a probability of 1 % at a rate of 5 %


@pytest.mark.slow
def test_random_objectives_make_no_parameter_important(monkeypatch):
    """By the bound of chance alone, with categories, failures and numbers."""
    monkeypatch.setattr(module, "prediction_skill", lambda columns, ranks: (0.0, 0.0))
    n_important = 0
    for seed in range(30):
        random, trials = np.random.default_rng(seed), []
        for number in range(1, 36):
            values = {name: drawn(parameter, random.random()) for name, parameter in SPACE.items()}
            failed = {"state": "failed", "objectives": {}}
            fields = failed if random.random() < 0.1 else {"objectives": {LOSS.label: random.random()}}
            trials.append(trial(number, values, **fields))
        measured = importance(search(trials))
        n_important += any(one.status == "passed" for one in measured.parameters)
    assert n_important <= 5  # more have a probability of 0.3 % at a rate of 5 %


def test_the_bound_of_chance_holds_for_parameters_of_different_scatter():
    random, scales = np.random.default_rng(0), np.array([0.01, 0.1, 1.0])
    shuffled, others = random.exponential(scales, (4000, 3)), random.exponential(scales, (4000, 3))
    exceeds = others > by_chance(shuffled)
    assert exceeds.any(axis=1).mean() == pytest.approx(0.05, abs=0.012)
    np.testing.assert_allclose(exceeds.mean(axis=0), 0.017, atol=0.008)
    assert by_chance(np.zeros((5, 2))).tolist() == [0, 0]


def test_the_same_trials_give_the_same_importances(monkeypatch):
    monkeypatch.setattr(module, "N_SHUFFLED", 10)
    record = function_search(linear(3.0, 1.0), 2, 20, 0)
    assert importance(record) == importance(record)


def test_failed_trials_have_the_worst_rank_and_signs_follow_the_direction():
    space = {"x1": Parameter(uniform=[0.0, 1.0])}
    values = [{"objectives": {LOSS.label: v}} for v in (3.0, 1.0, 2.0)] + 2 * [{"state": "failed"}]
    trials = [trial(k, {"x1": 0.5}, space, **fields) for k, fields in enumerate(values, 1)]
    for direction, expected in (("minimize", [3, 5, 4, 1.5, 1.5]), ("maximize", [5, 3, 4, 1.5, 1.5])):
        objective = LOSS.model_copy(update={"direction": direction})
        assert objective_ranks(search(trials, space, (objective,)), objective).tolist() == expected


def test_points_of_a_category_are_equal():
    points = np.array([[0.0, 0.2], [0.32, 0.4], [0.34, 0.6], [1.0, 0.8]])
    columns = with_categories(points, [3, 0])
    np.testing.assert_allclose(columns[:, 0], [1 / 6, 1 / 6, 1 / 2, 5 / 6], rtol=1e-6)
    np.testing.assert_allclose(columns[:, 1], points[:, 1], rtol=1e-6)


def test_a_category_that_decides_is_important():
    space = {"algorithm": Parameter(categorical=["a", "b", "c"]), "rate": Parameter(uniform=[0.0, 1.0])}
    random, trials = np.random.default_rng(0), []
    for number in range(1, 41):
        values = {name: drawn(parameter, random.random()) for name, parameter in space.items()}
        value = {"a": 1.0, "b": 5.0, "c": 3.0}[values["algorithm"]] + 0.5 * random.random()
        trials.append(trial(number, values, space, objectives={LOSS.label: value}))
    first, second = importance(search(trials, space)).parameters
    assert (first.name, first.status, second.status) == ("algorithm", "passed", "undecided")


def failed_search(n_trials: int) -> SearchRecord:
    """A search of two parameters in which all trials have failed."""
    record = function_search(linear(1.0, 2.0), 2, n_trials, 0)
    failed = [one.model_copy(update={"state": "failed", "objectives": {}}) for one in record.trials]
    return record.model_copy(update={"trials": failed})


@pytest.mark.parametrize(
    ("record", "status", "words"),
    [
        (function_search(linear(1.0), 1, 20, 0), "not applicable", "x1 is the only parameter"),
        (function_search(linear(1.0, 2.0), 2, 9, 0), "undecided", "9 of the 10 trials that are needed"),
        (function_search(linear(1.0, 2.0), 2, 1, 0), "undecided", "1 of the 10 trials that are needed"),
        (failed_search(12), "not applicable", "no trial has a result"),
        (function_search(linear(0.0, 0.0), 2, 20, 0), "not applicable", "all trials have the same value"),
    ],
)
def test_trials_that_tell_nothing_have_no_importances(record, status, words):
    measured = importance(record)
    assert (measured.status, measured.parameters) == (status, [])
    assert words in measured.verdict.text


def test_the_learning_rate_of_a_search_with_failures_is_important():
    measured = importance(mixed_search(60, seed=3))
    assert [one.name for one in measured.parameters if one.status == "passed"] == ["optimizer.learning_rate"]


def test_normal_distributions_are_searched_in_their_quantiles():
    parameter = SPACE["optimizer.gradient_clip"]
    low, high = norm.cdf([0.0, 2.0], 0.5, 0.5)
    assert parameter.fraction(0.7) == pytest.approx((norm.cdf(0.7, 0.5, 0.5) - low) / (high - low))
