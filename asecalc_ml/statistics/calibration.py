r"""How well stated standard deviations describe errors.

Errors :math:`e_i` are called calibrated if they look like draws from normal distributions with mean 0 and the
stated standard deviations :math:`\sigma_i`. One :math:`\sigma` for all values can be calibrated, and says
nothing of a single one. So the rank correlation of :math:`\sigma` and :math:`|e|`, and the errors that remain
when the most uncertain values are left out, are measured as well.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import erf
from scipy.stats import spearmanr

#: Fractions of values that are kept for a selective-error curve.
KEPT = np.linspace(0.1, 1.0, 19)


@dataclass(frozen=True)
class Calibration:
    r"""Errors of a quantity with their stated standard deviations.

    Parameters
    ----------
    quantity : str
        Name of what is predicted.
    unit : str
        Of errors and standard deviations.
    errors : ndarray, shape (n,)
        Predicted minus labelled values.
    stds : ndarray, shape (n,)
        Standard deviations that were stated for them, not negative.
    """

    quantity: str
    unit: str
    errors: np.ndarray
    stds: np.ndarray

    @property
    def n_values(self) -> int:
        return len(self.errors)

    @property
    def rmse(self) -> float:
        """Root mean square error."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def rms_std(self) -> float:
        """Root mean square of the standard deviations; equal to the error's where they are calibrated."""
        return float(np.sqrt((self.stds**2).mean()))

    @cached_property
    def coverages(self) -> np.ndarray:
        r"""Probability of a smaller error than each value's, sorted, shape (n,).

        :math:`p_i = \operatorname{erf}(|e_i| / \sqrt 2 \sigma_i)`, uniform between 0 and 1 where the standard
        deviations are calibrated. A standard deviation of zero leaves no room for an error: 1 where there is
        one, else 0.
        """
        magnitudes = np.abs(self.errors)
        certain = np.where(magnitudes > 0, np.inf, 0.0)
        ratios = np.divide(magnitudes, self.stds, out=certain, where=self.stds > 0)
        return np.sort(erf(ratios / np.sqrt(2)))

    def observed(self, expected: np.ndarray) -> np.ndarray:
        """Fraction of values inside the central intervals that should hold the expected fraction.

        Parameters
        ----------
        expected : ndarray
            Probabilities between 0 and 1.
        """
        return np.searchsorted(self.coverages, expected, side="right") / self.n_values

    @property
    def miscalibration_area(self) -> float:
        r"""Area between observed and expected fractions, :math:`\int_0^1 |F(p) - p| \, dp`.

        0 is calibrated; 1/2 is the worst: all standard deviations are zero, or infinite. With n values of a
        calibrated model it is :math:`\sqrt{\pi/32n} = 0.31/\sqrt n` on average, which is the mean of
        :math:`|F - p|` of a Brownian bridge.
        (K. Tran, W. Neiswanger, J. Yoon, Q. Zhang, E. Xing, Z. W. Ulissi, Mach. Learn.: Sci. Technol. 1,
        025006 (2020))
        """
        # F is a step function: k/n between the k-th and the next of the sorted p
        ends = np.concatenate([[0.0], self.coverages, [1.0]])
        steps = np.arange(self.n_values + 1) / self.n_values
        low, high = ends[:-1] - steps, ends[1:] - steps
        return float(0.5 * (high * np.abs(high) - low * np.abs(low)).sum())

    @property
    def spearman(self) -> float | None:
        """Rank correlation of standard deviations and absolute errors; None where one of them is constant."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy warns of constant values, and returns NaN
            correlation = float(spearmanr(self.stds, np.abs(self.errors)).statistic)
        return None if np.isnan(correlation) else correlation

    @property
    def negative_log_likelihood(self) -> float:
        r"""Mean of :math:`e^2/2\sigma^2 + \ln\sigma + \frac12\ln 2\pi`; infinite where a σ is zero."""
        return negative_log_likelihood(self.errors, self.stds)

    @property
    def fitted_scale(self) -> float | None:
        r"""Factor of all standard deviations that makes the errors most likely; None where a σ is zero.

        The maximum of the likelihood of :math:`s \sigma_i` is at
        :math:`s^2 = \frac1n \sum_i e_i^2 / \sigma_i^2`.
        """
        if not (self.stds > 0).all():
            return None
        return float(np.sqrt(((self.errors / self.stds) ** 2).mean()))

    def scaled(self, factor: float) -> Calibration:
        """Return the same errors with all standard deviations times a factor."""
        return dataclasses.replace(self, stds=factor * self.stds)

    def selective_errors(self, kept: np.ndarray = KEPT, by_error: bool = False) -> np.ndarray:
        """Mean absolute error of the values that are kept when the most uncertain ones are left out.

        Parameters
        ----------
        kept : ndarray
            Fractions of the values that are kept, above 0 and up to 1; at least one value is.
        by_error : bool
            Leave out those with the largest errors: no other order has smaller errors.
        """
        magnitudes = np.abs(self.errors)
        order = np.argsort(magnitudes if by_error else self.stds, kind="stable")
        means = magnitudes[order].cumsum() / np.arange(1, self.n_values + 1)
        return means[np.maximum(1, np.rint(kept * self.n_values).astype(int)) - 1]


def negative_log_likelihood(errors: np.ndarray, stds: np.ndarray) -> float:
    r"""Mean of :math:`e^2/2\sigma^2 + \ln\sigma + \frac12\ln 2\pi`; infinite where a σ is zero.

    Parameters
    ----------
    errors, stds : ndarray, shape (n,)
        In one unit, whose logarithm is part of the value.
    """
    if not (stds > 0).all():
        return float("inf")
    terms = 0.5 * (errors / stds) ** 2 + np.log(stds)
    return float(terms.mean() + 0.5 * np.log(2 * np.pi))
