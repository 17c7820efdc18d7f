"""Reads a run directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.errors import AnalysisError, RunError
from asecalc_ml.files.reading import (
    COPY_AGAIN,
    Stored,
    damage_named,
    parse_json,
    read_json,
    read_json_lines,
    read_npz,
    read_text,
)
from asecalc_ml.runs.layout import (
    CARD,
    EQUILIBRATION,
    EVALUATIONS,
    EVENTS,
    FLAGGED,
    HESSIAN,
    MEMBER_CARDS,
    PROTOCOL,
    PROVENANCE,
    RELAXATION,
    RELAXED,
    RESULTS,
    SCAN,
    SCAN_TABLE,
    START,
    THERMO,
    THERMO_COLUMNS,
    TRANSFER,
    EventKind,
    trajectory_of,
)  # fmt: skip
from asecalc_ml.runs.plan import no_moments
from asecalc_ml.runs.production import Production, production_by_options

if TYPE_CHECKING:
    from ase import Atoms
    from MDAnalysis import Universe
    from pydantic import BaseModel

    from asecalc_ml.runs.frames import Frames
    from asecalc_ml.runs.trajectories.reader import TrajectoryFile


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
    production : Production
        What each segment of the production conserves, and the temperature and pressure that it was asked for.
    thermo, equilibration : dict of ndarray, shape (n_rows,)
        Columns by name.
    events : list of dict
    model_card : dict or None
    model_cards : list of dict
        Card of the model, or those of the members of a committee.

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
            if self.directory.is_file():
                raise RunError(f"{self.directory} is a file, and a run directory is expected")
            what = "no run" if self.directory.is_dir() else "no directory"
            raise RunError(f"{self.directory}: {what} there ({PROTOCOL} is missing)")

    @cached_property
    def options(self) -> dict[str, Any]:
        from asecalc_ml.config.options import read_yaml
        from asecalc_ml.runs.contents import Options

        path = self.directory / PROTOCOL
        with damage_named(path):
            return parse_json(json.dumps(read_yaml(path)), path, Options)

    @property
    def provenance(self) -> dict[str, Any]:
        return self._json(PROVENANCE, "Provenance")

    @property
    def model_card(self) -> dict[str, Any] | None:
        return self._json(CARD, "Card") if (self.directory / CARD).is_file() else None

    @property
    def model_cards(self) -> list[dict[str, Any]]:
        if (self.directory / MEMBER_CARDS).is_file():
            return self._json(MEMBER_CARDS, "MemberCards")["cards"]
        own = self.model_card
        return [] if own is None else [own]

    @property
    def atoms(self) -> Atoms:
        """The structure at the beginning, a copy of its own for each that asks."""
        return self._start.copy()

    @cached_property
    def _start(self) -> Atoms:
        return self._structure(START)

    @cached_property
    def bonds(self) -> np.ndarray:
        from asecalc_ml.structure.topology.bonds import find_bonds

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
            raise AnalysisError(no_moments(self.options["protocol"]))
        return found

    @property
    def production(self) -> Production:
        stated = self.provenance.get("production")
        if stated is None:
            return production_by_options(self.options, self.thermo)
        return Production.model_validate(stated)

    @property
    def planned_steps(self) -> int | None:
        """Steps of all productions, by the options for runs of earlier versions; None where neither says."""
        return self.provenance.get("steps") or self.options.get("steps")

    @property
    def relaxation_limit(self) -> float:
        """Largest force of a relaxed structure, eV/Å, by the options for runs of earlier versions."""
        stated = self.provenance.get("fmax_eV_A")
        return self.options["relax_fmax_eV_A"] if stated is None else stated

    @property
    def finished(self) -> bool:
        """Whether the run came to its planned end."""
        return self.provenance.get("finished") is not None

    @property
    def ended_early(self) -> str | None:
        """Why the run has stopped for good; None for one that came to its end, or can go on."""
        last = self._last_ending
        return last["message"] if last.get("kind") == EventKind.STOPPED else None

    @property
    def stopped_as_asked(self) -> bool:
        """Whether it was a condition of `stop` in the options that ended it."""
        return self.ended_early is not None and self._last_ending.get("is_asked_for", False)

    @property
    def _last_ending(self) -> dict[str, Any]:
        endings = (EventKind.STOPPED, EventKind.INTERRUPTED, EventKind.RESUMED, EventKind.FINISHED)
        return next((event for event in reversed(self.events) if event["kind"] in endings), {})

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
        arrays = Stored(read_npz(path), path)
        with damage_named(path):
            _check_hessian(arrays)
        return arrays

    @property
    def scan(self) -> dict[str, Any] | None:
        """What a scan is about, as :data:`SCAN` says."""
        return self._json(SCAN, "Scan") if (self.directory / SCAN).is_file() else None

    @property
    def scan_table(self) -> dict[str, np.ndarray]:
        """Columns of :data:`SCAN_TABLE`; none before its first row."""
        return self._table(SCAN_TABLE) if (self.directory / SCAN_TABLE).is_file() else {}

    @property
    def transfer(self) -> dict[str, Any] | None:
        """What a transfer test consists of, as :data:`TRANSFER` says."""
        return self._json(TRANSFER, "Transfer") if (self.directory / TRANSFER).is_file() else None

    @property
    def parts(self) -> list[Path]:
        """Directories of the runs that a transfer test consists of, begun or not; none of any other run."""
        return [self.directory / name for name in (self.transfer or {}).get("runs", ())]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """What was computed, in order."""
        return self._lines(EVALUATIONS, "Evaluation")

    @property
    def events(self) -> list[dict[str, Any]]:
        return self._lines(EVENTS, "Event")

    @property
    def n_flagged(self) -> int:
        """Number of structures that were kept for labelling."""
        return len(_whole_lines(self.directory / FLAGGED)) // (len(self.atoms) + 2)

    @property
    def harmonic_per_cm(self) -> list[float]:
        """Real harmonic frequencies in ``results/normal-modes.json``, 1/cm; empty without that file."""
        name = f"{RESULTS}/normal-modes.json"
        if not (self.directory / name).is_file():
            return []
        return [value for value in self._json(name, "NormalModes").get("frequencies_per_cm", ()) if value > 0]

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
            If a frame is damaged, not finite, or has other atoms than the start.
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
        yield from self._trajectory().structures(self.atoms)

    def universe(self) -> Universe:
        """The frames for MDAnalysis' own analyses, see :func:`asecalc_ml.runs.universe.universe_of`."""
        from asecalc_ml.runs.universe import universe_of

        return universe_of(self)

    def _trajectory(self) -> TrajectoryFile:
        from asecalc_ml.runs.trajectories import open_trajectory

        return open_trajectory(trajectory_of(self.directory))

    def _table(self, name: str) -> dict[str, np.ndarray]:
        path = self.directory / name
        header, *rows = _whole_lines(path) or [",".join(THERMO_COLUMNS)]
        columns = header.split(",")
        with damage_named(path):
            values = _numbers(rows, columns, columns if name == RELAXATION else THERMO_COLUMNS)
        if len(set(columns)) < len(columns):
            raise RunError(f"{path} is damaged: a column stands twice in its first line; {COPY_AGAIN}")
        return Stored(zip(columns, values.T, strict=True), path)

    def _lines(self, name: str, contents: str) -> list[dict[str, Any]]:
        path = self.directory / name
        return read_json_lines(path, _whole_lines(path), _contents(contents))

    def _json(self, name: str, contents: str) -> dict[str, Any]:
        path = self.directory / name
        if not path.is_file():
            raise RunError(f"{path} is missing: the directory is not whole; {COPY_AGAIN}")
        return read_json(path, _contents(contents))

    def _structure(self, name: str) -> Atoms:
        from ase.io import read

        path = self.directory / name
        try:
            atoms = read(path)
        except Exception as error:  # ASE's readers raise whatever their parsing meets
            raise RunError(f"{path} cannot be read: {error or type(error).__name__}; {COPY_AGAIN}") from error
        is_finite = np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()
        if not is_finite or not np.isin(atoms.numbers, range(119)).all():
            raise RunError(f"{path} is damaged: its positions, cell or atomic numbers are none; {COPY_AGAIN}")
        return atoms


