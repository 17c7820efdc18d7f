"""What a run asks of the writer of a trajectory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from asecalc_ml.structure.files.stored_constraints import is_storable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from ase import Atoms


@dataclass(frozen=True)
class Moment:
    """What belongs to one frame beside its structure.

    Parameters
    ----------
    energy : float
        Potential energy, eV.
    forces : ndarray, shape (n_atoms, 3), eV/Å
    step : int
        Of the production.
    time_fs : float
        Not a number where frames are no moments in time.
    """

    energy: float
    forces: np.ndarray
    step: int
    time_fs: float


@dataclass(frozen=True)
class Origin:
    """Calculator of the frames, as formats that can say so keep it."""

    name: str = "unknown"
    parameters: dict[str, Any] = field(default_factory=dict)


class TrajectoryWriter(ABC):
    """Appends frames of the same atoms to a file, which is created or gone on with.

    Parameters
    ----------
    path : Path
    origin : Origin

    Attributes
    ----------
    head_bytes : int
        First bytes of the file that say what of the rest belongs to it; the rest is only appended to.
    """

    head_bytes: ClassVar[int] = 0

    @abstractmethod
    def __init__(self, path: Path, origin: Origin): ...

    @staticmethod
    def keeps(constraint: Any) -> bool:
        """Return True if the format keeps a constraint of the structure."""
        return is_storable(constraint)

    @abstractmethod
    def append(self, atoms: Atoms, moment: Moment) -> None:
        """Add a frame with positions, momenta, cell, energy and forces; it may wait for others."""

    @abstractmethod
    def flush(self) -> None:
        """Write all frames that are still in memory."""

    @abstractmethod
    def close(self) -> None:
        """Flush and close."""
