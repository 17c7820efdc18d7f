"""One command for the first start of a run and for every restart, as jobs of queueing systems need it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.engine import launch
from asecalc_ml.md_protocols.engine.differences import FREE, other_run, other_structure
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.runs import PROTOCOL, RunReader
from asecalc_ml.structure.loading import load_structure

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.options import ProtocolOptions

#: Options that a run does not take over from the command that continues it.
KEPT = {"directory", "structure"}


def resume_or_start(
    options: ProtocolOptions, atoms: Atoms | None, directory: str | Path | None, quiet: bool
) -> RunReader:
    """Continue the run in the directory, or start it there; see :meth:`ProtocolOptions.run`."""
    directory = launch.directory_of(options, directory)
    if not (directory / PROTOCOL).is_file():
        return launch.start_run(options, atoms, directory, overwrite=False, quiet=quiet)
    run = RunReader(directory)
    _check_same(run, options, atoms)
    own = atoms.calc if atoms is not None and options.calculator is None else None
    changes = {
        name: value
        for name, value in options.model_dump(mode="json").items()
        if name in FREE - KEPT or name == "steps"
    }
    return resume_run(directory, quiet=quiet, calculator=own, changes=changes)


def _check_same(run: RunReader, options: ProtocolOptions, atoms: Atoms | None) -> None:
    """Refuse to continue a run that the options do not describe."""
    different = other_run(run, options, FREE | {"steps"})
    if not different and (atoms is not None or options.structure is not None):
        different = other_structure(run, load_structure(options.structure if atoms is None else atoms))
    if different:
        raise RunError(
            f"{run.directory} holds another run ({'; '.join(different)})",
            name=str(run.directory),
            value=different,
            remedy="bring back what it began with, or choose another `directory`",
        )
