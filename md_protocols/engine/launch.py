"""Begins a run, and carries it to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily
from asecalc_ml.errors import RunError, continued_by
from asecalc_ml.md_protocols.engine.engine import Engine
from asecalc_ml.md_protocols.engine.preparation import announce, examined, first_state
from asecalc_ml.md_protocols.engine.process import threads
from asecalc_ml.md_protocols.engine.provenance import write_beginning
from asecalc_ml.model.compile.no_compiling import without_compiling
from asecalc_ml.runs import PROVENANCE, TRAJECTORY_SUFFIXES, EventKind, RunReader, RunWriter, now
from asecalc_ml.runs.trajectories import lost_constraints
from asecalc_ml.terminal.progress import Progress, make_progress
from asecalc_ml.terminal.signals import ending_on_sigterm
from asecalc_ml.tracking.trackers import Trackers

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.options import ProtocolOptions

FORMATS_THAT_KEEP = (
    "trajectory_format {} does not keep these constraints: structures read from the trajectory lack them. "
    "Formats traj and h5md keep them"
)


def start_run(
    options: ProtocolOptions, atoms: Atoms | None, directory: str | Path | None, overwrite: bool, quiet: bool
) -> RunReader:
    """Run a protocol from its beginning; see :meth:`ProtocolOptions.run`."""
    directory = directory_of(options, directory)
    options, atoms = examined(options, atoms, directory, overwrite)
    with threads(options):
        announce(options, atoms)
        state = first_state(options, atoms)
        writer = RunWriter.create(directory, overwrite, options.frame_format)
        with contextlib.closing(writer):
            write_beginning(options.model_copy(update={"directory": str(directory)}), state, writer)
            _warn_of_lost_constraints(options, atoms, writer)
            return drive(options, state, writer, quiet)


def check_run(
    options: ProtocolOptions, atoms: Atoms | None, directory: str | Path | None, overwrite: bool
) -> Atoms:
    """Do what :func:`start_run` does before its first step; see :meth:`ProtocolOptions.check`."""
    with without_compiling():
        options, atoms = examined(options, atoms, directory_of(options, directory), overwrite)
        with threads(options):
            first_state(options, atoms)
    return atoms


def directory_of(options: ProtocolOptions, directory: str | Path | None) -> Path:
    """The run directory: the one given, else that of the options, else one of a name that tells."""
    return Path(directory or options.directory or options.default_directory())


def _warn_of_lost_constraints(options: ProtocolOptions, atoms: Atoms, writer: RunWriter) -> None:
    """Name the constraints that the trajectory, or every file, does not keep."""
    everywhere = lost_constraints(atoms, ".traj")
    there = lost_constraints(atoms, TRAJECTORY_SUFFIXES[options.frame_format])
    only_there = [name for name in there if name not in everywhere]
    for names, text in (
        (everywhere, "no file keeps these constraints: the run cannot be resumed with them"),
        (only_there, FORMATS_THAT_KEEP.format(options.frame_format)),
    ):
        if names:
            message = f"{', '.join(sorted(set(names)))}: {text}"
            writer.event(EventKind.WARNING, message)
            Progress().warn(message)


def drive(
    options: ProtocolOptions, state: State, writer: RunWriter, quiet: bool, allow_different: bool = False
) -> RunReader:
    """Run all stages that are left, and note the end."""
    progress = make_progress(quiet)
    try:
        engine = Engine(options, state, writer, progress, allow_different)
        with _continued(writer), ending_on_sigterm(engine), _tracked(options, writer):
            engine.run(options.checked_stages())
    except KeyboardInterrupt:
        with contextlib.suppress(RunError):  # a full disk; that it was interrupted is known then all the same
            writer.event(EventKind.INTERRUPTED, "interrupted", stage=state.stage, step=state.step)
        raise
    finally:
        progress.close()
    return finish(writer)


def _continued(writer: RunWriter) -> contextlib.AbstractContextManager[None]:
    """Note how a run continues that is interrupted."""
    return continued_by(lambda: f"Continue the run with `asecalc-md resume {writer.directory}`.")


@contextlib.contextmanager
def _tracked(options: ProtocolOptions, writer: RunWriter) -> Iterator[None]:
    began = RunReader(writer.directory).read_provenance()["started"]
    config = options.model_dump(mode="json")
    trackers = Trackers(options.tracking)
    with trackers.start(writer.directory, began=began, config=config) as writer.tracker:
        yield


def finish(writer: RunWriter) -> RunReader:
    """Note that a run came to its planned end."""
    run = RunReader(writer.directory)
    writer.write_json(PROVENANCE, run.read_provenance() | {"finished": now()})
    return run.reread()


# names of this module in version 0.1.0
__getattr__ = lazily(
    __name__,
    dict.fromkeys(("check_analyses", "generator", "prepare"), "asecalc_ml.md_protocols.engine.preparation")
    | dict.fromkeys(
        ("describe", "machine", "provenance", "versions"), "asecalc_ml.md_protocols.engine.provenance"
    ),
)
