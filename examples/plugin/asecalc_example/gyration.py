"""Radius of gyration over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.base import AnyRun
    from asecalc_ml.runs.frames import Frames


class GyrationResult(Result):
    """Radius of gyration in each frame, and its mean."""

    analysis: Literal["radius-of-gyration"] = "radius-of-gyration"
    mean_A: float = Field(description="mean over the frames, Å")
    error_A: float | None = Field(
        description="standard error of the mean, Å; null where the run is too short"
    )
    time_ps: list[float] = Field(description="time of each frame")
    radius_A: list[float] = Field(description="radius of gyration in each frame, Å")

    def panels(self) -> list[Panel]:
        """Radius over time."""
        caption = f"Mass-weighted radius of gyration; its mean is {self.mean_A:.3f} Å."
        return [Panel(key="radius", title="Radius of gyration", caption=caption)]

    def tables(self) -> list[Table]:
        """Mean and error."""
        row = [self.mean_A, self.error_A, len(self.radius_A)]
        return [
            Table(
                key="statistics",
                title="Radius of gyration",
                columns=["mean (Å)", "error (Å)", "frames"],
                rows=[row],
            )
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        ax.plot(self.time_ps, self.radius_A)
        ax.set_xlabel("time (ps)")
        ax.set_ylabel("radius of gyration (Å)")


class RadiusOfGyration(Analysis):
    """Mass-weighted radius of gyration of a molecule, with the error of its mean."""

    result: ClassVar = GyrationResult
    needs_times: ClassVar = True

    stride: int = Field(1, ge=1, description="every so many frames one is measured")

    def check_start(self, atoms: Atoms) -> None:
        """Refuse single atoms and periodic structures, which have no radius."""
        if len(atoms) < 2 or atoms.pbc.any():
            raise AnalysisError(
                "a radius of gyration needs a molecule of two atoms or more that is not periodic"
            )

    def prepare(self, run: AnyRun) -> Gyration:
        """Measurement of a run."""
        self.check_start(run.atoms)
        return Gyration(run.atoms.get_masses(), run.frame_interval_fs, self.stride)


class Gyration:
    """Takes frames in chunks, whatever their size, and concludes.

    Parameters
    ----------
    masses : ndarray, shape (n_atoms,), amu
    interval_fs : float
        Time between frames.
    stride : int
    """

    def __init__(self, masses: np.ndarray, interval_fs: float, stride: int):
        self._weights, self._interval_ps, self._stride = masses / masses.sum(), interval_fs / 1000, stride
        self._time: list[float] = []
        self._radius: list[float] = []

    def frames(self, frames: Frames) -> None:
        """Measure the next frames."""
        for number, positions in enumerate(frames.positions, start=frames.start):
            if number % self._stride == 0:
                away = positions - self._weights @ positions
                self._radius.append(float((self._weights @ (away**2).sum(axis=1)) ** 0.5))
                self._time.append(number * self._interval_ps)

    def conclude(self) -> GyrationResult:
        """Mean and error of all frames."""
        import numpy as np

        from asecalc_ml.statistics.time_series import block_average

        if not self._radius:
            raise AnalysisError("the trajectory holds no frame")
        average = block_average(np.array(self._radius))
        return GyrationResult(
            mean_A=average.mean, error_A=average.error, time_ps=self._time, radius_A=self._radius
        )
