"""Resumes a run that was interrupted, bit for bit."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from asecalc_ml import plugins
from asecalc_ml.config.nested_options import put_all
from asecalc_ml.config.options import dump_yaml, parse_options
from asecalc_ml.errors import RunError
from asecalc_ml.local_modules import search_also
from asecalc_ml.md_protocols.engine import launch, preparation
from asecalc_ml.md_protocols.engine.checkpoint import Checkpoint, State, load
from asecalc_ml.md_protocols.engine.differences import (
    differences_of,
    more_steps,
    options_before,
    options_begun_with,
    options_of_finished,
    other_processor,
)
from asecalc_ml.md_protocols.engine.process import threads
from asecalc_ml.md_protocols.engine.provenance import describe, machine, versions
from asecalc_ml.md_protocols.integrators import thermostat_choice
from asecalc_ml.runs import PROTOCOL, PROVENANCE, EventKind, RunReader, RunWriter, now, trajectory_of
from asecalc_ml.sources import changed
from asecalc_ml.terminal.progress import make_progress

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions

FROM_THE_END = (
    "A new run begins at its last frame with structure: {directory}/{trajectory}@-1, velocities: structure, "
    "relax: false, equilibration_ps: 0"
)


def resume_run(
    directory: str | Path,
    allow_different: bool = False,
    quiet: bool = False,
    calculator: Any = None,
    changes: Mapping[str, Any] | None = None,
) -> RunReader:
    """Go on from the last checkpoint. On the same processor the trajectory comes out as if never interrupted.

    A finished run whose ``steps`` have been raised goes on to that number, and comes out as one run of all
    these steps.

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
    changes : mapping, optional
        Options that replace those in protocol.yaml, such as ``{"steps": 40000, "stop.wall_time_h": 2}``.

    Returns
    -------
    RunReader

    Raises
    ------
    RunError
        If there is no run, if its checkpoints are damaged, if model, versions or options have changed, if it
        cannot have more steps, or if another process is writing it.
    """
    run = RunReader(directory)
    data = copy.deepcopy(run.read_options())
    put_all(data, changes or {}, str(directory))
    if run.finished and not changed(options_of_finished(options_before(run)), options_of_finished(data)):
        return _nothing_left(run, data, quiet)
    search_also(*run.read_provenance().get("module_folders", []))
    options = _options(run, data)
    _check_finished(run, options)
    atoms = preparation.prepare(_with_calculator(options, calculator, run), run.atoms, calculator)
    differences = differences_of(run, options, atoms)
    if differences and not allow_different:
        raise _refusal(run, differences)
    options = thermostat_choice.of_begun_run(options)
    with threads(options):
        return _go_on(run, options, atoms, differences, quiet, allow_different)


def _nothing_left(run: RunReader, data: dict[str, Any], quiet: bool) -> RunReader:
    if data != run.read_options():  # such as its analyses
        with contextlib.closing(RunWriter.open(run.directory)) as writer:
            _store(_options(run, data), writer)
    text = f"{run.directory} finished at {run.read_provenance()['finished']}: nothing is left to do"
    make_progress(quiet).say(text)
    return run.reread()


def _store(options: ProtocolOptions, writer: RunWriter) -> None:
    writer.write(PROTOCOL, dump_yaml(options), sync=True)


def _check_finished(run: RunReader, options: ProtocolOptions) -> None:
    """Refuse other options of a finished run than more steps."""
    if run.finished and more_steps(run, options) <= 0:
        given = options_of_finished(options.model_dump(mode="json"))
        different = changed(options_of_finished(options_before(run)), given)
        raise RunError(
            f"{run.directory} is finished, and cannot have {'; '.join(different)} any more",
            name=str(run.directory),
            value=different,
            remedy=f"bring back what it began with, or start a new run. {_from_the_end(run)}".rstrip(),
        )


def _from_the_end(run: RunReader) -> str:
    trajectory = trajectory_of(run.directory)
    is_dynamics = run.read_provenance()["frame_interval_fs"] is not None
    return FROM_THE_END.format(directory=run.directory, trajectory=trajectory.name) if is_dynamics else ""


def _options(run: RunReader, data: dict[str, Any]) -> ProtocolOptions:
    model = plugins.get("protocols", data["protocol"])
    if "steps" in data and "steps" not in model.model_fields:
        why = parse_options(run.read_options(), model).why_not_longer
        raise RunError(
            f"{run.directory} cannot have more steps: {why}.",
            name="steps",
            value=data["steps"],
            remedy=_from_the_end(run) or None,
        )
    return parse_options(data, model, source=str(run.directory / PROTOCOL))


def _with_calculator(options: ProtocolOptions, calculator: Any, run: RunReader) -> ProtocolOptions:
    if calculator is None and options.calculator is None:
        name = run.read_provenance()["calculator"]["name"]
        raise RunError(
            f"{run.directory}: its calculator ({name}) was passed in Python and cannot be made from its "
            "name;",
            name="calculator",
            value=name,
            remedy=f"use resume_run({str(run.directory)!r}, calculator=...)",
        )
    return options


def _go_on(
    run: RunReader,
    options: ProtocolOptions,
    atoms: Atoms,
    differences: list[str],
    quiet: bool,
    allow_different: bool,
) -> RunReader:
    # the lock comes first: a run that still lives writes checkpoints while we read
    with contextlib.closing(RunWriter.open(run.directory)) as writer:
        state = restored(run.reread(), options, atoms, writer, differences)
        return launch.drive(options, state, writer, quiet, allow_different)


def restored(
    run: RunReader, options: ProtocolOptions, atoms: Atoms, writer: RunWriter, differences: list[str]
) -> State:
    """The state of the last checkpoint, growing files cut back to it, and a note that the run goes on."""
    checkpoint, problem = load(run.directory)
    n_stages = len(options.stages())
    was_over = more_steps(run, options) > 0 and checkpoint is not None and checkpoint.stage >= n_stages
    if was_over:
        checkpoint, problem = load(run.directory, before_stage=n_stages)
    state = _state(options, atoms, checkpoint)
    _check_not_beyond(run, options, state)
    if run.read_options() != options.model_dump(mode="json"):
        _store(options, writer)
    if was_over:
        writer.drop_checkpoint()
    writer.cut_back(checkpoint.marks if checkpoint else {})
    if problem:
        writer.event(EventKind.WARNING, f"{problem}; the one before it was taken")
    for difference in [*differences, *other_processor(run.read_provenance())]:
        writer.event(EventKind.WARNING, f"resumed with {difference}")
    more = f" with {more_steps(run, options):+} steps" if more_steps(run, options) else ""
    writer.event(EventKind.RESUMED, f"resumed{more}", stage=state.stage, step=state.step)
    writer.write_json(PROVENANCE, _resumed_provenance(run, options, state))
    return state


def _state(options: ProtocolOptions, atoms: Atoms, checkpoint: Checkpoint | None) -> State:
    if checkpoint is None:  # killed before the first: begin again
        preparation.announce(options, atoms)
        return preparation.first_state(options, atoms)
    state = State(atoms, preparation.generator(options))
    checkpoint.restore(state)
    return state


def _check_not_beyond(run: RunReader, options: ProtocolOptions, state: State) -> None:
    done = state.produced + (state.step if state.stage == len(options.stages()) - 1 else 0)
    if more_steps(run, options) < 0 and done > options.steps:
        raise RunError(
            f"{run.directory} has made {done} steps already: {options.steps} are too few",
            name="steps",
            value=options.steps,
            allowed=f"{done} or more",
        )


def _refusal(run: RunReader, differences: list[str]) -> RunError:
    name = run.read_provenance()["calculator"]["name"]
    remedy = (
        "Bring back what it began with, or start a new run; --allow-different (allow_different=True in "
        f"Python) goes on all the same. {_from_the_end(run)}"
    )
    return RunError(
        f"{run.directory} (calculator {name}) would go on with {'; '.join(differences)}, and what it writes "
        "would not be that of one run.",
        name=str(run.directory),
        value=differences,
        remedy=remedy.rstrip(),
    )


def _resumed_provenance(run: RunReader, options: ProtocolOptions, state: State) -> dict:
    """What the run rests on from here; machines and versions of each resumption are kept.

    What it states about its production holds from here on, what was stated before up to here: with other
    ``steps`` a ramp goes on along another line.
    """
    provenance, calculator = dict(run.read_provenance()), state.atoms.calc
    here = {"time": now(), "versions": versions(options, calculator), "machine": machine()}
    here["calculator"] = describe(calculator)
    plan = options.plan()
    plan = replace(plan, production=run.production.continued(plan.production, _time_fs(options, state)))
    begun_with = options_begun_with(run)
    if more_steps(run, options):
        provenance["finished"] = None
        begun_with["steps"] = options.steps
    provenance["options"] = begun_with
    return provenance | plan.statement | {"resumed": [*provenance.get("resumed", []), here]}


def _time_fs(options: ProtocolOptions, state: State) -> float:
    """Time of the production at which a state stands."""
    stages = options.checked_stages()
    producing = [stage for stage in stages if getattr(stage, "produced_steps", 0)]
    is_producing = any(stage in producing for stage in stages[state.stage : state.stage + 1])
    steps = state.produced + (state.step if is_producing else 0)
    return steps * producing[0].timestep_fs if producing else 0.0
