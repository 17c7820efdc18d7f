"""Time of a training step of any architecture, eager and compiled, for batches of a rattled molecule.

python benchmarks/training_step.py [ARCHITECTURE [OPTION=VALUE ...]] [--structure ethanol] [--batch 8]

As in: python benchmarks/training_step.py tensornet hidden_channels=32 n_layers=1
"""

import argparse
import time

import numpy as np
import torch

from asecalc_ml.config.options import parse_options
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.derivative import forces
from asecalc_ml.model.model import Model
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.optimization.compiled_step import compiled_forward, eager_forward
from asecalc_ml.structure.loading import load_structure


def batch(structure: str, n_frames: int, model: Model):
    """Padded input of a rattled molecule."""
    random = np.random.default_rng(0)
    graphs = []
    for _ in range(n_frames):
        atoms = load_structure(structure)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        graphs.append(AtomGraph.from_atoms(atoms, model.cutoff))
    return with_ghost(collate(graphs), model.cutoff, triplet_cutoff=model.triplet_cutoff)


def milliseconds_per_step(forward, model: Model, inputs, n_steps: int) -> float:
    """Forward, backward and AdamW, after three steps to warm up."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for step in range(n_steps + 3):
        if step == 3:
            start = time.perf_counter()
        optimizer.zero_grad()
        derivative = forward(inputs)
        predicted = forces(derivative.gradient, inputs.edge_index, inputs.n_atoms)
        (derivative.systems.square().mean() + predicted.square().mean()).backward()
        optimizer.step()
    return 1000 * (time.perf_counter() - start) / n_steps


def architecture(name: str, settings: list[str]):
    """Options of an architecture with values as YAML would have them."""
    values = dict(setting.split("=", 1) for setting in settings)
    return parse_options(values, get("architectures", name), source="command line")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", nargs="?", default="equivariant-transformer")
    parser.add_argument("settings", nargs="*", metavar="OPTION=VALUE")
    parser.add_argument("--structure", default="ethanol")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = architecture(arguments.architecture, arguments.settings)
    model = Model(options.build())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.architecture}, {n_parameters} parameters, {arguments.batch} × {arguments.structure}")
    inputs = batch(arguments.structure, arguments.batch, model)
    for name, forward in (("eager", eager_forward(model)), ("compiled", compiled_forward(model, inputs))):
        print(f"{name:<10} {milliseconds_per_step(forward, model, inputs, arguments.steps):8.2f} ms a step")


if __name__ == "__main__":
    main()
