"""The run directory: what a protocol writes and an analysis reads. Its layout is written down here, once.

=================== =====================================================================================
protocol.yaml       every option of the run
provenance.json     versions, model and its hash, seed, machine, when it began and ended
card.json           card of the model, where the calculator has one
start.traj          structure before the first stage, as given
relaxed.traj        structure after relaxation
relaxation.csv      energy and largest force along a relaxation
equilibration.csv   energies and temperature during equilibration
thermo.csv          step, time_fs, potential_eV, kinetic_eV, total_eV, temperature_K of the production
trajectory.traj     frames of the production: positions, momenta, energy, forces (ASE, float64); steps of a
                    relaxation, points of a scan
evaluations.jsonl   all that relaxations, vibrations and scans have computed; a resumed run reads it again
hessian.npz         second derivatives of the energy, and the structure they belong to
scan.json           what is scanned, with which calculators, and what these were trained on
scan.csv            energy and projected force of every point and calculator of a scan
transfer.json       molecules, calculators and runs of a transfer test; each run is a run directory of its own
                    below this one, such as ethanol/model-1
events.jsonl        what happened: stages, warnings, bonds broken and formed, why it stopped
flagged.extxyz      structures that the model may not know, for labelling: step and reason with each
checkpoint.npz      everything that the rest of the run depends on; checkpoint.previous.npz the one before
results/            what the analyses found, as JSON and CSV
report.html         the report
=================== =====================================================================================
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.files import (
    GrowingText,
    GrowingTrajectory,
    cut_back,
    cut_to_whole_lines,
    is_unfinished,
    mark,
    write_whole,
)

if TYPE_CHECKING:
    from ase import Atoms
    from MDAnalysis import Universe

    from asecalc_ml.frames import Frames, TrajectoryFile

PROTOCOL = "protocol.yaml"
PROVENANCE = "provenance.json"
CARD = "card.json"
START = "start.traj"
RELAXED = "relaxed.traj"
EQUILIBRATION = "equilibration.csv"
THERMO = "thermo.csv"
TRAJECTORY = "trajectory.traj"
RELAXATION = "relaxation.csv"
EVALUATIONS = "evaluations.jsonl"
HESSIAN = "hessian.npz"
SCAN = "scan.json"
SCAN_TABLE = "scan.csv"
TRANSFER = "transfer.json"
EVENTS = "events.jsonl"
FLAGGED = "flagged.extxyz"
CHECKPOINT = "checkpoint.npz"
PREVIOUS_CHECKPOINT = "checkpoint.previous.npz"
RESULTS = "results"
REPORT = "report.html"
LOCK = ".lock"

GROWING = (RELAXATION, EQUILIBRATION, THERMO, SCAN_TABLE, TRAJECTORY, EVENTS, FLAGGED)
WHOLE = (
    PROTOCOL, PROVENANCE, CARD, START, RELAXED, HESSIAN, SCAN, TRANSFER,
    CHECKPOINT, PREVIOUS_CHECKPOINT, REPORT,
)  # fmt: skip
BEFORE_PROTOCOL = (START, CARD, PROVENANCE)  # what a new run writes first; without the rest it is no run
THERMO_COLUMNS = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")


class EventKind:
    """What an event in :data:`EVENTS` tells of."""

    RELAXED = "relaxed"
    EQUILIBRATED = "equilibrated"
    STAGE = "stage"
    BONDS = "bonds"
    WARNING = "warning"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    RESUMED = "resumed"
    FINISHED = "finished"


def now() -> str:
    """The moment in ISO format, to the second, with the time zone."""
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")


# ---------------------------------------------------------------------------------------------- reading


class RunReader:
    """Reads a run directory, also while the run goes on or after it was killed.

    Parameters
    ----------
    directory : str or Path

    Attributes
    ----------
    options : dict
        Every option of the run.
    provenance : dict
    atoms : Atoms
        The structure the run was given, with charge and spin in ``atoms.info``.
    bonds : ndarray of int, shape (n_bonds, 2)
        Bonds of that structure.
    cell : ndarray, shape (3, 3), Å
    pbc : ndarray of bool, shape (3,)
    n_frames : int
    frame_interval_fs : float
    thermo, equilibration : dict of ndarray, shape (n_rows,)
        Columns by name.
    events : list of dict
    model_card : dict or None

    Raises
    ------
    RunError
        If the directory holds no run, or one of its files is damaged.
    AnalysisError
        If ``frame_interval_fs`` is asked of frames that are no moments in time.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / PROTOCOL).is_file():
            what = "no run" if self.directory.is_dir() else "no directory"
            raise RunError(f"{self.directory}: {what} there ({PROTOCOL} is missing)")

    @cached_property
    def options(self) -> dict[str, Any]:
        from asecalc_ml.config import read_yaml

        return json.loads(json.dumps(read_yaml(self.directory / PROTOCOL)))

    @property
    def provenance(self) -> dict[str, Any]:
        return self._json(PROVENANCE)

    @property
    def model_card(self) -> dict[str, Any] | None:
        return self._json(CARD) if (self.directory / CARD).is_file() else None

    @cached_property
    def atoms(self) -> Atoms:
        return self._structure(START)

    @cached_property
    def bonds(self) -> np.ndarray:
        from asecalc_ml.topology import find_bonds

        return find_bonds(self.atoms)

    @property
    def cell(self) -> np.ndarray:
        return self.atoms.cell.array

    @property
    def pbc(self) -> np.ndarray:
        return self.atoms.pbc

    @property
    def frame_interval_fs(self) -> float:
        found = self.provenance["frame_interval_fs"]
        if found is None:
            raise AnalysisError(
                f"frames of a run of {self.options['protocol']} are no moments in time: this analysis is "
                "made for dynamics"
            )
        return found

    @property
    def finished(self) -> bool:
        """Whether the run came to its planned end."""
        return self.provenance.get("finished") is not None

    @property
    def thermo(self) -> dict[str, np.ndarray]:
        return self._table(THERMO)

    @property
    def equilibration(self) -> dict[str, np.ndarray]:
        return self._table(EQUILIBRATION)

    @property
    def relaxation(self) -> dict[str, np.ndarray]:
        """Columns step, energy_eV and largest_force_eV_A; none where nothing was relaxed."""
        return self._table(RELAXATION) if (self.directory / RELAXATION).is_file() else {}

    @property
    def relaxed(self) -> Atoms | None:
        """The structure after relaxation, where there was one."""
        return self._structure(RELAXED) if (self.directory / RELAXED).is_file() else None

    @property
    def hessian(self) -> dict[str, np.ndarray] | None:
        """Arrays of :data:`HESSIAN`, where it was computed."""
        path = self.directory / HESSIAN
        if not path.is_file():
            return None
        with _damage_told(path), np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @property
    def scan(self) -> dict[str, Any] | None:
        """What a scan is about, as :data:`SCAN` says."""
        return self._json(SCAN) if (self.directory / SCAN).is_file() else None

    @property
    def scan_table(self) -> dict[str, np.ndarray]:
        """Columns of :data:`SCAN_TABLE`; none before its first row."""
        return self._table(SCAN_TABLE) if (self.directory / SCAN_TABLE).is_file() else {}

    @property
    def transfer(self) -> dict[str, Any] | None:
        """What a transfer test consists of, as :data:`TRANSFER` says."""
        return self._json(TRANSFER) if (self.directory / TRANSFER).is_file() else None

    @property
    def parts(self) -> list[Path]:
        """Directories of the runs that a transfer test consists of, begun or not; none of any other run."""
        return [self.directory / name for name in (self.transfer or {}).get("runs", ())]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """What was computed, in order."""
        return self._lines(EVALUATIONS)

    @property
    def events(self) -> list[dict[str, Any]]:
        return self._lines(EVENTS)

    @property
    def harmonic_per_cm(self) -> list[float]:
        """Real harmonic frequencies in ``results/normal-modes.json``, 1/cm; empty without that file."""
        name = f"{RESULTS}/normal-modes.json"
        if not (self.directory / name).is_file():
            return []
        return [value for value in self._json(name).get("frequencies_per_cm", []) if value > 0]

    @property
    def n_frames(self) -> int:
        return self._trajectory().n_frames

    @property
    def n_lost_frames(self) -> int:
        """Frames that the trajectory counts and no longer holds, since the end of the file is missing."""
        return self._trajectory().n_lost

    def frame_chunks(self, size: int | None = None) -> Iterator[Frames]:
        """Consecutive frames with positions, momenta, forces and cells, each read when it is looked at.

        Parameters
        ----------
        size : int, optional
            Frames at once; as many as take little memory by default.

        Raises
        ------
        RunError
            If a frame is damaged, or has other atoms than the start.
        """
        return self._trajectory().chunks(self.atoms.numbers, self.atoms.get_masses(), size)

    def chunks(self, size: int | None = None, quantity: str = "positions") -> Iterator[np.ndarray]:
        """One quantity of consecutive frames, at most ``size`` at once.

        Parameters
        ----------
        size : int, optional
        quantity : {"positions", "momenta", "velocities", "forces", "cells"}

        Yields
        ------
        ndarray, shape (n_frames, n_atoms, 3), of cells (n_frames, 3, 3)
            In Å, ASE's units of momentum and velocity, or eV/Å.
        """
        for frames in self.frame_chunks(size):
            yield getattr(frames, quantity)

    def frames(self) -> Iterator[Atoms]:
        """Frames of the production as ASE structures with energy and forces."""
        from ase.io.trajectory import TrajectoryReader

        path = self.directory / TRAJECTORY
        if self.n_frames:
            with _damage_told(path), TrajectoryReader(path) as trajectory:
                yield from trajectory

    def universe(self) -> Universe:
        """The frames for MDAnalysis' own analyses, see :func:`asecalc_ml.universe.universe_of`."""
        from asecalc_ml.universe import universe_of

        return universe_of(self)

    def _trajectory(self) -> TrajectoryFile:
        from asecalc_ml.frames import TrajectoryFile

        return TrajectoryFile(self.directory / TRAJECTORY)

    def _table(self, name: str) -> dict[str, np.ndarray]:
        path = self.directory / name
        header, *rows = _whole_lines(path) or [",".join(THERMO_COLUMNS)]
        columns = header.split(",")
        try:
            values = np.array([[float(cell) for cell in row.split(",")] for row in rows])
            values = values.reshape(-1, len(columns))
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error
        return dict(zip(columns, values.T, strict=True))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / name
        try:
            return [json.loads(line) for line in _whole_lines(path)]
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def _json(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path} is missing: the directory is not whole") from None
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error

    def _structure(self, name: str) -> Atoms:
        from ase.io import read

        path = self.directory / name
        try:
            return read(path)
        except Exception as error:  # ASE's readers raise whatever their parsing meets
            raise RunError(f"{path} cannot be read: {error or type(error).__name__}") from error


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn what a reader meets in a cut or altered file into a RunError."""
    try:
        yield
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path} is damaged ({error}): copy it again from where it was whole, or start the run anew with "
            "--overwrite"
        ) from error


def _whole_lines(path: Path) -> list[str]:
    """Lines of a growing file, if it is there; a last one without an end was cut by a kill or a full disk."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text[: text.rfind("\n") + 1].splitlines()