def _whole_lines(path: Path) -> list[str]:
    """Lines of a growing file, if it is there; a last one without an end was cut by a kill or a full disk."""
    text = read_text(path) if path.is_file() else ""
    return text[: text.rfind("\n") + 1].split("\n")[:-1]


def _numbers(rows: list[str], columns: list[str], needed: Sequence[str]) -> np.ndarray:
    """Numbers of a table, shape (n_rows, n_columns).

    Those of the needed columns are finite. Others may be missing (NaN), such as the conserved quantity of an
    ensemble that has none.
    """
    values = np.empty((len(rows), len(columns)))
    for k, row in enumerate(rows):
        cells = row.split(",")
        if len(cells) != len(columns):
            raise ValueError(f"line {k + 2} has {len(cells)} values for {len(columns)} columns")
        try:
            values[k] = list(map(float, cells))
        except ValueError as error:
            raise ValueError(f"line {k + 2}: {error}") from None
    is_needed = np.isin(columns, needed)
    bad = np.flatnonzero((~np.isfinite(values) & (is_needed | np.isinf(values))).any(axis=1))
    if len(bad):
        raise ValueError(f"line {bad[0] + 2}: a number is not finite")
    return values


def _check_hessian(arrays: dict[str, np.ndarray]) -> None:
    n_atoms, n_free = arrays["numbers"].size, arrays["free"].size
    expected = {
        "hessian": ("f", (3 * n_free, 3 * n_free)),
        "free": ("i", (n_free,)),
        "positions": ("f", (n_atoms, 3)),
        "numbers": ("i", (n_atoms,)),
        "masses": ("f", (n_atoms,)),
        "pbc": ("b", (3,)),
        "linear": ("b", ()),
        "largest_force": ("f", ()),
        "method": ("U", ()),
    }
    for name, kind_and_shape in expected.items():
        array = arrays[name]
        if (array.dtype.kind, array.shape) != kind_and_shape:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    if not np.isin(arrays["free"], range(n_atoms)).all():
        raise ValueError("free names atoms that there are not")


def _contents(name: str) -> type[BaseModel]:
    """The class of :mod:`asecalc_ml.runs.contents` for a file, imported when it is needed."""
    from asecalc_ml.runs import contents

    return getattr(contents, name)
