"""Curves of a scan beside a reference, and the training data they rest on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Cell, Panel, Result, Table, Verdict
from asecalc_ml.analysis.scan.curve import Curve, CurveDeviation, Extremum
from asecalc_ml.analysis.scan.figure import draw_followed, draw_scan
from asecalc_ml.analysis.scan.followed import Followed
from asecalc_ml.analysis.scan.states import Crossing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ScanResult(Result):
    """Energy and projected force along a coordinate, by calculator, and their errors."""

    analysis: Literal["scan"] = "scan"
    coordinate: str = Field(description="atoms, such as C1-O2")
    kind: Literal["bond", "angle", "dihedral"]
    scan: Literal["rigid", "relaxed"]
    values: list[float] = Field(description="Å or degrees")
    zero: int = Field(description="number of the point at which all energies are zero")
    curves: list[Curve] = Field(description="the reference last")
    errors: list[CurveDeviation] = Field(description="beside the reference; empty without one")
    crossings: list[Crossing] = Field([], description="where spin states of one method cross")
    followed: list[Followed] = Field([], description="other distances in the structures of the scan")

    @property
    def unit(self) -> str:
        """Of the coordinate."""
        return "Å" if self.kind == "bond" else "°"

    @property
    def force_unit(self) -> str:
        """Of the projected force, after eV."""
        return "Å" if self.kind == "bond" else "rad"

    @property
    def reference(self) -> Curve | None:
        """The curve that the others are held against."""
        return next((curve for curve in self.curves if curve.is_reference), None)

    @property
    def zero_text(self) -> str:
        """What energies are relative to."""
        whose = (self.reference or self.curves[0]).label
        return f"those at {self.values[self.zero]:.4g} {self.unit}, the lowest point of {whose}"

    def verdicts(self) -> list[Verdict]:
        """Whether all points were computed, and whether the models know them."""
        failed = [f"{curve.label} {curve.n_failed}" for curve in self.curves if curve.n_failed]
        text = (
            f"of {len(self.values)} points failed: {', '.join(failed)}"
            if failed
            else f"{len(self.values)} points"
        )
        verdicts = [
            Verdict(check="every point was computed", status="failed" if failed else "passed", text=text)
        ]
        for curve in self.curves:
            if curve.inside:
                n_outside = curve.inside.count(False)
                verdicts.append(
                    Verdict(
                        check=f"the scan stays within the training data of {curve.label}",
                        status="failed" if n_outside else "passed",
                        text=f"{n_outside} of {len(self.values)} points lie outside",
                    )
                )
        return verdicts

    def panels(self) -> list[Panel]:
        """Energy, and projected force."""
        bars = "; ".join(f"{one.label}: {one.dataset}" for one in self.curves if one.seen)
        told = f" Bars at the bottom: where its training data have this {self.kind} ({bars})." if bars else ""
        bands = " Bands: a committee's standard deviation." if any(c.force_stds for c in self.curves) else ""
        shared = f"{self.scan.capitalize()} scan of {self.coordinate}."
        reference = f" Dashed: the reference, {self.reference.label}." if self.reference else ""
        if any(curve.lowest for curve in self.curves):
            reference += " Of states of one method the lower is drawn strong."
        energy = f"{shared} Energies are relative to {self.zero_text}.{reference}{bands}{told}"
        force = f"{shared} Force along the coordinate, −dE/dq.{reference}{bands}{told}"
        return [
            Panel(key="energy", title=f"Energy along {self.coordinate}", caption=energy),
            Panel(key="force", title=f"Force along {self.coordinate}", caption=force),
            *self._followed_panels(shared + reference),
        ]

    def _followed_panels(self, shared: str) -> list[Panel]:
        caption = f"{shared} Nearest distance of the two atoms, in the structures that each calculator made."
        pairs = dict.fromkeys(distance.pair for distance in self.followed)
        return [Panel(key=pair, title=f"{pair} along {self.coordinate}", caption=caption) for pair in pairs]

    def tables(self) -> list[Table]:
        """What is read off the curves, and errors beside the reference."""
        unit = self.unit
        columns = ["calculator", f"minimum at ({unit})", f"barrier at ({unit})", "barrier (eV)"]
        columns += ["at the end (eV)", "failed points"]
        caption = (
            "Minimum and barrier: lowest minimum and highest maximum inside the range, of a cubic spline "
            "through energies and forces; barrier and end above the minimum. Empty where there is none."
        )
        curves = Table(
            key="curves",
            title="Curves",
            columns=columns,
            rows=[_row(c) for c in self.curves],
            caption=caption,
        )
        return [curves, *self._state_table(), *self._error_table(), *self._committee_table()]

    def _state_table(self) -> list[Table]:
        if not any(curve.lowest for curve in self.curves):
            return []
        columns = ["lower before", "lower behind", f"crossing at ({self.unit})", "energy (eV)"]
        rows: list[list[Cell]] = [[c.below, c.above, c.at, c.energy_eV] for c in self.crossings]
        caption = (
            "Where curves of one method in two spin states meet, by cubics through energies and forces. "
            f"Energies are relative to {self.zero_text}."
        )
        if not rows:
            caption = "No two states of one method cross between two points of the scan."
        return [Table(key="states", title="Crossings", columns=columns, rows=rows, caption=caption)]

    def _error_table(self) -> list[Table]:
        if self.reference is None or not self.errors:
            return []
        per = self.force_unit
        columns = ["calculator", "points", "number", "energy, mean (meV)", "energy, largest (meV)"]
        columns += [f"force, mean (meV/{per})", f"force, largest (meV/{per})"]
        rows: list[list[Cell]] = [
            [e.label, e.region, e.n_points, e.energy_mae_meV, e.energy_max_meV, e.force_mae, e.force_max]
            for e in self.errors
        ]
        caption = (
            f"Absolute differences, energies relative to {self.zero_text}; errors only of models that were "
            f"trained on {self.reference.label}'s level of theory. Inside: the training data hold this "
            f"{self.kind} at the point's value, bin by bin, gaps included; nothing else is looked at."
        )
        title = f"Differences from {self.reference.label}"
        return [Table(key="errors", title=title, columns=columns, rows=rows, caption=caption)]

    def _committee_table(self) -> list[Table]:
        rows: list[list[Cell]] = []
        for curve in self.curves:
            for region, chosen in _regions(curve):
                if spreads := [
                    s for s, c in zip(curve.force_stds, chosen, strict=True) if c and s is not None
                ]:
                    mean = 1000 * sum(spreads) / len(spreads)
                    rows.append([curve.label, region, mean, 1000 * max(spreads)])
        columns = ["committee", "points", f"mean (meV/{self.force_unit})", f"largest (meV/{self.force_unit})"]
        title = "Committee's deviation of the projected force"
        return [Table(key="committee", title=title, columns=columns, rows=rows)] if rows else []

    def data(self) -> list[Table]:
        """Every point."""
        columns = [f"value ({self.unit})"]
        rows: list[list[Cell]] = [[value] for value in self.values]
        for curve in self.curves:
            columns += [f"{curve.label} energy (eV)", f"{curve.label} force (eV/{self.force_unit})"]
            for row, energy, force in zip(rows, curve.energies_eV, curve.forces, strict=True):
                row += [energy, force]
        for distances in self.followed:
            columns.append(f"{distances.pair} {distances.calculator} (Å)")
            for row, distance in zip(rows, distances.distances_A, strict=True):
                row.append(distance)
        return [Table(key="points", title="Points", columns=columns, rows=rows)]

    def _draw(self, ax: Axes, panel: str) -> None:
        if panel in ("energy", "force"):
            draw_scan(ax, self, panel)
        else:
            draw_followed(ax, self, panel)


def _row(curve: Curve) -> list[Cell]:
    low = curve.minimum
    end = next((e for e in reversed(curve.energies_eV) if e is not None), None)
    barrier = curve.barrier or Extremum(at=0, energy_eV=0)
    return [
        curve.label,
        low.at if low else None,
        barrier.at if curve.barrier else None,
        barrier.energy_eV - low.energy_eV if low and curve.barrier else None,
        end - low.energy_eV if low and end is not None else None,
        curve.n_failed,
    ]


def _regions(curve: Curve) -> Iterator[tuple[str, list[bool]]]:
    yield "all", [True] * len(curve.force_stds)
    if curve.inside and curve.force_stds:
        yield "inside", curve.inside
        yield "outside", [not is_inside for is_inside in curve.inside]
