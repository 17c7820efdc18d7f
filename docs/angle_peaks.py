"""How many peaks the distribution of an angle has, in runs and in data of rMD17, and in each conformer.

python docs/angle_peaks.py C-C-O C-C-O-H RUN_DIRECTORY|FILE.npz ...

The excess kurtosis tells: 0 of a normal distribution, as a vibration has in equilibrium, and -1.5 of a
vibration whose amplitude stays as it is, which spends most time at its two turning points. The dihedral tells
the conformers: anti beyond 120 degrees, gauche below. A molecule has one of each, as ethanol does.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.stats import kurtosis

from asecalc_ml.potentials.datasets import RMD17
from asecalc_ml.runs import RunReader
from asecalc_ml.structure.topology.bonds import bond_graph
from asecalc_ml.structure.topology.chains import all_chains, matching, types_of
from asecalc_ml.structure.topology.patterns import parse_selection

WIDTH = 1.0  # degrees of a bin
FEWEST = 0.05  # share of the frames that is worth a row


def main():
    angle, dihedral, *sources = sys.argv[1:]
    print(f"{'frames':>7} {'mean':>7} {'std':>6} {'kurtosis':>9} {'middle/top':>11}  {'conformer':9}  source")
    for source in sources:
        frames = list(frames_of(Path(source)))
        values, torsions = measured(frames, angle), measured(frames, dihedral)
        is_anti = np.abs((torsions + 180) % 360 - 180) > 120
        for conformer, chosen in (("all", is_anti | True), ("anti", is_anti), ("gauche", ~is_anti)):
            if chosen.mean() > FEWEST:
                print(f"{row(values[chosen])}  {conformer:9}  {source}")


def frames_of(source: Path) -> Iterable[Atoms]:
    return RMD17(path=source).read() if source.suffix == ".npz" else RunReader(source).frames()


def measured(frames: list[Atoms], pattern: str) -> np.ndarray:
    """The one angle or dihedral that matches, in degrees, in all frames; bonds are those of the first."""
    graph, selection = bond_graph(frames[0]), parse_selection(pattern)
    chains = matching(all_chains(graph, len(selection.terms)), types_of(frames[0], graph), selection)
    (numbers,) = chains.atoms
    return np.array(
        [atoms.get_angle(*numbers) if len(numbers) == 3 else atoms.get_dihedral(*numbers) for atoms in frames]
    )


def row(values: np.ndarray) -> str:
    counts, edges = np.histogram(values, np.arange(values.min(), values.max() + WIDTH, WIDTH))
    middle = counts[np.searchsorted(edges, values.mean()) - 1] / counts.max()
    numbers = f"{values.mean():7.2f} {values.std():6.2f} {kurtosis(values):9.2f} {middle:11.2f}"
    return f"{len(values):>7} {numbers}"


if __name__ == "__main__":
    main()
