"""Where jobs are carried out: in processes of this machine, of a Ray cluster, or of MPI."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from asecalc_ml.errors import RunError
from asecalc_ml.jobs import LOST, PAUSED


@dataclass(frozen=True)
class Job:
    """Job for a process: the module that runs it and the message that the module gets.

    Parameters
    ----------
    module : str
        Module that does it, run as ``python -m`` and written with
        :func:`asecalc_ml.cli.process.carry_out_job`.
    message : dict
        What the module is told, as plain values.
    working_directory : str
        From which files in the message are found.
    log : str
        Takes what the process prints to its standard error.
    module_folders : list of str
        Where modules are looked for that are found nowhere else.
    cpus, gpus : int
        Number of CPUs and of GPUs that the job uses.
    """

    module: str
    message: dict[str, Any]
    working_directory: str
    log: str
    module_folders: list[str]
    cpus: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job: done, paused, busy, failed or lost, with the reason, and numbers by name."""

    state: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)


class Executor(Protocol):
    """Carries out jobs, as many at once as it was made for."""

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""

    def close(self) -> None:
        """Pause the jobs that still run, and end the executor."""


def make_executor(
    kind: str, workers: int, ray_address: str | None = None, cpus: int = 1, gpus: int = 0
) -> Executor:
    """Make an executor.

    Parameters
    ----------
    kind : str
        "local", "ray" or "mpi".
    workers : int
        Jobs at the same time.
    ray_address : str, optional
        Address of the Ray cluster.
    cpus : int
        Largest number of CPUs that a job asks for.
    gpus : int
        Number of GPUs of this machine that local jobs share, one for each job.
    """
    if kind == "local":
        return LocalExecutor(workers, gpus)
    if kind == "mpi":
        return MpiExecutor()
    return RayExecutor(ray_address, workers * cpus, gpus)


class LocalExecutor:
    """Processes of this machine.

    Parameters
    ----------
    workers : int
    gpus : int
        Number of GPUs, of which each job that asks for some sees its own alone.
    """

    def __init__(self, workers: int, gpus: int = 0):
        self._threads = ThreadPoolExecutor(workers)
        self._processes: set[subprocess.Popen] = set()
        self._gpus: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._taking = threading.Lock()  # one job at a time, so that no two wait for each other's GPUs
        for name in visible_gpus(gpus):
            self._gpus.put(name)

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""
        return self._threads.submit(self._carry_out, job)

    def _carry_out(self, job: Job) -> Outcome:
        if not job.gpus:
            return carry_out(job, self._processes)
        with self._taking:
            taken = [self._gpus.get() for _ in range(job.gpus)]
        try:
            return carry_out(job, self._processes, {"CUDA_VISIBLE_DEVICES": ",".join(taken)})
        finally:
            for gpu in taken:
                self._gpus.put(gpu)

    def close(self) -> None:
        """Pause the jobs that still run, and end the executor."""
        for process in list(self._processes):
            with suppress(OSError, ValueError):
                stdin, _ = _pipes(process)
                stdin.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


def visible_gpus(number: int) -> list[str]:
    """Names of GPUs as ``CUDA_VISIBLE_DEVICES`` takes them, those that this process sees first."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name for name in names if name][:number] or [str(index) for index in range(number)]


class RayExecutor:
    """Processes of a Ray cluster, whose machines share the file system.

    Ray itself repeats nothing: a job that is lost with a worker or a machine has the outcome "lost".

    Parameters
    ----------
    address : str or None
        Address of a cluster that runs already.
    cpus, gpus : int
        Number of CPUs and of GPUs of a cluster that is begun here.

    Raises
    ------
    RunError
        If Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str | None, cpus: int = 1, gpus: int = 0):
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
        here = {"num_cpus": cpus, "num_gpus": gpus, "include_dashboard": False}
        size: dict[str, Any] = {} if address else here
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **size)
        except (ConnectionError, ValueError, RuntimeError) as error:
            place = address or "this machine"
            raise RunError(f"no Ray cluster at {place}: {error}", name=place, value=address) from error
        self._ray, self._carry_out = ray, ray.remote(max_retries=0)(carry_out)

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""
        reference = self._carry_out.options(num_cpus=job.cpus, num_gpus=job.gpus).remote(job)
        return _or_lost(reference.future(), "its Ray worker was lost")

    def close(self) -> None:
        """Pause the jobs that still run, and end the executor: a process whose worker is gone pauses."""
        self._ray.shutdown()


class MpiExecutor:
    """Processes of an MPI job that was started with ``mpiexec -n N python -m mpi4py.futures -m ...``.

    The first process schedules, the others carry jobs out, one each at a time.

    Raises
    ------
    RunError
        If mpi4py is not installed, or the job has one process alone.
    """

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
            from mpi4py.futures import MPIPoolExecutor
        except (ImportError, RuntimeError) as error:  # without mpi4py, or without an MPI library
            raise RunError(
                f"executor: mpi needs mpi4py ({error})",
                name="executor",
                value="mpi",
                remedy="pip install mpi4py next to an MPI library, or use executor: local",
            ) from None
        if MPI.COMM_WORLD.Get_size() == 1:  # a pool would start processes by itself
            raise RunError(
                "executor: mpi, and MPI runs this process alone",
                name="executor",
                value="mpi",
                remedy="start it with `mpiexec -n N python -m mpi4py.futures -m asecalc_ml.cli.ml ...`, N "
                "being one more than the number of jobs at the same time",
            )
        self._pool = MPIPoolExecutor()

    def start(self, job: Job) -> Future[Outcome]:
        """Begin a job, and return at once."""
        return _or_lost(self._pool.submit(carry_out, job), "its MPI process was lost")

    def close(self) -> None:
        """Wait for the jobs that still run."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _or_lost(answer: Future, words: str) -> Future[Outcome]:
    """Outcome of a job; "lost" where the machinery that carries it out raises an error."""
    outcome: Future[Outcome] = Future()

    def take(future: Future) -> None:
        try:
            outcome.set_result(future.result())
        except (Exception, CancelledError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            outcome.set_result(Outcome(LOST, f"{words}: {reason}"))

    answer.add_done_callback(take)
    return outcome


def carry_out(
    job: Job,
    processes: set[subprocess.Popen] | None = None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Do a job in a process of its own, so that whatever becomes of it, no other job suffers."""
    command = [sys.executable, "-m", job.module]
    Path(job.log).parent.mkdir(parents=True, exist_ok=True)
    with Path(job.log).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=job.working_directory,
            env=os.environ | (environment or {}),
            start_new_session=True,  # Ctrl-C in the terminal is for the scheduler, which ends its jobs
        )
    processes = set() if processes is None else processes
    processes.add(process)
    stdin, stdout = _pipes(process)
    try:
        said = job.message | {"module_folders": job.module_folders}
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
        return Outcome(said["state"], said["text"], said["values"])
    if status == -signal.SIGTERM:
        return Outcome(PAUSED, "it was asked to end")
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return Outcome(LOST, f"its process {how}; {log} has what it said")
