r"""Vibrational density of states: the Fourier transform of the velocities' autocorrelation, by mass.

With the mass-weighted velocities :math:`u = \sqrt{m} v` of all coordinates,

.. math:: g(\nu) = \frac{2}{k_B T} \int_{-\infty}^{\infty} \sum_i \langle u_i(t) u_i(0) \rangle
    e^{-2 \pi i \nu t} \, dt, \qquad \int_0^\infty g \, d\nu = \frac{\sum_i \langle u_i^2 \rangle}{k_B T}

The right side is twice the kinetic energy over kT: the number of degrees of freedom. By the theorem of
Wiener and Khinchin, g is the power spectrum of u, which is averaged over segments that overlap by half and
are weighted with a Hann window (P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70, 1967).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase import units
from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Measurement, no_frame_error
from asecalc_ml.analysis.checks.energy_exchange import ExchangeMeasurement
from asecalc_ml.analysis.distributions.unwrapping import UnwrappedPositions
from asecalc_ml.analysis.functions.peaks import spectrum_peaks
from asecalc_ml.analysis.functions.rigid_motion import RigidMotion
from asecalc_ml.analysis.functions.vibrational_density_result import (
    CM1_FS,
    UNIT,
    SpectrumPeak,
    VibrationalResult,
    closer_frames,
)
from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.runs import RunReader
from asecalc_ml.statistics.time_series import MAX_BLOCKS, MIN_BLOCKS, CondensedSeries

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs import RunPlan
    from asecalc_ml.runs.frames import Frames

HANN_WIDTH = 1.44  # of a line at half its height, in steps of frequency
FEWEST = 16  # frames in a segment
FARTHEST, FARTHEST_CM1 = 0.1, 50.0  # of a harmonic frequency from its peak
MAX_NUMBERS = 8_000_000  # 64 MB of spectra
N_DRAWS = 200
LEAST_FOLDED = 1e-3  # of the states


class VibrationalDensity(Analysis):
    """Vibrational density of states: the Fourier transform of the velocities' autocorrelation, by mass.

    It shows what moves, whether or not light can excite it. The frames must hold momenta, every few fs.
    """

    result: ClassVar = VibrationalResult
    needs_times: ClassVar = True

    resolution_per_cm: float = Field(
        10.0,
        ge=1e-3,
        le=4000,
        description="width of a line; the finer, the fewer segments there are to average",
    )
    peak_prominence: float = Field(
        0.03, gt=0, lt=1, description="least rise of a peak, as a fraction of the highest one"
    )
    harmonic_per_cm: list[float] | None = Field(None, description="harmonic frequencies to compare with")

    harmonic_run: str | None = Field(
        None, description="directory of a vibrations run, whose harmonic frequencies to compare with"
    )

    def check_start(self, atoms: Atoms) -> None:
        """Refuse a run that holds no harmonic frequencies."""
        harmonic_frequencies(self)

    def check_plan(self, plan: RunPlan) -> None:
        """Enough frames for one segment of the resolution."""
        super().check_plan(plan)
        segment_length(self, plan.n_frames or 0, plan.frame_interval_fs)

    def doubts(self, atoms: Atoms, plan: RunPlan) -> list[str]:
        """Frames that are too far apart for the bonds of the structure."""
        fastest = max([_fastest_stretch_per_cm(atoms), *harmonic_frequencies(self)])
        highest = CM1_FS / (2 * plan.frame_interval_fs)
        if fastest <= highest:
            return []
        return [
            f"frames every {plan.frame_interval_fs:g} fs resolve vibrations up to {highest:,.0f} {UNIT}, and "
            f"bonds of this structure vibrate with up to {fastest:,.0f} {UNIT}, which will appear at wrong, "
            f"lower frequencies. {closer_frames(fastest)}"
        ]

    def prepare(self, run: AnyRun) -> Measurement:
        """Choose segments; AnalysisError where the run is too short for the resolution."""
        return VibrationalMeasurement(run, self)


class VibrationalMeasurement:
    """Averages the power spectra of segments."""

    def __init__(self, run: AnyRun, options: VibrationalDensity):
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
        self._expected = _fastest_stretch_per_cm(run.atoms)
        self._unwrapped, self._of_positions = UnwrappedPositions(run), 0.0  # summed power of positions
        self._waiting, self._n_frames = np.empty((0, 2, len(self._symbols), 3)), 0

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""
        self._exchange.frames(frames)
        # mass-weighted velocities √m v and positions √m r, which wait until they fill a segment
        moving = np.stack([frames.velocities, self._unwrapped(frames)], axis=1)
        if self._rigid is not None:
            self._rigid.add(frames.positions, frames.velocities)
        self._n_frames += len(frames)
        self._waiting = np.concatenate([self._waiting, moving * self._roots[:, None]])
        # power spectrum of each segment, the next of which begins in its middle
        while len(self._waiting) >= self._length:
            velocities, positions = np.moveaxis(self._waiting[: self._length], 1, 0)
            self._spectra.add(self._spectrum(velocities)[None])
            self._of_positions += self._spectrum(positions - positions.mean(axis=0)).sum(axis=0)
            self._waiting = self._waiting[self._length // 2 :]
            self._n_segments += 1

    def _spectrum(self, weighted: np.ndarray) -> np.ndarray:
        """Power by element, shape (n_elements, n_frequencies), eV for each 1/cm."""
        from scipy.signal import periodogram  # slow to import, and not needed for options

        # one-sided power spectral density of all coordinates, by the frequency in 1/cm
        _, power = periodogram(weighted, CM1_FS / self._interval_fs, window="hann", detrend=False, axis=0)
        by_atom = power.sum(axis=2)
        return np.array([by_atom[:, self._symbols == element].sum(axis=1) for element in self._elements])

    def _folded_fraction(self, density: np.ndarray) -> float:
        """Fraction of the states that are faster than two frames, zero where it is negligible.

        A vibration of frequency ω that moves atoms by x moves them with velocities ω|x|, wherever frames make
        it appear. Those of velocity Verlet are (x(t + Δt) - x(t - Δt)) / 2Δt, which is sin(ωΔt)/Δt times |x|:
        6 % less at 3300 1/cm and 1 fs. What appears at ω is either that, or has the frequency 2 ω_max − ω or
        more; the velocities and positions of a bin say how much of each.
        """
        # frequencies, rad/fs: that of a bin, and the lowest that frames fold into it
        positions = np.asarray(self._of_positions / self._n_segments)
        highest = np.pi / self._interval_fs
        apparent = 2 * highest * np.fft.rfftfreq(self._length)
        # velocity over displacement that each of the two would show
        slow, fast = self._speed(apparent), self._speed(2 * highest - apparent)
        limit = self._speed(np.array(highest))
        # velocity over displacement that the frames show, where the two can be told apart
        known = (positions > 0) & (fast > 1.001 * slow)
        shown = np.sqrt(density[known] / positions[known]) * units.fs
        slow, fast = slow[known], fast[known]
        # share p of the states that are fast: 1/shown² = p/fast² + (1 − p)/slow²; they count where shown is
        # more than any vibration within the limit of the frames can have
        share = (1 - (slow / shown) ** 2) / (1 - (slow / fast) ** 2)
        states = density[known] * np.where(shown > limit, np.minimum(share, 1), 0)
        fraction = float(states.sum() / density.sum())
        return fraction if fraction >= LEAST_FOLDED else 0.0

    def _speed(self, frequency: np.ndarray) -> np.ndarray:
        """Velocity of the integrator over displacement, 1/fs, of a frequency in rad/fs."""
        return frequency * np.sinc(frequency * self._timestep_fs / np.pi)

    def conclude(self) -> VibrationalResult:
        """Return the density of states."""
        # mean of the segments' power, shape (n_elements, n_frequencies), in steps of 1/cm
        step = CM1_FS / (self._length * self._interval_fs)
        power = self._spectra.rows.mean(axis=0)
        if power.sum() == 0:
            raise AnalysisError(
                "no atom moves: the frames hold velocities, and all of them are zero", name="velocities"
            )
        # kT from the mean temperature, or from the integral and the degrees of freedom where none is written
        thermal = (
            units.kB * self._temperature_K
            if self._rigid is None
            else power.sum() * step / self._rigid.n_degrees
        )
        # g(ν) of all elements together, and of parts of the run, whose scatter gives the errors
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
        drawn = [spectrum_peaks(frequencies, spectrum, prominence) for spectrum in _bootstrap(parts)]
        return [
            SpectrumPeak(
                frequency_per_cm=peak,
                error_per_cm=_peak_error(peak, drawn),
                harmonic_per_cm=_nearest_harmonic(peak, self._harmonic),
            )
            for peak in spectrum_peaks(frequencies, density, prominence)
        ]


def _bootstrap(parts: np.ndarray) -> Iterator[np.ndarray]:
    """Spectra of parts of the run drawn with repetition, as many as there are; the same every time."""
    rng = np.random.default_rng(0)
    for _ in range(N_DRAWS if len(parts) else 0):
        yield parts[rng.integers(len(parts), size=len(parts))].mean(axis=0)


def _peak_error(peak: float, drawn: list[list[float]]) -> float | None:
    """Standard error of a peak, from the nearest one in each spectrum that was drawn."""
    nearest = [min(peaks, key=lambda other: abs(other - peak)) for peaks in drawn if peaks]
    return float(np.std(nearest, ddof=1)) if len(nearest) > 1 else None


def segment_length(options: VibrationalDensity, n_frames: int, interval_fs: float) -> int:
    """Frames in a segment; AnalysisError where the run has fewer."""
    wanted = round(HANN_WIDTH * CM1_FS / (options.resolution_per_cm * interval_fs))
    if n_frames == 0:
        raise no_frame_error()
    needed = max(wanted, FEWEST)
    if n_frames < needed:
        finest = math.ceil(HANN_WIDTH * CM1_FS / (n_frames * interval_fs)) if n_frames >= FEWEST else None
        coarser = f", or set resolution_per_cm to {finest} or more" if finest else ""
        shortest_ps = math.ceil(needed * interval_fs / 10) / 100
        raise AnalysisError(
            f"resolution_per_cm is {options.resolution_per_cm:g}, and {n_frames} frames every "
            f"{interval_fs:g} fs are too short for it:",
            name="resolution_per_cm",
            value=options.resolution_per_cm,
            allowed=finest and f"{finest} or more",
            remedy=f"run for {shortest_ps} ps at least and five times that for errors{coarser}",
        )
    return needed


def _nearest_harmonic(peak: float, harmonic: list[float]) -> float | None:
    """The nearest harmonic frequency that may belong to a peak."""
    farthest = max(FARTHEST_CM1, FARTHEST * peak)
    near = [frequency for frequency in harmonic if abs(frequency - peak) <= farthest]
    return min(near, key=lambda frequency: abs(frequency - peak), default=None)


def harmonic_frequencies(options: VibrationalDensity) -> list[float]:
    """Harmonic frequencies that the options give, or the run that they name; AnalysisError if it has none."""
    if options.harmonic_per_cm is not None or options.harmonic_run is None:
        return sorted(options.harmonic_per_cm or [])
    try:
        frequencies = RunReader(options.harmonic_run).read_harmonic_per_cm()
    except RunError as error:
        raise AnalysisError(
            f"harmonic_run: {error.problem}",
            name="harmonic_run",
            value=str(options.harmonic_run),
            remedy=error.remedy,
        ) from error
    if not frequencies:
        raise AnalysisError(
            f"harmonic_run is {str(options.harmonic_run)!r}, which holds no harmonic frequencies",
            name="harmonic_run",
            value=str(options.harmonic_run),
            remedy="name a run of the protocol vibrations",
        )
    return sorted(frequencies)


def _fastest_stretch_per_cm(atoms: Atoms) -> float:
    """Highest frequency of the bonds of a structure."""
    from asecalc_ml.structure.stretching import fastest_stretch_per_cm  # imports scipy, slow for options

    return fastest_stretch_per_cm(atoms)


def _temperature(run: AnyRun) -> float | None:
    """Mean temperature of the run, None where it has not been written."""
    temperatures = run.read_thermo().get("temperature_K", ())
    return float(np.mean(temperatures)) if len(temperatures) else None
