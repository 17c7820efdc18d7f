"""Many structures at once: `calculate_many` against single steps, and a committee against separate calls.

python benchmarks/batches.py [NAME] [--sizes 8 64 512] [--mixed 60] [--members 5] [--turns 9]

The model (default: ET 64 × 4) is one of measuring/models.py, with random weights, or a registered one.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from measuring.models import model_file
from measuring.peers import options_of, write_torchmdnet_checkpoint
from measuring.record import Cell, Spread, Table, parser, publish
from measuring.turns import alternate, ratio

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions
from asecalc_ml.store.model_file import file_hash, read_model
from asecalc_ml.structure.loading import load_structure

DISPLACEMENT_A = 0.02
MIXED = ("ethanol", "1-propanol", "2-propanol")

MANY = Table(
    title="Batches: calculate_many against single steps",
    method="Energy and forces of shaken structures, in milliseconds a structure: one call of "
    "calculate_many, one call after the other of a compiled calculator, and torchmd-net's "
    "adapter for TorchMD (External), which takes a batch of equal molecules. The ratio is "
    "that of calculate_many to single steps: below 1 batches pay.",
    columns=[
        "model",
        "structures",
        "calculate_many (ms)",
        "single steps (ms)",
        "torchmd-net (ms)",
        "many / single",
        "torchmd-net / many",
        "largest deviation of forces (eV/Å)",
    ],
    rows=[],
)
COMMITTEE = Table(
    title="Committee against separate calls",
    method="Energy and forces of shaken structures with members that differ in their random "
    "weights: one call of the committee, and one of each member's calculator, all compiled.",
    columns=[
        "model",
        "members",
        "committee (ms)",
        "separate calls (ms)",
        "committee / separate",
        "largest deviation of forces (eV/Å)",
    ],
    rows=[],
)


def shaken(names: tuple[str, ...], n_structures: int) -> list[Atoms]:
    """Structures by turns, each displaced at random."""
    random = np.random.default_rng(0)
    structures = [load_structure(names[k % len(names)]) for k in range(n_structures)]
    for atoms in structures:
        atoms.positions += random.normal(scale=DISPLACEMENT_A, size=atoms.positions.shape)
    return structures


def one_by_one(calculators: list[Calculator], structures: list[Atoms]) -> np.ndarray:
    """Mean forces of the calculators, which are called one after the other, shape (n_atoms of all, 3)."""
    forces = []
    for atoms in structures:
        for calculator in calculators:
            calculator.calculate(atoms, ["energy", "forces"])
        forces.append(np.mean([calculator.results["forces"] for calculator in calculators], axis=0))
    return np.concatenate(forces)


def in_batches(calculator: MLCalculator, structures: list[Atoms]) -> np.ndarray:
    """Forces by `calculate_many`, shape (n_atoms of all, 3)."""
    return np.concatenate([results["forces"] for results in calculator.calculate_many(structures)])


class TorchMDNetBatch:
    """Forces by torchmd-net's model for a batch of equal molecules, shape (n_atoms of all, 3)."""

    def __init__(self, checkpoint: Path, structures: list[Atoms], device: str):
        from torchmdnet.calculators import External

        numbers = torch.tensor(np.array([atoms.numbers for atoms in structures]))
        self.external = External(str(checkpoint), numbers, device=device)
        self.structures = structures

    def __call__(self) -> np.ndarray:
        positions = torch.tensor(np.array([atoms.positions for atoms in self.structures]))
        return self.external.calculate(positions)[1].cpu().numpy().reshape(-1, 3)


def batch_row(name: str, file: Path, structures: list[Atoms], label: str, arguments) -> list[Cell]:
    """Time a structure, in one call and one after the other."""
    many = MLCalculator(file, compile=arguments.compile, device=arguments.device)
    single = MLCalculator(file, compile=arguments.compile, device=arguments.device)
    works = {
        "many": partial(in_batches, many, structures),
        "single": partial(one_by_one, [single], structures),
    }
    with tempfile.TemporaryDirectory() as folder:
        model, card = read_model(file)
        options, is_equal = options_of(card), len({str(atoms.symbols) for atoms in structures}) == 1
        if isinstance(options, TorchMDNetOptions) and is_equal:
            path = Path(folder) / "upstream.ckpt"
            scale = model.scale[structures[0].numbers[0]].item()
            write_torchmdnet_checkpoint(path, options, model.potential, scale)
            works["peer"] = TorchMDNetBatch(path, structures, arguments.device)
    forces = {key: work() for key, work in works.items()}
    deviation = max(np.abs(forces[key] - forces["single"]).max() for key in forces)
    seconds = alternate(works, arguments.turns)
    times = [
        Spread.of(seconds[key], 1e3 / len(structures)) if key in seconds else ""
        for key in ("many", "single", "peer")
    ]
    against_peer = ratio(seconds["peer"], seconds["many"]) if "peer" in works else ""
    return [name, label, *times, ratio(seconds["many"], seconds["single"]), against_peer, deviation]


def committee_row(name: str, files: list[Path], structures: list[Atoms], arguments) -> list[Cell]:
    """Time a structure, of the committee and of its members called one by one."""
    settings = {"compile": arguments.compile, "device": arguments.device}
    committee = Committee([str(file) for file in files], **settings)
    members = [MLCalculator(file, **settings) for file in files]
    works = {
        "committee": partial(one_by_one, [committee], structures),
        "separate": partial(one_by_one, members, structures),
    }
    deviation = np.abs(works["committee"]() - works["separate"]()).max()
    seconds = alternate(works, arguments.turns)
    times = [Spread.of(seconds[key], 1e3 / len(structures)) for key in works]
    return [name, len(files), *times, ratio(seconds["committee"], seconds["separate"]), deviation]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("name", nargs="?", default="ET 64 × 4", metavar="NAME")
    options.add_argument("--sizes", nargs="+", type=int, default=[8, 64, 512], help="numbers of structures")
    options.add_argument("--mixed", type=int, default=60, help=f"number of structures of {', '.join(MIXED)}")
    options.add_argument("--members", type=int, default=5, help="of the committee")
    options.add_argument("--turns", type=int, default=9)
    arguments = options.parse_args()
    arguments.compile = "never" if arguments.quick else "always"
    if arguments.quick:
        arguments.name, arguments.sizes, arguments.mixed = "ET 16 × 1", [4], 6
        arguments.members, arguments.turns = 2, 2
    torch.set_num_threads(arguments.threads)
    publish(arguments, "Batches and committees", tables(arguments))


def tables(arguments: argparse.Namespace) -> list[Table]:
    name, atoms = arguments.name, load_structure(MIXED[0])
    many, committee = MANY.model_copy(deep=True), COMMITTEE.model_copy(deep=True)
    with tempfile.TemporaryDirectory() as folder:
        files = [model_file(name, atoms, Path(folder), seed) for seed in range(arguments.members)]
        for n_structures in arguments.sizes:
            structures = shaken(MIXED[:1], n_structures)
            many.rows.append(batch_row(name, files[0], structures, f"{n_structures} × {MIXED[0]}", arguments))
        if arguments.mixed:
            structures = shaken(MIXED, arguments.mixed)
            label = f"{len(structures)}: {', '.join(MIXED)}"
            many.rows.append(batch_row(name, files[0], structures, label, arguments))
        if len({file_hash(file) for file in files}) == len(files) > 1:  # a registered model has one member
            structures = shaken(MIXED[:1], 2 if arguments.quick else 20)
            committee.rows.append(committee_row(name, files, structures, arguments))
    return [table for table in (many, committee) if table.rows]


if __name__ == "__main__":
    main()
