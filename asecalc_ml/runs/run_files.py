"""Reads the files of a run directory, each of them once."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from asecalc_ml.errors import RunError
from asecalc_ml.files.reading import (
    COPY_AGAIN,
    Stored,
    damage_named,
    parse_json,
    read_json,
    read_json_lines,
    read_npz,
)
from asecalc_ml.files.tables import read_table, whole_lines
from asecalc_ml.runs.layout import (
    CARD,
    EQUILIBRATION,
    EVALUATIONS,
    EVENTS,
    HESSIAN,
    MEMBER_CARDS,
    NORMAL_MODES,
    PROTOCOL,
    PROVENANCE,
    RELAXATION,
    RELAXED,
    SCAN,
    SCAN_TABLE,
    START,
    THERMO,
    TRANSFER,
)  # fmt: skip
from asecalc_ml.runs.production import THERMO_COLUMNS

if TYPE_CHECKING:
    from typing import Self

    from ase import Atoms
    from pydantic import BaseModel

Content = TypeVar("Content")
Files = TypeVar("Files", bound="RunFiles")


def once(read: Callable[[Files], Content]) -> Callable[[Files], Content]:
    """Let a method read at its first call; each later call of the same object returns the same object."""

    @functools.wraps(read)
    def remembered(self: Files) -> Content:
        if read.__name__ not in self._contents:
            self._contents[read.__name__] = read(self)
        return self._contents[read.__name__]

    return remembered


class RunFiles:
    """A snapshot of the files of a run directory.

    A file is read at the first call of its method, and each later call returns the same object.

    Parameters
    ----------
    directory : str or Path

    Raises
    ------
    RunError
        If the directory holds no run, or one of its files is damaged.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self._contents: dict[str, Any] = {}  # by the name of the method that read it
        if not (self.directory / PROTOCOL).is_file():
            if self.directory.is_file():
                raise RunError(
                    f"{self.directory} is a file, and a run directory is expected",
                    name=str(self.directory),
                    allowed="a run directory",
                )
            what = "no run" if self.directory.is_dir() else "no directory"
            raise RunError(
                f"{self.directory}: {what} there ({PROTOCOL} is missing)", name=str(self.directory)
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled reader; one of version 0.1.0 or earlier reads its files anew."""
        if "_contents" not in state:
            state = {"directory": state["directory"], "_contents": {}}
        self.__dict__.update(state)

    def reread(self) -> Self:
        """Snapshot of the same run as it is now; this one stays as it is."""
        now = copy.copy(self)
        now._contents = {}
        return now

    @once
    def read_options(self) -> dict[str, Any]:
        """Every option of the run."""
        from asecalc_ml.config.options import read_yaml

        path = self.directory / PROTOCOL
        with damage_named(path):
            return parse_json(json.dumps(read_yaml(path)), path, _contents("OptionsFile"))

    @once
    def read_provenance(self) -> dict[str, Any]:
        """Versions, calculator, machine, times and what the run states about its production."""
        return self._json(PROVENANCE, "ProvenanceFile")

    @once
    def read_model_card(self) -> dict[str, Any] | None:
        """Card of the model; None for a calculator without one."""
        return self._json(CARD, "CardFile") if (self.directory / CARD).is_file() else None

    @once
    def read_model_cards(self) -> list[dict[str, Any]]:
        """Card of the model, or those of the members of a committee."""
        if (self.directory / MEMBER_CARDS).is_file():
            return self._json(MEMBER_CARDS, "MemberCardsFile")["cards"]
        card = self.read_model_card()
        return [] if card is None else [card]

    @once
    def read_thermo(self) -> dict[str, np.ndarray]:
        """Columns of thermo.csv by name, shape (n_rows,)."""
        return read_table(self.directory / THERMO, THERMO_COLUMNS)

    @once
    def read_equilibration(self) -> dict[str, np.ndarray]:
        """Columns of equilibration.csv by name, shape (n_rows,)."""
        return read_table(self.directory / EQUILIBRATION, THERMO_COLUMNS)

    @once
    def read_relaxation(self) -> dict[str, np.ndarray]:
        """Columns step, energy_eV and largest_force_eV_A; none where nothing was relaxed."""
        return read_table(self.directory / RELAXATION)

    def read_relaxed(self) -> Atoms | None:
        """Structure after relaxation, a new copy at each call; None where nothing was relaxed."""
        atoms = self._relaxed()
        return None if atoms is None else atoms.copy()

    @once
    def _relaxed(self) -> Atoms | None:
        path = self.directory / RELAXED
        return _read_structure(path) if path.is_file() else None

    @once
    def read_hessian(self) -> dict[str, np.ndarray] | None:
        """Arrays of :data:`HESSIAN`; None where it was not computed."""
        from asecalc_ml.runs.contents import check_hessian

        path = self.directory / HESSIAN
        if not path.is_file():
            return None
        arrays = Stored(read_npz(path), path)
        with damage_named(path):
            check_hessian(arrays)
        for array in arrays.values():
            array.setflags(write=False)
        return arrays

    @once
    def read_scan(self) -> dict[str, Any] | None:
        """Coordinate, points and calculators of a scan (:data:`SCAN`); None for any other run."""
        return self._json(SCAN, "ScanFile") if (self.directory / SCAN).is_file() else None

    @once
    def read_scan_table(self) -> dict[str, np.ndarray]:
        """Columns of :data:`SCAN_TABLE`; none before its first row."""
        return read_table(self.directory / SCAN_TABLE, needed=())

    @once
    def read_transfer(self) -> dict[str, Any] | None:
        """Molecules, calculators and runs of a transfer test (:data:`TRANSFER`); None for any other run."""
        return self._json(TRANSFER, "TransferFile") if (self.directory / TRANSFER).is_file() else None

    @once
    def read_evaluations(self) -> list[dict[str, Any]]:
        """Energies and forces that were computed, in order."""
        return self._lines(EVALUATIONS, "EvaluationLine")

    @once
    def read_events(self) -> list[dict[str, Any]]:
        """Stages, warnings and endings of the run, in order."""
        return self._lines(EVENTS, "EventLine")

    @once
    def _start(self) -> Atoms:
        return _read_structure(self.directory / START)

    @once
    def read_harmonic_per_cm(self) -> list[float]:
        """Real harmonic frequencies of the results of ``normal-modes``, 1/cm; empty without that file."""
        if not (self.directory / NORMAL_MODES).is_file():
            return []
        frequencies = self._json(NORMAL_MODES, "NormalModesFile").get("frequencies_per_cm", ())
        return [value for value in frequencies if value > 0]

    def _lines(self, name: str, contents: str) -> list[dict[str, Any]]:
        path = self.directory / name
        return read_json_lines(path, whole_lines(path), _contents(contents))

    def _json(self, name: str, contents: str) -> dict[str, Any]:
        path = self.directory / name
        if not path.is_file():
            raise RunError(
                f"{path} is missing: the directory is not whole;", name=str(path), remedy=COPY_AGAIN
            )
        return read_json(path, _contents(contents))


def _read_structure(path: Path) -> Atoms:
    from ase.io import read

    try:
        atoms = read(path, format="traj")
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        problem = f"{path} cannot be read: {error or type(error).__name__};"
        raise RunError(problem, name=str(path), remedy=COPY_AGAIN) from error
    faults = {
        "positions are not finite": not np.isfinite(atoms.positions).all(),
        "cell is not finite": not np.isfinite(atoms.cell.array).all(),
        "atomic numbers are not all from 0 to 118": not np.isin(atoms.numbers, range(119)).all(),
    }
    if found := [fault for fault, is_there in faults.items() if is_there]:
        problem = f"{path} is damaged: its {', its '.join(found)};"
        raise RunError(problem, name=str(path), value=found, remedy=COPY_AGAIN)
    return atoms


def _contents(name: str) -> type[BaseModel]:
    """The class of :mod:`asecalc_ml.runs.contents` for a file, imported when it is needed."""
    from asecalc_ml.runs import contents

    return getattr(contents, name)
