"""At which length of ethanol's C-O and C-C bonds the labelled forces vanish on average.

python docs/rmd17_zero_force.py data/rmd17_ethanol_train_01.npz

rMD17 labels MD17's geometries anew (PBE/def2-SVP). Where the two levels of theory have different equilibrium
lengths, the mean of the sampled lengths is not the length at which the new forces vanish.
"""

import sys

import numpy as np

KCAL_MOL_IN_EV = 0.0433641153  # CODATA 2018
BONDS = {"C-O": (0, 2), "C-C": (0, 1)}  # in rMD17's order of atoms


def zero_force_length(positions, forces, i: int, j: int) -> tuple[float, float, float]:
    """Mean length (Å), mean force along the bond (eV/Å), and the length at which a line fit is zero."""
    vectors = positions[:, j] - positions[:, i]
    lengths = np.linalg.norm(vectors, axis=1)
    along = ((forces[:, j] - forces[:, i]) * vectors).sum(axis=1) / (2 * lengths)
    slope, intercept = np.polyfit(lengths, along, 1)
    return float(lengths.mean()), float(along.mean()), float(-intercept / slope)


def main():
    data = np.load(sys.argv[1])
    for bond, (i, j) in BONDS.items():
        for labels, key in (("rMD17, PBE/def2-SVP", "forces"), ("MD17, as published first", "old_forces")):
            mean, force, zero = zero_force_length(data["coords"], data[key] * KCAL_MOL_IN_EV, i, j)
            print(f"{bond}  mean {mean:.3f} Å  {labels:<26} force {force:+.2f} eV/Å, zero at {zero:.3f} Å")


if __name__ == "__main__":
    main()
