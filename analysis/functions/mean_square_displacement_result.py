"""Mean-square displacements and diffusion coefficients by element: their numbers, figures and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Panel, Record, Result, Table, unknown_part_error
from asecalc_ml.analysis.figures import PALETTE
from asecalc_ml.analysis.number_text import with_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CellVector = Literal["a", "b", "c"]
CM2_S = 10.0  # one Å²/ps in 10⁻⁵ cm²/s


class ElementDisplacement(Record):
    """Displacement and diffusion coefficient of the atoms of one element."""

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
        displacements = {displacement.element: displacement for displacement in self.elements}
        if element not in displacements:
            raise unknown_part_error(self.analysis, "element", element, displacements)
        return displacements[element]

    @property
    def dimensions(self) -> int:
        """Number of directions d in D = slope / 2d."""
        return len(self.directions)

    def panels(self) -> list[Panel]:
        """All elements in one figure."""
        coefficients = "; ".join(f"{atoms.element}: {atoms.measured}" for atoms in self.elements)
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
        rows = [
            [atoms.element, atoms.n_atoms, atoms.exponent, *self._coefficients(atoms)]
            for atoms in self.elements
        ]
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

    def _coefficients(self, atoms: ElementDisplacement) -> list:
        if atoms.diffusion_A2_ps is None:
            return [atoms.note, None, None]
        error = atoms.note if atoms.error_A2_ps is None else atoms.error_A2_ps
        return [atoms.diffusion_A2_ps, error, CM2_S * atoms.diffusion_A2_ps]

    def data(self) -> list[Table]:
        """The curves."""
        columns = ["time (ps)", *(f"{atoms.element} (Å²)" for atoms in self.elements)]
        rows = zip(self.lags_ps, *(atoms.msd_A2 for atoms in self.elements), strict=True)
        return [
            Table(key="curves", title="Mean-square displacement", columns=columns, rows=list(map(list, rows)))
        ]

    def _draw(self, ax: Axes, panel: str) -> None:
        ax.axvspan(self.fit_from_ps, self.fit_to_ps, color=".5", alpha=0.15, linewidth=0)
        for atoms, color in zip(self.elements, PALETTE * len(self.elements), strict=False):
            ax.plot(self.lags_ps[1:], atoms.msd_A2[1:], color=color, label=atoms.element)
        ax.set(xlabel="time (ps)", ylabel="mean-square displacement (Å²)", xscale="log", yscale="log")
        ax.legend(loc="upper left", borderaxespad=0.0)
