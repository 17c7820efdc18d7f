"""A step of dynamics of one molecule: this package against torchmd-net's own calculator, same weights.

python benchmarks/single_molecule.py [--structure ethanol] [--channels 128] [--layers 6] [--steps 200]

Both run ASE's velocity Verlet in turn, over and over, so that whatever else the machine does meets both
alike. What is printed are medians over the turns, and their ratio.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from asecalc_ml import MLCalculator
from asecalc_ml.model.potential import Potential
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
from asecalc_ml.store.model_file import save_model
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import untrained_card, untrained_model

TURNS = 9
TIMESTEP_FS = 0.1

#: Random weights make huge forces, and a molecule that flies apart would leave the cutoff.
SCALE = 0.01


def upstream_calculator(options: EquivariantTransformer, potential: Potential, folder: Path):
    """torchmd-net's ASE calculator from a checkpoint with our weights, which bear its names."""
    from torchmdnet.calculators import TMDNETCalculator
    from torchmdnet.models.model import create_model

    arguments = {
        "model": "equivariant-transformer",
        "embedding_dimension": options.hidden_channels,
        "num_layers": options.n_layers,
        "num_rbf": options.n_rbf,
        "num_heads": options.n_heads,
        "rbf_type": options.rbf,
        "trainable_rbf": options.trainable_rbf,
        "activation": options.activation,
        "attn_activation": options.attention_activation,
        "neighbor_embedding": options.neighbor_embedding,
        "distance_influence": options.distance_influence,
        "vector_cutoff": options.envelope,
        "cutoff_lower": 0.0,
        "cutoff_upper": options.cutoff_A,
        "max_z": options.max_atomic_number + 1,
        "max_num_neighbors": 64,
        "aggr": "add",
        "derivative": True,
        "atom_filter": -1,
        "prior_model": None,
        "output_model": "Scalar",
        "reduce_op": "sum",
        "precision": 32,
    }
    model = create_model(arguments, std=torch.tensor(SCALE))
    model.load_state_dict(potential.state_dict(), strict=False)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"hyper_parameters": arguments, "state_dict": state}, folder / "upstream.ckpt")
    return TMDNETCalculator(str(folder / "upstream.ckpt"))


def dynamics_of(atoms: Atoms, calculator) -> VelocityVerlet:
    """Dynamics after a warm-up, in which ours is compiled."""
    atoms = atoms.copy()
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    dynamics.run(20)
    return dynamics


def milliseconds_per_step(dynamics: VelocityVerlet, n_steps: int) -> float:
    start = time.perf_counter()
    dynamics.run(n_steps)
    return 1000 * (time.perf_counter() - start) / n_steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structure", default="ethanol")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=200, help="of each calculator in each turn")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    atoms = load_structure(arguments.structure)
    options = EquivariantTransformer(
        hidden_channels=arguments.channels, n_layers=arguments.layers, max_atomic_number=20
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.safetensors"
        model = untrained_model(options, dtype=torch.float32)
        model.scale.fill_(SCALE)
        model.shift.zero_()
        save_model(path, model, untrained_card("benchmark", options, model, atoms))
        calculators = {
            "torchmd-net's calculator": upstream_calculator(options, model.potential, Path(folder)),
            "MLCalculator, eager": MLCalculator(path, compile="never"),
            "MLCalculator, compiled": MLCalculator(path, compile="always"),
        }
        report(atoms, calculators, arguments.steps)


def report(atoms: Atoms, calculators: dict, n_steps: int) -> None:
    """Print times and ratios; the first calculator is what the others are compared with."""
    runs = {name: dynamics_of(atoms, calculator) for name, calculator in calculators.items()}
    times = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, dynamics in runs.items():
            times[name].append(milliseconds_per_step(dynamics, n_steps))
    first = next(iter(times))
    expected = calculators[first].get_forces(atoms)
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[first], values, strict=True))
        deviation = np.abs(calculators[name].get_forces(atoms) - expected).max()
        print(f"{name:<28} {statistics.median(values):7.2f} ms a step, {ratio:5.2f} times as fast, ", end="")
        print(f"forces within {deviation:.0e} eV/Å")


if __name__ == "__main__":
    main()
