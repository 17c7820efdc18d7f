"""Correlated series whose correlation time, error and slope are known beforehand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from asecalc_ml.statistics.time_series import (
    autocorrelation,
    autocorrelation_time,
    block_average,
    linear_drift,
)

PHI = 0.9
TAU = (1 + PHI) / (1 - PHI)  # 19 frames


def autoregressive(phi: float, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """x_t = phi x_{t-1} + noise, stationary: correlation phi**t, time (1 + phi) / (1 - phi)."""
    warm_up = int(20 / (1 - abs(phi)))
    noise = np.random.default_rng(seed).normal(size=(*shape[:-1], shape[-1] + warm_up))
    return lfilter([1.0], [1.0, -phi], noise, axis=-1)[..., warm_up:]


def test_autocorrelation_counted_by_hand():
    # deviations -1, 1, -1, 1: lag 1 has three products of -1, lag 2 two of +1, over a sum of squares of 4
    assert autocorrelation([0, 2, 0, 2]) == pytest.approx([1, -3 / 4, 2 / 4, -1 / 4])


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
def test_time_of_an_autoregressive_series(phi):
    times = [autocorrelation_time(series) for series in autoregressive(phi, (60, 30_000))]
    assert np.mean(times) == pytest.approx((1 + phi) / (1 - phi), rel=0.06)


def test_time_of_a_short_series_is_not_far_too_low():
    times = [autocorrelation_time(series) for series in autoregressive(PHI, (200, int(10 * TAU)))]
    assert np.mean(times) == pytest.approx(TAU, rel=0.3)


def test_constant_series_has_no_correlation_and_no_error_to_speak_of():
    average = block_average(np.full(100, 0.1))
    assert average.correlation_time == pytest.approx(1.0, rel=0.15)
    assert average.error == pytest.approx(0.0, abs=1e-15)


def test_error_of_white_noise_is_std_over_root_n():
    errors = [block_average(series).error for series in autoregressive(0.0, (200, 400))]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1 / np.sqrt(400), rel=0.08)


@pytest.mark.parametrize(("length", "tolerance"), [(10, 0.3), (50, 0.1), (300, 0.1)])
def test_error_is_the_scatter_of_means_over_many_runs(length, tolerance):
    runs = autoregressive(PHI, (300, int(length * TAU)))
    errors = [average.error for average in map(block_average, runs) if average.error is not None]
    claimed = np.sqrt(np.mean(np.square(errors)))
    assert claimed == pytest.approx(runs.mean(axis=1).std(), rel=tolerance)


def test_naive_error_would_be_four_times_too_small():
    series = autoregressive(PHI, (20_000,))
    naive = series.std() / np.sqrt(len(series))
    assert block_average(series).error / naive == pytest.approx(np.sqrt(TAU), rel=0.5)


def test_slow_change_under_a_fast_vibration_is_seen():
    time = np.arange(20_000)
    slow = autoregressive(0.995, (20_000,))  # 399 frames
    vibration = 3 * slow.std() * np.sin(2 * np.pi * time / 17.3)
    assert autocorrelation_time(slow + vibration) < 50  # the vibration hides it from the plain sum
    assert block_average(slow + vibration).correlation_time > 250


@pytest.mark.parametrize("series", [np.arange(500.0), autoregressive(0.99, (300,)), np.array([5.0, 7.0])])
def test_too_short_says_so(series):
    average = block_average(series)
    assert average.error is None
    assert average.note == "too short"
    assert average.mean == pytest.approx(np.mean(series))


def test_blocks_are_longer_than_the_correlation_time_and_five_to_twenty():
    for length in (300, 1000, 3000, 20_000):
        average = block_average(autoregressive(PHI, (length,)))
        assert average.block_length > average.correlation_time
        assert 5 <= average.n_blocks <= 20


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_average_shifts_and_scales_with_the_series(shift, scale):
    series = autoregressive(0.5, (400,))
    before, after = block_average(series), block_average(shift + scale * series)
    size = abs(shift) + scale
    assert after.mean == pytest.approx(shift + scale * before.mean, abs=1e-9 * size)
    assert after.error == pytest.approx(scale * before.error, rel=1e-6)
    assert after.n_blocks == before.n_blocks


@pytest.mark.parametrize("bend", [0.0, 1e-15])  # what is left is rounding, whatever it looks like
def test_slope_of_an_exact_line(bend):
    time = np.linspace(3.0, 5.0, 1000)
    drift = linear_drift(time, 2.5 * time - 7.0 + bend * np.sin(3 * time))
    assert drift.slope == pytest.approx(2.5, rel=1e-12)
    assert drift.error == 0.0


def test_error_of_the_slope_is_its_scatter_over_many_runs():
    time = np.linspace(0.0, 10.0, 2000)
    drifts = [linear_drift(time, 0.3 * time + noise) for noise in autoregressive(PHI, (300, 2000))]
    slopes = np.array([drift.slope for drift in drifts])
    claimed = np.sqrt(np.mean([drift.error**2 for drift in drifts]))
    assert slopes.mean() == pytest.approx(0.3, abs=4 * slopes.std() / np.sqrt(300))
    assert claimed == pytest.approx(slopes.std(), rel=0.15)


def test_slope_of_a_short_series_has_no_error():
    assert linear_drift([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 1.0]).error is None
    assert np.isnan(linear_drift([1.0], [2.0]).slope)
