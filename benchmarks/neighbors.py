"""What pairs and triplets cost: a fresh search against other libraries, a list with a skin, and triplets.

python benchmarks/neighbors.py [--cells 4 8] [--steps 200] [--turns 9]

Silicon, with atoms as independent oscillators at 300 K: silicon's mean square displacement (B = 0.46 Å²) and
frequencies from 2 to 15 THz, steps of 1 fs. "Diffusing" atoms also drift apart, by 5 Å in a picosecond.
"""

import argparse
import time
from functools import partial
from statistics import median

import ase.neighborlist
import matscipy.neighbours
import numpy as np
import torch
import vesin
from ase import Atoms
from ase.build import bulk, molecule
from measuring.record import Cell, Spread, Table, parser, publish
from measuring.turns import alternate, ratio

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.neighbors import SkinNeighborList, find_pairs
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.structure.loading import load_structure

CUTOFF_A = 5.0
AMPLITUDE_A = np.sqrt(0.46 / (8 * np.pi**2))  # per direction
SKINS_A = (0.0, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
WALKS_A = {"vibrating": 0.0, "diffusing": 0.005}

#: ASE's search is written in Python; beyond this it would take most of the time of the benchmark.
MOST_ATOMS_FOR_ASE = 2000

#: Cutoffs of edges and of triplets, Å: ANI's and DimeNet++'s defaults.
TRIPLET_CUTOFFS_A = {"ANI": (5.2, 3.5), "DimeNet++": (5.0, 5.0)}
SPACING_A = 3.107  # of water molecules, at 1 g/cm³


# --------------------------------------------------------------------------------------------- fresh searches


def ours(atoms: Atoms) -> int:
    return find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF_A).edge_index.shape[1]


def by_vesin(atoms: Atoms) -> int:
    search = vesin.NeighborList(cutoff=CUTOFF_A, full_list=True)
    i, *_ = search.compute(
        points=atoms.positions, box=atoms.cell.array, periodic=bool(atoms.pbc.all()), quantities="ijS"
    )
    return len(i)


def by_matscipy(atoms: Atoms) -> int:
    return len(matscipy.neighbours.neighbour_list("ijS", atoms, CUTOFF_A)[0])


def by_ase(atoms: Atoms) -> int:
    return len(ase.neighborlist.neighbor_list("ijS", atoms, CUTOFF_A)[0])


PEERS = {"vesin": by_vesin, "matscipy": by_matscipy, "ASE": by_ase}


def search_table(arguments: argparse.Namespace) -> Table:
    """A search from the start with each library."""
    rows = [search_row(atoms, arguments.turns) for atoms in crystals(arguments.cells)]
    times = [f"{name} (ms)" for name in PEERS]
    ratios = [f"{name} / ours" for name in PEERS]
    return Table(
        title="A fresh search for pairs",
        method=f"Silicon, cutoff {CUTOFF_A} Å, indices and cell shifts of directed pairs as NumPy "
        "arrays. Ours (`find_pairs`) searches with vesin, keeps the pairs that its one "
        "equation accepts, and brings them into the canonical order; compared with the "
        "libraries themselves, which find the same number of pairs.",
        columns=["atoms", "pairs", "ours (ms)", *times, *ratios],
        rows=rows,
    )


def search_row(atoms: Atoms, n_turns: int) -> list[Cell]:
    searches = {"ours": ours, **PEERS}
    if len(atoms) > MOST_ATOMS_FOR_ASE:
        del searches["ASE"]
    works = {name: partial(search, atoms) for name, search in searches.items()}
    n_pairs = {name: work() for name, work in works.items()}
    if len(set(n_pairs.values())) > 1:
        raise ValueError(f"libraries differ in the number of pairs: {n_pairs}")
    seconds = alternate(works, n_turns)
    times = [Spread.of(seconds[name], 1e3) if name in seconds else "" for name in ("ours", *PEERS)]
    ratios = [ratio(seconds[name], seconds["ours"]) if name in seconds else "" for name in PEERS]
    return [len(atoms), n_pairs["ours"], *times, *ratios]


def crystals(n_cells: list[int]) -> list[Atoms]:
    """Rattled crystals of silicon."""
    structures = [bulk("Si", cubic=True) * n for n in n_cells]
    for atoms in structures:
        atoms.rattle(AMPLITUDE_A, seed=0)
    return structures


# ------------------------------------------------------------------------------------------ lists with a skin


