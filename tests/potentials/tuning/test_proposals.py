"""Spaces and the values that are proposed in them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.potentials.tuning.options import SearchOptions
from asecalc_ml.potentials.tuning.proposals import normal_scores, propose, random_values
from asecalc_ml.potentials.tuning.space import Parameter

SPACE = {
    "rate": {"log_uniform": [1e-5, 1e-1]},
    "decay": {"uniform": [0.0, 1.0]},
    "size": {"log_integer": [1, 64]},
    "layers": {"integer": [1, 4]},
    "width": {"normal": {"mean": 0.5, "standard_deviation": 1.0, "low": 0.1, "high": 1.0}},
    "kind": {"categorical": ["a", True, 1, 1.5]},
}


def search(**options) -> SearchOptions:
    return SearchOptions(**{"space": SPACE, "trials": 20, **options})


def finite(low: float, high: float) -> st.SearchStrategy:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@st.composite
def parameters(draw) -> dict:
    """A parameter of any kind whose range is not empty."""
    kind = draw(
        st.sampled_from(["uniform", "log_uniform", "integer", "log_integer", "normal", "categorical"])
    )
    if kind == "categorical":
        values = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.booleans())
        return {kind: draw(st.lists(values, min_size=2, max_size=4, unique_by=lambda v: (type(v), v)))}
    if "integer" in kind:
        low = draw(st.integers(1, 1000))
        return {kind: [low, low + draw(st.integers(1, 1000))]}
    low = draw(finite(1e-6, 1e3))
    bounds = [low, low * draw(finite(1.001, 1e4))]
    if kind == "normal":
        mean, width = draw(finite(*bounds)), draw(finite(1e-3, 1e3))
        return {kind: {"mean": mean, "standard_deviation": width, "low": bounds[0], "high": bounds[1]}}
    return {kind: bounds}


def lies_in(parameter: Parameter, value: object) -> bool:
    if parameter.kind == "categorical":
        return (type(value), value) in [(type(choice), choice) for choice in parameter.choices]
    if "integer" in parameter.kind and type(value) is not int:
        return False
    low, high = parameter.bounds
    return low <= value <= high


@settings(max_examples=40, deadline=None)
@given(st.lists(parameters(), min_size=1, max_size=4), st.integers(0, 2**31), st.booleans())
def test_values_lie_in_every_space(distributions, seed, is_random):
    """Random ones and those of the surrogate, with two results, a failure and a running trial."""
    space = {f"p{place}": distribution for place, distribution in enumerate(distributions)}
    options = SearchOptions(
        space=space, trials=9, seed=seed, initial_trials=2, method="random" if is_random else "bayesian"
    )
    first = [random_values(options, number) for number in range(4)]
    results = [(first[0], [0.5]), (first[1], [-1.5]), (first[2], None)]
    for values in (*first, propose(options, 4, results, first[3:])):
        assert list(values) == list(space)
        assert all(lies_in(options.space[name], value) for name, value in values.items())


@settings(max_examples=200)
@given(finite(-5, 5), finite(1e-2, 10), finite(-5, 5), finite(1e-2, 10), finite(0, 1))
def test_a_quantile_of_a_normal_distribution_has_its_fraction(mean, width, low, extent, fraction):
    distribution = {"mean": mean, "standard_deviation": width, "low": low, "high": low + extent}
    parameter = Parameter(normal=distribution)
    value = parameter.quantile(fraction)
    assert low <= value <= low + extent
    if abs(low - mean) < 5 * width and abs(low + extent - mean) < 5 * width:
        assert parameter.fraction(value) == pytest.approx(fraction, abs=1e-6)


@pytest.mark.parametrize(
    ("distribution", "value", "fraction"),
    [
        ({"uniform": [1.0, 3.0]}, 1.5, 0.25),
        ({"log_uniform": [1e-4, 1e-2]}, 1e-3, 0.5),
        ({"integer": [1, 4]}, 2, 0.375),
        ({"log_integer": [1, 64]}, 64, math.log(128) / math.log(129)),
        ({"normal": {"mean": 0.0, "standard_deviation": 1.0, "low": -2.0, "high": 2.0}}, 0.0, 0.5),
        ({"categorical": ["a", True, 1, 1.5]}, 1, 0.625),
    ],
)
def test_a_fraction_of_a_distribution_lies_below_a_value(distribution, value, fraction):
    assert Parameter(**distribution).fraction(value) == pytest.approx(fraction)


def test_fractions_of_random_values_are_uniform():
    drawn = [random_values(search(), number) for number in range(400)]
    for name, parameter in search().space.items():
        fractions = np.array([parameter.fraction(values[name]) for values in drawn])
        assert ((fractions >= 0) & (fractions <= 1)).all()
        assert fractions.mean() == pytest.approx(0.5, abs=4 * 12**-0.5 / 20)
        assert fractions.std() == pytest.approx(12**-0.5, abs=0.05)


def test_random_values_are_distributed_as_they_say():
    drawn = [random_values(search(), number) for number in range(400)]
    column = {name: np.array([values[name] for values in drawn], dtype=object) for name in SPACE}
    assert kstest(column["decay"].astype(float), "uniform").pvalue > 1e-3
    logarithms = np.log10(column["rate"].astype(float))
    assert kstest((logarithms + 5) / 4, "uniform").pvalue > 1e-3
    parameter = Parameter(**SPACE["width"])
    fractions = [parameter.fraction(value) for value in column["width"]]
    assert kstest(fractions, "uniform").pvalue > 1e-3
    assert [list(column["layers"]).count(number) for number in range(1, 5)] == pytest.approx(
        [100] * 4, abs=40
    )
    assert sum(value < 8 for value in column["size"]) == pytest.approx(200, abs=50)  # half of the decades


def test_values_follow_from_seed_number_and_results():
    options, results = search(initial_trials=2), [(random_values(search(), k), [float(-k)]) for k in range(3)]
    assert propose(options, 3, results, []) == propose(options, 3, list(results), [])
    assert propose(options, 3, results, []) != propose(options, 4, results, [])
    other = search(initial_trials=2, seed=1)
    assert propose(options, 3, results, []) != propose(other, 3, results, [])


def test_searches_share_their_first_trials():
    bayesian, random = search(initial_trials=3), search(method="random")
    results = [(random_values(bayesian, 0), [1.0])]
    assert [propose(bayesian, k, results, []) for k in range(3)] == [
        random_values(random, k) for k in range(3)
    ]
    assert propose(bayesian, 3, results, []) != random_values(random, 3)


def loss(values: dict) -> float:
    """Lowest at rate 1e-3, size 16 and kind b."""
    distance = (math.log10(values["rate"]) + 3) ** 2 + (math.log2(values["size"]) - 4) ** 2 / 9
    return distance + 0.5 * (values["kind"] != "b")


def best_of(n_trials: int, **options) -> float:
    space = {**{name: SPACE[name] for name in ("rate", "size")}, "kind": {"categorical": ["a", "b", "c"]}}
    one, results = search(space=space, **options), []
    for number in range(n_trials):
        values = propose(one, number, results, [])
        failed = values["kind"] == "c" and values["rate"] > 0.01
        results.append((values, None if failed else [-loss(values)]))
    return min(-objectives[0] for _, objectives in results if objectives)


@pytest.mark.parametrize("surrogate", ["gaussian-process", "extra-trees", "random-forest"])
def test_a_surrogate_finds_better_values_than_chance(surrogate):
    """Although some trials fail: the median over seeds."""
    best = [best_of(20, surrogate=surrogate, seed=seed) for seed in range(5)]
    random = [best_of(20, method="random", seed=seed) for seed in range(5)]
    assert np.median(best) < np.median(random)


def test_a_failure_or_a_diverged_loss_does_not_poison_the_surrogate():
    """The next values stay near the best although one trial failed and one lost by twelve decades."""
    options = search(space={"decay": {"uniform": [0.0, 1.0]}}, initial_trials=5)
    results = [({"decay": x}, [-((x - 0.3) ** 2)]) for x in np.linspace(0, 0.8, 9)]
    results += [({"decay": 0.9}, None), ({"decay": 1.0}, [-1e12])]
    proposed = [propose(options, number, results, [])["decay"] for number in range(11, 21)]
    assert np.median(np.abs(np.array(proposed) - 0.3)) < 0.2


@pytest.mark.parametrize("surrogate", ["gaussian-process", "extra-trees"])
def test_only_the_order_of_results_counts(surrogate):
    options, curve = search(initial_trials=3, surrogate=surrogate), np.random.default_rng(0).normal(size=6)
    values = [random_values(options, number) for number in range(6)]
    results = [(value, [number]) for value, number in zip(values, curve, strict=True)]
    steep = [(value, [-math.exp(-9 * number)]) for value, (number,) in results]
    assert propose(options, 7, steep, values[:1]) == propose(options, 7, results, values[:1])


def test_normal_scores():
    scores = normal_scores(np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, 1.0]]))
    assert scores[:, 0] == pytest.approx(norm.ppf([7 / 8, 1 / 4, 5 / 8, 1 / 4]))
    assert scores[:, 1] == pytest.approx(0.0)


def test_parallel_trials_differ():
    options = search(space={"decay": {"uniform": [0.0, 1.0]}}, initial_trials=2)
    results, running = [({"decay": 0.1}, [-0.2]), ({"decay": 0.6}, [-0.1]), ({"decay": 0.9}, [-0.5])], []
    for number in range(3, 6):
        running.append(propose(options, number, results, running))
    values = [one["decay"] for one in running]
    assert min(abs(a - b) for k, a in enumerate(values) for b in values[:k]) > 0.01


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"space": {}}, "it is empty"),
        ({"space": {"rate": {}}}, "has 0 distributions"),
        ({"space": {"rate": {"uniform": [0, 1], "integer": [0, 1]}}}, "has 2 distributions"),
        ({"space": {"rate": {"uniform": [1, 0]}}}, "lowest value 1 is above the highest, 0"),
        ({"space": {"rate": {"uniform": [1, 1]}}}, "range from 1 to 1 is empty"),
        ({"space": {"rate": {"log_uniform": [0, 1]}}}, "a logarithm needs a lowest value above 0"),
        ({"space": {"rate": {"log_integer": [-1, 8]}}}, "a logarithm needs a lowest value above 0"),
        ({"space": {"rate": {"uniform": [1]}}}, "at least 2 items"),
        ({"space": {"rate": {"integer": [0.5, 2]}}}, "valid integer"),
        ({"space": {"rate": {"categorical": [1]}}}, "needs two values or more"),
        ({"space": {"rate": {"categorical": ["a", "a"]}}}, "names a value twice"),
        ({"space": {"rate": {"loguniform": [1, 2]}}}, "did you mean '.*log_uniform'"),
        ({"space": {"directory": {"categorical": ["a", "b"]}}}, "the search itself sets directory"),
        ({"trials": None}, "give trials, hours, or both"),
        ({"objectives": {}}, "should be one or two"),
        ({"objectives": dict.fromkeys("abc")}, "should be one or two"),
        (
            {"objectives": {"validation": None, "speed": None}, "early_stopping": "asha"},
            "early_stopping asha compares one objective",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        parse_options({"space": SPACE, "trials": 5, **given}, SearchOptions)
