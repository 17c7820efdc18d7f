"""Training speed of JAT and NeuralIL, both as published, on one frame of an ionic liquid.

python benchmarks/jat_neuralil.py [--data FILE.json] [--turns 5] [--steps 3] [--eager]

The frame is the first of the validation data of ethylammonium nitrate (225 atoms) where FILE is given, or
225 atoms of the same elements at the same density. Hödl's thesis found JAT four times as fast (on a GPU, with
JAX, and with NeuralIL's descriptors as a double loop over neighbors).
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from measuring.record import Cell, Spread, Table, parser, publish
from measuring.turns import alternate, ratio

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.derivative import forces
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.jat import JAT
from asecalc_ml.potentials.neuralil import NeuralIL
from asecalc_ml.potentials.training.optimization.compiled_step import compiled_forward, eager_forward

SYMBOLS = 15 * ["N", *"HHH", "C", *"HH", "C", *"HHH"] + 15 * ["N", *"OOO"]


def measured_frame(path: Path) -> Atoms:
    """The first frame of a file of NeuralIL's authors."""
    with path.open(encoding="utf-8") as file:
        frame = json.loads(file.readline())
    return Atoms(SYMBOLS, frame["Positions"], cell=frame["Cell-Size"], pbc=True)


def random_frame() -> Atoms:
    """Atoms on a shaken grid in a box of the liquid's size."""
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*3 * [np.arange(7)], indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (
        12.9 / 7 * (random.permutation(grid)[: len(SYMBOLS)] + random.normal(scale=0.05, size=(225, 3)))
    )
    return Atoms(SYMBOLS, positions, cell=3 * [12.9], pbc=True)


class Step:
    """Forward, backward and AdamW on one frame."""

    def __init__(self, options, atoms: Atoms, compiled: bool):
        self.model = Model(options.build())
        self.inputs = with_ghost(AtomGraph.from_atoms(atoms, self.model.cutoff), self.model.cutoff)
        self.forward = compiled_forward(self.model, self.inputs) if compiled else eager_forward(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        derivative = self.forward(self.inputs)
        predicted = forces(derivative.gradient, self.inputs.edge_index, self.inputs.n_atoms)
        (derivative.systems.square().mean() + predicted.square().mean()).backward()
        self.optimizer.step()

    def run(self, n_steps: int) -> None:
        for _ in range(n_steps):
            self()


def rows(atoms: Atoms, compiled: bool, n_turns: int, n_steps: int) -> list[list[Cell]]:
    steps = {"JAT": Step(JAT(), atoms, compiled), "NeuralIL": Step(NeuralIL(), atoms, compiled)}
    for step in steps.values():
        step()
    seconds = alternate({name: partial(step.run, n_steps) for name, step in steps.items()}, n_turns)
    table = []
    for name, step in steps.items():
        n_edges = step.inputs.edge_index.shape[1]
        n_parameters = sum(parameter.numel() for parameter in step.model.parameters())
        kind = "compiled" if compiled else "eager"
        time_s = Spread.of(seconds[name], 1 / n_steps)
        table.append([name, kind, n_parameters, n_edges, time_s, ratio(seconds[name], seconds["NeuralIL"])])
    return table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path)
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--eager", action="store_true", help="do not compile")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.turns, arguments.steps, arguments.eager = 1, 1, True
    torch.set_num_threads(arguments.threads)
    atoms = measured_frame(arguments.data) if arguments.data else random_frame()
    kinds = (False,) if arguments.eager else (False, True)
    table = Table(
        title=f"A training step on one frame of {len(atoms)} atoms",
        method="Forward, backward and AdamW of JAT and NeuralIL as published, in float32.",
        columns=["model", "", "parameters", "edges", "step (s)", "times NeuralIL's"],
        rows=[row for kind in kinds for row in rows(atoms, kind, arguments.turns, arguments.steps)],
    )
    publish(arguments, "JAT and NeuralIL", [table])


if __name__ == "__main__":
    main()
