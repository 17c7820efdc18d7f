"""The permutation test within blocks: exact enumeration, false positives, power, effect sizes."""

import itertools

import numpy as np
import pytest
from raising import told
from scipy.stats import kstest

from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.permutation import blocked_difference


def molecules(rng, n_blocks=30, shift=0.0):
    """Values of blocks of 4 to 12 members, with their own offsets and spreads; the first are the group."""
    values, is_member = [], []
    for _ in range(n_blocks):
        size = rng.integers(4, 13)
        member = np.arange(size) < rng.integers(1, size)
        values.append(rng.normal(10) + rng.uniform(0.5, 2) * (rng.normal(size=size) + shift * member))
        is_member.append(member)
    return values, is_member


def test_p_is_that_of_all_exchanges():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=4), rng.normal(size=3), rng.normal(size=5)]
    members = [np.arange(len(x)) < k for x, k in zip(values, (2, 1, 2), strict=True)]

    def difference(labels):
        return np.mean([x[one].mean() - x[~one].mean() for x, one in zip(values, labels, strict=True)])

    every = [
        [np.isin(np.arange(len(x)), chosen) for chosen in itertools.combinations(range(len(x)), k)]
        for x, k in zip(values, (2, 1, 2), strict=True)
    ]
    differences = np.array([difference(labels) for labels in itertools.product(*every)])
    found = blocked_difference(values, members, n_permutations=20_000)
    given = difference(members)
    assert found.difference == pytest.approx(given)
    assert found.p_value == pytest.approx(np.mean(differences >= given - 1e-12), abs=0.015)
    assert found.z == pytest.approx(given / differences.std())  # the variance under exchange is exact
    both = blocked_difference(values, members, n_permutations=20_000, alternative="two-sided")
    assert both.p_value == pytest.approx(np.mean(np.abs(differences) >= abs(given) - 1e-12), abs=0.015)


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_p_values_are_uniform_where_there_is_no_difference(alternative):
    """Blocks differ in mean and spread, which no exchange within them sees."""
    rng = np.random.default_rng(1)
    found = [
        blocked_difference(*molecules(rng), n_permutations=99, seed=seed, alternative=alternative)
        for seed in range(300)
    ]
    assert kstest([one.p_value for one in found], "uniform").pvalue > 0.01
    assert np.mean([one.p_value <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.035)
    covered = [one.interval[0] <= 0.5 <= one.interval[1] for one in found]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


def test_a_difference_is_found_the_more_surely_the_more_blocks_there_are():
    rng = np.random.default_rng(2)
    shares = []
    for n_blocks in (5, 60):
        p_values = [
            blocked_difference(*molecules(rng, n_blocks, shift=0.5), n_permutations=99, seed=seed).p_value
            for seed in range(50)
        ]
        shares.append(np.mean(np.array(p_values) <= 0.05))
    assert shares[0] < 0.6
    assert shares[1] > 0.9


def test_effects_do_not_depend_on_units_and_ties_count_half():
    rng = np.random.default_rng(3)
    values, members = molecules(rng, shift=1.0)
    found, scaled = (blocked_difference([f * np.abs(x) for x in values], members) for f in (1, 1e-9))
    assert scaled.relative_difference == pytest.approx(found.relative_difference)
    assert (scaled.superiority, scaled.p_value) == (found.superiority, found.p_value)
    constant = blocked_difference([np.ones(4)] * 3, [np.arange(4) < 2] * 3)
    assert (constant.superiority, constant.p_value, constant.z) == (0.5, 1.0, 0.0)


def test_blocks_without_a_group_are_left_out_and_none_is_an_error():
    lone, both = np.array([1.0, 2.0]), np.array([5.0, 1.0])
    found = blocked_difference([lone, both, lone], [[True, True], [True, False], [False, False]])
    assert (found.n_blocks, found.difference) == (1, 4.0)
    with pytest.raises(AnalysisError, check=told(remedy="both")):
        blocked_difference([lone], [[True, True]])
