"""Samples per second of a training: our loop, compiled and eager, and that of the architecture's package.

python benchmarks/training.py [--cases NAME ...]
python benchmarks/training.py ARCHITECTURE [OPTION=VALUE ...] [--data FILE | --structures NAME ...]
    [--labels energy forces] [--batch 8] [--frames 200] [--turns 5] [--eager]

As in: python benchmarks/training.py painn n_atom_basis=64 --structures ethanol 1-propanol

Ours is the loop of `asecalc-ml train`; torchmd-net's and schnetpack's are their modules under Lightning.
torchmd-net's is timed where molecules are trained on energies and forces. The data are those of a file, or
structures displaced at random, with harmonic energies and forces, and random stresses where they are
periodic. A structure is a name that `asecalc-md` takes, or Si8, Si16, Si32 or Si64: cells of silicon.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from measuring.peer_training import LEARNING_RATE, WEIGHTS, Epoch, peer_epochs
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
STRESS = 0.01  # eV/Å³, standard deviation

#: Repetitions of the conventional cell of 8 atoms.
SILICON = {"Si8": (1, 1, 1), "Si16": (1, 1, 2), "Si32": (1, 2, 2), "Si64": (2, 2, 2)}


class Case(NamedTuple):
    """A training that is measured."""

    architecture: str
    settings: Sequence[str] = ()
    structures: Sequence[str] = ("ethanol",)
    labels: Sequence[str] = ("energy", "forces")
    batch: int = 8
    frames: int = 200


ET = "equivariant-transformer"
MOLECULES = ("water", "CH3OH", "ethanol", "1-propanol", "acetic-acid", "benzene", "malonaldehyde")

CASES = {
    "et": Case(ET),
    "et-32": Case(ET, batch=32),
    "painn": Case("painn", ["n_atom_basis=64"]),
    "painn-128": Case("painn", ["n_atom_basis=128"], frames=120),
    "painn-sizes": Case("painn", ["n_atom_basis=64"], MOLECULES),
    "painn-silicon": Case(
        "painn", ["n_atom_basis=64"], [*SILICON], ("energy", "forces", "stress"), frames=48
    ),
    "painn-energies": Case("painn", ["n_atom_basis=64"], MOLECULES, ("energy",), batch=32, frames=480),
}
QUICK = Case(ET, ["hidden_channels=16", "n_layers=1", "n_rbf=8", "n_heads=2"], batch=2, frames=4)

METHOD = (
    "Epochs of all loops take turns, in float32 and with AdamW, on {frames} frames of {data} ({sizes}), "
    "{batch} in a step; labels are {labels}. Validation, and what is done once before an epoch, do not "
    "count; our neighbor lists are made once, those of torchmd-net and schnetpack in each step."
)


def structure(name: str) -> Atoms:
    """A structure by its name."""
    return bulk("Si", cubic=True) * SILICON[name] if name in SILICON else load_structure(name)


def harmonic_frames(names: Sequence[str], n_frames: int) -> list[Atoms]:
    """Structures by turns, displaced at random, with E = k/2 Σ d² and F = −k d of the displacements d."""
    random = np.random.default_rng(0)
    frames = [structure(names[k % len(names)]) for k in range(n_frames)]
    for atoms in frames:
        displacements = random.normal(scale=DISPLACEMENT_A, size=(len(atoms), 3))
        atoms.positions += displacements
        stress = {"stress": random.normal(scale=STRESS, size=6)} if atoms.pbc.all() else {}
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=FORCE_CONSTANT / 2 * (displacements**2).sum(),
            forces=-FORCE_CONSTANT * displacements,
            **stress,
        )
    return frames


def options_of_training(case: Case, device: str) -> TrainOptions:
    """A training of the architecture on the labels."""
    settings = dict(setting.split("=", 1) for setting in case.settings)
    return TrainOptions(
        name="benchmark",
        data={"format": "ase", "path": "frames.xyz"},
        model={"architecture": case.architecture, **settings},
        loss={f"{label}_weight": weight * (label in case.labels) for label, weight in WEIGHTS.items()},
        optimizer={"learning_rate": LEARNING_RATE, "warmup_steps": 0},
        batch_size=case.batch,
        device=device,
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
        seconds = time.perf_counter() - start
        loop.progress.step_losses.clear()  # the next epoch takes all batches again
        return seconds

    return epoch


def epochs(case: Case, options: TrainOptions, frames: list[Atoms], eager: bool) -> dict[str, Epoch]:
    """Epochs of all loops, by name; the first is the one that others are compared with."""
    loops = {}
    if not eager:
        compiled = our_loop(options, frames)
        eager_step = compiled.step
        compile_step(compiled)
        if compiled.step is not eager_step:  # else it could not be compiled, and a warning says why
            loops["ours, compiled"] = epoch_of(compiled)
    loops["ours, eager"] = epoch_of(our_loop(options, frames))
    peers = peer_epochs(architecture(options), frames, case.labels, options.batch_size, options.device)
    return loops | peers


def main() -> None:
    options = parser(__doc__)
    options.add_argument("architecture", nargs="?")
    options.add_argument("settings", nargs="*", metavar="OPTION=VALUE", help="of the architecture")
    options.add_argument(
        "--cases", nargs="+", default=[*CASES], choices=CASES, metavar="NAME", help=", ".join(CASES)
    )
    options.add_argument("--data", type=Path, metavar="FILE", help="frames with labels")
    options.add_argument("--format", help="reader of the file, where its name does not say it")
    options.add_argument("--structures", nargs="+", metavar="NAME")
    options.add_argument("--labels", nargs="+", choices=WEIGHTS)
    options.add_argument("--frames", type=int)
    options.add_argument("--batch", type=int, help="frames in a step")
    options.add_argument("--turns", type=int, default=5, help="epochs of each loop")
    options.add_argument("--eager", action="store_true", help="do not compile")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.turns, arguments.eager = 2, True
    torch.set_num_threads(arguments.threads)
    publish(arguments, "Training", [measured(case, arguments) for case in cases(arguments)])


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Those that are asked for."""
    if arguments.quick:
        return [QUICK if arguments.architecture is None else QUICK._replace(**named(arguments))]
    if arguments.architecture is None:
        return [CASES[name] for name in arguments.cases]
    return [Case(**named(arguments))]


