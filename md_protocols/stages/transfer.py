"""The stage that makes all runs of a transfer test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from asecalc_ml.errors import CalculationError, StructureError
from asecalc_ml.linear import is_linear
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.md_protocols.transfer_part import carry_on
from asecalc_ml.md_protocols.transfer_plan import PartPlan, Plan, model_options, n_steps_of, reference_options
from asecalc_ml.rundir import (
    FEWEST_REFERENCE_RUNS,
    FEWEST_RUNS,
    PROTOCOL,
    TRANSFER,
    EventKind,
    RunReader,
)

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine import Engine
    from asecalc_ml.md_protocols.transfer import Transfer


@dataclass(frozen=True)
class TransferStage(Stage):
    """All runs, one after the other. Killed, it goes on in the run that was going on.

    Parameters
    ----------
    options : Transfer
    """

    options: Transfer
    name: ClassVar[str] = "transfer test"

    @property
    def n_steps(self) -> int:  # type: ignore[override]
        """Steps of all runs, as far as the options tell."""
        options = self.options
        numbers = {reference_options: options.reference_runs, model_options: options.runs}
        of_one = sum(n * n_steps_of(make(options, None, 0)) for make, n in numbers.items())
        return (1 + len(options.transfer_to)) * of_one

    def run(self, engine: Engine) -> None:
        """Write transfer.json, then make every run that is not over."""
        plan = Plan.of(self.options, engine.atoms)
        _write_plan(engine, plan)
        self._warn_of_few(engine)
        n_before, early = 0, []
        for part in plan.parts:
            engine.pause_if_asked()
            if not self._make(engine, plan, part, n_before):
                early.append(part.name)
            n_before += n_steps_of(part.options)
            engine.progress.update(n_before)
        _conclude(engine, plan, early)

    def _warn_of_few(self, engine: Engine) -> None:
        given = (
            ("runs", self.options.runs, FEWEST_RUNS),
            ("reference_runs", self.options.reference_runs, FEWEST_REFERENCE_RUNS),
        )
        for name, number, fewest in given:
            if number < fewest:
                engine.note(
                    EventKind.WARNING,
                    f"{name} is {number}, and a verdict needs {fewest}: the test will say 'not decided'. Set "
                    f"{name}: {fewest} or more",
                )

    def _make(self, engine: Engine, plan: Plan, part: PartPlan, n_before: int) -> bool:
        """Make a run unless it is over; whether it came to its planned end."""
        directory = engine.writer.directory / part.name
        problem = None if _is_over(directory) else self._carry_on(engine, plan, part, n_before)
        if problem is None and (reason := RunReader(directory).ended_early) is not None:
            problem = f"ended early: {reason}"
        if problem is not None:
            engine.note(EventKind.WARNING, f"{part.name} {problem}; the test goes on")
        return problem is None

    def _carry_on(self, engine: Engine, plan: Plan, part: PartPlan, n_before: int) -> str | None:
        """Begin a run or go on with it; what kept it from beginning."""
        atoms, linear = part.molecule.atoms.copy(), None
        if part.start is not None:
            reference = _begun(engine.writer.directory / part.start)
            first = next(reference.frames(), None) if reference else None
            if first is None:
                return f"has no start, since {part.start} ended before its production"
            linear = is_linear(reference.relaxed or reference.atoms)
            atoms.set_cell(first.cell)
            atoms.set_positions(first.positions, apply_constraint=False)
            atoms.set_momenta(first.get_momenta(), apply_constraint=False)
        atoms.calc = plan.make_reference() if part.start is None else plan.make_model()
        try:
            carry_on(engine, part.name, n_before, part.options, atoms, linear)
        except (StructureError, CalculationError) as error:
            return f"could not start: {error}"
        return None


def _begun(directory: Path) -> RunReader | None:
    return RunReader(directory) if (directory / PROTOCOL).is_file() else None


def _is_over(directory: Path) -> bool:
    run = _begun(directory)
    return run is not None and (run.finished or run.ended_early is not None)


def _write_plan(engine: Engine, plan: Plan) -> None:
    """Write transfer.json; a resumed test refuses a reference that has changed."""
    before, now = RunReader(engine.writer.directory).transfer, plan.describe()
    if before is not None:
        new = now["reference"]
        engine.check_same(f"the reference {new['name']}", before["reference"], new)
    engine.writer.write_json(TRANSFER, now)


def _conclude(engine: Engine, plan: Plan, early: list[str]) -> None:
    names = ", ".join(molecule.name for molecule in plan.molecules)
    text = f"{len(plan.parts)} runs of {names}"
    text += f"; {len(early)} ended early: {', '.join(early)}" if early else ""
    engine.note(EventKind.FINISHED, text)
    engine.progress.say(text)
