"""Going on with a run that was interrupted, bit for bit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from asecalc_ml import plugins
from asecalc_ml.config import parse_options
from asecalc_ml.errors import RunError
from asecalc_ml.local_modules import search_also
from asecalc_ml.md_protocols import launch
from asecalc_ml.md_protocols.checkpoint import Checkpoint, State, load
from asecalc_ml.md_protocols.differences import other_calculator
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.progress import make_progress
from asecalc_ml.rundir import PROTOCOL, PROVENANCE, EventKind, RunReader, RunWriter, now
from asecalc_ml.sources import changed

#: Options that may be changed before a run goes on. The calculator is compared by what it is.
FREE = {
    "analyses", "calculator", "checkpoint_every", "directory", "distributions", "flag", "more_calculators",
    "reference", "steps", "stop", "structure", "threads", "wandb", "workers",
}  # fmt: skip


def resume_run(
    directory: str | Path, allow_different: bool = False, quiet: bool = False, calculator: Any = None
) -> RunReader:
    """Go on from the last checkpoint. On the same processor the trajectory comes out as if never interrupted.

    Parameters
    ----------
    directory : str or Path
        A run directory.
    allow_different : bool
        Go on although the model, a version or an option has changed since; it is noted in the run's events.
    quiet : bool
        Print nothing.
    calculator : ase Calculator, optional
        For a run whose calculator was passed in Python, and cannot be made from its name.

    Returns
    -------
    RunReader

    Raises
    ------
    RunError
        If there is no run, if its checkpoints are damaged, if model or versions have changed, or if another
        process is writing it.
    """
    run = RunReader(directory)
    if run.finished:
        text = f"{directory} finished at {run.provenance['finished']}: nothing is left to do"
        make_progress(quiet).say(text)
        return run
    search_also(*run.provenance.get("module_folders", []))
    options = _options(run)
    atoms = launch.prepare(_with_calculator(options, calculator, run), run.atoms, calculator)
    differences = _differences(run.provenance, options, atoms)
    if differences and not allow_different:
        raise RunError(_refusal(run, differences))
    with launch.threads(options):
        return _go_on(run, options, atoms, differences, quiet, allow_different)


def _options(run: RunReader) -> ProtocolOptions:
    model = plugins.get("protocols", run.options["protocol"])
    return parse_options(run.options, model, source=str(run.directory / PROTOCOL))


def _with_calculator(options: ProtocolOptions, calculator: Any, run: RunReader) -> ProtocolOptions:
    if calculator is None and options.calculator is None:
        name = run.provenance["calculator"]["name"]
        raise RunError(
            f"{run.directory}: its calculator ({name}) was passed in Python and cannot be made from its "
            f"name; use resume_run({str(run.directory)!r}, calculator=...)"
        )
    return options


def _go_on(
    run: RunReader,
    options: ProtocolOptions,
    atoms,
    differences: list[str],
    quiet: bool,
    allow_different: bool,
) -> RunReader:
    # the lock comes first: a run that still lives writes checkpoints while we read
    with contextlib.closing(RunWriter.open(run.directory)) as writer:
        state = restored(run, options, atoms, writer, differences)
        return launch.drive(options, state, writer, quiet, allow_different)


def restored(
    run: RunReader, options: ProtocolOptions, atoms, writer: RunWriter, differences: list[str]
) -> State:
    """The state of the last checkpoint, growing files cut back to it, and a note that the run goes on."""
    checkpoint, problem = load(run.directory)
    state = _state(options, atoms, checkpoint)
    writer.cut_back(checkpoint.marks if checkpoint else {})
    if problem:
        writer.event(EventKind.WARNING, f"{problem}; the one before it was taken")
    for difference in [*differences, *_other_processor(run.provenance)]:
        writer.event(EventKind.WARNING, f"resumed with {difference}")
    writer.event(EventKind.RESUMED, "resumed", stage=state.stage, step=state.step)
    writer.write_json(PROVENANCE, _resumed_provenance(run, options, state))
    return state


def _state(options: ProtocolOptions, atoms, checkpoint: Checkpoint | None) -> State:
    if checkpoint is None:  # killed before the first: begin again
        launch.announce(options, atoms)
        return launch.first_state(options, atoms)
    state = State(atoms, launch.generator(options))
    checkpoint.restore(state)
    return state


def _differences(provenance: dict, options: ProtocolOptions, atoms) -> list[str]:
    """What has changed since the run began and may change its trajectory."""
    here = launch.describe(atoms.calc)
    constraints = [type(one).__name__ for one in atoms.constraints]
    return [
        *changed({"constraints": provenance.get("constraints", constraints)}, {"constraints": constraints}),
        *other_calculator(provenance["calculator"], here),
        *changed(provenance["versions"], launch.versions(options, atoms.calc)),
        *changed(_fixed(provenance.get("options", {})), _fixed(options.model_dump(mode="json"))),
    ]


def _fixed(options: dict) -> dict:
    return {name: value for name, value in options.items() if name not in FREE}


def _other_processor(provenance: dict) -> list[str]:
    """Another processor may round otherwise. On a cluster one takes what one gets: noted, not refused."""
    before, here = provenance["machine"]["cpu"], launch.machine()["cpu"]
    return [] if before == here else [f"processor {here} instead of {before}: the trajectory may differ"]


def _refusal(run: RunReader, differences: list[str]) -> str:
    name = run.provenance["calculator"]["name"]
    return (
        f"{run.directory} (calculator {name}) would go on with {'; '.join(differences)}, and what it "
        "writes would not be that of one run. Bring back what it began with, or start a new run; "
        "--allow-different (allow_different=True in Python) goes on all the same."
    )


def _resumed_provenance(run: RunReader, options: ProtocolOptions, state: State) -> dict:
    """What the run rests on from here; machines and versions of each resumption are kept.

    What it states about its production holds from here on, what was stated before up to here: with other
    ``steps`` a ramp goes on along another line.
    """
    provenance, calculator = run.provenance, state.atoms.calc
    here = {"time": now(), "versions": launch.versions(options, calculator), "machine": launch.machine()}
    here["calculator"] = launch.describe(calculator)
    plan = options.plan()
    plan = replace(plan, production=run.production.continued(plan.production, _time_fs(options, state)))
    return provenance | plan.statement | {"resumed": [*provenance.get("resumed", []), here]}


def _time_fs(options: ProtocolOptions, state: State) -> float:
    """Time of the production at which a state stands."""
    stages = options.stages()
    producing = [stage for stage in stages if getattr(stage, "produced_steps", 0)]
    is_producing = any(stage in producing for stage in stages[state.stage : state.stage + 1])
    steps = state.produced + (state.step if is_producing else 0)
    return steps * producing[0].timestep_fs if producing else 0.0
