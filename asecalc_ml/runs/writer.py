"""Writes a run directory."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from asecalc_ml import plugins
from asecalc_ml.errors import RunError
from asecalc_ml.files.folder_lock import FolderLock
from asecalc_ml.files.full_disk import file_of, reason
from asecalc_ml.files.writing import GrowingText, cut_to_whole_lines, is_unfinished, write_whole
from asecalc_ml.runs.events import now
from asecalc_ml.runs.further_files import GROWING, WHOLE, FurtherFiles
from asecalc_ml.runs.layout import (
    CHECKPOINT,
    EVALUATIONS,
    EVENTS,
    FAILURES,
    FLAGGED,
    LOCK,
    PREVIOUS_CHECKPOINT,
    PROTOCOL,
    RESULTS,
    THERMO,
    TRAJECTORY,
    TRAJECTORY_SUFFIXES,
)  # fmt: skip
from asecalc_ml.runs.marks import cut_back, mark
from asecalc_ml.runs.reader import RunReader
from asecalc_ml.runs.trajectories import head_bytes, make_writer
from asecalc_ml.runs.trajectories.writer import Moment, Origin
from asecalc_ml.runs.vacancy import check_free
from asecalc_ml.structure.files.extended_xyz import FrameText
from asecalc_ml.structure.files.stored_constraints import storable_copy
from asecalc_ml.tracking.tracker import Tracker

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.runs.trajectories.writer import TrajectoryWriter


P = ParamSpec("P")
Returned = TypeVar("Returned")


def _says_what_to_do(
    method: Callable[Concatenate[RunWriter, P], Returned],
) -> Callable[Concatenate[RunWriter, P], Returned]:
    """Turn an operating system's error while writing into a RunError."""

    @functools.wraps(method)
    def wrapped(self: RunWriter, *args: P.args, **kwargs: P.kwargs) -> Returned:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise _explained(self.directory, error) from error

    return wrapped


def _explained(directory: Path, error: OSError) -> RunError:
    path = file_of(error) or str(directory)
    return RunError(
        f"cannot write to {path}: {reason(error, directory)}. What was written before is kept:",
        name=path,
        remedy="mend permissions, free space, or choose another directory. A run that had begun goes on with "
        f"`asecalc-md resume {directory}`.",
    )


