"""The stage that computes second derivatives of the energy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from asecalc_ml.calculators.batches.many import batches
from asecalc_ml.calculators.protocol import offers
from asecalc_ml.errors import CalculationError
from asecalc_ml.md_protocols.engine.record import EvaluationRecord, Recorded
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.runs import HESSIAN, EventKind

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine

LABEL = "displacements"
AUTOGRAD, DIFFERENCES = "autograd", "finite-differences"


@dataclass(frozen=True)
class Hessian(Stage):
    """Second derivatives with respect to the positions of all atoms that no constraint holds.

    By finite differences, H = -(F(+h) - F(-h)) / 2h column by column, and the mean of H and its transpose.
    Killed, it goes on with the next displacement, or the next batch of displacements where the calculator
    computes them together.

    Parameters
    ----------
    method : {"auto", "autograd", "finite-differences"}
        "auto" takes autograd where the calculator has it.
    displacement_A : float
        h of finite differences.
    fmax_eV_A : float
        Largest force of a minimum.
    """

    method: Literal["auto", "autograd", "finite-differences"]
    displacement_A: float
    fmax_eV_A: float
    name: ClassVar[str] = "Hessian"
    n_steps: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = (HESSIAN,)

    def summary(self) -> str:
        """The method."""
        return {"auto": "by autograd where the calculator offers it"}.get(self.method, f"by {self.method}")

    def run(self, engine: Engine) -> None:
        """Compute, write, and warn where the structure is no minimum."""
        atoms = engine.atoms
        free = free_atoms(atoms)
        largest = self._check_minimum(engine, free)
        try:
            hessian, method = self._compute(engine, free)
        except (CalculationError, PropertyNotImplementedError) as error:
            engine.stop(f"no Hessian: {error}", error)
        arrays = {
            "hessian": hessian,
            "free": free,
            "positions": atoms.positions,
            "numbers": atoms.numbers,
            "masses": atoms.get_masses(),
            "pbc": atoms.pbc,
            "linear": np.array(engine.state.linear),
            "largest_force": np.array(largest),
            "method": np.array(method),
        }
        engine.writer.write(HESSIAN, _packed(arrays))
        text = f"second derivatives for {len(free)} atoms by {method.replace('-', ' ')}"
        engine.note(EventKind.FINISHED, text)
        engine.progress.say(text)

    def _check_minimum(self, engine: Engine, free: np.ndarray) -> float:
        largest = float(np.linalg.norm(engine.state.forces[free], axis=1).max())
        if largest > self.fmax_eV_A:
            engine.note(
                EventKind.WARNING,
                f"the structure is no minimum: its largest force is {largest:.4g} eV/Å, beyond "
                f"{self.fmax_eV_A:g}. Its frequencies mean little; relax: true, or more relax_steps, helps",
            )
        return largest

    def _compute(self, engine: Engine, free: np.ndarray) -> tuple[np.ndarray, str]:
        calculator = engine.atoms.calc
        if self.method != DIFFERENCES and offers(calculator, "get_hessian"):
            try:
                full = calculator.get_hessian(engine.atoms)
                engine.progress.update(self.n_steps)
                return _symmetric(_part(full, free)), AUTOGRAD
            except PropertyNotImplementedError:
                if self.method == AUTOGRAD:
                    raise
        if self.method == AUTOGRAD:
            raise PropertyNotImplementedError(
                f"{type(calculator).__name__} offers none by autograd: use hessian: finite-differences"
            )
        return self._differences(engine, free), DIFFERENCES

    def _differences(self, engine: Engine, free: np.ndarray) -> np.ndarray:
        calculator = Recorded(engine.atoms.calc, LABEL, EvaluationRecord(engine.writer))
        rows: list[np.ndarray] = []
        coordinates = [(i, axis) for i in free for axis in range(3)]
        engine.progress.start(LABEL, len(coordinates), unit="coordinates")
        for batch in batches(calculator.calculator, coordinates, lambda _: 2 * len(engine.atoms)):
            # forward and backward for each coordinate of the batch
            displaced = [self._displaced(engine.atoms, *coordinate) for coordinate in batch]
            calculator.calculate_batch([atoms for pair in displaced for atoms in pair])
            for pair in displaced:
                # H_ij = -(F_j(+h) - F_j(-h)) / 2h, row i of the displaced coordinate
                forward, backward = (calculator.get_property("forces", atoms)[free] for atoms in pair)
                rows.append((backward - forward).ravel() / (2 * self.displacement_A))
                engine.progress.update(len(rows))
                engine.pause_if_asked()
        return _symmetric(np.array(rows))

    def _displaced(self, atoms: Atoms, i: int, axis: int) -> list[Atoms]:
        """Copies with a coordinate moved forward, and backward."""
        pair = []
        for sign in (1, -1):
            copy = atoms.copy()
            copy.set_constraint()
            copy.positions[i, axis] += sign * self.displacement_A
            pair.append(copy)
        return pair


def free_atoms(atoms: Atoms) -> np.ndarray:
    """Numbers of the atoms that no FixAtoms holds, shape (n_free,)."""
    held = {int(i) for constraint in atoms.constraints for i in constraint.get_indices()}
    return np.array([i for i in range(len(atoms)) if i not in held])


def _part(hessian: np.ndarray, free: np.ndarray) -> np.ndarray:
    rows = (3 * free[:, None] + np.arange(3)).ravel()
    return hessian[np.ix_(rows, rows)]


def _symmetric(hessian: np.ndarray) -> np.ndarray:
    return (hessian + hessian.T) / 2


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()
