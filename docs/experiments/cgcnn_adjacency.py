"""Values, time and memory of CGCNN with edges in a list and in a padded matrix, on CoRE MOF 2019.

python docs/experiments/cgcnn_adjacency.py [--model void-list-0] [--structures 80]

The weights are those of a model that was trained with a list, or random ones. Values of the masked matrix are
compared with those of the list in float32 and float64. A training step is the forward and backward pass of a
batch of 16 structures of up to 150 atoms; layouts take turns, and medians are printed. Memory is that of all
tensors that a forward pass keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparisons import markdown

from asecalc_ml.config import load_options
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.store.model_file import read_model
from asecalc_ml.store.registry import Registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "mof" / "void_list.yaml"
BATCH = 16
MAX_ATOMS = 150
N_STEPS = 5


def layouts(most_neighbors: int) -> dict[str, dict[str, Any]]:
    """Options of each way to hold the edges."""
    full = {"max_neighbors": most_neighbors, "max_atoms": MAX_ATOMS}
    return {
        "list": {},
        "matrix, masked": {"adjacency": "matrix", **full},
        "matrix, unmasked": {"adjacency": "unmasked-matrix", **full},
        "nearest 12, unmasked": {"adjacency": "unmasked-matrix", "max_neighbors": 12},
    }


def batches(options: TrainOptions, n_structures: int, cutoff_A: float) -> list[PotentialInput]:
    """Random structures of the data in batches."""
    frames = dataset(options.data).read()
    chosen = np.random.default_rng(0).permutation(len(frames))[:n_structures]
    graphs = [AtomGraph.from_atoms(frames[int(k)], cutoff_A) for k in chosen]
    return [with_ghost(collate(graphs[k : k + BATCH]), cutoff_A) for k in range(0, len(graphs), BATCH)]


def potential_of(
    hyperparameters: Mapping[str, Any], model: str | None, layout: Mapping[str, Any]
) -> torch.nn.Module:
    """A network with the weights of a trained model, or random ones, and another layout of edges."""
    torch.manual_seed(0)
    potential = CGCNN(**hyperparameters | layout).build()
    if model is not None:
        trained, _ = read_model(Registry().find(model).path)
        potential.load_state_dict(trained.potential.state_dict())
    return potential


def step(potential: torch.nn.Module, inputs: PotentialInput) -> None:
    """Forward and backward pass of a batch."""
    potential.zero_grad()
    vectors = inputs.edge_vectors.to(torch.float32)
    (potential(inputs._replace(edge_vectors=vectors)).system ** 2).sum().backward()


def kept_memory(potential: torch.nn.Module, inputs: PotentialInput) -> float:
    """Size of all tensors that the forward pass keeps for the backward pass, MiB."""
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        vectors = inputs.edge_vectors.to(torch.float32)
        _ = potential(inputs._replace(edge_vectors=vectors)).system
        return sum(sizes.values()) / 2**20


def values(potential: torch.nn.Module, inputs: list[PotentialInput], dtype: torch.dtype) -> torch.Tensor:
    """Values of all structures, before scale and shift."""
    potential = potential.to(dtype)
    with torch.no_grad():
        outputs = [
            potential(batch._replace(edge_vectors=batch.edge_vectors.to(dtype))).system[:-1]
            for batch in inputs
        ]
    return torch.cat(outputs)[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="trained model whose weights are taken [default: random weights]")
    parser.add_argument("--structures", type=int, default=80)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = load_options(EXAMPLE, TrainOptions)
    hyperparameters = {key: value for key, value in options.model.items() if key != "architecture"}
    inputs = batches(options, given.structures, hyperparameters["cutoff_A"])
    n_edges = [torch.bincount(batch.edge_index[0]) for batch in inputs]
    most = max(int(counts.max()) for counts in n_edges)
    n_atoms = sum(batch.n_atoms - 1 for batch in inputs)
    few = sum(int((counts < 12).sum()) for counts in n_edges) / n_atoms
    print(
        f"{given.structures} structures, {n_atoms / given.structures:.0f} atoms each, "
        f"{sum(int(c.sum()) for c in n_edges) / n_atoms:.1f} neighbors of an atom within "
        f"{hyperparameters['cutoff_A']} Å and {most} at most; {few:.2%} of the atoms have fewer than 12",
        flush=True,
    )

    potentials = {
        name: potential_of(hyperparameters, given.model, layout) for name, layout in layouts(most).items()
    }
    for dtype in (torch.float64, torch.float32):
        of_list, of_matrix = (values(potentials[name], inputs, dtype) for name in ("list", "matrix, masked"))
        print(
            f"masked matrix less list, {dtype}: at most {(of_matrix - of_list).abs().max():.1e}; "
            f"standard deviation of the values {of_list.std():.2g}"
        )

    # Float32 again: layouts take turns at each batch.
    seconds: dict[str, list[float]] = {name: [] for name in potentials}
    for batch in inputs[:N_STEPS]:
        for name, potential in potentials.items():
            started = time.process_time()
            step(potential, batch)
            seconds[name].append(time.process_time() - started)
    memory = {name: kept_memory(potential, inputs[0]) for name, potential in potentials.items()}
    n_places = {"list": sum(len(batch.edge_vectors) for batch in inputs) / len(inputs)}
    for name, layout in layouts(most).items():
        if layout:
            rows = layout.get("max_atoms") or n_atoms / given.structures
            n_places[name] = BATCH * rows * layout["max_neighbors"]
    of_list = statistics.median(seconds["list"])
    rows = [
        [
            name,
            f"{n_places[name]:,.0f}",
            f"{1000 * statistics.median(times):.0f}",
            f"{statistics.median(times) / of_list:.2f}",
            f"{memory[name]:.0f}",
        ]
        for name, times in seconds.items()
    ]
    print(
        "\n" + markdown(["edges", "places in a batch", "step (ms)", "relative to list", "memory (MiB)"], rows)
    )


if __name__ == "__main__":
    main()