def named(arguments: argparse.Namespace) -> dict[str, object]:
    """What the command line says of a case."""
    return {name: getattr(arguments, name) for name in Case._fields if getattr(arguments, name)}


def frames_of(case: Case, data: Path | None, data_format: str | None) -> tuple[list[Atoms], str]:
    """Frames with labels, and what they are."""
    if data is None:
        return harmonic_frames(case.structures, case.frames), ", ".join(case.structures)
    further = ["--format", data_format] if data_format else []
    return reader(str(data), further).read()[: case.frames], data.name


def measured(case: Case, arguments: argparse.Namespace) -> Table:
    """Rates of all loops."""
    frames, name = frames_of(case, arguments.data, arguments.format)
    options = options_of_training(case, arguments.device)
    loops = epochs(case, options, frames, arguments.eager)
    for epoch in loops.values():
        epoch()  # warm-up
    seconds = alternate(loops, arguments.turns, own_time)
    n_steps = max(len(frames) // case.batch, 1)
    n_samples = n_steps * min(case.batch, len(frames))
    base = next(iter(loops))
    rows = [
        [loop, Spread.of(n_samples / times), Spread.of(times, 1e3 / n_steps), ratio(times, seconds[base])]
        for loop, times in seconds.items()
    ]
    model = build_model(options, fit_scaling(frames, None))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Table(
        title=f"{' '.join([case.architecture, *case.settings])}, {n_parameters:,} parameters: "
        f"{name}, batch {case.batch}",
        method=METHOD.format(
            frames=len(frames),
            data=name,
            labels=", ".join(case.labels),
            batch=case.batch,
            sizes=sizes(frames),
        ),
        columns=["loop", "samples a second", "step (ms)", f"time / {base}"],
        rows=rows,
    )


def sizes(frames: Iterable[Atoms]) -> str:
    """Numbers of atoms in words."""
    smallest, largest = min(map(len, frames)), max(map(len, frames))
    return f"{smallest} atoms" if smallest == largest else f"{smallest} to {largest} atoms"


if __name__ == "__main__":
    main()
