"""Time of a step of ASE's velocity Verlet, for a model and for a calculator that costs nothing.

python benchmarks/steps_per_second.py [MODEL] [--structure ethanol] [--steps 500] [--threads 1]
"""

import argparse
import statistics
import time

import numpy as np
import torch
from ase import units
from ase.calculators.calculator import Calculator
from ase.md.verlet import VelocityVerlet

from asecalc_ml import MLCalculator
from asecalc_ml.structure.loading import load_structure

REPETITIONS = 5


class Free(Calculator):
    """No forces: what remains is ASE."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def milliseconds_per_step(calculator, structure: str, n_steps: int) -> float:
    """Median over repetitions, after a warm-up that includes compiling."""
    atoms = load_structure(structure)
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    dynamics.run(50)
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        dynamics.run(n_steps // REPETITIONS)
        times.append((time.perf_counter() - start) / (n_steps // REPETITIONS))
    return 1000 * statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="torchmdnet-ethanol")
    parser.add_argument("--structure", default="ethanol")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    calculators = {
        f"{arguments.model}, compiled": MLCalculator(arguments.model, compile="always"),
        f"{arguments.model}, eager": MLCalculator(arguments.model, compile="never"),
        "free calculator": Free(),
    }
    for name, calculator in calculators.items():
        milliseconds = milliseconds_per_step(calculator, arguments.structure, arguments.steps)
        print(f"{name:<40} {milliseconds:8.2f} ms a step")


if __name__ == "__main__":
    main()
