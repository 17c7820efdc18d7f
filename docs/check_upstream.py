"""Calculators of other packages with networks in them, for `asecalc-ml check`.

PYTHONPATH=docs asecalc-ml check check_upstream:torchmdnet --atoms ethanol
PYTHONPATH=docs asecalc-ml check check_upstream:schnetpack_calculator --atoms ethanol

`python docs/check_upstream.py FOLDER` writes the crystals that docs/check.md names.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

MODEL = "torchmdnet-ethanol"
CUTOFF_A = 5.0

# torchmd-net's names of what our options say, and its defaults for what we have no option for.
TORCHMDNET = {
    "model": "equivariant-transformer",
    "precision": 32,
    "cutoff_lower": 0.0,
    "max_num_neighbors": 64,
    "aggr": "add",
    "equivariance_invariance_group": "O(3)",
    "derivative": True,
    "atom_filter": -1,
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "sum",
    "vector_cutoff": True,
}
NAMES = {
    "embedding_dimension": "hidden_channels",
    "num_layers": "n_layers",
    "num_rbf": "n_rbf",
    "rbf_type": "rbf",
    "trainable_rbf": "trainable_rbf",
    "activation": "activation",
    "attn_activation": "attention_activation",
    "num_heads": "n_heads",
    "neighbor_embedding": "neighbor_embedding",
    "distance_influence": "distance_influence",
    "cutoff_upper": "cutoff_A",
}


def torchmdnet(precision: int = 32, **arguments):
    """torchmd-net's own ASE calculator with the weights of our model of ethanol.

    Energies lack the constant of the composition, which torchmd-net keeps in another place than we.
    """
    import torch

    from asecalc_ml.store.model_file import read_model
    from asecalc_ml.store.registry import Registry

    ours, card = read_model(Registry().find(MODEL).path)
    options = card.hyperparameters
    args = {**TORCHMDNET, **{name: options[own] for name, own in NAMES.items()}}
    args |= {"max_z": options["max_atomic_number"] + 1, "precision": precision}
    from torchmdnet.calculators import TMDNETCalculator
    from torchmdnet.models.model import create_model

    with torch.random.fork_rng(devices=[]):
        theirs = create_model(args, std=ours.scale[6])
    theirs.load_state_dict(ours.potential.state_dict(), strict=False)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "ethanol.ckpt")
        weights = {f"model.{name}": value for name, value in theirs.state_dict().items()}
        torch.save({"hyper_parameters": args, "state_dict": weights}, path)
        dtype = torch.float32 if precision == 32 else torch.float64
        return TMDNETCalculator(path, dtype=dtype, **arguments)


def schnetpack_calculator(stress: bool = True, define_name: bool = True, unpickle: bool = True):
    """schnetpack's own ASE calculator with a PaiNN of random weights.

    Parameters
    ----------
    stress : bool
        Whether the network computes a stress.
    define_name, unpickle : bool
        The two repairs that it needs beside a current torch: a name that is gone from torch and that its
        import looks for, and a load of a pickled network, which torch refuses by default.
    """
    import torch

    if define_name:
        _define_name()
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.transform import ASENeighborList

    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), _unpickling(unpickle):
        torch.manual_seed(0)
        path = str(Path(folder) / "model")
        torch.save(_painn(stress), path)
        neighbors = ASENeighborList(CUTOFF_A)
        return SpkCalculator(path, neighbors, stress_key="stress" if stress else None, energy_unit="eV")


def _painn(stress: bool):
    from schnetpack import atomistic, model, representation
    from schnetpack.nn import CosineCutoff, GaussianRBF

    forces = atomistic.Forces(calc_stress=stress)
    return model.NeuralNetworkPotential(
        representation=representation.PaiNN(32, 2, GaussianRBF(16, CUTOFF_A), CosineCutoff(CUTOFF_A)),
        input_modules=[atomistic.PairwiseDistances()],
        output_modules=[atomistic.Atomwise(n_in=32, output_key="energy"), forces],
    )


def _define_name() -> None:
    from typing import TypeVar

    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = TypeVar("T_co", covariant=True)


@contextmanager
def _unpickling(allowed: bool) -> Iterator[None]:
    """Let torch load what it would refuse, and leave the environment as it was."""
    with patch.dict(os.environ, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1" if allowed else "0"}):
        yield


def write_crystals(folder: Path) -> None:
    """Copper and argon, and ethanol in a box as wide as torchmd-net wants it: twice the cutoff."""
    from ase.build import bulk

    from asecalc_ml.structure.loading import load_structure

    folder.mkdir(parents=True, exist_ok=True)
    bulk("Cu", cubic=True).write(folder / "copper.xyz")
    bulk("Ar", "fcc", 5.26, cubic=True).write(folder / "argon.xyz")
    ethanol = load_structure("ethanol")
    ethanol.set_cell([11.0, 11.5, 12.0])
    ethanol.pbc = True
    ethanol.write(folder / "ethanol-box.xyz")


if __name__ == "__main__":
    write_crystals(Path(sys.argv[1]))
