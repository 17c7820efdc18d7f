"""What a run states about its production: which quantity it conserves and which temperature it was asked for.

The statement is made when the run starts, from its stages, and lies in ``provenance.json``. Analyses read it
and need no knowledge of protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

#: Columns of thermo.csv in every run; others are added by ensembles and committees.
THERMO_COLUMNS = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")
TOTAL, CONSERVED = "total_eV", "conserved_eV"
COMMITTEE_DEVIATION, ENERGY_STD = "committee_deviation_eV_A", "energy_std_eV"

Line = tuple[tuple[float, float], ...]  # times in fs and values, straight from one to the next; () for none


class _Statement(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Segment(_Statement):
    """A part of the production with one integrator; it ends where the next one begins."""

    start_fs: float = Field(description="time in thermo.csv after which the segment begins")
    conserved: str | None = Field(None, description="column of thermo.csv that is conserved; none: null")
    temperature_K: Line = Field((), description="temperature asked for: time in fs and K; empty for none")
    pressure_GPa: Line = Field((), description="pressure asked for: time in fs and GPa; empty for none")

    @field_validator("temperature_K", "pressure_GPa")
    @classmethod
    def _in_order(cls, line: Line) -> Line:
        if any(second[0] < first[0] for first, second in pairwise(line)):
            raise ValueError("its times are not in order")
        return line

    def continued(self, other: Segment, time_fs: float) -> tuple[Segment, ...]:
        """Return this segment up to a time and another one from there; one segment if only lines change."""
        quantities = ("temperature_K", "pressure_GPa")
        lines = {name: (_until(getattr(self, name), time_fs), _since(getattr(other, name), time_fs))
                 for name in quantities}  # fmt: skip
        is_same = (self.start_fs, self.conserved) == (other.start_fs, other.conserved)
        if is_same and all(bool(before) == bool(after) for before, after in lines.values()):
            whole = {name: straightened(before + after) for name, (before, after) in lines.items()}
            return (self.model_copy(update=whole),)
        before = {name: line for name, (line, _) in lines.items()}
        after = {name: line for name, (_, line) in lines.items()}
        return self.model_copy(update=before), other.model_copy(update={"start_fs": time_fs} | after)


class Production(_Statement):
    """All segments of a run's production, in order; none where a run has no production."""

    segments: tuple[Segment, ...] = ()

    @field_validator("segments")
    @classmethod
    def _in_order(cls, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        if any(second.start_fs < first.start_fs for first, second in pairwise(segments)):
            raise ValueError("its segments are not in order")
        return segments

    def rows(self, time_fs: np.ndarray) -> list[np.ndarray]:
        """Rows of thermo.csv that each segment wrote.

        Parameters
        ----------
        time_fs : ndarray, shape (n_rows,)

        Returns
        -------
        list of ndarray of int
            Numbers of the rows. The row at the end of a segment is its own, not that of the next one.
        """
        starts = [segment.start_fs for segment in self.segments[1:]]
        number = np.searchsorted(starts, np.asarray(time_fs, dtype=float), side="left")
        return [np.flatnonzero(number == k) for k in range(len(self.segments))]

    def target_temperature(self, time_fs: np.ndarray) -> np.ndarray:
        """Temperature asked for, K, at times in fs; shape (n_times,), nan where none was."""
        return self._target("temperature_K", time_fs)

    def target_pressure(self, time_fs: np.ndarray) -> np.ndarray:
        """Pressure asked for, GPa, at times in fs; shape (n_times,), nan where none was."""
        return self._target("pressure_GPa", time_fs)

    def continued(self, other: Production, time_fs: float) -> Production:
        """Return the statement of a run that was made as this one says up to a time, then as another one."""
        done = [segment for segment in self.segments if segment.start_fs < time_fs]
        begun = [segment for segment in other.segments if segment.start_fs < time_fs]
        left = other.segments[len(begun) :]
        if not done or not begun:
            return other
        return Production(segments=(*done[:-1], *done[-1].continued(begun[-1], time_fs), *left))

    def _target(self, quantity: str, time_fs: np.ndarray) -> np.ndarray:
        time_fs = np.asarray(time_fs, dtype=float)
        values = np.full(time_fs.shape, np.nan)
        for segment, rows in zip(self.segments, self.rows(time_fs), strict=True):
            if line := getattr(segment, quantity):
                values[rows] = np.interp(time_fs[rows], *np.transpose(line))
        return values


NO_PRODUCTION = Production()


def straightened(line: Sequence[tuple[float, float]]) -> Line:
    """Leave out points of a line that lie on the straight line between their neighbors.

    Examples
    --------
    >>> straightened([(0, 300.0), (50, 400.0), (100, 500.0), (200, 500.0)])
    ((0, 300.0), (100, 500.0), (200, 500.0))
    """
    kept = list(line[:1])
    for point, following in pairwise(line[1:]):
        if not _lies_between(kept[-1], point, following):
            kept.append(point)
    return (*kept, *line[1:][-1:])


def _lies_between(first: tuple, point: tuple, last: tuple) -> bool:
    largest = max(abs(value) for _, value in (first, point, last))
    if last[0] == first[0]:  # a jump
        return point in (first, last)
    straight = first[1] + (last[1] - first[1]) * (point[0] - first[0]) / (last[0] - first[0])
    return abs(point[1] - straight) <= 1e-9 * largest


def _until(line: Line, time_fs: float) -> Line:
    if not line:
        return ()
    return (*(point for point in line if point[0] < time_fs), (time_fs, _at(line, time_fs)))


def _since(line: Line, time_fs: float) -> Line:
    if not line:
        return ()
    return ((time_fs, _at(line, time_fs)), *(point for point in line if point[0] > time_fs))


def _at(line: Line, time_fs: float) -> float:
    return float(np.interp(time_fs, *np.transpose(line)))


def production_by_options(options: Mapping[str, Any], thermo: Mapping[str, np.ndarray]) -> Production:
    """Conclude from options what a run without a statement conserved and was asked for.

    This serves runs of earlier versions, which stated nothing, by the options of the protocols of that time,
    and frames in memory. Nothing is concluded for several ensembles in one run.

    Parameters
    ----------
    options : mapping
        Those of ``protocol.yaml``.
    thermo : mapping of ndarray
        Columns of ``thermo.csv``.
    """
    if len(options.get("sequence") or ()) > 1:
        return Production()
    pressure = options.get("pressure_GPa")
    segment = Segment(
        start_fs=0.0,
        conserved=_conserved_by_options(options, thermo),
        temperature_K=_temperature_by_options(options, thermo),
        pressure_GPa=() if pressure is None else ((0.0, pressure),),
    )
    return Production(segments=(segment,))


def _conserved_by_options(options: Mapping[str, Any], thermo: Mapping[str, np.ndarray]) -> str | None:
    values = thermo.get(CONSERVED)
    if values is not None:
        return CONSERVED if np.isfinite(values).all() else None
    return TOTAL if options.get("protocol", "nve") == "nve" else None


def _temperature_by_options(options: Mapping[str, Any], thermo: Mapping[str, np.ndarray]) -> Line:
    start, end = options.get("temperature_K"), options.get("temperature_end_K")
    is_given = options.get("velocities") == "structure" and not options.get("equilibration_ps")
    is_untold = options.get("protocol") == "sequence" or (options.get("protocol") == "nve" and is_given)
    if not start or is_untold:
        return ()
    planned_fs = (options.get("steps") or 0) * (options.get("timestep_fs") or 0)
    planned_fs = planned_fs or float(np.max(thermo.get("time_fs", 0.0), initial=0.0))
    return straightened(((0.0, start), (planned_fs, start if end is None else end)))
