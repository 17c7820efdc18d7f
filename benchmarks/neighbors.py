"""What pairs cost per step of dynamics, with skins and without: silicon at 300 K, steps of 1 fs.

OMP_NUM_THREADS=1 python benchmarks/neighbors.py [--steps 200] [--device cpu]

Atoms are independent oscillators with silicon's mean square displacement (B = 0.46 Å²) and frequencies
from 2 to 15 THz; "diffusing" ones also drift apart, by 5 Å in a picosecond. A skin of 0 is a fresh search.
"""

import argparse
import time
from statistics import median

import numpy as np
import torch
from ase.build import bulk

from asecalc_ml.graph.neighbors import SkinNeighborList

CUTOFF_A = 5.0
AMPLITUDE_A = np.sqrt(0.46 / (8 * np.pi**2))  # per direction
SKINS_A = (0.0, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)


def trajectory(n_cells: int, n_steps: int, walk_A: float):
    """Positions at each femtosecond, and the cell."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(" atoms              skin Å  ms/step  update ms  search ms  steps/search")
    for n_cells in (4, 8):
        for name, walk in (("vibrating", 0.0), ("diffusing", 0.005)):
            frames, cell, pbc = trajectory(n_cells, options.steps, walk)
            for skin in SKINS_A:
                print(row(frames, cell, pbc, skin, name, options.device), flush=True)


def row(frames, cell, pbc, skin: float, name: str, device: str) -> str:
    neighbors = SkinNeighborList(CUTOFF_A, skin, device=device)
    updates, searches = [], []
    for positions in frames:
        n_builds, start = neighbors.n_builds, time.perf_counter()
        neighbors.update(positions, cell, pbc)
        if device != "cpu":
            torch.cuda.synchronize()
        (searches if neighbors.n_builds > n_builds else updates).append(1e3 * (time.perf_counter() - start))
    per_step = sum(updates + searches) / len(frames)
    update = f"{median(updates):.2f}" if updates else "-"
    return (
        f"{len(frames[0]):6}  {name:>10}  {skin:6.2f}  {per_step:7.2f}  {update:>9}  {median(searches):9.2f} "
        f"{len(frames) / len(searches):13.1f}"
    )


if __name__ == "__main__":
    main()
