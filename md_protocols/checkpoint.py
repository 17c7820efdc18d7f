"""The last good state of a run, in one file that is replaced at once."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from asecalc_ml.errors import RunError
from asecalc_ml.model_file import write_whole


@dataclass(frozen=True)
class Checkpoint:
    """A state of production.

    Parameters
    ----------
    step : int
        Steps of production done.
    positions, momenta : array, shape (n_atoms, 3)
        In float64, bit for bit.
    cell : array, shape (3, 3)
    calculator : dict or None
        What the calculator wants to be given back.
    """

    step: int
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    calculator: dict | None

    @classmethod
    def of(cls, atoms: Atoms, step: int) -> Checkpoint:
        """The state of atoms and of their calculator."""
        state = getattr(atoms.calc, "checkpoint_state", lambda: None)()
        return cls(step, atoms.get_positions(), atoms.get_momenta(), atoms.cell.array, state)

    def restore(self, atoms: Atoms) -> None:
        """Put the state back."""
        atoms.set_cell(self.cell)
        atoms.positions[:] = self.positions
        atoms.set_momenta(self.momenta, apply_constraint=False)
        if self.calculator is not None and hasattr(atoms.calc, "restore_state"):
            atoms.calc.restore_state(self.calculator)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        content = io.BytesIO()
        about = json.dumps({"step": self.step, "calculator": self.calculator})
        np.savez(content, positions=self.positions, momenta=self.momenta, cell=self.cell, about=about)
        write_whole(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        RunError
            If the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                arrays = {name: file[name] for name in ("positions", "momenta", "cell")}
            return cls(step=about["step"], calculator=about["calculator"], **arrays)
        except Exception as error:  # zipfile, numpy and json each raise their own
            raise RunError(
                f"the checkpoint {path} cannot be read ({error}); remove it, and `asecalc-md resume` starts the run "
                "over from its first step, with the same result"
            ) from error
