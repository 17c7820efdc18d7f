"""Mean-square displacements and diffusion coefficients by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.analysis.base import Analysis, Measurement, Panel, Record, Result, Table
from asecalc_ml.analysis.number_text import with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from asecalc_ml.runs import RunPlan, RunReader

CellVector = Literal["a", "b", "c"]
CM2_S = 10.0  # one Å²/ps in 10⁻⁵ cm²/s


class ElementDisplacement(Record):
    """Atoms of one element."""

    element: str
    n_atoms: int
    msd_A2: list[float] = Field(description="mean-square displacement at each lag")
    exponent: float | None = Field(description="of its growth within the range of the fit; 1 for diffusion")
    diffusion_A2_ps: float | None = Field(
        description="slope over twice the number of directions; null where nothing diffuses"
    )
    error_A2_ps: float | None = Field(description="standard error from five parts of the run")
    note: str = Field(description="why there is no coefficient, or no error")

    @property
    def measured(self) -> str:
        """Coefficient with error and unit, or why there is none."""
        if self.diffusion_A2_ps is None:
            return self.note
        if self.error_A2_ps is None:
            return f"{self.diffusion_A2_ps:.3g} Å²/ps (error: {self.note})"
        value, error = CM2_S * self.diffusion_A2_ps, CM2_S * self.error_A2_ps
        text = with_error(self.diffusion_A2_ps, self.error_A2_ps)
        return f"{text} Å²/ps ({with_error(value, error)} 10⁻⁵ cm²/s)"


class DisplacementResult(Result):
    """Mean-square displacement over time, and the diffusion coefficient."""

    analysis: Literal["mean-square-displacement"] = "mean-square-displacement"
    n_frames: int
    stride: int = Field(description="frames from one that was used to the next")
    is_relative: bool = Field(description="whether the movement of the centre of mass was taken out")
    directions: list[CellVector] = Field(
        ["a", "b", "c"], description="cell vectors along which displacements count"
    )
    lags_ps: list[float]
    fit_from_ps: float
    fit_to_ps: float
    elements: list[ElementDisplacement]

    def __getitem__(self, element: str) -> ElementDisplacement:
        """Displacement of an element."""
        from asecalc_ml.errors import AnalysisError

        known = {one.element: one for one in self.elements}
        if element not in known:
            raise AnalysisError(f"{self.analysis} measured {', '.join(known)}, not {element!r}")
        return known[element]

    @property
    def dimensions(self) -> int:
        """Number of directions d in D = slope / 2d."""
        return len(self.directions)

    def panels(self) -> list[Panel]:
        """All elements in one figure."""
        coefficients = "; ".join(f"{one.element}: {one.measured}" for one in self.elements)
        centre = ", without the movement of the common centre of mass" * self.is_relative
        caption = (
            f"Mean-square displacement{self._along} from all starting times of {self.n_frames:,} frames, "
            f"unwrapped{centre}. Diffusion coefficients are the slope over {2 * self.dimensions} between "
            f"{self.fit_from_ps:.3g} and {self.fit_to_ps:.3g} ps (shaded): {coefficients}. A line of slope 1 "
            "on these axes is diffusion, a level one vibration."
        )
        return [Panel(key="msd", title="Mean-square displacement", caption=caption)]

    def tables(self) -> list[Table]:
        """One row for each element."""
        rows = [[one.element, one.n_atoms, one.exponent, *self._coefficients(one)] for one in self.elements]
        columns = ["element", "atoms", "exponent", "D (Å²/ps)", "error (Å²/ps)", "D (10⁻⁵ cm²/s)"]
        caption = (
            f"D is the slope of the mean-square displacement{self._along} over {2 * self.dimensions}, twice "
            "the number of directions. It is given where the displacement grows as time to the power of 0.8 "
            f"to 1.2. Its error is that of the mean over five parts of the run.{self._finite_size}"
        )
        return [Table(key="diffusion", title="Diffusion", columns=columns, rows=rows, caption=caption)]

    @property
    def _along(self) -> str:
        """The directions, where these are not all."""
        return "" if self.dimensions == 3 else f" along {' and '.join(self.directions)}"

    @property
    def _finite_size(self) -> str:
        """The correction of I.-C. Yeh & G. Hummer, J. Phys. Chem. B 108, 15873 (2004)."""
        if self.dimensions < 3:
            return ""
        return (
            " In a small cubic box D comes out too small, by about 2.84 kT / (6 π η L) for the box length L "
            "and viscosity η."
        )

    def _coefficients(self, one: ElementDisplacement) -> list:
        if one.diffusion_A2_ps is None:
            return [one.note, None, None]
        error = one.note if one.error_A2_ps is None else one.error_A2_ps
        return [one.diffusion_A2_ps, error, CM2_S * one.diffusion_A2_ps]

    def data(self) -> list[Table]:
        """The curves."""
        columns = ["time (ps)", *(f"{one.element} (Å²)" for one in self.elements)]
        rows = zip(self.lags_ps, *(one.msd_A2 for one in self.elements), strict=True)
        return [
            Table(key="curves", title="Mean-square displacement", columns=columns, rows=list(map(list, rows)))
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        from asecalc_ml.analysis.figures import PALETTE

        ax.axvspan(self.fit_from_ps, self.fit_to_ps, color=".5", alpha=0.15, linewidth=0)
        for one, color in zip(self.elements, PALETTE * len(self.elements), strict=False):
            ax.plot(self.lags_ps[1:], one.msd_A2[1:], color=color, label=one.element)
        ax.set(xlabel="time (ps)", ylabel="mean-square displacement (Å²)", xscale="log", yscale="log")
        ax.legend(loc="upper left", borderaxespad=0.0)


class MeanSquareDisplacement(Analysis):
    """Mean-square displacement by element, of unwrapped positions, and Einstein's diffusion coefficient."""

    result: ClassVar = DisplacementResult
    needs_times: ClassVar = True

    relative_to_center_of_mass: bool = Field(
        True, description="take out the movement of the common centre of mass, which a thermostat may cause"
    )
    fit_from_ps: float | None = Field(
        None, gt=0, le=1e7, description="shortest time of the fit; by default a fifth of the longest"
    )
    fit_to_ps: float | None = Field(
        None,
        gt=0,
        le=1e7,
        description="longest time of the fit; by default a tenth of the run, and no more than that",
    )

    directions: list[CellVector] | None = Field(
        None,
        min_length=1,
        description="cell vectors along which atoms diffuse, such as [a, b]; by default the periodic ones, "
        "all three of a structure without any",
    )

    @field_validator("directions")
    @classmethod
    def _check_directions(cls, given: list[str] | None) -> list[str] | None:
        if given is not None and len(set(given)) < len(given):
            raise ValueError("a direction is named twice")
        return given and sorted(given)

    @model_validator(mode="after")
    def _check_fit(self) -> MeanSquareDisplacement:
        start, end = self.fit_from_ps, self.fit_to_ps
        if start is not None and end is not None and start >= end:
            raise ValueError(f"fit_from_ps ({start:g}) must be below fit_to_ps ({end:g})")
        return self

    def check_plan(self, plan: RunPlan) -> None:
        """Enough frames for the lags of the fit."""
        from asecalc_ml.analysis.functions.displacement_measurement import fitted_lags

        super().check_plan(plan)
        fitted_lags(self, plan.n_frames or 0, plan.frame_interval_fs / 1000)

    def prepare(self, run: RunReader) -> Measurement:
        """Begin at the start of the run."""
        from asecalc_ml.analysis.functions.displacement_measurement import DisplacementMeasurement

        return DisplacementMeasurement(run, self)
