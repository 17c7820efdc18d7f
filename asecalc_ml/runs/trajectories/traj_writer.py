"""Writes ASE's own format (.traj)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asecalc_ml.files.full_disk import writing
from asecalc_ml.runs.trajectories.writer import Moment, Origin, TrajectoryWriter
from asecalc_ml.structure.files.stored_constraints import storable_copy

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms


class TrajWriter(TrajectoryWriter):
    """An ASE trajectory with positions, momenta, energy and forces in full precision.

    Each frame is appended, and then counted in the first bytes of the file.

    Parameters
    ----------
    path : Path
    origin : Origin
        Kept with every frame, as ASE does.
    """

    head_bytes = 48  # of ase.io.ulm: magic, tag, version, number of frames, place of their index

    def __init__(self, path: Path, origin: Origin):
        from ase.io.trajectory import TrajectoryWriter as AseWriter

        self._path = path
        self._writer = AseWriter(path, mode="a", properties=["energy", "forces"])
        self._results = _Results(origin)
        self._frame: Atoms | None = None

    def append(self, atoms: Atoms, moment: Moment) -> None:
        """Add a frame."""
        if self._frame is None:  # a copy, since the calculator of the dynamics must not be touched
            self._frame = storable_copy(atoms)
            self._frame.calc = self._results
        self._frame.arrays["positions"][:] = atoms.positions
        self._frame.set_momenta(atoms.get_momenta(), apply_constraint=False)
        self._frame.cell[:] = atoms.cell
        self._results.values = {"energy": moment.energy, "forces": moment.forces}
        with writing(self._path):
            self._writer.write(self._frame)

    def flush(self) -> None:
        """No-op: every frame reaches the file at once."""

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class _Results:
    """What ASE's trajectory writer asks of a calculator, and nothing of what a real one would recompute."""

    def __init__(self, origin: Origin):
        self.name, self.parameters = origin.name, origin.parameters
        self.values: dict[str, Any] = {}

    def todict(self) -> dict:
        return self.parameters

    def get_property(self, name: str, atoms: Atoms, allow_calculation: bool = True) -> Any:
        return self.values.get(name)
