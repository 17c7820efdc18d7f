"""Time of a training step of any architecture, eager and compiled, for batches of a rattled molecule.

python benchmarks/training_step.py [ARCHITECTURE [OPTION=VALUE ...]] [--structure ethanol] [--batch 8]

As in: python benchmarks/training_step.py tensornet hidden_channels=32 n_layers=1
"""

from functools import partial

import numpy as np
import torch
from measuring.record import Spread, Table, parser, publish
from measuring.turns import alternate, ratio

from asecalc_ml.config.options import parse_options
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.derivative import forces
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training.optimization.compiled_step import compiled_forward, eager_forward
from asecalc_ml.structure.loading import load_structure


def batch(structure: str, n_frames: int, model: Model) -> PotentialInput:
    """Padded input of a rattled molecule."""
    random = np.random.default_rng(0)
    graphs = []
    for _ in range(n_frames):
        atoms = load_structure(structure)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        graphs.append(AtomGraph.from_atoms(atoms, model.cutoff))
    return with_ghost(collate(graphs), model.cutoff, triplet_cutoff=model.triplet_cutoff)


class Step:
    """Forward, backward and AdamW, some at a time."""

    def __init__(self, forward, model: Model, inputs: PotentialInput):
        self.forward, self.inputs = forward, inputs
        self.optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        self.run(3)  # warm-up

    def run(self, n_steps: int) -> None:
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            derivative = self.forward(self.inputs)
            predicted = forces(derivative.gradient, self.inputs.edge_index, self.inputs.n_atoms)
            (derivative.systems.square().mean() + predicted.square().mean()).backward()
            self.optimizer.step()


def architecture(name: str, settings: list[str]):
    """Options of an architecture with values as YAML would have them."""
    values = dict(setting.split("=", 1) for setting in settings)
    return parse_options(values, get("architectures", name), source="command line")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("architecture", nargs="?", default="equivariant-transformer")
    options.add_argument("settings", nargs="*", metavar="OPTION=VALUE")
    options.add_argument("--structure", default="ethanol")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--steps", type=int, default=30, help="in each turn")
    options.add_argument("--turns", type=int, default=5)
    arguments = options.parse_args()
    if arguments.quick:
        arguments.batch, arguments.steps, arguments.turns = 2, 1, 1
    torch.set_num_threads(arguments.threads)
    model = Model(architecture(arguments.architecture, arguments.settings).build())
    inputs = batch(arguments.structure, arguments.batch, model)
    forwards = {"eager": eager_forward(model)}
    if not arguments.quick:
        forwards["compiled"] = compiled_forward(model, inputs)
    steps = {name: Step(forward, model, inputs) for name, forward in forwards.items()}
    works = {name: partial(step.run, arguments.steps) for name, step in steps.items()}
    seconds = alternate(works, arguments.turns)
    rows = [
        [name, Spread.of(times, 1e3 / arguments.steps), ratio(seconds["eager"], times)]
        for name, times in seconds.items()
    ]
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    table = Table(
        title=f"{' '.join([arguments.architecture, *arguments.settings])}, {n_parameters:,} parameters",
        method=f"Forward, backward and AdamW for {arguments.batch} frames of {arguments.structure}.",
        columns=["", "step (ms)", "eager / this"],
        rows=rows,
    )
    publish(arguments, "A training step", [table])


if __name__ == "__main__":
    main()
