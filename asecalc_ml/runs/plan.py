"""The plan of a run: the files, frames and rows that it will have written at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs import layout
from asecalc_ml.runs.production import NO_PRODUCTION, Production

FEWEST_RUNS, FEWEST_REFERENCE_RUNS = 5, 8  # of each molecule, for a verdict on a transfer test


@dataclass(frozen=True)
class RunPlan:
    """The planned contents of a run directory.

    Attributes
    ----------
    protocol : str
    files : frozenset of str or None
        Names of the layout that its stages write; None if a stage does not declare them.
    n_frames : int or None
        Frames of the trajectory; None where their number is not known beforehand.
    interval_fs : float or None
        Time between frames; None where frames are not moments in time.
    n_rows : int
        Rows of thermo.csv.
    columns : tuple of str
        Columns of thermo.csv beyond those that every run has.
    n_steps : int
        Steps of all productions.
    production : Production
        What each segment of the production conserves, and the temperature and pressure that it is asked for.
    fmax_eV_A : float or None
        Largest force of a relaxed structure; None where nothing is relaxed.
    """

    protocol: str
    files: frozenset[str] | None
    n_frames: int | None = None
    interval_fs: float | None = None
    n_rows: int = 0
    columns: tuple[str, ...] = ()
    n_steps: int = 0
    production: Production = NO_PRODUCTION
    fmax_eV_A: float | None = None

    @property
    def conserves_energy(self) -> bool:
        """True if one segment of the production conserves an energy."""
        return any(segment.conserved for segment in self.production.segments)

    @property
    def statement(self) -> dict[str, Any]:
        """What ``provenance.json`` holds of the plan, for analyses and the report."""
        return {
            "steps": self.n_steps,
            "fmax_eV_A": self.fmax_eV_A,
            "production": self.production.model_dump(mode="json"),
        }

    @property
    def frame_interval_fs(self) -> float:
        """Time between frames.

        Raises
        ------
        AnalysisError
            If frames are not moments in time.
        """
        if self.interval_fs is None:
            raise no_moments(self.protocol)
        return self.interval_fs

    def check_written(self, name: str) -> None:
        """Refuse to read a file that the run will not have.

        Parameters
        ----------
        name : str
            That of a constant of :mod:`asecalc_ml.runs.layout`, such as THERMO, or of a file that a stage
            of another package writes.

        Raises
        ------
        AnalysisError
        """
        file = getattr(layout, name, name)
        if self.files is not None and file not in self.files:
            raise AnalysisError(
                f"it needs {file}, which a run of {self.protocol} with these options does not write "
                f"(it writes {', '.join(sorted(self.files))})",
                name=self.protocol,
                value=file,
                allowed=sorted(self.files),
                remedy=f"remove this analysis, or use a protocol that writes {file}",
            )


def no_moments(protocol: str) -> AnalysisError:
    """Error of an analysis over time of frames that are not moments in time."""
    return AnalysisError(
        f"frames of a run of {protocol} are no moments in time",
        name=protocol,
        remedy="remove this analysis, which is made for dynamics",
    )
