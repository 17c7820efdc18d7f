"""How many peaks the distribution of an angle has, in runs and in data of rMD17.

python docs/angle_peaks.py C-C-O RUN_DIRECTORY|FILE.npz ...

The excess kurtosis tells: 0 of a normal distribution, as a vibration has in equilibrium, and -1.5 of a
vibration whose amplitude stays as it is, which spends most time at its two turning points.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.stats import kurtosis

from asecalc_ml.chains import all_chains, matching, types_of
from asecalc_ml.potentials.datasets import RMD17
from asecalc_ml.rundir import RunReader
from asecalc_ml.selection import parse_selection
from asecalc_ml.topology import bond_graph

WIDTH = 1.0  # degrees of a bin


def main():
    pattern, *sources = sys.argv[1:]
    print(f"{'frames':>7} {'mean':>7} {'std':>6} {'kurtosis':>9} {'middle/top':>11}")
    for source in sources:
        values = angles(frames_of(Path(source)), pattern)
        counts, edges = np.histogram(values, np.arange(values.min(), values.max() + WIDTH, WIDTH))
        middle = counts[np.searchsorted(edges, values.mean()) - 1] / counts.max()
        numbers = f"{values.mean():7.2f} {values.std():6.2f} {kurtosis(values):9.2f} {middle:11.2f}"
        print(f"{len(values):>7} {numbers}  {source}")


def frames_of(source: Path) -> Iterable[Atoms]:
    return RMD17(path=source).read() if source.suffix == ".npz" else RunReader(source).frames()


def angles(frames: Iterable[Atoms], pattern: str) -> np.ndarray:
    """In degrees, of all frames; atoms and bonds are those of the first."""
    frames = iter(frames)
    first = next(frames)
    graph, selection = bond_graph(first), parse_selection(pattern)
    chains = matching(all_chains(graph, len(selection.terms)), types_of(first, graph), selection)
    return np.array(
        [atoms.get_angle(*atom_numbers) for atoms in (first, *frames) for atom_numbers in chains.atoms]
    )


if __name__ == "__main__":
    main()
