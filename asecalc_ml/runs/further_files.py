"""Files that a run writes: those of the layout, by how they grow, and those of stages of other packages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, field_validator

from asecalc_ml.errors import PluginError, RunError
from asecalc_ml.files.reading import read_json
from asecalc_ml.files.writing import write_whole
from asecalc_ml.runs.layout import (
    ANALYSIS_LOG,
    CARD,
    CHECKPOINT,
    EQUILIBRATION,
    EVALUATIONS,
    EVENTS,
    FLAGGED,
    FURTHER,
    HESSIAN,
    LOCK,
    MEMBER_CARDS,
    PREVIOUS_CHECKPOINT,
    PROTOCOL,
    PROVENANCE,
    RELAXATION,
    RELAXED,
    REPORT,
    SCAN,
    SCAN_TABLE,
    START,
    THERMO,
    TRAJECTORIES,
    TRAJECTORY,
    TRANSFER,
)  # fmt: skip

#: Files that rows or frames are appended to; a resumed run cuts them back.
GROWING = (RELAXATION, EQUILIBRATION, THERMO, SCAN_TABLE, *TRAJECTORIES, EVENTS, FLAGGED)
#: Files that are written whole.
WHOLE = (
    PROTOCOL, PROVENANCE, CARD, MEMBER_CARDS, START, RELAXED, HESSIAN, SCAN, TRANSFER,
    CHECKPOINT, PREVIOUS_CHECKPOINT, REPORT, ANALYSIS_LOG, FURTHER,
)  # fmt: skip

OURS = frozenset((*GROWING, *WHOLE, EVALUATIONS, LOCK, TRAJECTORY))


class _Names(BaseModel):
    """Contents of :data:`FURTHER`."""

    growing: list[str] = []
    other: list[str] = []

    @field_validator("growing", "other")
    @classmethod
    def _are_inside(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                check_inside(name)
            except PluginError as error:
                raise ValueError(str(error)) from error
        return names


class FurtherFiles:
    """Names of the further files of a run directory, kept in :data:`FURTHER`.

    Parameters
    ----------
    directory : Path

    Attributes
    ----------
    growing : list of str
        Files that rows are appended to; a resumed run cuts them back.
    other : list of str
        Files that are written whole, or that a stage only declares in ``writes``.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        path = directory / FURTHER
        remedy = "remove it; the further files of the run then have to be removed by hand"
        stored = read_json(path, _Names, remedy=remedy) if path.is_file() else {}
        self.growing, self.other = list(stored.get("growing", ())), list(stored.get("other", ()))

    def declare(self, names: Iterable[str], is_growing: bool = False) -> None:
        """Note names before their files are written; those of the layout need no note.

        Raises
        ------
        PluginError
            If a name is not that of a file inside the directory.
        RunError
            If such a file is there, and this run has not written it.
        """
        known = self.growing if is_growing else [*self.growing, *self.other]
        new = [name for name in names if name not in OURS and name not in known]
        if not new:
            return
        self.check_free(new)
        (self.growing if is_growing else self.other).extend(new)
        content = json.dumps({"growing": self.growing, "other": self.other}, indent=1)
        write_whole(self._directory / FURTHER, content + "\n")

    def check_free(self, names: Iterable[str]) -> None:
        """Refuse names of files that this run has not written; errors as for :meth:`declare`."""
        for name in sorted({*names} - OURS - {*self.growing, *self.other}):
            check_inside(name)
            if (self._directory / name).exists():
                raise RunError(
                    f"{self._directory / name} would be written by this run, and is there from elsewhere",
                    name=str(self._directory / name),
                    remedy="move it away, or choose another directory",
                )

    def remove(self) -> None:
        """Remove the files, and folders below the run directory that held nothing else."""
        for name in {*self.growing, *self.other}:
            path = self._directory / name
            if path.is_file():
                path.unlink()
            for folder in path.parents:
                if folder == self._directory or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()


def check_inside(name: str) -> None:
    """Refuse a name that could lie outside the run directory, or be one of its folders."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise PluginError(
            f"{name!r} is no file inside a run directory: stages write nothing outside of it", name=name
        )
