"""The run directory: what a protocol writes and an analysis reads. Its layout is written down here alone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from asecalc_ml.config import dump_yaml, read_yaml
from asecalc_ml.errors import ConfigError, RunError
from asecalc_ml.model_file import write_whole

THERMO_COLUMNS = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")

# Where the number of frames stands in a file of ASE's Trajectory (ase.io.ulm).
_ULM_N_ITEMS = 32


class RunDirectory:
    """Paths of a run.

    ==================== =================================================================
    file                 holds
    ==================== =================================================================
    protocol.yaml        the resolved options
    provenance.json      versions, model, seed, machine
    card.json            the model's card, where the calculator has one
    input.traj           the structure the run was given
    start.traj           the structure dynamics began with: the input, relaxed if asked for
    equilibration.csv    energies and temperature of the stages before production
    trajectory.traj      production: positions, momenta, energy and forces in full precision
    thermo.csv           production: energies and temperature
    checkpoint.npz       the last good state
    events.jsonl         what happened: stages, warnings, why it stopped
    results/             what analyses found
    report.html          the report
    ==================== =================================================================
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.protocol_file = self.path / "protocol.yaml"
        self.provenance_file = self.path / "provenance.json"
        self.card_file = self.path / "card.json"
        self.input_file = self.path / "input.traj"
        self.start_file = self.path / "start.traj"
        self.equilibration_file = self.path / "equilibration.csv"
        self.trajectory_file = self.path / "trajectory.traj"
        self.thermo_file = self.path / "thermo.csv"
        self.checkpoint_file = self.path / "checkpoint.npz"
        self.events_file = self.path / "events.jsonl"
        self.results_directory = self.path / "results"
        self.report_file = self.path / "report.html"


