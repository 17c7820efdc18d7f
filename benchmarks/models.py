"""Registered models side by side as a table: errors on held-out frames, size, and the time of a step.

python benchmarks/models.py NAME... [--steps 300] [--eager]

Errors are those of the card, which `asecalc-ml eval NAME` measures again. The step is one call of the
calculator for energy and forces of the structure in the card, rattled anew each time, in time of all
processor cores (OMP_NUM_THREADS=1 for one), so that other work on the machine counts little; models take
turns, and medians are printed.
"""

import argparse
import time
from statistics import median

import numpy as np
from ase import Atoms

from asecalc_ml import MLCalculator
from asecalc_ml.store.card import Golden

TURNS = 6
COLUMNS = (
    "model",
    "architecture",
    "parameters",
    "forces (meV/Å)",
    "energy (meV)",
    "step (core ms)",
    "training (core h)",
)


def structure(golden: Golden) -> Atoms:
    return Atoms(golden.atomic_numbers, golden.positions_A, cell=golden.cell_A, pbc=golden.pbc)


class Turns:
    """Steps of one model, some at a time."""

    def __init__(self, name: str, compile: str):
        self.calculator = MLCalculator(name, compile=compile)
        self.atoms = structure(self.calculator.card.golden)
        self.random = np.random.default_rng(0)
        self.milliseconds = []
        self.run(3)  # compiles, or loads what was compiled
        self.milliseconds.clear()

    def run(self, n_steps: int) -> None:
        start = self.atoms.positions.copy()
        for _ in range(n_steps):
            self.atoms.positions = start + self.random.normal(scale=0.01, size=start.shape)
            before = time.process_time()
            self.calculator.calculate(self.atoms, ["energy", "forces"])
            self.milliseconds.append(1000 * (time.process_time() - before))
        self.atoms.positions = start

    def row(self) -> list[str]:
        card = self.calculator.card
        errors = [getattr(card.metrics, name) for name in ("forces_mae_meV_A", "energy_mae_meV")]
        return [
            f"`{card.name}`",
            card.architecture,
            f"{card.n_parameters:,}",
            *("" if error is None else f"{error:.2f}" for error in errors),
            f"{median(self.milliseconds):.2f}",
            "" if card.training_cpu_h is None else f"{card.training_cpu_h:.2f}",
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--eager", action="store_true", help="plain PyTorch; compiled if not given")
    arguments = parser.parse_args()
    models = [Turns(name, "never" if arguments.eager else "always") for name in arguments.names]
    for _ in range(TURNS):
        for model in models:
            model.run(arguments.steps // TURNS)
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *(model.row() for model in models)):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
