"""What a run has computed, kept so that a resumed run does not compute it a second time.

Relaxations, vibrations and scans are deterministic: begun again with the answers of the record, they come to
where they were killed without a calculation, and go on from there. So they need no state of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.batches.many import results_of_each
from asecalc_ml.calculators.results import Results
from asecalc_ml.errors import CalculationError, lacks_room
from asecalc_ml.runs import RunReader

if TYPE_CHECKING:
    from asecalc_ml.runs import RunWriter

Evaluation = dict[str, Any]  # energy (eV), forces (eV/Å), members; or error


class EvaluationRecord:
    """The evaluations of a run directory.

    Parameters
    ----------
    writer : RunWriter
    """

    def __init__(self, writer: RunWriter):
        self._writer = writer
        self._known: dict[tuple[str, bytes], Evaluation] = {}
        for evaluation in RunReader(writer.directory).read_evaluations():
            positions = np.array(evaluation["positions"], dtype=float)
            self._known[evaluation["calculator"], positions.tobytes()] = evaluation

    def find(self, label: str, atoms: Atoms) -> Evaluation | None:
        """What a calculator found at exactly these positions, if it was there."""
        return self._known.get((label, atoms.positions.tobytes()))

    def add(self, label: str, atoms: Atoms, evaluation: Evaluation) -> None:
        """Keep what a calculator found."""
        self._writer.evaluation({"calculator": label, "positions": atoms.positions.tolist(), **evaluation})
        self._known[label, atoms.positions.tobytes()] = evaluation


class Recorded(Calculator):
    """A calculator that computes what is not on record, and puts it there.

    Parameters
    ----------
    calculator : ase Calculator
    label : str
        Its name in the record.
    record : EvaluationRecord

    Notes
    -----
    ``results["members"]`` holds energy and forces of each member of a committee.

    Raises
    ------
    CalculationError
        At a structure where the calculator fails, or finds what is not finite; this is on record, too. A full
        disk or memory is no answer: it is raised as it is.
    """

    name: ClassVar[str] = "recorded"
    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, calculator: BaseCalculator, label: str, record: EvaluationRecord):
        super().__init__()
        self.calculator, self.label, self.record = calculator, label, record

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calculate_batch([self.atoms])
        evaluation = self.record.find(self.label, self.atoms)
        if "error" in evaluation:
            raise CalculationError(evaluation["error"])
        self.results = {
            "energy": evaluation["energy"],
            "free_energy": evaluation["energy"],
            "forces": np.array(evaluation["forces"]),
            "members": [(energy, np.array(forces)) for energy, forces in evaluation.get("members", [])],
        }

    def calculate_batch(self, structures: Sequence[Atoms]) -> None:
        """Put on record what the calculator finds at each of several structures.

        All are computed together unless all are on record: values depend on the batch in the last digits, and
        a run that was killed within a batch gets the same ones when it is resumed.
        """
        if all(self.record.find(self.label, atoms) for atoms in structures):
            return
        for atoms, results in zip(structures, results_of_each(self.calculator, structures), strict=True):
            evaluation = _evaluation(results)
            if self.record.find(self.label, atoms) is None:
                self.record.add(self.label, atoms, evaluation)


def _evaluation(results: Results | Exception) -> Evaluation:
    """What is kept of a calculation.

    Raises
    ------
    OSError, MemoryError
        If the calculation failed for lack of room.
    """
    if isinstance(results, OSError | MemoryError):
        raise results
    if isinstance(results, Exception):
        if lacks_room(results):  # torch's, a RuntimeError like those of structures that cannot be computed
            raise MemoryError(str(results)) from results
        return {"error": str(results) or type(results).__name__}
    energy, forces = float(results["energy"]), np.asarray(results["forces"])
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return {"error": "energy or forces are not finite"}
    evaluation = {"energy": energy, "forces": forces.tolist()}
    if "members" in results:
        evaluation["members"] = [
            [float(of_member["energy"]), np.asarray(of_member["forces"]).tolist()]
            for of_member in results["members"]
        ]
    return evaluation


__getattr__ = renamed(__name__, {"Record": "EvaluationRecord"})