# ---------------------------------------------------------------------------------------------- writing


def _says_what_to_do(method: Callable) -> Callable:
    """Turn an operating system's error while writing into a RunError."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise RunError(_explain(self.directory, error)) from error

    return wrapped


def _explain(directory: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return (
        f"cannot write to {directory}: {reason}. What was written before is kept: mend permissions, free "
        "space, or choose another directory. A run that had begun goes on with "
        f"`asecalc-md resume {directory}`."
    )


def check_free(directory: str | Path, overwrite: bool = False) -> None:
    """Refuse a directory that a new run cannot have, before anything is computed.

    Raises
    ------
    RunError
        If it holds a run that is not to be overwritten, or something that is no run.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file: choose another directory")
    if (directory / PROTOCOL).is_file():
        _check_overwriting(directory, overwrite)
    elif others := [path.name for path in directory.glob("*") if not _is_left_over(path)]:
        raise RunError(f"{directory} exists and holds no run but {min(others)}: choose another directory")


def _check_overwriting(directory: Path, overwrite: bool) -> None:
    if not overwrite:
        raise RunError(
            f"{directory} holds a run already: `asecalc-md resume {directory}` goes on with it, "
            "--overwrite (overwrite=True in Python) replaces it, or choose another directory"
        )


def _is_left_over(path: Path) -> bool:
    """Whether a file or folder may come from a run that was killed before it had a :data:`PROTOCOL`."""
    if path.is_dir():
        return path.name == RESULTS and not any(path.iterdir())
    return path.name in (LOCK, *BEFORE_PROTOCOL) or is_unfinished(path)


