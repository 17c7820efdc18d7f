"""What all analyses share: options apart from data apart from results.

An :class:`Analysis` holds options only. Its :meth:`~Analysis.prepare` looks at a run and returns a fresh
:class:`Measurement`, which takes the trajectory in chunks and concludes with a frozen :class:`Result`. So
nothing can be read before it exists, and running an analysis twice gives the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from asecalc_ml.analysis.figures import new_axes
from asecalc_ml.analysis.result_html import html
from asecalc_ml.analysis.scalars import scalars
from asecalc_ml.config.options import Options
from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.errors import AnalysisError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.outcome import StoredOutcome

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from matplotlib.axes import Axes

    from asecalc_ml.analysis.memory_run import MemoryRun
    from asecalc_ml.runs import RunPlan, RunReader
    from asecalc_ml.runs.frames import Frames

    AnyRun = RunReader | MemoryRun

NOT_IN_FILE_NAMES = r"[^\w().-]"  # such as the * of a pattern
CHECKSUM = "sha256"  # key of a result's JSON file
SCHEMA = "schema_version"  # likewise

#: Version of a result's JSON file. 1, without the key: up to asecalc-ml 0.1.0, with other words for outcomes.
SCHEMA_VERSION = 2


Status = StoredOutcome
Cell = str | float | int | None


class Record(BaseModel):
    """Base of everything in a result: frozen, numbers and text only, read back exactly as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore a pickled record as one is read from a file: former names and words are translated."""
        super().__setstate__(state | {"__dict__": type(self).model_validate(state["__dict__"]).__dict__})


class Verdict(Record):
    """One check of a run and what came out."""

    check: str = Field(description="what was checked, as a statement: 'the molecule stayed bound'")
    status: Status = Field(description="whether the statement holds")
    text: str = Field(description="the numbers behind it")


class Panel(Record):
    """A figure that a result can draw with ``result.plot(ax, panel.key)``."""

    key: str
    title: str
    caption: str = Field(description="what to see in it")
    columns: Literal[1, 2] = Field(1, description="columns of the page that it takes")
    height: float = Field(1.0, gt=0, description="height relative to that of an ordinary figure")


class Table(Record):
    """Rows for the report and the CSV file; ``None`` is an empty cell."""

    key: str
    title: str
    columns: list[str] = Field(description="with units")
    rows: list[list[Cell]]
    caption: str = ""

    @model_validator(mode="after")
    def _is_rectangular(self) -> Table:
        """Refuse rows that have no cell for a column, or one for none."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.key!r}: a row of {len(row)} cells, and {len(self.columns)} columns"
                )
        return self


