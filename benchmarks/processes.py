"""An epoch of a training by one process and by several, which compute parts of each batch.

python benchmarks/processes.py [--cases NAME ...] [--turns 3] [--epochs 6] [--devices 2] [--compile]

Trainings are whole runs of `asecalc-ml train`, from a file, on structures displaced at random. The time of an
epoch is that between two lines of metrics.csv; the first epoch does not count.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase.io import write
from measuring.record import Spread, Table, parser, publish
from measuring.turns import alternate, own_time, ratio
from training import Case, harmonic_frames

from asecalc_ml.config.options import dump_yaml

CASES = {
    "et": Case("equivariant-transformer", batch=32, frames=512),
    "painn": Case("painn", ["n_atom_basis=64"], batch=32, frames=512),
}
QUICK = Case("equivariant-transformer", ["hidden_channels=16", "n_layers=1"], batch=4, frames=8)
N_VALIDATION = 2
ONE = "1 process"

METHOD = (
    "Runs of `asecalc-ml train` take turns, of {epochs} epochs each, in float32 and {mode}, on {frames} "
    "frames of {structures}, {batch} in a step; labels are energies and forces. {validation} frames "
    "validate. Times are medians over the epochs of a run."
)


def options_of(case: Case, arguments: argparse.Namespace, frames: Path) -> dict[str, object]:
    """Options of a training, as its file has them."""
    settings = dict(setting.split("=", 1) for setting in case.settings)
    return {
        "name": "benchmark",
        "data": {"format": "ase", "path": str(frames)},
        "split": {"n_train": case.frames, "n_validation": N_VALIDATION, "n_test": N_VALIDATION},
        "model": {"architecture": case.architecture, **settings},
        "batch_size": case.batch,
        "max_epochs": arguments.epochs,
        "compile": arguments.compile,
        "device": arguments.device,
    }


def epoch_time(options: dict[str, object], folder: Path, devices: int, threads: int) -> float:
    """Median time of an epoch in a new training, s."""
    directory = folder / "training"
    file, metrics = folder / "train.yaml", directory / "metrics.csv"
    own = {"devices": devices, "threads": threads, "directory": str(directory)}
    file.write_text(dump_yaml(options | own))
    metrics.unlink(missing_ok=True)
    command = [sys.executable, "-m", "asecalc_ml.cli.ml", "train", str(file), "--quiet", "--replace"]
    with (folder / "log.txt").open("w") as log:
        training = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        times: list[float] = []
        while training.poll() is None:
            n_lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            times += [time.perf_counter()] * (n_lines - 1 - len(times))
            time.sleep(0.005)
    if training.returncode != 0:
        raise SystemExit((folder / "log.txt").read_text())
    return float(np.median(np.diff(times)))


def works_of(case: Case, arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[], float]]:
    """Trainings by name; the first is the one that others are compared with."""
    frames = folder / "frames.xyz"
    write(frames, harmonic_frames(case.structures, case.frames + 2 * N_VALIDATION), format="extxyz")
    options, n = options_of(case, arguments, frames), arguments.devices
    run = partial(epoch_time, options, folder)
    return {
        ONE: partial(run, 1, arguments.threads),
        f"1 process, {n * arguments.threads} threads": partial(run, 1, n * arguments.threads),
        f"{n} processes": partial(run, n, arguments.threads),
    }


def measured(case: Case, arguments: argparse.Namespace) -> Table:
    """Times of all trainings of a case."""
    with TemporaryDirectory() as folder:
        works = works_of(case, arguments, Path(folder))
        if arguments.compile:
            for work in works.values():  # compiled programs are kept
                work()
        seconds = alternate(works, arguments.turns, own_time)
    rows = [[name, Spread.of(times), ratio(seconds[ONE], times)] for name, times in seconds.items()]
    return Table(
        title=f"Several processes: {' '.join([case.architecture, *case.settings])}, batch {case.batch}",
        method=METHOD.format(
            epochs=arguments.epochs,
            mode="compiled" if arguments.compile else "eager",
            frames=case.frames,
            structures=", ".join(case.structures),
            batch=case.batch,
            validation=N_VALIDATION,
        ),
        columns=["training", "epoch (s)", f"speed / {ONE}"],
        rows=rows,
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--cases", nargs="+", default=[*CASES], choices=CASES, metavar="NAME", help=", ".join(CASES)
    )
    options.add_argument("--turns", type=int, default=3, help="runs of each training")
    options.add_argument("--epochs", type=int, default=6, help="epochs of a run")
    options.add_argument("--devices", type=int, default=2, help="processes")
    options.add_argument("--compile", action="store_true", help="compile the step")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.turns, arguments.epochs, arguments.compile = 1, 3, False
    cases = [QUICK] if arguments.quick else [CASES[name] for name in arguments.cases]
    publish(arguments, "Training in several processes", [measured(case, arguments) for case in cases])


if __name__ == "__main__":
    main()
