"""Vibrational density of states: its peaks next to harmonic frequencies, its verdict, figure and tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ase import units
from pydantic import Field

from asecalc_ml.analysis.base import Panel, Record, Table, Verdict
from asecalc_ml.analysis.checks.energy_exchange import TimeAverages
from asecalc_ml.analysis.figures import BLUE, draw_curve, draw_ticks
from asecalc_ml.analysis.number_text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIT = "cm⁻¹"
CM1_FS = 1e15 / (units._c * 100)  # the frequency in 1/cm of a period of one femtosecond


class SpectrumPeak(Record):
    """A peak, and the harmonic frequency nearest to it."""

    frequency_per_cm: float
    error_per_cm: float | None = Field(
        description="standard error over parts of the run; null where too short"
    )
    harmonic_per_cm: float | None = None


class VibrationalResult(TimeAverages):
    """Density of vibrational states; its integral is the number of degrees of freedom."""

    analysis: Literal["vibrational-density"] = "vibrational-density"
    n_frames: int
    n_segments: int = Field(
        description="segments whose spectra were averaged, each overlapping the next by half"
    )
    resolution_per_cm: float = Field(description="width of a sharp line at half its height")
    highest_per_cm: float = Field(
        description="of a period of two frames; what is faster appears at a wrong, lower frequency"
    )
    expected_per_cm: float | None = Field(
        None, description="fastest vibration, estimated from the bonds of the starting structure"
    )
    folded_fraction: float = Field(
        0.0,
        description="of the states at a wrong frequency, as velocities and positions of the frames show; "
        "at least, since slow motion of the same apparent frequency hides them",
    )
    temperature_K: float | None = Field(
        description="that the density is scaled with; null: from its integral"
    )
    frequencies_per_cm: list[float]
    density: list[float] = Field(description="states for each cm⁻¹")
    errors: list[float | None] = Field(description="standard errors of the density")
    by_element: dict[str, list[float]]
    n_states: float = Field(description="integral of the density")
    peaks: list[SpectrumPeak]
    harmonic_per_cm: list[float] = Field(description="harmonic frequencies to compare with; empty without")

    def panels(self) -> list[Panel]:
        """One spectrum."""
        return [Panel(key="spectrum", title="Vibrational density of states", caption=self._caption())]

    def _caption(self) -> str:
        ticks = " Ticks on top are the harmonic frequencies." if self.harmonic_per_cm else ""
        band = "; the band is twice the standard error" if any(self.errors) else ", too few for an error"
        limit = "".join(
            f" Beyond the dotted line frames are too far apart: {verdict.text}."
            for verdict in self.verdicts()
            if verdict.status != "passed"
        )
        return (
            f"From the velocities of {self.n_frames:,} frames, weighted with mass, in {self.n_segments} "
            f"segments{band}. Lines are {self.resolution_per_cm:.3g} {UNIT} wide at least. The integral, "
            f"{self.n_states:.4g}, is the number of degrees of freedom that hold kT/2 each.{ticks}{limit}"
            f"{self.doubt}"
        )

    def verdicts(self) -> list[Verdict]:
        """Whether frames are close enough for the fastest vibration; nothing of results of older versions."""
        if self.expected_per_cm is None:
            return []
        fastest = max([self.expected_per_cm, *self.harmonic_per_cm])
        text = f"frames resolve vibrations up to {self.highest_per_cm:,.0f} {UNIT}"
        if self.folded_fraction > 0:
            status = "failed"
            fastest = fastest if fastest > self.highest_per_cm else 2 * self.highest_per_cm
            text += (
                f", and {percent(self.folded_fraction)} of the states or more are faster: they appear at "
                "wrong, lower frequencies"
            )
        elif fastest > self.highest_per_cm:
            status = "undecided"
            text += f", and the structure may have some up to {fastest:,.0f} {UNIT}"
        else:
            status, known = "passed", f"; bonds of the structure vibrate with {fastest:,.0f} {UNIT} at most"
            text += known * (fastest > 0)
        if status != "passed":
            text += f". {closer_frames(fastest)}"
        return [Verdict(check="frames are close enough for the fastest vibration", status=status, text=text)]

    def tables(self) -> list[Table]:
        """Peaks beside harmonic frequencies."""
        rows = [
            [
                peak.frequency_per_cm,
                self.error_cell(peak.error_per_cm),
                peak.harmonic_per_cm,
                None if peak.harmonic_per_cm is None else peak.frequency_per_cm - peak.harmonic_per_cm,
            ]
            for peak in self.peaks
        ]
        columns = [f"peak ({UNIT})", f"error ({UNIT})", f"harmonic ({UNIT})", f"difference ({UNIT})"]
        caption = (
            "Each peak with the harmonic frequency nearest to it. Harmonic frequencies are those of a "
            "minimum at 0 K; anharmonicity and the time step of the integration shift the peaks of a run."
        )
        return [
            Table(
                key="peaks",
                title="Vibrational peaks",
                columns=columns,
                rows=rows,
                caption=f"{caption}{self.doubt}" * bool(rows),
            )
        ]

    def data(self) -> list[Table]:
        """The spectrum."""
        columns = [f"frequency ({UNIT})", "density (states cm)", "error", *self.by_element]
        rows = zip(self.frequencies_per_cm, self.density, self.errors, *self.by_element.values(), strict=True)
        return [Table(key="spectrum", title="Density of states", columns=columns, rows=list(map(list, rows)))]

    def _draw(self, ax: Axes, panel: str) -> None:
        draw_curve(ax, self.frequencies_per_cm, self.density, self.errors, color=BLUE, linewidth=1.0)
        occupied = [
            x
            for x, y in zip(self.frequencies_per_cm, self.density, strict=True)
            if y > 1e-3 * max(self.density)
        ]
        end = 1.08 * max([*occupied, *self.harmonic_per_cm, 100.0])
        ax.set(xlabel=f"frequency ({UNIT})", ylabel="density of states (cm)", ylim=(0, None))
        beyond = any(verdict.status != "passed" for verdict in self.verdicts())
        ax.set_xlim(0, 1.05 * self.highest_per_cm if beyond else min(end, self.highest_per_cm))
        if beyond:
            ax.axvline(self.highest_per_cm, color="black", linestyle=":", label="limit of the frames")
        draw_ticks(ax, self.harmonic_per_cm, "harmonic")
        self.draw_doubt(ax)


def closer_frames(fastest_per_cm: float) -> str:
    """Advice on the time between frames that resolve a frequency."""
    longest_fs = math.floor(10 * CM1_FS / (2 * fastest_per_cm)) / 10  # two frames in a period, rounded down
    return (
        f"Write a frame every {longest_fs:g} fs or more often (write_every times the time step), or "
        "constrain the fastest bonds"
    )