class Result(Record):
    """What an analysis found; base of all results.

    A subclass adds fields with the unit in their names or descriptions and says how they are judged, drawn
    and tabulated.
    """

    analysis: str = Field(description="registered name of the analysis")

    @model_validator(mode="before")
    @classmethod
    def _is_as_written(cls, data: Any) -> Any:
        """Refuse a file that has changed since it was written, by its checksum, or is of a newer version."""
        if not isinstance(data, Mapping):
            return data
        content = dict(data)
        if CHECKSUM in content and content.pop(CHECKSUM) != _checksum(content):
            raise ValueError("its checksum differs")
        if content.pop(SCHEMA, 1) not in range(1, SCHEMA_VERSION + 1):
            raise ValueError("it was written by a newer asecalc-ml: pip install --upgrade asecalc-ml")
        return content

    def verdicts(self) -> list[Verdict]:
        """Checks that this result decides."""
        return []

    def panels(self) -> list[Panel]:
        """Figures that this result can draw, most telling first."""
        return []

    def tables(self) -> list[Table]:
        """Tables for the report; each also becomes a CSV file."""
        return []

    def data(self) -> list[Table]:
        """Longer tables, such as the points of a figure, that become CSV files only."""
        return []

    def scalars(self) -> dict[str, float | None]:
        """Numbers for a table of many runs, by names with units; ``None`` where there is none."""
        return scalars(self)

    def plot(self, ax: Axes | None = None, panel: str | None = None) -> Axes:
        """Draw a figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        panel : str, optional
            Key of one of :meth:`panels`; the first by default.

        Returns
        -------
        matplotlib Axes, with title, labels and units.
        """
        known = {panel.key: panel for panel in self.panels()}
        key = panel if panel is not None else next(iter(known), None)
        if key not in known:
            raise unknown_part_error(self.analysis, "figure", panel, known)
        ax = ax if ax is not None else new_axes(known[key])
        self._draw(ax, key)
        ax.set_title(known[key].title)
        return ax

    def _draw(self, ax: Axes, panel: str) -> None:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return html(self)

    def write(self, directory: str | Path) -> list[Path]:
        """Write the result as JSON, then its tables as CSV, each file whole or not at all.

        Parameters
        ----------
        directory : str or Path
            Created where it is missing; existing files of the same analysis are replaced.

        Returns
        -------
        list of Path
            The JSON file first.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.analysis}.json"]
        write_whole(paths[0], self._json_text())  # before tables are made, which may fail
        for table in [*self.tables(), *self.data()]:
            paths.append(folder / f"{self.analysis}_{re.sub(NOT_IN_FILE_NAMES, '_', table.key)}.csv")
            write_whole(paths[-1], csv_text(table))
        return paths

    def _json_text(self) -> str:
        """JSON with the version of its schema and a checksum of all the rest."""
        data = {SCHEMA: SCHEMA_VERSION} | json.loads(self.model_dump_json())
        return json.dumps(data | {CHECKSUM: _checksum(data)}, indent=1, ensure_ascii=False) + "\n"


def _checksum(data: dict) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class Measurement(Protocol):
    """An analysis at work on one run."""

    def frames(self, frames: Frames) -> None:
        """Take the next frames."""

    def conclude(self) -> Result:
        """Return the result of all frames taken."""


class Analysis(Options):
    """Base of all analyses: an option model whose fields are parameters.

    A subclass defines :meth:`prepare`, or :meth:`run` where frames in chunks do not suit it, and
    ``result``, the class that its JSON file is read back with.
    """

    result: ClassVar[type[Result]]
    reads: ClassVar[str | None] = None  # file of a run that it is made from, by its name in runs/layout.py
    needs_times: ClassVar[bool] = False  # whether frames have to be moments in time, as those of dynamics are

    def check_start(self, atoms: Atoms) -> None:
        """Refuse what could not be measured in any run from this structure, with an AnalysisError."""

    def check_plan(self, plan: RunPlan) -> None:
        """Refuse what a run as planned will not hold, or be too short for, with an AnalysisError."""
        reads = "TRAJECTORY" if type(self).run is Analysis.run else self.reads
        if reads is not None:
            plan.check_written(reads)
        self._check_times(plan)

    def doubts(self, atoms: Atoms, plan: RunPlan) -> list[str]:
        """Warnings about what a run as planned will show, each with its remedy."""
        return []

    def _check_times(self, run: RunPlan | AnyRun) -> None:
        if self.needs_times:
            _ = run.frame_interval_fs  # an AnalysisError where there is none

    def begin(self, run: AnyRun) -> Measurement:
        """The measurement of :meth:`prepare`, of a run whose frames are what the analysis needs."""
        self._check_times(run)
        what = f"{type(self).__name__}.prepare()"
        with plugin_code(what):
            measurement = self.prepare(run)
        if not all(hasattr(measurement, name) for name in ("frames", "conclude")):
            raise returned(what, measurement, "a measurement, with `frames` and `conclude`")
        return measurement

    def prepare(self, run: AnyRun) -> Measurement:
        """Look at a run and return a measurement that awaits its frames.

        Raises
        ------
        AnalysisError
            If there is nothing to measure.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `prepare` or `run`")

    def run(self, run: AnyRun) -> Result:
        """Measure a run.

        Parameters
        ----------
        run : RunReader or MemoryRun
            Anything with its attributes will do.

        Returns
        -------
        Result, frozen. Running again gives the same.

        Raises
        ------
        AnalysisError
            If there is nothing to measure, or no frame.
        """
        measurement = self.begin(run)
        for frames in run.frame_chunks():
            measurement.frames(frames)
        return measurement.conclude()


def no_frame_error() -> AnalysisError:
    """Return the error of a run without frames."""
    return AnalysisError(
        "the trajectory holds no frame, since the run ended before its first one was written",
        name="trajectory",
        remedy="resume the run, or run longer",
    )


def unknown_part_error(owner: str, kind: str, name: object, known: Iterable[object]) -> AnalysisError:
    """Return the error about a part that is not there.

    Parameters
    ----------
    owner : str
        What was searched, such as "thermo.csv".
    kind : str
        Kind of part, such as "column".
    name : object
        The part that was asked for.
    known : iterable
        The parts that are there.

    Examples
    --------
    >>> print(unknown_part_error("thermo.csv", "column", "density", ["time_fs", "total_eV"]))
    thermo.csv has no column 'density': it has time_fs, total_eV
    """
    allowed = list(map(str, known))
    return AnalysisError(
        f"{owner} has no {kind} {name!r}",
        name=str(name),
        value=name,
        allowed=allowed,
        remedy=f"it has {', '.join(allowed) or 'none'}",
    )


def csv_text(table: Table) -> str:
    """A table as comma-separated text, its columns' names in the first line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.columns, *([_cell(value) for value in row] for row in table.rows)])
    return text.getvalue()


def _cell(value: Cell) -> Any:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else value


def thermo_columns(run: AnyRun, *names: str) -> dict[str, np.ndarray]:
    """Columns of a run's thermo.csv.

    Raises
    ------
    AnalysisError
        If one is missing, or there are no rows.
    """
    thermo: Mapping = run.read_thermo()
    missing = [name for name in names if name not in thermo]
    if thermo and missing:
        raise unknown_part_error("thermo.csv", "column", missing[0], thermo)
    if not thermo or len(thermo[names[0]]) == 0:
        raise AnalysisError(
            "thermo.csv has no rows, since the run ended before its first step was written",
            name="thermo.csv",
            remedy="resume the run, or run longer",
        )
    return {name: thermo[name] for name in names}
