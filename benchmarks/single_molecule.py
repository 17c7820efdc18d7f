"""A step of dynamics of one molecule: this package against the calculators of other packages, same weights.

python benchmarks/single_molecule.py [NAME ...] [--structure ethanol] [--steps 100] [--turns 9]

Names are those of measuring/models.py, with random weights, or of registered models. All run ASE's velocity
Verlet in float32; a calculator that computes nothing shows what ASE itself takes.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.verlet import VelocityVerlet
from measuring.models import ARCHITECTURES, SMALL, model_file
from measuring.peers import peer_calculators
from measuring.record import Cell, Spread, Table, parser, publish
from measuring.turns import alternate, ratio

from asecalc_ml import MLCalculator
from asecalc_ml.store.model_file import read_model
from asecalc_ml.structure.loading import load_structure

#: So short that a molecule with random weights stays whole; a step takes no longer for it.
TIMESTEP_FS = 1e-3

OURS = ("eager", "compiled")
COLUMNS = [
    "model",
    "peer",
    "peer (ms a step)",
    "ours, eager (ms)",
    "ours, compiled (ms)",
    "ASE alone (ms)",
    "peer / eager",
    "peer / compiled",
    "largest deviation of forces (eV/Å)",
]
METHOD = (
    "Each calculator makes its steps in turn, in float32 and with the same weights; random weights "
    "are scaled to forces of about 1 eV/Å. The peer is the ASE calculator of the package that the "
    "architecture comes from, as its users call it; schnetpack's with the neighbor list of its "
    "tutorials (ASE) and with its fastest for a"
    'molecule (torch). "ASE alone" is a calculator that computes nothing.'
)


class NoForces(Calculator):
    """Computes nothing: what remains of a step is ASE."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def calculators(name: str, atoms: Atoms, device: str, compile: bool) -> dict[str, Calculator]:
    """Our calculator, and with the same weights that of the package which the architecture comes from."""
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(name, atoms, Path(folder))
        ours = {"eager": MLCalculator(path, compile="never", device=device)}
        ours["eager"].get_forces(atoms)  # reads the weights
        if compile:
            ours["compiled"] = MLCalculator(path, compile="always", device=device)
            ours["compiled"].prepare(atoms)
        model, card = read_model(path)
    return {**peer_calculators(card, model, atoms, device), **ours}


def dynamics_of(atoms: Atoms, calculator: Calculator, n_steps: int) -> VelocityVerlet:
    """Dynamics after a warm-up."""
    atoms = atoms.copy()
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    dynamics.run(n_steps)
    return dynamics


def measured(name: str, atoms: Atoms, arguments: argparse.Namespace) -> list[list[Cell]]:
    """Rows of a model, one for each peer: times, ratios, and how far forces differ."""
    runs = calculators(name, atoms, arguments.device, compile=not arguments.eager)
    forces = {key: calculator.get_forces(atoms) for key, calculator in runs.items()}
    runs["ASE"] = NoForces()
    dynamics = {key: dynamics_of(atoms, one, min(20, arguments.steps)) for key, one in runs.items()}
    works = {key: partial(run.run, arguments.steps) for key, run in dynamics.items()}
    seconds = alternate(works, arguments.turns)
    factor = 1e3 / arguments.steps
    own = [key for key in ("eager", "compiled") if key in runs]
    peers = [key for key in runs if key not in (*own, "ASE")] or [""]
    rows = []
    for peer in peers:
        times = [Spread.of(seconds[key], factor) if key in seconds else "" for key in (peer, *OURS, "ASE")]
        ratios = [ratio(seconds[peer], seconds[key]) if peer and key in seconds else "" for key in OURS]
        deviation = max(np.abs(forces[key] - forces[peer]).max() for key in own) if peer else ""
        rows.append([name, peer, *times, *ratios, deviation])
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(ARCHITECTURES)}")
    options.add_argument("--structure", default="ethanol")
    options.add_argument("--steps", type=int, default=100, help="of each calculator in each turn")
    options.add_argument("--turns", type=int, default=9)
    options.add_argument("--eager", action="store_true", help="do not compile")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.steps, arguments.turns, arguments.eager = 2, 2, True
    torch.set_num_threads(arguments.threads)
    atoms = load_structure(arguments.structure)
    names = arguments.names or (SMALL if arguments.quick else ARCHITECTURES)
    rows = [row for name in names for row in measured(name, atoms, arguments)]
    title = f"{arguments.structure} ({len(atoms)} atoms), velocity Verlet in ASE"
    publish(arguments, "Single molecule", [Table(title=title, method=METHOD, columns=COLUMNS, rows=rows)])


if __name__ == "__main__":
    main()
