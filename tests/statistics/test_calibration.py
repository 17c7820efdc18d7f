"""Standard deviations against errors: areas, scales, ranks and likelihoods of known distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erf, erfinv
from scipy.stats import norm, spearmanr

from asecalc_ml.statistics.calibration import KEPT, Calibration


def drawn(n_values=4000, overstated=1.0, seed=0) -> Calibration:
    """Normal errors of different widths, with standard deviations that are too large by a factor."""
    random = np.random.default_rng(seed)
    stds = np.exp(random.normal(size=n_values))
    return Calibration("homo", "eV", random.normal(scale=stds), overstated * stds)


@pytest.mark.parametrize("overstated", [0.25, 3.0])
def test_a_scale_fitted_to_one_half_calibrates_the_other(overstated):
    fitted, shown = drawn(overstated=overstated), drawn(overstated=overstated, seed=1)
    assert fitted.fitted_scale == pytest.approx(1 / overstated, rel=0.03)
    after = shown.scaled(fitted.fitted_scale)
    assert after.miscalibration_area < 0.015
    assert shown.miscalibration_area > 0.2
    assert after.spearman == shown.spearman > 0.3
    assert after.negative_log_likelihood < shown.negative_log_likelihood
    assert after.rms_std == pytest.approx(after.rmse, rel=0.1)


@pytest.mark.parametrize("overstated", [0.5, 1.0, 2.0])
def test_the_area_of_many_normal_errors_is_that_of_the_distribution(overstated):
    """Errors of width σ/s: the fraction within the interval of probability p is erf(s erf⁻¹(p))."""
    exact = quad(lambda p: abs(erf(overstated * erfinv(p)) - p), 0, 1)[0]
    assert drawn(100_000, overstated).miscalibration_area == pytest.approx(exact, abs=0.003)


def test_calibrated_values_have_the_stated_area_on_average():
    areas = [drawn(50, seed=seed).miscalibration_area for seed in range(400)]
    assert np.mean(areas) == pytest.approx(np.sqrt(np.pi / 32 / 50), rel=0.06)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 5)), min_size=1, max_size=20))
def test_the_area_is_the_integral_of_the_curve(pairs):
    errors, stds = np.array(pairs).T
    calibration = Calibration("energy", "eV", errors, stds)
    grid = (np.arange(20_000) + 0.5) / 20_000
    assert calibration.miscalibration_area == pytest.approx(
        np.abs(calibration.observed(grid) - grid).mean(), abs=1e-4
    )


def test_by_definition_with_scipy():
    calibration = drawn(200, 1.3)
    z = np.abs(calibration.errors / calibration.stds)
    assert calibration.coverages == pytest.approx(np.sort(norm.cdf(z) - norm.cdf(-z)))
    likelihoods = norm.logpdf(calibration.errors, scale=calibration.stds)
    assert calibration.negative_log_likelihood == pytest.approx(-likelihoods.mean())
    assert calibration.spearman == pytest.approx(spearmanr(z * calibration.stds, calibration.stds).statistic)
    scales = calibration.fitted_scale * np.array([0.98, 1.0, 1.02])
    assert np.argmin([calibration.scaled(scale).negative_log_likelihood for scale in scales]) == 1


def test_no_deviation_at_all_is_the_worst():
    """The standard deviations of a committee whose members are the same."""
    certain = Calibration("homo", "eV", np.array([0.1, -0.2, 0.3]), np.zeros(3))
    assert certain.miscalibration_area == 0.5
    assert certain.fitted_scale is None
    assert certain.spearman is None
    assert certain.negative_log_likelihood == np.inf
    never_wrong = Calibration("homo", "eV", np.zeros(3), np.ones(3))
    assert never_wrong.miscalibration_area == 0.5
    assert certain.scaled(2.0).miscalibration_area == 0.5


def test_selective_errors_leave_out_the_most_uncertain():
    calibration = Calibration("homo", "eV", np.array([3.0, -1.0, 2.0, 4.0]), np.array([0.3, 0.1, 0.4, 0.2]))
    kept = np.array([0.01, 0.5, 0.75, 1.0])
    assert calibration.selective_errors(kept) == pytest.approx([1, 5 / 2, 8 / 3, 10 / 4])
    assert calibration.selective_errors(kept, by_error=True) == pytest.approx([1, 3 / 2, 2, 10 / 4])
    informed = drawn()
    assert (informed.selective_errors(by_error=True) <= informed.selective_errors() + 1e-12).all()
    assert informed.selective_errors()[np.searchsorted(KEPT, 0.5)] < 0.5 * informed.selective_errors()[-1]
