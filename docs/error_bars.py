"""How good the errors of averages are: the ratio of the error given to the true one, by length of a series.

python docs/error_bars.py

First-order autoregressive series x_t = φ x_(t-1) + noise, whose correlation time is τ = (1 + φ)/(1 - φ) and
whose mean over n frames has the variance [τ - 2 φ (1 - φⁿ) / (n (1 - φ)²)] / n where that of x is 1.
"""

import numpy as np
from scipy.signal import lfilter

from asecalc_ml.statistics.time_series import block_average

TAU = 20  # frames
N_SERIES = 400
LENGTHS = (1, 2, 5, 10, 20, 50, 200, 2000)  # in correlation times


def main():
    phi = (TAU - 1) / (TAU + 1)
    print(f"{'length':>8}  {'error given':>11}  given / true")
    for length in LENGTHS:
        n_frames = length * TAU
        errors = [block_average(series).error for series in autoregressive(phi, n_frames)]
        given = [error for error in errors if error is not None]
        ratio = np.sqrt(np.mean(np.square(given)) / true_variance(phi, n_frames))
        print(f"{length:>6} τ  {len(given) / N_SERIES:>11.0%}  {ratio:.2f}")


def autoregressive(phi: float, n_frames: int) -> np.ndarray:
    """Series of variance 1 in equilibrium, shape (N_SERIES, n_frames)."""
    rng = np.random.default_rng(0)
    noise = np.sqrt(1 - phi**2) * rng.standard_normal((N_SERIES, n_frames))
    noise[:, 0] /= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise, axis=1)


def true_variance(phi: float, n_frames: int) -> float:
    """Of the mean of a series."""
    ends = 2 * phi * (1 - phi**n_frames) / (n_frames * (1 - phi) ** 2)
    return ((1 + phi) / (1 - phi) - ends) / n_frames


if __name__ == "__main__":
    main()
