"""Time and memory an atom against the size of a structure: silicon at 300 K, the shipped `torchmdnet-si`.

OMP_NUM_THREADS=1 python benchmarks/size.py [--cells 4 8 12 16] [--steps 5] [--compile never] [--json PATH]

Steps of velocity Verlet, 1 fs. Each size runs in a process of its own that keeps freed memory as the
commands do (--give-back: that does not). 4, 8, 12, 16 and 23 cubic cells along each axis are 512, 4,096,
13,824, 32,768 and 97,336 atoms.

Columns: median of a step's time and processor time, the largest memory beyond that of the loaded model,
page faults of a step, the neighbor list's share of the steps, and the number of its searches.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

MODEL = "torchmdnet-si"
TEMPERATURE_K = 300


def measure(n_cells: int, n_steps: int, compile: str, give_back: bool) -> dict:
    """Figures of one size, in this process."""
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
    MLCalculator(MODEL).get_potential_energy(atoms)  # imports and constants
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
    return {
        "atoms": len(atoms),
        "us_atom": 1e6 * median(walls) / len(atoms),
        "cpu_us_atom": 1e6 * median(cpus) / len(atoms),
        "kB_atom": (peak_bytes() - before) / 1e3 / len(atoms),
        "page_faults": median(faults),
        "neighbor_list_percent": 100 * sum(in_list) / sum(cpus),
        "searches": atoms.calc._pairs.n_builds,
    }


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


def in_own_process(n_cells: int, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--one", "--cells", str(n_cells), "--steps", str(options.steps)]
    command += ["--compile", options.compile, *["--give-back"] * options.give_back]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[4, 8, 12, 16])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--compile", choices=["auto", "never", "always"], default="never")
    parser.add_argument("--give-back", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.cells[0], options.steps, options.compile, options.give_back)))
        return
    print("  atoms  µs/atom  cpu µs/atom  kB/atom  page faults  neighbor list  searches")
    rows = []
    for n_cells in options.cells:
        row = in_own_process(n_cells, options)
        rows.append(row)
        print(
            f"{row['atoms']:7}  {row['us_atom']:7.0f}  {row['cpu_us_atom']:11.0f}  {row['kB_atom']:7.0f}  "
            f"{row['page_faults']:11.0f}  {row['neighbor_list_percent']:11.1f} %  {row['searches']:8}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"compile": options.compile, "sizes": rows}, indent=2))


if __name__ == "__main__":
    main()