class RunWriter:
    """Writes a run directory; made by :meth:`create` or :meth:`open`.

    Whole files appear at once or not at all. Growing files (tables, trajectory, events) are cut back to the
    checkpoint when a run is resumed. A lock keeps two writers from one directory.
    """

    def __init__(self, directory: Path, trajectory_format: str = "traj"):
        self.directory = directory
        self._trajectory_path = directory / f"{TRAJECTORY}{TRAJECTORY_SUFFIXES[trajectory_format]}"
        self._texts: dict[str, GrowingText] = {}
        self._trajectory: TrajectoryWriter | None = None
        self._n_frames = 0  # of this process
        self._lock: FolderLock | None = None
        self._further: FurtherFiles  # set with the lock
        self.tracker = Tracker()  # told of every row of thermo.csv

    @classmethod
    def create(
        cls, directory: str | Path, overwrite: bool = False, trajectory_format: str = "traj"
    ) -> RunWriter:
        """Make a new run directory. One that exists is taken if it is empty.

        Parameters
        ----------
        overwrite : bool
            Remove the run that is there, and nothing that is not part of a run.
        trajectory_format : {"traj", "extxyz", "h5md"}

        Raises
        ------
        RunError
            If the directory holds something, cannot be written to, or another process writes to it.
        """
        writer = cls(Path(directory), trajectory_format)
        writer._make(overwrite)
        return writer

    @classmethod
    def claim(cls, directory: str | Path, trajectory_format: str = "traj") -> RunWriter:
        """Take a run directory that other processes may want too, whether or not a run has begun there.

        Parameters
        ----------
        trajectory_format : {"traj", "extxyz", "h5md"}
            As of the run that has begun, if one has.

        Raises
        ------
        RunError
            As for :meth:`create` and :meth:`open`.
        """
        writer = cls(Path(directory), trajectory_format)
        writer._claim()
        return writer

    @classmethod
    def open(cls, directory: str | Path) -> RunWriter:
        """Go on in a run directory; :meth:`cut_back` comes before anything is written.

        Raises
        ------
        RunError
            If another process writes to it.
        """
        writer = cls(Path(directory), RunReader(directory).read_options().get("trajectory_format", "traj"))
        writer._take_lock()
        return writer

    @_says_what_to_do
    def _make(self, overwrite: bool) -> None:
        check_free(self.directory, overwrite)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._clear(overwrite)  # looks again: another process may have been quicker

    @_says_what_to_do
    def _claim(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if not (self.directory / PROTOCOL).is_file():
                self._clear(overwrite=False)
        except BaseException:
            self.close()
            raise

    def _clear(self, overwrite: bool) -> None:
        """Remove what a run left, where it may be removed."""
        check_free(self.directory, overwrite)
        for part in RunReader(self.directory).parts if (self.directory / PROTOCOL).is_file() else ():
            _remove_run(part)
        for path in result_files(self.directory / RESULTS):
            path.unlink()
        FurtherFiles(self.directory).remove()
        for path in filter(is_unfinished, list(self.directory.iterdir())):
            path.unlink()
        for name in (*GROWING, EVALUATIONS, *reversed(WHOLE)):  # the protocol last: until then it is a run
            (self.directory / name).unlink(missing_ok=True)
        self._further = FurtherFiles(self.directory)

    @_says_what_to_do
    def declare(self, names: Iterable[str]) -> None:
        """Note files that the stages of a run say they write, so that they go when it is replaced."""
        self._further.declare(names)

    @_says_what_to_do
    def _take_lock(self) -> None:
        self._lock = FolderLock(self.directory / LOCK, "writing this run")
        self._further = FurtherFiles(self.directory)  # another process may have written until now

    @property
    def keeps_others_out(self) -> bool:
        """Whether no other process can write here; False where the file system has no locks."""
        return self._lock is not None and self._lock.holds

    @_says_what_to_do
    def cut_back(self, marks: Mapping[str, dict]) -> None:
        """Cut growing files back to where they stood when :meth:`sync` returned ``marks``; {}: to nothing."""
        for name in self._growing_names:
            if name in marks:
                cut_back(self.directory / name, marks[name])
            else:
                (self.directory / name).unlink(missing_ok=True)

    @_says_what_to_do
    def write(self, name: str, content: str | bytes, sync: bool = False) -> None:
        """Write a whole file."""
        self._further.declare([name])
        write_whole(self.directory / name, content, sync)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a whole JSON file."""
        self.write(name, json.dumps(content, indent=2) + "\n")

    def write_structure(self, name: str, atoms: Atoms) -> None:
        """Write a structure in full precision, with momenta, constraints and ``info``."""
        from ase.io.trajectory import TrajectoryWriter

        content = _Kept()
        with TrajectoryWriter(content) as trajectory:
            trajectory.write(storable_copy(atoms))
        self.write(name, content.getvalue())

    @_says_what_to_do
    def write_checkpoint(self, content: bytes) -> None:
        """Write a checkpoint to the disk itself, and keep the one before."""
        path = self.directory / CHECKPOINT
        if path.is_file():
            path.replace(self.directory / PREVIOUS_CHECKPOINT)
        write_whole(path, content, sync=True)
        _sync_directory(self.directory)

    @_says_what_to_do
    def drop_checkpoint(self) -> None:
        """Put the checkpoint before in the place of the last one, or remove the only one."""
        path, previous = self.directory / CHECKPOINT, self.directory / PREVIOUS_CHECKPOINT
        if previous.is_file():
            previous.replace(path)
        else:
            path.unlink(missing_ok=True)
        _sync_directory(self.directory)

    @_says_what_to_do
    def row(self, name: str, values: Mapping[str, float]) -> None:
        """Append a row to a table such as :data:`THERMO`, in full precision, by column."""
        plain = (value.item() if isinstance(value, np.generic) else value for value in values.values())
        self._text(name, ",".join(values)).append(",".join(map(repr, plain)))
        if name == THERMO:
            self.tracker.row("thermo", values, int(values["step"]))

    @_says_what_to_do
    def frame(
        self,
        atoms: Atoms,
        energy: float,
        forces: np.ndarray,
        step: int | None = None,
        time_fs: float = np.nan,
        origin: Origin | None = None,
    ) -> None:
        """Append a frame to the trajectory.

        Parameters
        ----------
        atoms : Atoms
        energy : float, eV
        forces : array, shape (n_atoms, 3), eV/Å
        step : int, optional
            Of the production; by default frames are counted.
        time_fs : float
            Not a number where frames are no moments in time.
        origin : Origin, optional
            The calculator, for formats that keep it.
        """
        if self._trajectory is None:
            self._trajectory = make_writer(self._trajectory_path, origin or Origin())
        step = self._n_frames if step is None else step
        self._n_frames += 1
        self._trajectory.append(atoms, Moment(energy, forces, step, time_fs))

    @_says_what_to_do
    def evaluation(self, result: Mapping[str, Any]) -> None:
        """Keep what was computed, at once: no checkpoint cuts it back, so that no work is lost."""
        if EVALUATIONS not in self._texts:
            cut_to_whole_lines(self.directory / EVALUATIONS)
        text = self._text(EVALUATIONS)
        text.append(json.dumps(result))
        text.flush()

    @_says_what_to_do
    def event(self, kind: str, message: str, **fields: Any) -> None:
        """Note what happened, at once."""
        text = self._text(EVENTS)
        text.append(json.dumps({"time": now(), "kind": kind, "message": message, **fields}))
        text.flush()

    @_says_what_to_do
    def flag(self, atoms: Atoms, info: Mapping[str, Any]) -> None:
        """Append a structure to :data:`FLAGGED`, without results, since those are not to be trusted."""
        copy = atoms.copy()
        copy.info |= info
        momenta = {"momenta": copy.get_momenta()} if copy.has("momenta") else {}
        self._text(FLAGGED).append(FrameText(copy, *momenta)(copy, *momenta.values()).rstrip("\n"))

    @_says_what_to_do
    def flush(self) -> None:
        """Write all rows and frames that are still in memory."""
        for file in self._growing():
            file.flush()

    @_says_what_to_do
    def sync(self) -> dict[str, dict]:
        """Put growing files on the disk itself; where they stand, for :meth:`cut_back`."""
        for file in self._growing():
            file.flush()
        paths = {name: self.directory / name for name in self._growing_names}
        return {name: mark(path, head_bytes(path)) for name, path in paths.items() if path.is_file()}

    @property
    def _growing_names(self) -> list[str]:
        return [*GROWING, *self._further.growing]

    @_says_what_to_do
    def close(self) -> None:
        """Close everything and let others write."""
        files = [*self._growing(), self._lock]
        self._texts, self._trajectory, self._lock = {}, None, None
        problems = []
        for file in files:
            try:
                if file is not None:
                    file.close()
            except OSError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def _growing(self) -> list[GrowingText | TrajectoryWriter]:
        return [*self._texts.values(), *([self._trajectory] if self._trajectory else [])]

    def _text(self, name: str, first_line: str = "") -> GrowingText:
        if name not in self._texts:
            self._further.declare([name], is_growing=True)
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._texts[name] = GrowingText(path, first_line)
        return self._texts[name]


def _remove_run(directory: Path) -> None:
    """Remove a run, and its directory and the one above where nothing else lies in them."""
    if (directory / PROTOCOL).is_file():
        RunWriter.create(directory, overwrite=True).close()
        (directory / LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        for folder in (directory / RESULTS, directory, directory.parent):
            if folder.is_dir():
                folder.rmdir()


def result_files(folder: Path) -> list[Path]:
    """Files of analyses in the folder of results, and nothing that somebody else has put there.

    These are FAILURES, the JSON file of an analysis that is installed or that says which analysis it is of,
    and what is called after one of them, such as its tables.
    """
    names = {"relevance", *plugins.names("analyses"), *_names_of_results(folder)}
    kinds = (".json", ".csv", ".extxyz")
    return [
        path
        for path in folder.glob("*.*")
        if path.name == FAILURES
        or (path.suffix in kinds and any(f"{path.stem}_".startswith(f"{name}_") for name in names))
    ]


def _names_of_results(folder: Path) -> Iterable[str]:
    """Analyses, installed or not, whose results lie in a folder."""
    for path in folder.glob("*.json"):
        with suppress(ValueError, OSError):
            content = json.loads(path.read_bytes())
            if isinstance(content, dict) and content.get("analysis") == path.stem:
                yield path.stem


class _Kept(io.BytesIO):
    """Bytes that stay when ASE closes the file it wrote."""

    def close(self) -> None:
        return


def _sync_directory(directory: Path) -> None:
    """Let a rename survive a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
