"""Histograms: counted by hand, against numpy, and adding up."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.stats import circmean, circstd

from asecalc_ml.statistics.histogram import Histogram, SlicedCounts

samples = arrays(float, st.integers(1, 30), elements=st.floats(-1e3, 1e3))
widths = st.floats(0.01, 100)


def test_counted_by_hand():
    histogram = Histogram.from_samples([0.1, 0.2, 0.9, 1.6], width=0.5)
    assert histogram.counts == [2, 1, 0, 1]
    assert histogram.edges.tolist() == [0, 0.5, 1, 1.5, 2]
    assert histogram.centers.tolist() == [0.25, 0.75, 1.25, 1.75]
    assert histogram.density.tolist() == [1, 0.5, 0, 0.5]
    assert histogram.mean == pytest.approx(0.7)
    assert histogram.total == 4


@given(samples, widths)
def test_nothing_is_lost(values, width):
    histogram = Histogram.from_samples(values, width)
    assert histogram.total == len(values)
    assert histogram.density.sum() * width == pytest.approx(1)
    assert (histogram.mean, histogram.std) == pytest.approx((values.mean(), values.std()))
    assert histogram.covers(values).all()


@given(samples, samples, widths)
def test_sum_is_the_histogram_of_all(first, second, width):
    both = Histogram.from_samples(first, width) + Histogram.from_samples(second, width)
    together = Histogram.from_samples(np.concatenate([first, second]), width)
    assert (both.start, both.counts) == (together.start, together.counts)
    assert both.mean == pytest.approx(together.mean, abs=1e-9)
    assert both.std == pytest.approx(together.std, rel=1e-6, abs=1e-4)


angles = arrays(float, st.integers(1, 30), elements=st.floats(-180, 180, exclude_max=True))


@given(angles, angles)
def test_mean_and_spread_around_a_circle_are_those_of_scipy_also_of_a_sum(first, second):
    every = np.concatenate([first, second])
    length = abs(np.exp(1j * np.radians(every)).mean())
    assume(min(abs(np.exp(1j * np.radians(one)).mean()) for one in (first, second)) > 1e-3 < length)
    together = Histogram.from_samples(every, 5.0, 360.0)
    both = Histogram.from_samples(first, 5.0, 360.0) + Histogram.from_samples(second, 5.0, 360.0)
    mean, std = circmean(every, 180, -180), circstd(every, 180, -180)
    for found in (together, both):
        assert (found.mean - mean + 180) % 360 - 180 == pytest.approx(0, abs=1e-3)
        assert found.std == pytest.approx(std, abs=1e-3)
    with pytest.raises(ValueError, match="do not add up"):
        together + Histogram.from_samples(first, 5.0)


@given(arrays(float, 20, elements=st.integers(-40, 40).map(lambda n: n / 4 + 0.1)))
def test_numpy_counts_the_same(values):
    histogram = Histogram.from_samples(values, 0.25)
    assert np.histogram(values, histogram.edges)[0].tolist() == histogram.counts


@given(samples, widths)
def test_json_and_back(values, width):
    histogram = Histogram.from_samples(values, width)
    assert Histogram.model_validate_json(histogram.model_dump_json()) == histogram


def test_a_gap_is_not_covered():
    """The bonded and the 1-3 distances of C and O in ethanol leave a gap where a broken bond would be."""
    histogram = Histogram.from_samples([1.41, 1.43, 2.37], 0.02)
    values = np.array([[1.425, 1.80], [2.375, 9.0], [-1.0, np.nan]])
    assert histogram.covers(values).tolist() == [[True, False], [True, False], [False, False]]


def test_an_empty_bin_among_few_samples_is_covered():
    """250 values of an angle leave bins of one degree empty; a colder run may lie in one of them."""
    values = np.random.default_rng(0).normal(110, 12, 250)
    histogram = Histogram.from_samples(values, 1.0)
    inside = np.arange(100, 120) + 0.5
    empty = ~np.isin(
        np.floor(np.arange(histogram.start, histogram.start + len(histogram.counts))), np.floor(values)
    )
    assert empty.any()
    assert histogram.covers(inside).all()
    assert not histogram.covers([values.max() + 12, values.min() - 12]).any()


DISTRIBUTIONS = {
    "a stiff angle": lambda rng, n: rng.normal(110, 2, n),
    "a soft angle": lambda rng, n: rng.normal(110, 12, n),
    "long tails": lambda rng, n: rng.laplace(110, 4, n),
    "a skewed bond": lambda rng, n: 100 + rng.gamma(3, 4, n),
    "all alike": lambda rng, n: rng.uniform(80, 140, n),
    "two wells": lambda rng, n: rng.normal(0, 10, n) + np.where(rng.random(n) < 0.3, 110, 0),
    "a rare well": lambda rng, n: rng.normal(0, 10, n) + np.where(rng.random(n) < 0.02, 110, 0),
    "three wells of a dihedral": lambda rng, n: _one_turn(
        rng.normal(0, 15, n) + rng.choice([60, 180, 300], n)
    ),
}


def _one_turn(degrees):
    return (degrees + 180) % 360 - 180


@pytest.mark.parametrize("width", [1.0, 5.0])
@pytest.mark.parametrize("n_training", [50, 250, 950])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_is_drawn_from_the_same_distribution_is_covered(name, n_training, width):
    """At least 99 % of all runs have no more values outside than is allowed."""
    from asecalc_ml.analysis.distributions.training_domain import CHANCE, OUTSIDE_LIMIT

    rng, draw = np.random.default_rng(0), DISTRIBUTIONS[name]
    period = 360.0 if "dihedral" in name else None
    seen = [Histogram.from_samples(draw(rng, n_training), width, period) for _ in range(200)]
    outside = np.array([1 - one.covers(draw(rng, 2000)).mean() for one in seen])
    assert np.mean(outside > OUTSIDE_LIMIT + CHANCE / n_training) <= 0.01
    assert outside.mean() <= 1 / n_training + 0.01


@given(st.integers(0, 10_000), st.sampled_from([100, 250, 950, 5000]), st.floats(-180, 180))
def test_what_lies_apart_is_not_covered(seed, n_training, turned):
    """The empty middle between two wells, wherever the circle is cut, and a bond stretched by 30 %."""
    rng = np.random.default_rng(seed)
    wells = rng.normal(0, 12, n_training) + rng.choice([0, 180], n_training)
    histogram = Histogram.from_samples(_one_turn(wells + turned), 5.0, 360.0)
    assert not histogram.covers(_one_turn(np.array([-90, 90]) + turned)).any()
    assert histogram.covers(_one_turn(np.array([0, 180]) + turned)).all()
    bond = Histogram.from_samples(rng.normal(1.43, 0.03, n_training), 0.02)
    assert not bond.covers(1.3 * rng.normal(1.43, 0.03, 100)).any()


@given(angles)
def test_ranges_are_where_values_are_covered(values):
    for histogram in (Histogram.from_samples(values, 5.0, 360.0), Histogram.from_samples(values, 5.0)):
        bins = np.arange(-40, 40) * 5.0 + 2.5
        bins = _one_turn(bins) if histogram.period else bins
        within = [any(low <= one < high for low, high in histogram.ranges()) for one in bins]
        assert histogram.covers(bins).tolist() == within


def test_isolated_samples_do_not_stretch_what_is_covered():
    """One frame of a broken bond among 300 does not make everything up to it known."""
    values = [*np.random.default_rng(0).normal(1.43, 0.03, 299), 3.0]
    assert Histogram.from_samples(values, 0.02).covers([1.43, 1.9, 2.5, 3.0]).tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_widths_must_agree():
    with pytest.raises(ValueError, match="do not add up"):
        Histogram.from_samples([1.0], 0.1) + Histogram.from_samples([1.0], 0.2)


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_samples_that_cannot_be_counted(values):
    with pytest.raises(ValueError, match="at least one sample"):
        Histogram.from_samples(values, 0.1)


def test_a_histogram_does_not_change():
    with pytest.raises(ValidationError):
        Histogram.from_samples([1.0], 0.1).width = 0.2
    with pytest.raises(ValidationError, match="first and the last"):
        Histogram(width=0.1, start=0, counts=[0, 1], mean=0.15, std=0)


def counted_in_chunks(values, sizes) -> SlicedCounts:
    counts = SlicedCounts(0.5)
    for chunk in np.split(values, np.cumsum(sizes)):
        counts.add(chunk)
    return counts


@pytest.mark.parametrize("n_frames", [1, 63, 64, 65, 1000])
def test_parts_of_a_run_add_up_to_its_histogram(n_frames):
    values = np.random.default_rng(0).normal(scale=3, size=(n_frames, 2))
    counts = counted_in_chunks(values, [1, 0, 40])
    whole = Histogram.from_samples(values, 0.5)
    assert counts.histogram(whole.mean, whole.std) == whole
    parts = counts.parts(whole.start, len(whole.counts))
    assert len(parts) == -(-n_frames // counts.stride) <= 64
    for k, part in enumerate(parts):
        of_part = Histogram.from_samples(values[k * counts.stride : (k + 1) * counts.stride], 0.5)
        assert np.trim_zeros(part).tolist() == of_part.counts


def test_how_frames_are_handed_over_makes_no_difference():
    values = np.random.default_rng(0).normal(size=(300, 3))
    one, other = counted_in_chunks(values, []), counted_in_chunks(values, [7, 100, 1])
    assert np.array_equal(one.parts(-20, 60), other.parts(-20, 60))


def test_an_atom_that_flies_away_takes_no_memory():
    counts = SlicedCounts(0.01)
    counts.add(np.array([[1.0], [1e7]]))
    assert counts.stride == 1
