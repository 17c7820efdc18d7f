"""The state of a run, and its checkpoint: one file with everything that the rest of the run depends on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from asecalc_ml.calculators.protocol import offered
from asecalc_ml.errors import RunError
from asecalc_ml.files.reading import damage_named, parse_json, read_npz
from asecalc_ml.runs import CHECKPOINT, PREVIOUS_CHECKPOINT

SCHEMA = 3
CHECKSUM = "sha256"
REMEDY = (
    "The run cannot be resumed. Its trajectory can still be read; start it anew with --overwrite, or in "
    "another directory"
)
# attributes that JSON knows
PLAIN = (
    "linear", "stage", "step", "begun", "energy", "changed_bonds", "memory",
    "flagged_steps", "first_conserved", "produced",
)  # fmt: skip


@dataclass
class State:
    """Where a run stands.

    Attributes
    ----------
    atoms : Atoms
        With its calculator.
    rng : Generator
        Source of every random number.
    linear : bool
        Whether the relaxed structure is a linear molecule.
    stage, step : int
        Number of the stage, and steps done in it.
    begun : bool
        Whether the stage has begun, with its first row and frame written.
    forces : ndarray, shape (n_atoms, 3), eV/Å
        At these positions; they are kept, so that resuming computes nothing a second time.
    energy : float or None
        Potential energy in eV where it is known.
    changed_bonds : list
        Bonds broken and bonds formed, as last noted.
    memory : dict
        What the integrator of the stage remembers between steps, as of the last checkpoint.
    flagged_steps : list of int
        Steps of the frames that were kept for labelling.
    first_conserved : float or None
        Conserved energy in eV at the beginning, where something looks at its change.
    produced : int
        Steps of the productions before the present stage.
    """

    atoms: Atoms
    rng: np.random.Generator
    linear: bool = False
    stage: int = 0
    step: int = 0
    begun: bool = False
    forces: np.ndarray | None = None
    energy: float | None = None
    changed_bonds: list = field(default_factory=lambda: [[], []])
    memory: dict[str, Any] = field(default_factory=dict)
    flagged_steps: list[int] = field(default_factory=list)
    first_conserved: float | None = None
    produced: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    arrays: dict[str, np.ndarray]
    values: dict[str, Any]

    @property
    def marks(self) -> dict[str, dict]:
        """Where the growing files stood."""
        return self.values["marks"]

    @property
    def stage(self) -> int:
        """Number of the stage; that of all stages at the end of a run."""
        return self.values["stage"]

    def restore(self, state: State) -> None:
        """Put a state, made from the start structure, where the run stood.

        Raises
        ------
        RunError
            If it does not fit the structure or the calculator.
        """
        with damage_named(self.path, remedy=REMEDY):
            self._restore(state)

    def _restore(self, state: State) -> None:
        atoms = state.atoms
        atoms.set_cell(self.arrays["cell"], scale_atoms=False, apply_constraint=False)
        atoms.set_positions(self.arrays["positions"], apply_constraint=False)
        atoms.set_momenta(self.arrays["momenta"], apply_constraint=False)
        state.forces = self.arrays["forces"]
        state.rng.bit_generator.state = self.values["rng"]
        for name in PLAIN:
            setattr(state, name, self.values[name])
        for constraint, lengths in zip(_keeping_lengths(atoms), self.values["bond_lengths"], strict=True):
            constraint.bondlengths = None if lengths is None else np.array(lengths)
        if self.values["calculator"] is not None:
            offered(atoms.calc).restore_state(self.values["calculator"])


def _keeping_lengths(atoms: Atoms) -> list:
    """Constraints that take their bond lengths from the first positions they see, and do not write them."""
    return [constraint for constraint in atoms.constraints if hasattr(constraint, "bondlengths")]


def pack(state: State, marks: dict[str, dict]) -> bytes:
    """The bytes of a checkpoint file."""
    atoms, calculator = state.atoms, state.atoms.calc
    values = {name: getattr(state, name) for name in PLAIN} | {
        "schema": SCHEMA,
        "bond_lengths": [
            None if constraint.bondlengths is None else np.asarray(constraint.bondlengths).tolist()
            for constraint in _keeping_lengths(atoms)
        ],
        "rng": state.rng.bit_generator.state,
        "calculator": offered(calculator).checkpoint_state(),
        "marks": marks,
    }
    arrays = {
        "positions": atoms.positions,
        "momenta": atoms.get_momenta(),
        "cell": atoms.cell.array,
        "forces": np.asarray(state.forces),
    }
    values[CHECKSUM] = _checksum(arrays, json.loads(json.dumps(values)))
    content = io.BytesIO()
    np.savez(content, **arrays, values=np.array(json.dumps(values)))
    return content.getvalue()


def load(directory: Path, before_stage: int | None = None) -> tuple[Checkpoint | None, str | None]:
    """The newest checkpoint that can be read.

    Parameters
    ----------
    directory : Path
    before_stage : int, optional
        Only checkpoints of earlier stages; the number of stages leaves out that of a finished run.

    Returns
    -------
    checkpoint : Checkpoint or None
        None where none was ever written.
    problem : str or None
        What is wrong with the newest, where the one before it is taken.

    Raises
    ------
    RunError
        If there are checkpoints and none of them can be read.
    """
    damaged: list[RunError] = []
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        path = directory / name
        if path.is_file():
            try:
                checkpoint = _read(path)
            except RunError as error:
                damaged.append(error)
                continue
            if before_stage is None or checkpoint.stage < before_stage:
                return checkpoint, "; ".join(map(str, damaged)) or None
    if damaged:
        problem = f"{'; '.join(map(str, damaged))}."
        raise RunError(problem, name=damaged[0].name, value=damaged[0].value, remedy=f"{REMEDY}.")
    return None, None


def _read(path: Path) -> Checkpoint:
    arrays = read_npz(path)
    with damage_named(path):
        values = parse_json(str(arrays.pop("values")), path)
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']} is not the {SCHEMA} that this version reads")
        if values.pop(CHECKSUM, None) not in (None, _checksum(arrays, values)):  # older ones have none
            raise ValueError("its checksum differs")
        return Checkpoint(path, arrays, values)


def _checksum(arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
