r"""The work behind the vibrational density of states.

With the mass-weighted velocities :math:`u = \sqrt{m} v` of all coordinates,

.. math:: g(\nu) = \frac{2}{k_B T} \int_{-\infty}^{\infty} \sum_i \langle u_i(t) u_i(0) \rangle
    e^{-2 \pi i \nu t} \, dt, \qquad \int_0^\infty g \, d\nu = \frac{\sum_i \langle u_i^2 \rangle}{k_B T}

The right side is twice the kinetic energy over kT: the number of degrees of freedom. By the theorem of
Wiener and Khinchin, g is the power spectrum of u, which is averaged over segments that overlap by half and
are weighted with a Hann window (P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70, 1967).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from ase import units

from asecalc_ml.analysis.base import NO_FRAME
from asecalc_ml.analysis.checks.energy_exchange_measurement import ExchangeMeasurement
from asecalc_ml.analysis.distributions.internal_coordinates import FollowedPositions
from asecalc_ml.analysis.functions.peaks import spectrum_peaks
from asecalc_ml.analysis.functions.rigid_motion import RigidMotion
from asecalc_ml.analysis.functions.vibrational import SpectrumPeak, VibrationalDensity, VibrationalResult
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.statistics.time_series import MAX_BLOCKS, MIN_BLOCKS, CondensedSeries
from asecalc_ml.structure.stretching import fastest_stretch_per_cm

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader
    from asecalc_ml.runs.frames import Frames

CM1_FS = 1e15 / (units._c * 100)  # the frequency in 1/cm of a period of one femtosecond
HANN_WIDTH = 1.44  # of a line at half its height, in steps of frequency
FEWEST = 16  # frames in a segment
FARTHEST, FARTHEST_CM1 = 0.1, 50.0  # of a harmonic frequency from its peak
MAX_NUMBERS = 8_000_000  # 64 MB of spectra
N_DRAWS = 200
LEAST_FOLDED = 1e-3  # of the states


class VibrationalMeasurement:
    """Averages the power spectra of segments."""

    def __init__(self, run: RunReader, options: VibrationalDensity):
        self._options, self._interval_fs = options, run.frame_interval_fs
        self._symbols = np.array(run.atoms.get_chemical_symbols())
        self._roots, self._temperature_K = np.sqrt(run.atoms.get_masses()), _temperature(run)
        self._timestep_fs = run.read_options().get("timestep_fs") or 0.0
        self._rigid = RigidMotion(run.atoms) if self._temperature_K is None else None
        self._harmonic = harmonic_frequencies(options)
        self._length = segment_length(options, run.n_frames, run.frame_interval_fs)
        self._elements = sorted(set(self._symbols))
        self._spectra, self._n_segments = CondensedSeries(MAX_NUMBERS), 0
        self._exchange = ExchangeMeasurement(run)
        self._expected = fastest_stretch_per_cm(run.atoms)
        self._follow, self._of_positions = FollowedPositions(run), 0.0
        self._waiting, self._n_frames = np.empty((0, 2, len(self._symbols), 3)), 0

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        moving = np.stack([frames.velocities, self._follow(frames)], axis=1)
        if self._rigid is not None:
            self._rigid.add(frames.positions, frames.velocities)
        self._n_frames += len(frames)
        self._waiting = np.concatenate([self._waiting, moving * self._roots[:, None]])
        while len(self._waiting) >= self._length:
            velocities, positions = np.moveaxis(self._waiting[: self._length], 1, 0)
            self._spectra.add(self._spectrum(velocities)[None])
            self._of_positions += self._spectrum(positions - positions.mean(axis=0)).sum(axis=0)
            self._waiting = self._waiting[self._length // 2 :]
            self._n_segments += 1

    def _spectrum(self, weighted: np.ndarray) -> np.ndarray:
        """Power by element, shape (n_elements, n_frequencies), eV for each 1/cm."""
        from scipy.signal import periodogram

        _, power = periodogram(weighted, CM1_FS / self._interval_fs, window="hann", detrend=False, axis=0)
        by_atom = power.sum(axis=2)
        return np.array([by_atom[:, self._symbols == one].sum(axis=1) for one in self._elements])

    def _folded_fraction(self, density: np.ndarray) -> float:
        """Fraction of the states that are faster than two frames, zero where it is negligible.

        A vibration of frequency ω that moves atoms by x moves them with velocities ω|x|, wherever frames make
        it appear. Those of velocity Verlet are (x(t + Δt) - x(t - Δt)) / 2Δt, which is sin(ωΔt)/Δt times |x|:
        6 % less at 3300 1/cm and 1 fs. What appears at ω is either that, or has the frequency 2 ω_max − ω or
        more; the velocities and positions of a bin say how much of each.
        """
        positions = self._of_positions / self._n_segments
        highest = np.pi / self._interval_fs  # rad/fs, as all that follows
        apparent = 2 * highest * np.fft.rfftfreq(self._length)
        slow, fast, limit = map(self._speed, (apparent, 2 * highest - apparent, highest))
        known = (positions > 0) & (fast > 1.001 * slow)
        found = np.sqrt(density[known] / positions[known]) * units.fs
        slow, fast = slow[known], fast[known]
        share = (1 - (slow / found) ** 2) / (1 - (slow / fast) ** 2)
        states = density[known] * np.where(found > limit, np.minimum(share, 1), 0)
        fraction = float(states.sum() / density.sum())
        return fraction if fraction >= LEAST_FOLDED else 0.0

    def _speed(self, frequency: np.ndarray | float) -> np.ndarray | float:
        """Velocity of the integrator over displacement, 1/fs, of a frequency in rad/fs."""
        return frequency * np.sinc(frequency * self._timestep_fs / np.pi)

    def conclude(self) -> VibrationalResult:
        """Return the density of states."""
        step = CM1_FS / (self._length * self._interval_fs)
        power = self._spectra.rows.mean(axis=0)
        if power.sum() == 0:
            raise AnalysisError("no atom moves: the frames hold velocities, and all of them are zero")
        thermal = (
            units.kB * self._temperature_K
            if self._rigid is None
            else power.sum() * step / self._rigid.n_degrees
        )
        density, parts = power.sum(axis=0) / thermal, self._parts() / thermal
        frequencies = step * np.arange(len(density))
        errors = parts.std(axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) else None
        return VibrationalResult(
            n_frames=self._n_frames,
            n_segments=self._n_segments,
            resolution_per_cm=HANN_WIDTH * step,
            highest_per_cm=CM1_FS / (2 * self._interval_fs),
            expected_per_cm=self._expected,
            folded_fraction=self._folded_fraction(power.sum(axis=0)),
            temperature_K=self._temperature_K,
            frequencies_per_cm=frequencies.tolist(),
            density=density.tolist(),
            errors=[None] * len(density) if errors is None else errors.tolist(),
            by_element=dict(zip(self._elements, (power / thermal).tolist(), strict=True)),
            n_states=float(density.sum() * step),
            peaks=self._peaks(frequencies, density, parts),
            harmonic_per_cm=self._harmonic,
            exchange=self._exchange.conclude(),
        )

    def _parts(self) -> np.ndarray:
        """Spectra of five to twenty parts of the run, (n_parts, n_frequencies); none of a short one."""
        rows = self._spectra.rows.sum(axis=1)
        n_parts = min(len(rows) // 2, MAX_BLOCKS)  # two segments of each overlap by half
        if n_parts < MIN_BLOCKS:
            return np.empty((0, rows.shape[1]))
        return np.array([part.mean(axis=0) for part in np.array_split(rows, n_parts)])

    def _peaks(self, frequencies: np.ndarray, density: np.ndarray, parts: np.ndarray) -> list[SpectrumPeak]:
        prominence = self._options.peak_prominence
        drawn = [spectrum_peaks(frequencies, one, prominence) for one in _drawn(parts)]
        return [
            SpectrumPeak(
                frequency_per_cm=peak,
                error_per_cm=_scatter(peak, drawn),
                harmonic_per_cm=_nearest(peak, self._harmonic),
            )
            for peak in spectrum_peaks(frequencies, density, prominence)
        ]


def _drawn(parts: np.ndarray) -> Iterator[np.ndarray]:
    """Spectra of parts of the run drawn with repetition, as many as there are; the same every time."""
    rng = np.random.default_rng(0)
    for _ in range(N_DRAWS if len(parts) else 0):
        yield parts[rng.integers(len(parts), size=len(parts))].mean(axis=0)


def _scatter(peak: float, drawn: list[list[float]]) -> float | None:
    """Standard error of a peak, from the nearest one in each spectrum that was drawn."""
    nearest = [min(peaks, key=lambda one: abs(one - peak)) for peaks in drawn if peaks]
    return float(np.std(nearest, ddof=1)) if len(nearest) > 1 else None


def segment_length(options: VibrationalDensity, n_frames: int, interval_fs: float) -> int:
    """Frames in a segment; AnalysisError where the run has fewer."""
    wanted = round(HANN_WIDTH * CM1_FS / (options.resolution_per_cm * interval_fs))
    if n_frames == 0:
        raise AnalysisError(NO_FRAME)
    needed = max(wanted, FEWEST)
    if n_frames < needed:
        finest = HANN_WIDTH * CM1_FS / (n_frames * interval_fs)
        coarser = f", or set resolution_per_cm to {finest:.0f} or more" if n_frames >= FEWEST else ""
        raise AnalysisError(
            f"{n_frames} frames every {interval_fs:g} fs are too short for a resolution of "
            f"{options.resolution_per_cm:g} 1/cm: run for {needed * interval_fs / 1000:.3g} ps at least "
            f"and five times that for errors{coarser}"
        )
    return needed


def _nearest(peak: float, harmonic: list[float]) -> float | None:
    """The nearest harmonic frequency that may belong to a peak."""
    near = [one for one in harmonic if abs(one - peak) <= max(FARTHEST_CM1, FARTHEST * peak)]
    return min(near, key=lambda one: abs(one - peak), default=None)


def harmonic_frequencies(options: VibrationalDensity) -> list[float]:
    """Harmonic frequencies that the options give, or the run that they name; AnalysisError if it has none."""
    from asecalc_ml.runs import RunReader

    if options.harmonic_per_cm is not None or options.harmonic_run is None:
        return sorted(options.harmonic_per_cm or [])
    try:
        found = RunReader(options.harmonic_run).read_harmonic_per_cm()
    except RunError as error:
        raise AnalysisError(f"harmonic_run: {error}") from error
    if not found:
        raise AnalysisError(
            f"{options.harmonic_run} holds no harmonic frequencies: name a run of the protocol vibrations"
        )
    return sorted(found)


def _temperature(run: RunReader) -> float | None:
    """Mean temperature of the run, None where it has not been written."""
    found = run.read_thermo().get("temperature_K", ())
    return float(np.mean(found)) if len(found) else None
