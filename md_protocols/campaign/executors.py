"""Where the runs of a campaign are carried out: in processes of this machine, or of a Ray cluster."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from asecalc_ml.errors import RunError

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import Campaign

PAUSED, BUSY, FAILED, LOST = "paused", "busy", "failed", "lost"


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Parameters
    ----------
    directory : str
        Run directory.
    options : dict
        Of the protocol, as plain values.
    working_directory : str
        From which files in the options are found.
    log : str
        Takes what the process prints to its standard error.
    module_folders : list of str
        Where modules are looked for that are found nowhere else.
    """

    directory: str
    options: dict[str, Any]
    working_directory: str
    log: str
    module_folders: list[str]


@dataclass(frozen=True)
class Outcome:
    """What came out: "done", "paused", "busy", "failed" or "lost", and why."""

    state: str
    text: str


class Executor(Protocol):
    """Carries out jobs, as many at once as it was made for."""

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""

    def close(self) -> None:
        """Let the runs that go on pause, and end."""


def make_executor(campaign: Campaign) -> Executor:
    """The one that a campaign names."""
    if campaign.executor == "local":
        return LocalExecutor(campaign.workers)
    return RayExecutor(campaign.workers, campaign.ray_address)


class LocalExecutor:
    """Processes of this machine.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int):
        self._threads = ThreadPoolExecutor(workers)
        self._processes: set[subprocess.Popen] = set()

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""
        return self._threads.submit(carry_out, job, self._processes)

    def close(self) -> None:
        """Let the runs that go on pause, and end."""
        for process in list(self._processes):
            with suppress(OSError, ValueError):
                stdin, _ = _pipes(process)
                stdin.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


class RayExecutor:
    """Processes of a Ray cluster, whose machines share the file system.

    Ray itself repeats nothing: what was lost with a worker or a machine is told, and the campaign decides.

    Parameters
    ----------
    workers : int
        CPUs of a cluster that is begun here.
    address : str or None
        Of one that is there.

    Raises
    ------
    RunError
        If Ray is not installed, or no cluster answers.
    """

    def __init__(self, workers: int, address: str | None):
        try:
            import ray
        except ImportError:
            raise RunError(
                "executor: ray needs Ray",
                name="executor",
                value="ray",
                remedy="pip install 'asecalc-ml[distributed]', or use executor: local",
            ) from None
        address = address or os.environ.get("RAY_ADDRESS")
        size: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **size)
        except (ConnectionError, ValueError, RuntimeError) as error:
            place = address or "this machine"
            raise RunError(f"no Ray cluster at {place}: {error}", name=place, value=address) from error
        self._ray, self._carry_out = ray, ray.remote(max_retries=0)(carry_out)

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""
        cpus = job.options.get("threads") or 1
        outcome: Future[Outcome] = Future()
        reference = self._carry_out.options(num_cpus=cpus).remote(job)
        reference.future().add_done_callback(lambda future: outcome.set_result(self._outcome(future)))
        return outcome

    def _outcome(self, future: Future) -> Outcome:
        error = future.exception()
        if error is None:
            return future.result()
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Outcome(LOST, f"its Ray worker was lost: {reason}")

    def close(self) -> None:
        """Let the runs that go on pause, and end: a process whose worker is gone does."""
        self._ray.shutdown()


def carry_out(job: Job, processes: set[subprocess.Popen] | None = None) -> Outcome:
    """Do a job in a process of its own, so that whatever becomes of it, no other run suffers."""
    command = [sys.executable, "-m", "asecalc_ml.cli.campaign.worker"]
    Path(job.log).parent.mkdir(parents=True, exist_ok=True)
    with Path(job.log).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=job.working_directory,
            start_new_session=True,  # Ctrl-C in the terminal is for the campaign, which tells its runs
        )
    processes = set() if processes is None else processes
    processes.add(process)
    stdin, stdout = _pipes(process)
    try:
        said = {
            "directory": job.directory,
            "options": job.options,
            "module_folders": job.module_folders,
        }
        stdin.write(json.dumps(said).encode() + b"\n")
        stdin.flush()
        printed = stdout.read()
        return _outcome(printed, process.wait(), job.log)
    except (OSError, ValueError):  # its input is closed: it ended, or is told to
        return _outcome(stdout.read(), process.wait(), job.log)
    finally:
        processes.discard(process)
        for stream in (stdin, stdout):
            with suppress(OSError):
                stream.close()


def _pipes(process: subprocess.Popen) -> tuple[IO[bytes], IO[bytes]]:
    """Input and output of a process, which were asked for as pipes."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _outcome(printed: bytes, status: int, log: str) -> Outcome:
    lines = printed.decode(errors="replace").splitlines()
    with suppress(ValueError, TypeError, IndexError, KeyError):
        said = json.loads(lines[-1])
        return Outcome(said["state"], said["text"])
    if status == -signal.SIGTERM:
        return Outcome("paused", "the campaign ended")
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return Outcome(LOST, f"its process {how}; {log} has what it said")
