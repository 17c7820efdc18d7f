"""Reads a run directory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asecalc_ml.files.tables import whole_lines
from asecalc_ml.runs.events import EventKind
from asecalc_ml.runs.layout import FLAGGED
from asecalc_ml.runs.plan import no_moments
from asecalc_ml.runs.production import Production, production_by_options
from asecalc_ml.runs.run_files import RunFiles, once
from asecalc_ml.runs.trajectories import open_trajectory, trajectory_of
from asecalc_ml.runs.universe import universe_of

if TYPE_CHECKING:
    from ase import Atoms
    from MDAnalysis import Universe

    from asecalc_ml.runs.frames import Frames
    from asecalc_ml.runs.trajectories.reader import TrajectoryFile

#: Former attributes, each of which read its file anew, and the methods that read these files now.
FORMER = {
    "options": "read_options",
    "provenance": "read_provenance",
    "model_card": "read_model_card",
    "model_cards": "read_model_cards",
    "thermo": "read_thermo",
    "equilibration": "read_equilibration",
    "relaxation": "read_relaxation",
    "relaxed": "read_relaxed",
    "hessian": "read_hessian",
    "scan": "read_scan",
    "scan_table": "read_scan_table",
    "transfer": "read_transfer",
    "evaluations": "read_evaluations",
    "events": "read_events",
    "n_flagged": "count_flagged",
    "harmonic_per_cm": "read_harmonic_per_cm",
}


class FormerAttributes:
    """Contents of files under the names of :data:`FORMER`, with a DeprecationWarning.

    As before, each access reads the file as it is now, into an object of its own that may be changed.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in FORMER:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        method = FORMER[name]
        warnings.warn(f"{type(self).__name__}.{name} is now {method}()", DeprecationWarning, stacklevel=2)
        return copy.deepcopy(getattr(self.reread(), method)())


class RunReader(RunFiles, FormerAttributes):
    """A snapshot of a run directory, also of a run that continues or was killed.

    Methods ``read_...`` return the contents of one file. The first call reads the file, and each later call
    returns the same object, so that all results of one reader belong to the same state of the run.
    :meth:`reread` gives a snapshot of the run as it is now. What a method returns is shared: copy it before
    changing it.

    Parameters
    ----------
    directory : str or Path

    Attributes
    ----------
    atoms : Atoms
        The structure the run was given, with charge and spin in ``atoms.info``; a new copy at each access.
    bonds : ndarray of int, shape (n_bonds, 2)
        Bonds of that structure.
    cell : ndarray, shape (3, 3), Å
    pbc : ndarray of bool, shape (3,)
    n_frames : int
        Frames of the trajectory when this reader first looked at it.
    n_lost_frames : int
        Frames that the trajectory counts and no longer holds, since the end of the file is missing.
    frame_interval_fs : float
    production : Production
        What each segment of the production conserves, and the temperature and pressure that it was asked for.

    Raises
    ------
    RunError
        If the directory holds no run, or one of its files is damaged.
    AnalysisError
        If ``frame_interval_fs`` is asked of frames that are no moments in time.
    """

    @once
    def count_flagged(self) -> int:
        """Number of structures that were kept for labelling."""
        return len(whole_lines(self.directory / FLAGGED)) // (len(self.atoms) + 2)

    @property
    def atoms(self) -> Atoms:
        return self._start().copy()

    @property
    def bonds(self) -> np.ndarray:
        return self._bonds()

    @once
    def _bonds(self) -> np.ndarray:
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
        interval = self.read_provenance()["frame_interval_fs"]
        if interval is None:
            raise no_moments(self.read_options()["protocol"])
        return interval

    @property
    def production(self) -> Production:
        stated = self.read_provenance().get("production")
        if stated is None:
            return production_by_options(self.read_options(), self.read_thermo())
        return Production.model_validate(stated)

    @property
    def planned_steps(self) -> int | None:
        """Steps of all productions, by the options for runs of earlier versions; None where neither says."""
        return self.read_provenance().get("steps") or self.read_options().get("steps")

    @property
    def relaxation_limit(self) -> float:
        """Largest force of a relaxed structure, eV/Å, by the options for runs of earlier versions."""
        stated = self.read_provenance().get("fmax_eV_A")
        return self.read_options()["relax_fmax_eV_A"] if stated is None else stated

    @property
    def finished(self) -> bool:
        """True if the run came to its planned end."""
        return self.read_provenance().get("finished") is not None

    @property
    def ended_early(self) -> str | None:
        """Why the run has stopped for good; None for one that came to its end, or can be resumed."""
        last = self._last_ending
        return last["message"] if last.get("kind") == EventKind.STOPPED else None

    @property
    def stopped_as_asked(self) -> bool:
        """True if a condition of `stop` in the options ended the run."""
        return self.ended_early is not None and self._last_ending.get("is_asked_for", False)

    @property
    def _last_ending(self) -> dict[str, Any]:
        endings = (EventKind.STOPPED, EventKind.INTERRUPTED, EventKind.RESUMED, EventKind.FINISHED)
        return next((event for event in reversed(self.read_events()) if event["kind"] in endings), {})

    @property
    def parts(self) -> list[Path]:
        """Directories of the runs that a transfer test consists of, begun or not; none of any other run."""
        return [self.directory / name for name in (self.read_transfer() or {}).get("runs", ())]

    @property
    def n_frames(self) -> int:
        return self._counts()[0]

    @property
    def n_lost_frames(self) -> int:
        return self._counts()[1]

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
        yield from self._trajectory().structures(self.atoms, range(self.n_frames))

    def universe(self) -> Universe:
        """The frames for MDAnalysis' own analyses, see :func:`asecalc_ml.runs.universe.universe_of`."""
        return universe_of(self)

    def _trajectory(self) -> TrajectoryFile:
        """The file, opened anew: an open file held by each reader would soon be too many."""
        file = open_trajectory(trajectory_of(self.directory))
        n_frames, _ = self._contents.setdefault("_counts", (file.n_frames, file.n_lost))
        file.n_frames = min(file.n_frames, n_frames)  # without those that came after this snapshot
        return file

    def _counts(self) -> tuple[int, int]:
        """Frames that can be read and frames that are lost."""
        if "_counts" not in self._contents:
            self._trajectory()
        return self._contents["_counts"]


def open_run(run: str | Path | Any) -> Any:
    """Reader of a run directory; a run that was opened before, or lies in memory, is returned as it is."""
    return RunReader(run) if isinstance(run, str | Path) else run
