"""How the processes of a training begin and find each other.

On one machine the first process starts the others. On several machines, or under a launcher, each process is
started by Slurm's ``srun`` or by ``torchrun``, and finds its number and the address of the first one in the
environment.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import IO

import torch
from torch import distributed

from asecalc_ml.errors import TrainingError
from asecalc_ml.local_modules import added_folders
from asecalc_ml.potentials.training.options import TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.processes.world import LostProcessError, World

#: Longest time that a process waits for the others, which may read data or compile meanwhile.
TIMEOUT = timedelta(hours=1)

#: Seconds in which the other processes end after the first one.
GRACE_s = 60

#: Port of the first process under Slurm: this, and the number of the job below the number of ports.
FIRST_PORT, N_PORTS = 20_000, 20_000

LOCAL = "127.0.0.1"

#: Number in the store of the processes that are ready, and how often the first process looks at it.
READY, LOOK_EVERY_s = "ready", 0.05

WORKER = "from asecalc_ml.potentials.training.processes.worker import main; main()"


@dataclass(frozen=True)
class ProcessPlace:
    """Number of a process, and where the first one listens.

    Parameters
    ----------
    world : World
    address : str, optional
        None in a first process that starts the others itself.
    port : int
    """

    world: World
    address: str | None = None
    port: int = 0


def place_of(options: TrainOptions) -> ProcessPlace:
    """ProcessPlace of this process in a training that it begins, or that a launcher has started.

    Raises
    ------
    TrainingError
        If the environment is that of another number of processes, or of one machine where several are asked
        for.
    """
    n = options.devices * options.num_nodes
    place = _place_in_environment(os.environ, n) if n > 1 else None
    if place is None and options.num_nodes > 1:
        raise TrainingError(
            f"num_nodes is {options.num_nodes}, and nothing in the environment says which process this is",
            name="num_nodes",
            value=options.num_nodes,
            remedy="start a process for each device, as with `srun --ntasks-per-node="
            f"{options.devices} asecalc-ml train FILE.yaml` or with torchrun",
        )
    return place or ProcessPlace(World(n))


@contextlib.contextmanager
def joined(request: TrainingRequest, place: ProcessPlace) -> Iterator[None]:
    """Join the other processes of a training, which are started if nothing has started them.

    The block begins once all have joined.

    Raises
    ------
    LostProcessError
        If another process ends before the training does.
    """
    world, device = place.world, request.options.device
    if world.n == 1:
        yield
    elif place.address is None:
        store = distributed.TCPStore(LOCAL, 0, world.n, True, TIMEOUT, wait_for_workers=False)
        with _workers(request, world.n, store), _group(device, store, world):
            yield
    else:
        listens = world.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        store = distributed.TCPStore(place.address, place.port, world.n, listens, TIMEOUT)
        store.add(READY, 1)
        with _group(device, store, world):
            yield


def _place_in_environment(environment: Mapping[str, str], n: int) -> ProcessPlace | None:
    """ProcessPlace that torchrun or srun gave to this process; None if neither started it."""
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        n_started, rank, local = (environment.get(key, "0") for key in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    elif "SLURM_STEP_NUM_TASKS" in environment and environment["SLURM_STEP_NUM_TASKS"] != "1":
        keys = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
        n_started, rank, local = (environment.get(key, "0") for key in keys)
        address = environment.get("MASTER_ADDR") or _first_node(environment["SLURM_STEP_NODELIST"])
        port = int(environment.get("MASTER_PORT", FIRST_PORT + int(environment["SLURM_JOB_ID"]) % N_PORTS))
    else:
        return None
    if int(n_started) != n:
        raise TrainingError(
            f"{n_started} processes were started, and devices times num_nodes is {n}",
            name="devices",
            value=n,
            allowed=int(n_started),
            remedy="start as many, or correct the options",
        )
    return ProcessPlace(World(n, int(rank), int(local)), address, port)


def _first_node(nodes: str) -> str:
    """Node of the first process: the first of Slurm's list, such as gpu07 of ``gpu[07-09,12],fat1``."""
    first = re.match(r"([^,\[]+)(?:\[([^],-]+)[^]]*\])?([^,]*)", nodes)
    assert first is not None  # Slurm names one node at least
    return "".join(part or "" for part in first.groups())


@contextlib.contextmanager
def _group(device: str, store: distributed.Store, world: World) -> Iterator[None]:
    """Group of all processes, by NCCL between GPUs and by gloo between CPUs."""
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(world.local_rank)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", store=store, rank=world.rank, world_size=world.n, timeout=TIMEOUT
    )
    try:
        world.wait()
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _workers(request: TrainingRequest, n: int, store: distributed.TCPStore) -> Iterator[None]:
    """The other processes on this machine, which end with the block; it begins once they are ready."""
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, n)]
        workers = [
            _start(request, ProcessPlace(World(n, rank, rank), LOCAL, store.port), output)
            for rank, output in enumerate(outputs, 1)
        ]
        try:
            _wait_until_ready(workers, store)
            yield
            for worker in workers:
                worker.wait(GRACE_s)
        except LostProcessError as error:
            raise _with_reason(error, workers, outputs) from error
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def _start(request: TrainingRequest, place: ProcessPlace, output: IO[bytes]) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert worker.stdin is not None
    with worker.stdin:
        worker.stdin.write(pickle.dumps((added_folders(), replace(request, ends_early=None), place)))
    return worker


def _wait_until_ready(workers: list[subprocess.Popen], store: distributed.TCPStore) -> None:
    """Return once all workers have read what they need; raise if one of them ends before."""
    while store.add(READY, 0) < len(workers):
        if any(worker.poll() is not None for worker in workers):
            raise LostProcessError("another process of the training has ended", name="process")
        time.sleep(LOOK_EVERY_s)


def _with_reason(
    error: LostProcessError, workers: list[subprocess.Popen], outputs: list[IO[bytes]]
) -> LostProcessError:
    """The error with what the first process that has failed printed last."""
    for rank, (worker, output) in enumerate(zip(workers, outputs, strict=True), 1):
        with contextlib.suppress(subprocess.TimeoutExpired):
            if worker.wait(5):
                output.seek(0)
                printed = output.read().decode(errors="replace").strip().splitlines() or [
                    "nothing was printed"
                ]
                return LostProcessError(
                    f"process {rank} of the training ended with status {worker.returncode}: {printed[-1]}",
                    name=f"process {rank}",
                    value=worker.returncode,
                    remedy="continue with --resume",
                )
    return error
