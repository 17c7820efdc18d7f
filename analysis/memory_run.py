"""A run in memory, for analysing frames that no protocol of ours wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms

from asecalc_ml.errors import AnalysisError
from asecalc_ml.runs.frames import Frames, chunk_starts
from asecalc_ml.runs.production import Production, production_by_options
from asecalc_ml.runs.reader import FormerAttributes

if TYPE_CHECKING:
    from pathlib import Path

    from MDAnalysis import Universe


@dataclass(frozen=True)
class MemoryRun(FormerAttributes):
    """What an analysis reads of a run, from arrays.

    Parameters
    ----------
    atoms : Atoms
        Starting structure, whose bonds count.
    positions : array, shape (n_frames, n_atoms, 3), Å
    frame_interval_fs : float
    thermo : dict of arrays, shape (n_points,)
        Columns of thermo.csv, such as ``time_fs`` and ``total_eV``.
    options, model_card, member_cards, events
        As the methods ``read_...`` of a :class:`~asecalc_ml.runs.RunReader` return them; ``member_cards`` are
        the cards of a committee's members.
    cells : array, shape (n_frames, 3, 3), Å, optional
        Cell of each frame where it changes.
    momenta : array, shape (n_frames, n_atoms, 3), ASE's unit, optional
    production : Production, optional
        What is conserved and which temperature and pressure were asked for; by default as ``options`` say.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
    >>> round(BondLengths().run(MemoryRun.from_frames([water, water], 1.0))["O-H"].average.mean, 3)
    0.969
    """

    atoms: Atoms
    positions: np.ndarray
    frame_interval_fs: float = 1.0
    thermo: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    model_card: Mapping[str, Any] | None = None
    member_cards: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    cells: np.ndarray | None = None
    momenta: np.ndarray | None = None
    production: Production = None  # type: ignore[assignment]  # __post_init__ sets it

    def __post_init__(self) -> None:
        if self.production is None:
            production = production_by_options(self.options, self.thermo)
            object.__setattr__(self, "production", production)

    parts: ClassVar[Sequence[Path]] = ()
    n_lost_frames: ClassVar[int] = 0

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms], frame_interval_fs: float, **others: Any) -> MemoryRun:
        """Take frames of the same atoms, the first as the starting structure.

        Raises
        ------
        AnalysisError
            If there are none, or one has other atoms than the first.
        """
        _check_atoms(frames)
        return cls(
            frames[0].copy(),
            np.array([atoms.positions for atoms in frames]),
            frame_interval_fs,
            cells=np.array([atoms.cell.array for atoms in frames]),
            momenta=_momenta(frames),
            **others,
        )

    @property
    def cell(self) -> np.ndarray:
        """Cell vectors as rows, shape (3, 3), Å."""
        return self.atoms.cell.array

    @property
    def pbc(self) -> np.ndarray:
        """Periodic directions, shape (3,)."""
        return self.atoms.pbc

    def reread(self) -> MemoryRun:
        """The same run: frames in memory do not grow."""
        return self

    def read_thermo(self) -> Mapping[str, np.ndarray]:
        """Columns of thermo.csv by name, shape (n_points,)."""
        return self.thermo

    def read_options(self) -> Mapping[str, Any]:
        """Options of the run."""
        return self.options

    def read_events(self) -> Sequence[Mapping[str, Any]]:
        """Events of the run, in order."""
        return self.events

    def read_model_card(self) -> Mapping[str, Any] | None:
        """Card of the model; None for a calculator without one."""
        return self.model_card

    def read_model_cards(self) -> Sequence[Mapping[str, Any]]:
        """Card of the model, or those of a committee's members."""
        return self.member_cards if self.model_card is None else [self.model_card]

    # Files that only a run directory has.

    def read_relaxation(self) -> Mapping[str, np.ndarray]:
        """No columns: frames in memory have no relaxation."""
        return {}

    def read_relaxed(self) -> None:
        """None: frames in memory have no relaxed structure."""

    def read_hessian(self) -> None:
        """None: frames in memory have no Hessian."""

    def read_scan(self) -> None:
        """None: frames in memory are no scan."""

    def read_scan_table(self) -> Mapping[str, np.ndarray]:
        """No columns: frames in memory are no scan."""
        return {}

    def read_transfer(self) -> None:
        """None: frames in memory are no transfer test."""

    def count_flagged(self) -> int:
        """0: frames in memory have no structures kept for labelling."""
        return 0

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    def frame_chunks(self, size: int | None = None) -> Iterator[Frames]:
        """Consecutive frames, at most ``size`` at once."""
        for start, n_frames in chunk_starts(len(self.positions), len(self.atoms), size):
            read = partial(self._read, slice(start, start + n_frames))
            yield Frames(start, n_frames, self.atoms.get_masses(), read)

    def universe(self) -> Universe:
        """The frames for MDAnalysis, see :func:`asecalc_ml.runs.universe.universe_of`."""
        from asecalc_ml.runs.universe import universe_of

        return universe_of(self)

    def _read(self, which: slice, quantity: str) -> np.ndarray | None:
        if quantity == "positions":
            return np.asarray(self.positions[which], dtype=float)
        if quantity == "cells" and self.cells is None:
            return np.broadcast_to(self.cell, (len(self.positions), 3, 3))[which]
        array = {"cells": self.cells, "momenta": self.momenta}.get(quantity)
        return None if array is None else np.asarray(array[which], dtype=float)


def _momenta(frames: Sequence[Atoms]) -> np.ndarray | None:
    """None where a frame has none, for which ASE says that its atoms are at rest."""
    if not all(atoms.has("momenta") for atoms in frames):
        return None
    return np.array([atoms.get_momenta() for atoms in frames])


def _check_atoms(frames: Sequence[Atoms]) -> None:
    if not frames:
        raise AnalysisError("no frames", name="frames", remedy="give at least one structure")
    for number, atoms in enumerate(frames):
        if not np.array_equal(atoms.numbers, frames[0].numbers):
            given, expected = (frame.get_chemical_formula() for frame in (atoms, frames[0]))
            raise AnalysisError(
                f"frame {number} has other atoms than the first, or another order ({given}, not {expected})",
                name=f"frame {number}",
                value=given,
                allowed=expected,
                remedy="analyse frames of different structures separately",
            )
