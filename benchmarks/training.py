"""Samples per second of a training: our loop, compiled and eager, and that of the architecture's package.

python benchmarks/training.py [ARCHITECTURE [OPTION=VALUE ...]] [--data FILE | --structures NAME ...]
    [--labels energy forces] [--frames 200] [--batch 8] [--turns 5] [--eager]

As in: python benchmarks/training.py painn n_atom_basis=64 --structures ethanol 1-propanol

Ours is the loop of `asecalc-ml train`; torchmd-net's and schnetpack's are their modules under Lightning. They
are timed where molecules are trained on energies and forces. The data are those of a file, or structures
displaced at random, with harmonic energies and forces.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from measuring.peer_training import ENERGY_WEIGHT, LEARNING_RATE, Epoch, peer_epochs
from measuring.record import Spread, Table, parser, publish
from measuring.turns import alternate, own_time, ratio

from asecalc_ml.cli.structures import reader
from asecalc_ml.potentials.training import TrainOptions
from asecalc_ml.potentials.training.frames.batches import EpochBatches, StoredFrames
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.trainer import architecture, build_model, compile_step
from asecalc_ml.structure.loading import load_structure

DISPLACEMENT_A = 0.05
FORCE_CONSTANT = 10.0  # eV/Å²
LABELS = ("energy", "forces", "stress")
DEFAULT, QUICK = "equivariant-transformer", ["hidden_channels=16", "n_layers=1", "n_rbf=8", "n_heads=2"]

METHOD = (
    "Epochs of all loops take turns, in float32 and with AdamW, on {frames} frames of {data}, {batch} in a "
    "step; labels are {labels}. Validation, and what is done once before an epoch, do not count; our "
    "neighbor lists are made once, those of torchmd-net and schnetpack in each step."
)


def harmonic_frames(names: list[str], n_frames: int) -> list[Atoms]:
    """Structures by turns, displaced at random, with E = k/2 Σ d² and F = −k d of the displacements d."""
    random = np.random.default_rng(0)
    frames = [load_structure(names[k % len(names)]) for k in range(n_frames)]
    for atoms in frames:
        displacements = random.normal(scale=DISPLACEMENT_A, size=(len(atoms), 3))
        atoms.positions += displacements
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=FORCE_CONSTANT / 2 * (displacements**2).sum(),
            forces=-FORCE_CONSTANT * displacements,
        )
    return frames


def options_of_training(arguments: argparse.Namespace) -> TrainOptions:
    """A training of the architecture on the labels."""
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    weights = {f"{label}_weight": float(label in arguments.labels) for label in LABELS}
    return TrainOptions(
        name="benchmark",
        data={"format": "ase", "path": str(arguments.data)},
        model={"architecture": arguments.architecture, **settings},
        loss=weights | {"energy_weight": ENERGY_WEIGHT * weights["energy_weight"]},
        optimizer={"learning_rate": LEARNING_RATE, "warmup_steps": 0},
        batch_size=arguments.batch,
        device=arguments.device,
    )


def our_loop(options: TrainOptions, frames: list[Atoms]) -> TrainingLoop:
    """The loop of a training, eager and without validation."""
    model, labels = build_model(options, fit_scaling(frames, None)), options.loss.fitted
    model.to(options.device)
    graphs = [LabelledGraph.from_atoms(atoms, model.cutoff, labels) for atoms in frames]
    stored = StoredFrames(graphs, model.cutoff, labels, model.triplet_cutoff, options.device)
    batches = EpochBatches(stored, options.batch_size, options.seed)
    return TrainingLoop(model, options, batches, batches, quiet=True)


def epoch_of(loop: TrainingLoop) -> Epoch:
    """An epoch of our loop."""

    def epoch() -> float:
        start = time.perf_counter()
        loop.train_epoch(0)  # ends when the device has given the loss
        return time.perf_counter() - start

    return epoch


def epochs(options: TrainOptions, frames: list[Atoms], arguments: argparse.Namespace) -> dict[str, Epoch]:
    """Epochs of all loops, by name; the first is the one that others are compared with."""
    loops = {}
    if not arguments.eager:
        compiled = our_loop(options, frames)
        eager = compiled.step
        compile_step(compiled)
        if compiled.step is not eager:  # else it could not be compiled, and a warning says why
            loops["ours, compiled"] = epoch_of(compiled)
    loops["ours, eager"] = epoch_of(our_loop(options, frames))
    if set(arguments.labels) == {"energy", "forces"} and not any(atoms.pbc.any() for atoms in frames):
        loops |= peer_epochs(architecture(options), frames, options.batch_size, options.device)
    return loops


def main() -> None:
    options = parser(__doc__)
    options.add_argument("architecture", nargs="?", default=DEFAULT)
    options.add_argument("settings", nargs="*", metavar="OPTION=VALUE", help="of the architecture")
    options.add_argument("--data", type=Path, metavar="FILE", help="frames with labels")
    options.add_argument("--format", help="reader of the file, where its name does not say it")
    options.add_argument("--structures", nargs="+", default=["ethanol"], metavar="NAME")
    options.add_argument("--labels", nargs="+", default=["energy", "forces"], choices=LABELS)
    options.add_argument("--frames", type=int, default=200)
    options.add_argument("--batch", type=int, default=8, help="frames in a step")
    options.add_argument("--turns", type=int, default=5, help="epochs of each loop")
    options.add_argument("--eager", action="store_true", help="do not compile")
    arguments = options.parse_args()
    if arguments.quick:
        if arguments.architecture == DEFAULT:
            arguments.settings = arguments.settings or QUICK
        arguments.frames, arguments.batch, arguments.turns, arguments.eager = 4, 2, 2, True
    torch.set_num_threads(arguments.threads)
    publish(arguments, "Training", [measured(arguments)])


def measured(arguments: argparse.Namespace) -> Table:
    """Rates of all loops."""
    if arguments.data:
        further = ["--format", arguments.format] if arguments.format else []
        frames = reader(str(arguments.data), further).read()[: arguments.frames]
    else:
        frames = harmonic_frames(arguments.structures, arguments.frames)
    options = options_of_training(arguments)
    loops = epochs(options, frames, arguments)
    for epoch in loops.values():
        epoch()  # warm-up
    seconds = alternate(loops, arguments.turns, own_time)
    n_steps = max(len(frames) // arguments.batch, 1)
    n_samples = n_steps * min(arguments.batch, len(frames))
    base = next(iter(loops))
    rows = [
        [name, Spread.of(n_samples / times), Spread.of(times, 1e3 / n_steps), ratio(times, seconds[base])]
        for name, times in seconds.items()
    ]
    model = build_model(options, fit_scaling(frames, None))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Table(
        title=f"{' '.join([arguments.architecture, *arguments.settings])}, {n_parameters:,} parameters",
        method=METHOD.format(
            frames=len(frames),
            data=arguments.data.name if arguments.data else ", ".join(arguments.structures),
            labels=", ".join(arguments.labels),
            batch=arguments.batch,
        ),
        columns=["loop", "samples a second", "step (ms)", f"time / {base}"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
