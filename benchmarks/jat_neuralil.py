"""Training speed of JAT beside NeuralIL, both as published, on one frame of an ionic liquid.

python benchmarks/jat_neuralil.py [--data FILE.json] [--rounds 5] [--steps 3] [--eager]

The frame is the first of the validation data of ethylammonium nitrate (225 atoms) where FILE is given, or
225 atoms of the same elements at the same density. Hödl's thesis found JAT four times as fast (on a GPU, with
JAX, and with NeuralIL's descriptors as a double loop over neighbors). The two are timed in turns, so that
other work on the machine meets both; the fastest round counts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

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

    def seconds(self, n_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(n_steps):
            self()
        return (time.perf_counter() - start) / n_steps


def compare(atoms: Atoms, compiled: bool, n_rounds: int, n_steps: int) -> None:
    steps = {"JAT": Step(JAT(), atoms, compiled), "NeuralIL": Step(NeuralIL(), atoms, compiled)}
    times = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(n_rounds):
        for name, step in steps.items():
            times[name].append(step.seconds(n_steps))
    for name, step in steps.items():
        n_edges, n_parameters = (
            step.inputs.edge_index.shape[1],
            sum(p.numel() for p in step.model.parameters()),
        )
        kind = "compiled" if compiled else "eager"
        seconds = f"{min(times[name]):.3f} s a step (median {np.median(times[name]):.3f})"
        print(f"{name:<9} {kind:<9} {n_parameters:6d} parameters {n_edges:6d} edges  {seconds}")
    print(f"NeuralIL / JAT: {min(times['NeuralIL']) / min(times['JAT']):.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    atoms = measured_frame(arguments.data) if arguments.data else random_frame()
    for compiled in (False,) if arguments.eager else (False, True):
        compare(atoms, compiled, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