class RunWriter(RunDirectory):
    """Writes a run. Whole files are replaced at once; growing ones are cut back to the checkpoint at resume."""

    @classmethod
    def create(cls, path: str | Path, overwrite: bool = False) -> RunWriter:
        """Make a new run directory.

        Raises
        ------
        RunError
            If it exists and ``overwrite`` is false, holds files that are no run, or cannot be written.
        """
        writer = cls(path)
        writer._check_free(overwrite)
        try:
            if overwrite and writer.path.exists():
                shutil.rmtree(writer.path)
            writer.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make the run directory {writer.path}: {error.strerror or error}; choose another `directory`"
            ) from error
        return writer

    def _check_free(self, overwrite: bool) -> None:
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not self.path.is_dir():
            raise RunError(f"{self.path} is a file; choose another `directory` for the run")
        if not self.protocol_file.exists():
            raise RunError(
                f"{self.path} holds files, but no run; nothing was touched, choose another `directory`"
            )
        if not overwrite:
            raise RunError(
                f"the run directory {self.path} exists; choose another `directory`, replace it with --overwrite, or "
                f"go on with `asecalc-md resume {self.path}`"
            )

    def write_options(self, options: Mapping) -> None:
        """Store the resolved options."""
        write_whole(self.protocol_file, dump_yaml(options).encode())

    def write_provenance(self, facts: Mapping) -> None:
        """Store versions, model, seed and machine."""
        write_whole(self.provenance_file, (json.dumps(facts, indent=2) + "\n").encode())

    def write_card(self, card) -> None:
        """Store the model's card."""
        write_whole(self.card_file, card.model_dump_json(indent=1).encode())

    def write_structure(self, path: Path, atoms: Atoms) -> None:
        """Store one structure with its momenta, charge and spin in full precision."""
        from ase.io.trajectory import Trajectory

        partial = path.with_suffix(".part")
        with Trajectory(partial, "w") as trajectory:
            trajectory.write(_bare(atoms))
        os.replace(partial, path)

    def event(self, kind: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        with self.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": kind, **details}) + "\n")

    def cut_back(self, step: int, n_frames: int) -> None:
        """Forget what was written after a checkpoint at this production step."""
        if self.thermo_file.exists():
            lines = self.thermo_file.read_text().splitlines()
            kept = lines[:1] + [line for line in lines[1:] if _is_row_until(line, step)]
            write_whole(self.thermo_file, ("\n".join(kept) + "\n").encode())
        if self.trajectory_file.exists():
            self._cut_trajectory(n_frames)

    def _cut_trajectory(self, n_frames: int) -> None:
        """Lower the number of frames in the file's header: one write of eight bytes."""
        from ase.io.trajectory import Trajectory

        with Trajectory(self.trajectory_file) as trajectory:
            found = len(trajectory)
        if found < n_frames:
            raise RunError(
                f"{self.trajectory_file} holds {found} frames, and the checkpoint was written after {n_frames}; the "
                "file is damaged: start the run anew with --overwrite"
            )
        with self.trajectory_file.open("r+b") as file:
            file.seek(_ULM_N_ITEMS)
            file.write(np.array([n_frames], "<i8").tobytes())


class ThermoFile:
    """Appends rows of :data:`THERMO_COLUMNS`; ``flush`` before a checkpoint, so that no row is lost."""

    def __init__(self, path: Path):
        new = not path.exists()
        self.file = path.open("a", encoding="utf-8")
        if new:
            self.file.write(",".join(THERMO_COLUMNS) + "\n")

    def write(self, *row: float) -> None:
        self.file.write(",".join(repr(value) for value in row) + "\n")

    def flush(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


class RunReader(RunDirectory):
    """Reads a run, finished or not.

    Raises
    ------
    RunError
        If there is no run in the directory, or a file that is needed is missing or damaged.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        if not self.protocol_file.is_file():
            raise RunError(f"no run in {self.path}: {self.protocol_file} does not exist")

    @cached_property
    def options(self) -> dict:
        """The resolved options, as :func:`asecalc_ml.config.read_yaml` gives them."""
        try:
            return dict(read_yaml(self.protocol_file))
        except ConfigError as error:
            raise RunError(f"the run's options cannot be read: {error}") from error

    @cached_property
    def provenance(self) -> dict:
        """Versions, model, seed and machine."""
        return self._json(self.provenance_file)

    @cached_property
    def model_card(self) -> dict | None:
        """The model's card, or None where the calculator has none."""
        return self._json(self.card_file) if self.card_file.exists() else None

    @cached_property
    def atoms(self) -> Atoms:
        """The structure dynamics began with; its bonds are what breaks and is measured."""
        return self._structure(self.start_file)

    @cached_property
    def input(self) -> Atoms:
        """The structure the run was given."""
        return self._structure(self.input_file)

    @cached_property
    def bonds(self) -> np.ndarray:
        """Bonds of :attr:`atoms`, shape (n_bonds, 2)."""
        from asecalc_ml.topology import find_bonds

        return find_bonds(self.atoms)

    @property
    def cell(self) -> np.ndarray:
        """Cell vectors as rows, shape (3, 3), Å."""
        return self.atoms.cell.array

    @property
    def pbc(self) -> np.ndarray:
        """Periodic directions, shape (3,)."""
        return self.atoms.pbc

    @property
    def n_frames(self) -> int:
        """Frames of production."""
        if not self.trajectory_file.exists() or self.trajectory_file.stat().st_size == 0:
            return 0
        with self._trajectory() as trajectory:
            return len(trajectory)

    @property
    def frame_interval_fs(self) -> float:
        """Time between frames."""
        return self.options["write_every"] * self.options["timestep_fs"]

    def chunks(self, size: int = 1000) -> Iterator[np.ndarray]:
        """Positions of production in pieces of shape (n_frames, n_atoms, 3), float64, Å."""
        if self.n_frames == 0:
            return
        with self._trajectory() as trajectory:
            for start in range(0, len(trajectory), size):
                stop = min(start + size, len(trajectory))
                yield np.array([trajectory.backend[k].positions for k in range(start, stop)])

    @cached_property
    def thermo(self) -> dict[str, np.ndarray]:
        """Columns of thermo.csv by name; empty where production has not begun."""
        return _read_columns(self.thermo_file)

    @cached_property
    def equilibration(self) -> dict[str, np.ndarray]:
        """Columns of equilibration.csv by name; empty where there was none."""
        return _read_columns(self.equilibration_file)

    @property
    def events(self) -> list[dict]:
        """Lines of events.jsonl; one that a crash cut short is left out."""
        if not self.events_file.exists():
            return []
        events = []
        for line in self.events_file.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    @property
    def is_finished(self) -> bool:
        """Whether production reached its last step."""
        return any(event["event"] == "finished" for event in self.events)

    def _trajectory(self):
        from ase.io.trajectory import Trajectory

        try:
            return Trajectory(self.trajectory_file)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.trajectory_file} cannot be read ({error}); it is damaged") from error

    def _structure(self, path: Path) -> Atoms:
        from ase.io import read

        try:
            return read(path, format="traj")
        except (OSError, ValueError, IndexError) as error:
            raise RunError(
                f"{path} cannot be read ({error}); the run ended before it began, or was damaged"
            ) from error

    def _json(self, path: Path) -> dict:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(f"{path} cannot be read ({error})") from error


def _bare(atoms: Atoms) -> Atoms:
    """A copy without its calculator."""
    copy = atoms.copy()
    copy.calc = None
    return copy


def _is_row_until(line: str, step: int) -> bool:
    first = line.split(",", 1)[0]
    return line.count(",") == len(THERMO_COLUMNS) - 1 and first.isdigit() and int(first) <= step


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    rows = list(csv.reader(io.StringIO(path.read_text())))
    whole = [row for row in rows[1:] if len(row) == len(rows[0]) and all(row)]
    try:
        values = np.array(whole, dtype=float).reshape(-1, len(rows[0]))
    except (ValueError, IndexError) as error:
        raise RunError(f"{path} cannot be read ({error}); it is damaged") from error
    return dict(zip(rows[0], values.T, strict=True))
