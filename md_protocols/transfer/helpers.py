"""Processes that make some of the runs of a transfer test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import RunPausedError
from asecalc_ml.local_modules import search_also
from asecalc_ml.md_protocols.engine import preparation
from asecalc_ml.md_protocols.engine.checkpoint import State
from asecalc_ml.md_protocols.engine.process import threads
from asecalc_ml.md_protocols.transfer.plan import TransferPlan
from asecalc_ml.md_protocols.transfer.runs import TransferRuns
from asecalc_ml.runs import RunReader
from asecalc_ml.terminal.progress import Progress
from asecalc_ml.terminal.signals import ending_on_sigterm


@contextmanager
def helpers(directory: Path, number: int, threads: int) -> Iterator[None]:
    """Have so many processes help with a test. They pause when this one is done, or gone.

    One that fails or is killed leaves its run to the others.
    """
    command = [sys.executable, "-m", "asecalc_ml.cli.transfer_helper", str(directory), str(threads)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) for _ in range(number)
    ]  # Ctrl-C in the terminal is for the whole, which tells them
    try:
        yield
    finally:
        for process in processes:
            if process.stdin is not None:  # a pipe, as asked for
                process.stdin.close()
        for process in processes:
            process.wait()


class Helper:
    """Stands for the engine of the whole in a process that helps.

    Parameters
    ----------
    directory : Path
        Of the test.
    state : State
    """

    def __init__(self, directory: Path, state: State):
        self.directory, self.state, self.progress, self.terminated = directory, state, Progress(), False

    def pause_if_asked(self) -> None:
        """Pause where the whole does, or is gone."""
        if self.terminated:
            problem = f"{self.directory}: the process that makes the test has ended"
            raise RunPausedError(problem, name=str(self.directory))

    def note(self, kind: str, message: str, **fields: Any) -> None:
        """Nothing: the whole comes to know all runs, and notes what there is to be told."""


def help_with(directory: Path) -> None:
    """Make those runs of a test that no other process is at, until all are over.

    Raises
    ------
    RunPausedError
        If the process is asked to end.
    """
    run = RunReader(directory)
    search_also(*run.read_provenance().get("module_folders", []))
    options = parse_options(run.read_options(), plugins.get("protocols", run.read_options()["protocol"]))
    atoms = preparation.prepare(options, run.atoms)
    helper = Helper(directory, State(atoms, preparation.generator(options)))
    with threads(options), ending_on_sigterm(helper):
        TransferRuns(helper, TransferPlan.of(options, atoms)).make(has_helpers=True)
