"""Registered models side by side as a table: errors on held-out frames, size, and the time of a step.

python benchmarks/models.py NAME... [--steps 300] [--eager]

Errors are those of the card, which `asecalc-ml eval NAME` measures again. Steps are in time of all processor
cores (one thread if not told otherwise), so that other work on the machine counts little.
"""

import time

import numpy as np
import torch
from ase import Atoms
from measuring.record import Cell, Spread, Table, parser, publish

from asecalc_ml import MLCalculator
from asecalc_ml.store.card import Golden

TURNS = 6
QUICK = ["schnet-ethanol"]
COLUMNS = [
    "model",
    "architecture",
    "parameters",
    "forces (meV/Å)",
    "energy (meV)",
    "step (core ms)",
    "training (core h)",
]
METHOD = (
    "Mean absolute errors on held-out frames and core hours are those of the card. A step is "
    "energy and forces of the structure in the card, rattled anew each time, in processor time; "
    "models take turns."
)


def structure(golden: Golden) -> Atoms:
    return Atoms(golden.atomic_numbers, golden.positions_A, cell=golden.cell_A, pbc=golden.pbc)


class Turns:
    """Steps of one model, some at a time."""

    def __init__(self, name: str, compile: str, device: str):
        self.calculator = MLCalculator(name, compile=compile, device=device)
        self.atoms = structure(self.calculator.card.golden)
        self.random = np.random.default_rng(0)
        self.milliseconds: list[float] = []
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

    def row(self) -> list[Cell]:
        card = self.calculator.card
        errors = [getattr(card.metrics, name) for name in ("forces_mae_meV_A", "energy_mae_meV")]
        return [
            f"`{card.name}`",
            card.architecture,
            card.n_parameters,
            *("" if error is None else error for error in errors),
            Spread.of(self.milliseconds),
            "" if card.training_cpu_h is None else card.training_cpu_h,
        ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--eager", action="store_true", help="plain PyTorch; compiled if not given")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.names, arguments.steps, arguments.eager = arguments.names or QUICK, TURNS, True
    torch.set_num_threads(arguments.threads)
    compile = "never" if arguments.eager else "always"
    models = [Turns(name, compile, arguments.device) for name in arguments.names]
    for _ in range(TURNS):
        for model in models:
            model.run(arguments.steps // TURNS)
    rows = [model.row() for model in models]
    publish(arguments, "Models", [Table(title="Side by side", method=METHOD, columns=COLUMNS, rows=rows)])


if __name__ == "__main__":
    main()
