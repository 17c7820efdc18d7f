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
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.jat import JAT
from asecalc_ml.potentials.neuralil import NeuralIL
from asecalc_ml.potentials.training.frames.batches import loader
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.potentials.training.optimization.eager import eager_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import compiled as compile_graph
from asecalc_ml.potentials.training.optimization.whole_step import step_graph, step_of
from asecalc_ml.potentials.training.options import LossOptions

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
    """Forward, backward and AdamW on one frame, whose labels are zero."""

    def __init__(self, options, atoms: Atoms, compiled: bool):
        model, loss = Model(options.build()), LossOptions()
        graph = AtomGraph.from_atoms(atoms, model.cutoff)
        zeros = torch.zeros(len(atoms), 3, dtype=torch.float64)
        frame = LabelledGraph(graph, energy=zeros[0, :1], forces=zeros)
        (self.batch,) = loader([frame], model.cutoff, batch_size=1)
        self.n_edges = graph.n_edges
        self.weights = FlatWeights(model)
        self.step = eager_step(model, self.weights, loss)
        if compiled:
            graph = step_graph(model, self.weights, self.batch, loss)
            self.step = step_of(compile_graph(graph, [self.weights.values.detach(), *self.batch.tensors]))
        self.optimizer = torch.optim.AdamW([self.weights.values], fused=True)

    def __call__(self) -> None:
        values = self.weights.values
        _, values.grad = self.step(values, self.batch)
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
        n_parameters = len(step.weights.values)
        kind = "compiled" if compiled else "eager"
        time_s = Spread.of(seconds[name], 1 / n_steps)
        table.append(
            [name, kind, n_parameters, step.n_edges, time_s, ratio(seconds[name], seconds["NeuralIL"])]
        )
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
