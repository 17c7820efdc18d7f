"""Makes the runs of a transfer test, alone or beside processes that help."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from asecalc_ml.errors import CalculationError, RunBusyError, StructureError
from asecalc_ml.md_protocols.engine.process import threads
from asecalc_ml.md_protocols.transfer.part import carry_on
from asecalc_ml.md_protocols.transfer.plan import n_steps_of
from asecalc_ml.runs import PROTOCOL, EventKind, RunReader, RunWriter
from asecalc_ml.structure.rigid_motions import is_linear

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.transfer.part import Whole
    from asecalc_ml.md_protocols.transfer.plan import PartPlan, TransferPlan

LOOK_EVERY_S = 0.5  # at runs that other processes make


class TransferRuns:
    """The runs of a test, each of which one process makes: the first to lock its directory.

    Parameters
    ----------
    whole : Whole
    plan : TransferPlan
    """

    def __init__(self, whole: Whole, plan: TransferPlan):
        self._whole, self._plan = whole, plan
        self._problems: dict[str, str | None] = {}  # of runs that are over or cannot be made, by name

    @property
    def n_left(self) -> int:
        """Runs that are not over."""
        return sum(not self._is_over(part.name) for part in self._plan.parts)

    def make(self, has_helpers: bool) -> list[str]:
        """Make what is left; names of the runs that did not come to their planned end.

        Parameters
        ----------
        has_helpers : bool
            Whether other processes make some; otherwise nobody else may be at one.

        Raises
        ------
        RunBusyError
            If another process is at a run, and nobody helps.
        """
        left = self._plan.parts
        while left:
            others = [part for part in left if not self._settle(part, has_helpers)]
            if len(others) == len(left):
                self._wait_for(others[0])
            left = others
        return [name for name, problem in self._problems.items() if problem is not None]

    def _wait_for(self, part: PartPlan) -> None:
        """Nothing can be made here before another process has made a run."""
        self._whole.progress.stage = f"transfer test, waiting for {part.name}"
        self._whole.state.step = self._n_made()
        time.sleep(LOOK_EVERY_S)

    def _settle(self, part: PartPlan, has_helpers: bool) -> bool:
        """Make a run unless it is over; False while another process is at it, or at where it starts."""
        self._whole.pause_if_asked()
        if part.start is not None and part.start not in self._problems:
            return False
        try:
            problem = self._problem(part)
        except RunBusyError:
            if has_helpers:
                return False
            raise
        self._problems[part.name] = problem
        self._whole.progress.update(self._n_made())
        if problem is not None:
            self._whole.note(EventKind.WARNING, f"{part.name} {problem}; the test goes on")
        return True

    def _n_made(self) -> int:
        """Steps of all runs that are over or cannot be made."""
        return sum(
            n_steps_of(part.options)
            for part in self._plan.parts
            if part.name in self._problems or self._is_over(part.name)
        )

    def _problem(self, part: PartPlan) -> str | None:
        """Make a run unless it is over; what kept it from its planned end."""
        problem = None if self._is_over(part.name) else self._carry_on(part)
        directory = self._whole.directory / part.name
        if problem is None and (reason := RunReader(directory).ended_early) is not None:
            problem = f"ended early: {reason}"
        return problem

    def _carry_on(self, part: PartPlan) -> str | None:
        """Begin a run or go on with it; what kept it from beginning."""
        start = self._start(part)
        if start is None:
            return f"has no start, since {part.start} ended before its production"
        atoms, linear = start
        directory = self._whole.directory / part.name
        with contextlib.closing(RunWriter.claim(directory, part.options.frame_format)) as writer:
            if self._is_over(part.name):  # another process has just made it
                return None
            try:
                atoms.calc = self._plan.make_reference() if part.start is None else self._plan.make_model()
                with threads(part.options):
                    carry_on(self._whole, part.name, self._n_made(), part.options, atoms, linear, writer)
            except (StructureError, CalculationError) as error:
                return f"could not start: {error}"
        return None

    def _start(self, part: PartPlan) -> tuple[Atoms, bool | None] | None:
        """Structure, and whether it is linear where that is known; None where the reference has none."""
        atoms = part.molecule.atoms.copy()
        if part.start is None:
            return atoms, None
        directory = self._whole.directory / part.start
        if not (directory / PROTOCOL).is_file():
            return None
        reference = RunReader(directory)
        first = next(reference.frames(), None)
        if first is None:
            return None
        atoms.set_cell(first.cell)
        atoms.set_positions(first.positions, apply_constraint=False)
        atoms.set_momenta(first.get_momenta(), apply_constraint=False)
        return atoms, is_linear(reference.read_relaxed() or reference.atoms)

    def _is_over(self, name: str) -> bool:
        directory = self._whole.directory / name
        run = RunReader(directory) if (directory / PROTOCOL).is_file() else None
        return run is not None and (run.finished or run.ended_early is not None)