def skin_table(arguments: argparse.Namespace) -> Table:
    rows = []
    for n_cells in arguments.cells:
        for motion, walk in WALKS_A.items():
            frames, cell, pbc = trajectory(n_cells, arguments.steps, walk)
            rows += [skin_row(frames, cell, pbc, skin, motion, arguments.device) for skin in arguments.skins]
    return Table(
        title="Pairs at each step of dynamics, with a skin",
        method=f"Silicon at 300 K, {arguments.steps} steps of 1 fs, cutoff {CUTOFF_A} Å: mean time "
        "a step, and medians of the steps that need no search and of those that do. A skin "
        "of 0 is a fresh search at each step.",
        columns=["atoms", "motion", "skin (Å)", "mean (ms)", "update (ms)", "search (ms)", "steps a search"],
        rows=rows,
    )


def trajectory(
    n_cells: int, n_steps: int, walk_A: float
) -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
    """Positions at each femtosecond, cell and periodic directions."""
    atoms = bulk("Si", cubic=True) * n_cells
    random = np.random.default_rng(0)
    shape = atoms.positions.shape
    amplitudes = AMPLITUDE_A * np.sqrt(2 * random.exponential(size=shape))
    frequencies, phases = random.uniform(0.002, 0.015, shape), random.uniform(0, 2 * np.pi, shape)
    drift = random.normal(scale=walk_A, size=shape)
    frames = (
        atoms.positions + amplitudes * np.sin(2 * np.pi * frequencies * t + phases) + drift * t
        for t in range(n_steps)
    )
    return [torch.from_numpy(frame) for frame in frames], atoms.cell.array, atoms.pbc


def skin_row(frames, cell: np.ndarray, pbc: np.ndarray, skin: float, motion: str, device: str) -> list[Cell]:
    neighbors = SkinNeighborList(CUTOFF_A, skin, device=device)
    updates, searches = [], []
    for positions in frames:
        n_builds, start = neighbors.n_builds, time.perf_counter()
        neighbors.update(positions, cell, pbc)
        if device != "cpu":
            torch.cuda.synchronize()
        (searches if neighbors.n_builds > n_builds else updates).append(1e3 * (time.perf_counter() - start))
    mean = sum(updates + searches) / len(frames)
    update = median(updates) if updates else ""
    return [len(frames[0]), motion, skin, mean, update, median(searches), len(frames) / len(searches)]


# --------------------------------------------------------------------------------------------------- triplets


def triplet_table(arguments: argparse.Namespace) -> Table:
    water = molecule("H2O", cell=[SPACING_A] * 3, pbc=True) * ((2, 2, 2) if arguments.quick else (5, 5, 3))
    rows = []
    for name, atoms in (("ethanol", load_structure("ethanol")), (f"{len(water) // 3} H2O, periodic", water)):
        for architecture, cutoffs_A in TRIPLET_CUTOFFS_A.items():
            rows.append([name, architecture, *triplet_cells(atoms, *cutoffs_A, arguments.turns)])
    return Table(
        title="Triplets in the preparation of a step",
        method="Padding of a graph without triplets and with them (`with_ghost`), with the default "
        "cutoffs of two architectures.",
        columns=["structure", "architecture", "triplets", "without (ms)", "with (ms)"],
        rows=rows,
    )


def triplet_cells(atoms: Atoms, cutoff: float, triplet_cutoff: float, n_turns: int) -> list[Cell]:
    graph = AtomGraph.from_atoms(atoms, cutoff)
    works = {
        "without": partial(with_ghost, graph, cutoff),
        "with": partial(with_ghost, graph, cutoff, triplet_cutoff=triplet_cutoff),
    }
    n_triplets = works["with"]().triplets.shape[1]
    seconds = alternate(works, n_turns)
    return [n_triplets, *(Spread.of(seconds[name], 1e3) for name in works)]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cells", nargs="+", type=int, default=[4, 8], help="cubic cells along each edge")
    options.add_argument("--steps", type=int, default=200, help="of each trajectory")
    options.add_argument("--skins", nargs="+", type=float, default=SKINS_A, help="Å")
    options.add_argument("--turns", type=int, default=9)
    arguments = options.parse_args()
    if arguments.quick:
        arguments.cells, arguments.steps, arguments.skins, arguments.turns = [2], 5, [0.0, 1.0], 2
    torch.set_num_threads(arguments.threads)
    publish(arguments, "Neighbors", [make(arguments) for make in (search_table, skin_table, triplet_table)])


if __name__ == "__main__":
    main()
