"""How far pyscf's PBE/def2-SVP is from the labels of rMD17: the floor of all errors measured with it.

python docs/rmd17_labels.py data/rmd17_ethanol_test_01.npz [NUMBER OF FRAMES]

Energies are compared relative to their mean, as another program has another zero. A frame takes a minute.
"""

import sys
from pathlib import Path

import numpy as np

from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.potentials.datasets import RMD17


def main():
    path, *number = sys.argv[1:]
    frames = RMD17(path=Path(path)).read()[: int(number[0]) if number else 10]
    of_forces, of_energies = [], []
    for k, atoms in enumerate(frames):
        labels = atoms.calc.results
        atoms.calc = make_calculator("pyscf-dft")
        error = 1000 * np.abs(atoms.get_forces() - labels["forces"])
        of_forces.append(error)
        of_energies.append(1000 * (atoms.get_potential_energy() - labels["energy"]))
        print(f"frame {k}: force component {error.mean():.3f} meV/Å, largest {error.max():.2f}", flush=True)
    relative = np.abs(np.array(of_energies) - np.mean(of_energies))
    print(f"{len(frames)} frames: {np.mean(of_forces):.3f} meV/Å, largest {np.max(of_forces):.2f}")
    print(f"energy relative to the mean: {relative.mean():.3f} meV, largest {relative.max():.2f}")


if __name__ == "__main__":
    main()