class RunWriter:
    """Writes a run directory; made by :meth:`create` or :meth:`open`.

    Whole files appear at once or not at all. Growing files (tables, trajectory, events) are cut back to the
    checkpoint when a run is resumed. A lock keeps two writers from one directory.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._texts: dict[str, GrowingText] = {}
        self._trajectory: GrowingTrajectory | None = None
        self._lock: io.FileIO | None = None

    @classmethod
    def create(cls, directory: str | Path, overwrite: bool = False) -> RunWriter:
        """Make a new run directory. One that exists is taken if it is empty.

        Parameters
        ----------
        overwrite : bool
            Remove the run that is there, and nothing that is not part of a run.

        Raises
        ------
        RunError
            If the directory holds something, cannot be written to, or another process writes to it.
        """
        writer = cls(Path(directory))
        writer._make(overwrite)
        return writer

    @classmethod
    def open(cls, directory: str | Path) -> RunWriter:
        """Go on in a run directory; :meth:`cut_back` comes before anything is written.

        Raises
        ------
        RunError
            If another process writes to it.
        """
        writer = cls(Path(directory))
        writer._take_lock()
        return writer

    @_says_what_to_do
    def _make(self, overwrite: bool) -> None:
        check_free(self.directory, overwrite)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        for part in RunReader(self.directory).parts if (self.directory / PROTOCOL).is_file() else ():
            _remove_run(part)
        for path in (self.directory / RESULTS).glob("*.*"):
            if path.suffix in (".json", ".csv"):
                path.unlink()
        for path in filter(is_unfinished, list(self.directory.iterdir())):
            path.unlink()
        for name in (*GROWING, EVALUATIONS, *reversed(WHOLE)):  # the protocol last: until then it is a run
            (self.directory / name).unlink(missing_ok=True)

    @_says_what_to_do
    def _take_lock(self) -> None:
        """Lock the directory, for this process too; the system lets go when the process ends, however."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._lock = (self.directory / LOCK).open("wb", buffering=0)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._lock.close()
            raise RunError(
                f"{self.directory}: another process is writing this run; wait for it or stop it"
            ) from None
        except OSError:  # a file system without locks
            return

    @_says_what_to_do
    def cut_back(self, marks: Mapping[str, dict]) -> None:
        """Cut growing files back to where they stood when :meth:`sync` returned ``marks``; {}: to nothing."""
        for name in GROWING:
            if name in marks:
                cut_back(self.directory / name, marks[name])
            else:
                (self.directory / name).unlink(missing_ok=True)

    @_says_what_to_do
    def write(self, name: str, content: str | bytes, sync: bool = False) -> None:
        """Write a whole file."""
        write_whole(self.directory / name, content, sync)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a whole JSON file."""
        self.write(name, json.dumps(content, indent=2) + "\n")

    def write_structure(self, name: str, atoms: Atoms) -> None:
        """Write a structure in full precision, with momenta, constraints and ``info``."""
        from ase.io.trajectory import TrajectoryWriter

        content = _Kept()
        with TrajectoryWriter(content) as trajectory:
            trajectory.write(atoms.copy())
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
    def row(self, name: str, values: Mapping[str, float]) -> None:
        """Append a row to a table such as :data:`THERMO`, in full precision, by column."""
        plain = (value.item() if isinstance(value, np.generic) else value for value in values.values())
        self._text(name, ",".join(values)).append(",".join(map(repr, plain)))

    @_says_what_to_do
    def frame(
        self,
        atoms: Atoms,
        energy: float,
        forces: np.ndarray,
        calculator_name: str = "unknown",
        calculator_parameters: dict | None = None,
    ) -> None:
        """Append a frame to the trajectory. Energy in eV, forces in eV/Å."""
        if self._trajectory is None:
            path = self.directory / TRAJECTORY
            self._trajectory = GrowingTrajectory(path, calculator_name, calculator_parameters)
        self._trajectory.append(atoms, energy, forces)

    @_says_what_to_do
    def evaluation(self, found: Mapping[str, Any]) -> None:
        """Keep what was computed, at once: no checkpoint cuts it back, so that no work is lost."""
        if EVALUATIONS not in self._texts:
            cut_to_whole_lines(self.directory / EVALUATIONS)
        text = self._text(EVALUATIONS)
        text.append(json.dumps(found))
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
        from ase.io.extxyz import write_extxyz

        copy, content = atoms.copy(), io.StringIO()
        copy.set_constraint()
        copy.info = {name: copy.info[name] for name in ("charge", "spin") if name in copy.info} | dict(info)
        write_extxyz(content, copy, columns=["symbols", "positions"])
        self._text(FLAGGED).append(content.getvalue().rstrip("\n"))

    @_says_what_to_do
    def flush(self) -> None:
        """Let readers see every row."""
        for text in self._texts.values():
            text.flush()

    @_says_what_to_do
    def sync(self) -> dict[str, dict]:
        """Put growing files on the disk itself; where they stand, for :meth:`cut_back`."""
        for text in self._texts.values():
            text.flush()
        paths = [self.directory / name for name in GROWING]
        return {path.name: mark(path) for path in paths if path.is_file()}

    @_says_what_to_do
    def close(self) -> None:
        """Close everything and let others write."""
        files = [*self._texts.values(), self._trajectory, self._lock]
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

    def _text(self, name: str, first_line: str = "") -> GrowingText:
        if name not in self._texts:
            self._texts[name] = GrowingText(self.directory / name, first_line)
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
