"""What triplets add to the preparation of a step: ethanol, and 75 molecules of water in a periodic box.

python benchmarks/triplets.py [--steps 50]
"""

import argparse
import time
from statistics import median

from ase import Atoms
from ase.build import molecule

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.structure.loading import load_structure

SPACING_A = 3.107  # of molecules, at 1 g/cm³

#: Cutoffs of edges and of triplets, Å: ANI's and DimeNet++'s defaults.
CUTOFFS_A = {"ANI": (5.2, 3.5), "DimeNet++": (5.0, 5.0)}


def water() -> Atoms:
    one = molecule("H2O", cell=[SPACING_A] * 3, pbc=True)
    return one * (5, 5, 3)


def milliseconds(graph: AtomGraph, n_steps: int, *cutoffs: float | None) -> float:
    times = []
    for _ in range(n_steps):
        start = time.perf_counter()
        with_ghost(graph, cutoffs[0], triplet_cutoff=cutoffs[1])
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    n_steps = parser.parse_args().steps
    for name, atoms in (("ethanol", load_structure("ethanol")), ("75 H2O", water())):
        for architecture, (cutoff, triplet_cutoff) in CUTOFFS_A.items():
            graph = AtomGraph.from_atoms(atoms, cutoff)
            n_triplets = with_ghost(graph, cutoff, triplet_cutoff=triplet_cutoff).triplets.shape[1]
            without = milliseconds(graph, n_steps, cutoff, None)
            found = milliseconds(graph, n_steps, cutoff, triplet_cutoff)
            print(f"{name:<8} {architecture:<10} {n_triplets:>7} triplets: {without:.2f} to {found:.2f} ms")


if __name__ == "__main__":
    main()
