"""The stage that makes all runs of a transfer test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.md_protocols.transfer.helpers import helpers
from asecalc_ml.md_protocols.transfer.plan import TransferPlan, model_options, n_steps_of, reference_options
from asecalc_ml.md_protocols.transfer.runs import TransferRuns
from asecalc_ml.runs import FEWEST_REFERENCE_RUNS, FEWEST_RUNS, TRANSFER, EventKind, RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine
    from asecalc_ml.md_protocols.transfer.options import Transfer


@dataclass(frozen=True)
class TransferStage(Stage):
    """All runs. Killed, it goes on in those that were going on.

    Parameters
    ----------
    options : Transfer
    """

    options: Transfer
    name: ClassVar[str] = "transfer test"
    writes: ClassVar[tuple[str, ...]] = (TRANSFER,)

    @property
    def n_steps(self) -> int:  # type: ignore[override]  # computed here
        """Steps of all runs, as far as the options tell."""
        options = self.options
        numbers = {reference_options: options.reference_runs, model_options: options.runs}
        of_one = sum(n * n_steps_of(make(options, None, 0)) for make, n in numbers.items())
        return (1 + len(options.transfer_to)) * of_one

    def summary(self) -> str:
        """Its runs."""
        options = self.options
        names = ", ".join(str(name) for name in (options.structure, *options.transfer_to))
        return (
            f"{options.reference_runs} runs of the reference and {options.runs} of the model on each of "
            f"{names}, {options.steps * options.timestep_fs / 1000:g} ps each"
        )

    def run(self, engine: Engine) -> None:
        """Write transfer.json, then make every run that is not over."""
        plan = TransferPlan.of(self.options, engine.atoms)
        _write_plan(engine, plan)
        self._warn_of_few(engine)
        runs = TransferRuns(engine, plan)
        n_helpers = self._n_helpers(engine, runs.n_left)
        with helpers(engine.directory, n_helpers, self.options.threads):
            early = runs.make(has_helpers=n_helpers > 0)
        engine.progress.stage = self.name
        _conclude(engine, plan, early)

    def _n_helpers(self, engine: Engine, n_left: int) -> int:
        if self.options.workers > 1 and not engine.writer.keeps_others_out:
            engine.note(
                EventKind.WARNING,
                "this file system has no locks, which keep two processes from making the same run: one "
                "process makes them all",
            )
            return 0
        return max(0, min(self.options.workers, n_left) - 1)

    def _warn_of_few(self, engine: Engine) -> None:
        given = (
            ("runs", self.options.runs, FEWEST_RUNS),
            ("reference_runs", self.options.reference_runs, FEWEST_REFERENCE_RUNS),
        )
        for name, number, fewest in given:
            if number < fewest:
                engine.note(
                    EventKind.WARNING,
                    f"{name} is {number}, and a verdict needs {fewest}: its outcome will be 'undecided'. Set "
                    f"{name}: {fewest} or more",
                )


def _write_plan(engine: Engine, plan: TransferPlan) -> None:
    """Write transfer.json; a resumed test refuses a reference that has changed."""
    before, now = RunReader(engine.directory).read_transfer(), plan.describe()
    if before is not None:
        new = now["reference"]
        engine.check_same(f"the reference {new['name']}", before["reference"], new)
    engine.writer.write_json(TRANSFER, now)


def _conclude(engine: Engine, plan: TransferPlan, early: list[str]) -> None:
    names = ", ".join(molecule.name for molecule in plan.molecules)
    text = f"{len(plan.parts)} runs of {names}"
    text += f"; {len(early)} ended early: {', '.join(early)}" if early else ""
    engine.note(EventKind.FINISHED, text)
    engine.progress.say(text)
