"""Time and memory an atom against the size of a structure: silicon at 300 K, the shipped `torchmdnet-si`.

OMP_NUM_THREADS=1 python benchmarks/size.py [--cells 4 6 8 12 16] [--steps 5] [--compile always] [--json FILE]

Steps of velocity Verlet, 1 fs. Each size runs in a process of its own that keeps freed memory as the
commands do (--give-back: that does not); with --compile always another process has compiled before. 4, 6, 8,
12, 16 and 23 cubic cells along each axis are 512, 1,728, 4,096, 13,824, 32,768 and 97,336 atoms. A size takes
two evaluations more than steps: the largest needs minutes, and is best measured with --steps 1. Sizes that
were measured before in the same way are kept in FILE, so that they can be measured one at a time.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from measuring.record import Record, Spread, Table, parser, publish

MODEL = "torchmdnet-si"
TEMPERATURE_K = 300
COLUMNS = [
    "atoms",
    "step (µs an atom)",
    "processor time (µs an atom)",
    "memory (kB an atom)",
    "page faults of a step",
    "neighbor list (% of the steps)",
    "searches for pairs",
]
METHOD = (
    "Silicon at 300 K with `{model}`, velocity Verlet, {compile}. Spread over the steps of one process. "
    "Memory is the largest of the process, beyond that of the loaded model; the processor time of the "
    "neighbor list includes the searches."
)
WAYS = {
    "always": "compiled before",
    "never": "in plain PyTorch",
    "auto": "compiled where a package lies in the cache",
}


def measure(n_cells: int, n_steps: int, compile: str, give_back: bool) -> list:
    """Figures of one size, a cell for each column, in this process."""
    from resource import RUSAGE_SELF, getrusage

    import numpy as np
    import torch
    from ase import units
    from ase.build import bulk
    from ase.md.velocitydistribution import thermalize_momenta
    from ase.md.verlet import VelocityVerlet

    from asecalc_ml import MLCalculator
    from asecalc_ml.cli.process import keep_freed_memory
    from asecalc_ml.graph.neighbors import SkinNeighborList

    if not give_back:
        keep_freed_memory()
    torch.set_num_threads(1)
    atoms = bulk("Si", cubic=True)
    MLCalculator(MODEL, compile="never").get_potential_energy(atoms)  # imports and constants
    atoms *= n_cells
    thermalize_momenta(atoms, temperature_K=2 * TEMPERATURE_K, rng=np.random.default_rng(0))
    atoms.calc = MLCalculator(MODEL, compile=compile)
    before = peak_bytes()
    in_list = timed(SkinNeighborList, "update")
    dynamics = VelocityVerlet(atoms, units.fs)
    dynamics.run(1)
    walls, cpus, faults = [], [], []
    in_list.clear()
    for _ in range(n_steps):
        use, wall, cpu = getrusage(RUSAGE_SELF), time.perf_counter(), time.process_time()
        dynamics.run(1)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        faults.append(getrusage(RUSAGE_SELF).ru_minflt - use.ru_minflt)
    to_atom = 1e6 / len(atoms)
    return [
        len(atoms),
        Spread.of(walls, to_atom).model_dump(),
        Spread.of(cpus, to_atom).model_dump(),
        (peak_bytes() - before) / 1e3 / len(atoms),
        float(np.median(faults)),
        100 * sum(in_list) / sum(cpus),
        atoms.calc._pairs.n_builds,
    ]


def timed(owner: type, name: str) -> list[float]:
    """Processor times of the calls of a method from here on."""
    method, times = getattr(owner, name), []

    def wrapped(*arguments):
        start = time.process_time()
        result = method(*arguments)
        times.append(time.process_time() - start)
        return result

    setattr(owner, name, wrapped)
    return times


def peak_bytes() -> int:
    """The largest memory that this process has had."""
    from resource import RUSAGE_SELF, getrusage

    return 1024 * getrusage(RUSAGE_SELF).ru_maxrss


def compile_for(n_cells: int) -> None:
    """Compile for a size in this process, if nobody has."""
    from ase.build import bulk

    from asecalc_ml import MLCalculator

    MLCalculator(MODEL, compile="always").prepare(bulk("Si", cubic=True) * n_cells)


def in_own_process(n_cells: int, job: str, options: argparse.Namespace) -> list | None:
    """Figures of one size; None, with a message, if its process failed or was killed."""
    command = [sys.executable, __file__, "--job", job, "--cells", str(n_cells), "--steps", str(options.steps)]
    command += ["--compile", options.compile, *["--give-back"] * options.give_back]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        print(f"{8 * n_cells**3} atoms: the process ended with status {finished.returncode}", flush=True)
        return None
    return json.loads(finished.stdout.splitlines()[-1]) if job == "measure" else None


def measured_before(file: Path | None, method: str) -> list[list]:
    """Rows of a record that were measured in the same way."""
    if file is None or not file.is_file():
        return []
    record = Record.model_validate_json(file.read_text(encoding="utf-8"))
    return [row for table in record.tables if table.method == method for row in table.rows]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cells", type=int, nargs="+", default=[4, 6, 8, 12, 16])
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--compile", choices=list(WAYS), default="always")
    options.add_argument("--give-back", action="store_true", help="leave the allocator as it is")
    options.add_argument("--job", choices=["measure", "compile"], help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.job == "compile":
        compile_for(arguments.cells[0])
        return
    if arguments.job == "measure":
        print(
            json.dumps(measure(arguments.cells[0], arguments.steps, arguments.compile, arguments.give_back))
        )
        return
    if arguments.quick:
        arguments.cells, arguments.steps, arguments.compile = [2], 1, "never"
    method = METHOD.format(model=MODEL, compile=WAYS[arguments.compile])
    rows = {row[0]: row for row in measured_before(arguments.json, method)}
    for n_cells in arguments.cells:
        if arguments.compile == "always":
            in_own_process(n_cells, "compile", arguments)
        row = in_own_process(n_cells, "measure", arguments)
        if row is not None:
            rows[row[0]] = row
            table = Table(title="Sizes", method=method, columns=COLUMNS, rows=[rows[n] for n in sorted(rows)])
            publish(arguments, "Size", [table])  # after each size: a later one may be killed


if __name__ == "__main__":
    main()
