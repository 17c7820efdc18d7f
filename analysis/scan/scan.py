"""Reads the raw table of a scan, and makes curves of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Analysis
from asecalc_ml.analysis.distributions.training_domain import TrainingDomain
from asecalc_ml.analysis.scan.curve import WHOLE, Curve, Numbers, deviations, extrema
from asecalc_ml.analysis.scan.followed import check_pairs, follow
from asecalc_ml.analysis.scan.result import ScanResult
from asecalc_ml.analysis.scan.states import Crossing, crossings, is_lowest, states_of_methods
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.histogram import Histogram

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.base import AnyRun

SEE_EVENTS = "the events of the run give the reasons"

Raw = dict[int, tuple[np.ndarray, np.ndarray]]  # energies and forces by member, NaN where there are none


class ScanAnalysis(Analysis):
    """Energy and force along a scanned coordinate, with minima, barriers and errors beside a reference."""

    result: ClassVar = ScanResult
    reads: ClassVar = "SCAN"

    follow: list[tuple[int, int]] = Field(
        [],
        description="other distances to show along the scan, by numbers of two atoms: where a proton goes",
        examples=[[[3, 9], [10, 9]]],
    )

    def check_start(self, atoms: Atoms) -> None:
        """Atoms that there are."""
        check_pairs(atoms, self.follow)

    def run(self, run: AnyRun) -> ScanResult:
        """Read the points; AnalysisError where there are none."""
        data = ScanData(run)
        curves = data.curves()
        judge = next((curve for curve in curves if curve.is_reference), None)
        others = [curve for curve in curves if not curve.is_reference]
        return ScanResult(
            coordinate=data.about["coordinate"],
            kind=data.about["kind"],
            scan=data.about["scan"],
            values=data.values.tolist(),
            zero=data.zero,
            curves=curves,
            errors=[error for curve in others for error in deviations(curve, judge)] if judge else [],
            crossings=data.crossings(curves),
            followed=follow(run, data.about, self.follow),
        )


class ScanData:
    """What lies in the run directory of a scan.

    Parameters
    ----------
    run : RunReader or MemoryRun

    Attributes
    ----------
    values : ndarray, shape (n_points,)
    zero : int
        Point at which all energies are zero: the minimum of the reference, or of the first calculator without
        one, among the points that all calculators could compute. Of several states of one method the
        reference, or the lowest at this point, is zero.
    """

    def __init__(self, run: AnyRun):
        about, table = run.read_scan(), run.read_scan_table()
        if about is None or not len(table.get("point", ())):
            raise AnalysisError("the run holds no point of a scan", remedy="run protocol scan")
        self.about: dict[str, Any] = about
        self.values = np.array(about["values"])
        entries = about["calculators"]
        self._raw: list[Raw] = [_raw(table, k, len(self.values)) for k in range(len(entries))]
        if about["reference_values"]:
            name = str(run.read_options().get("reference_values"))
            entries = [*entries, {"label": Path(name).stem, "is_reference": True, "cards": []}]
            self._raw.append(_of_file(about["reference_values"], self.values))
        self._entries = entries
        self._states = states_of_methods(entries)
        self.zero = self._zero()

    def curves(self) -> list[Curve]:
        """A curve for each calculator that could compute the zero, states of one method with one zero."""
        curves = [self._curve(k) for k in range(len(self._entries))]
        return [
            curve.model_copy(update={"lowest": lowest})
            for curve, lowest in zip(curves, self._lowest(curves), strict=True)
        ]

    def crossings(self, curves: list[Curve]) -> list[Crossing]:
        """Where states of one method cross."""
        groups = [[curves[k] for k in states] for states in self._states]
        return [crossing for states in groups for crossing in crossings(self.values, states, self._per_unit)]

    def _lowest(self, curves: list[Curve]) -> list[list[bool]]:
        is_lowest_state: list[list[bool]] = [[] for _ in curves]
        for states in self._states:
            for k, lowest in zip(states, is_lowest([curves[k] for k in states]), strict=True):
                is_lowest_state[k] = lowest
        return is_lowest_state

    @property
    def _per_unit(self) -> float:
        """Converts eV/Å or eV/rad to eV per Å or degree."""
        return 1.0 if self.about["kind"] == "bond" else np.pi / 180

    def _zero(self) -> int:
        computed = [raw[WHOLE][0] for raw in self._raw if np.isfinite(raw[WHOLE][0]).any()]
        if not computed:
            raise AnalysisError("no point of the scan could be computed", remedy=SEE_EVENTS)
        judges = [
            raw[WHOLE][0]
            for entry, raw in zip(self._entries, self._raw, strict=True)
            if entry["is_reference"] and np.isfinite(raw[WHOLE][0]).any()
        ]
        # the zero of energy: the lowest point of the reference among those that all calculators have
        common = np.isfinite(computed).all(axis=0)
        if not common.any():
            raise AnalysisError(
                "the calculators have no point of the scan in common, so that their energies have no zero",
                remedy=SEE_EVENTS,
            )
        return int(np.where(common, (judges or computed)[0], np.inf).argmin())

    def _zero_energy(self, k: int) -> float:
        """What is zero for a calculator: its own energy, or that of the reference or lowest of its states."""
        states = next((states for states in self._states if k in states), [k])
        references = [j for j in states if self._entries[j]["is_reference"]]
        energies = [self._raw[j][WHOLE][0][self.zero] for j in references or states]
        return float(np.fmin.reduce(energies))  # not a number only where all failed

    def _curve(self, k: int) -> Curve:
        entry, raw = self._entries[k], self._raw[k]
        energies, forces = raw[WHOLE]
        energies = energies - self._zero_energy(k)
        slopes = None if np.isnan(forces).all() else -forces * self._per_unit
        members = [raw[member] for member in sorted(raw) if member != WHOLE]
        seen = self._seen(entry["cards"])
        return Curve(
            label=entry["label"],
            is_reference=entry["is_reference"],
            energies_eV=_numbers(energies),
            forces=_numbers(forces),
            energy_stds_eV=_spread([e - e[self.zero] for e, _ in members]),
            force_stds=_spread([f for _, f in members]),
            seen=self._ranges(seen) if seen else [],
            dataset=TrainingDomain(*entry["cards"]).dataset if seen else "",
            inside=seen.covers(self._one_turn(self.values)).tolist() if seen else [],
            **extrema(self.values, energies, slopes),
        )

    def _seen(self, cards: list[dict]) -> Histogram | None:
        """Distribution of the coordinate in the training data of a model, or of every member."""
        return TrainingDomain(*cards).of(len(self.about["atoms"]), self.about["pattern"])

    def _one_turn(self, values: np.ndarray) -> np.ndarray:
        """Values as histograms have them: dihedrals from -180 up to and without 180 degrees."""
        return (values + 180) % 360 - 180 if self.about["kind"] == "dihedral" else values

    def _ranges(self, seen: Histogram) -> list[tuple[float, float]]:
        """Where training data are; of dihedrals in every turn that the scan goes through."""
        ranges = seen.ranges()
        if self.about["kind"] != "dihedral":
            return ranges
        low, high = self.values.min(), self.values.max()
        turns = range(math.floor((low - 180) / 360), math.ceil((high + 180) / 360) + 1)
        turned = [(a + 360 * turn, b + 360 * turn) for turn in turns for a, b in ranges]
        return [(float(max(a, low)), float(min(b, high))) for a, b in turned if a < high and b > low]


def _raw(table: Mapping[str, np.ndarray], calculator: int, n_points: int) -> Raw:
    columns: Raw = {WHOLE: (np.full(n_points, np.nan), np.full(n_points, np.nan))}
    for row in np.flatnonzero(table["calculator"] == calculator):
        member, point = int(table["member"][row]), int(table["point"][row])
        if member not in columns:
            columns[member] = (np.full(n_points, np.nan), np.full(n_points, np.nan))
        columns[member][0][point], columns[member][1][point] = table["energy_eV"][row], table["force"][row]
    return columns


def _of_file(rows: list[list[float | None]], values: np.ndarray) -> Raw:
    known = {round(value, 6): row for row in rows if (value := row[0]) is not None}
    chosen = [known[round(value, 6)] for value in values.tolist()]
    columns = ([np.nan if row[k] is None else row[k] for row in chosen] for k in (1, 2))
    energies, forces = (np.array(column, dtype=float) for column in columns)
    return {WHOLE: (energies, forces)}


def _spread(members: list[np.ndarray]) -> Numbers:
    """Standard deviation over members, with n - 1 in it; nothing without them."""
    return _numbers(np.std(members, axis=0, ddof=1)) if len(members) > 1 else []


def _numbers(values: np.ndarray) -> Numbers:
    return [float(value) if np.isfinite(value) else None for value in values]


#: Deprecated alias: name of versions up to 0.1.0, which is also that of the protocol.
Scan = ScanAnalysis
