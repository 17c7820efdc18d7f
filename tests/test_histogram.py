"""Histograms: counted by hand, against numpy, and adding up."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.stats import circmean, circstd

from asecalc_ml.histogram import Histogram, SlicedCounts

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
