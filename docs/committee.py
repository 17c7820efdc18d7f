"""What the disagreement of a committee tells of its errors, on frames that no member has seen.

python docs/committee.py data/rmd17_ethanol_test_01.npz NAME NAME ...

Errors of force components in meV/Å, then of forces on atoms as vectors, beside the members' deviation.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from asecalc_ml import MLCalculator
from asecalc_ml.potentials.datasets import RMD17

FAR = 0.01  # of all atoms: those on which members differ most


def main():
    path, *names = sys.argv[1:]
    frames = RMD17(path=Path(path)).read()
    labels = np.array([atoms.get_forces() for atoms in frames])
    of_members = []
    for name in names:
        results = MLCalculator(name, compile="never").calculate_many(frames)
        of_members.append(np.array([one["forces"] for one in results]))
        print(f"{name:<24} mean absolute error {1000 * np.abs(of_members[-1] - labels).mean():.2f}")
    mean = np.mean(of_members, axis=0)
    print(f"{'committee':<24} mean absolute error {1000 * np.abs(mean - labels).mean():.2f}")
    errors = np.linalg.norm(mean - labels, axis=2).ravel()
    deviations = np.linalg.norm(np.std(of_members, axis=0, ddof=1), axis=2).ravel()
    far = deviations >= np.quantile(deviations, 1 - FAR)
    rms = [1000 * np.sqrt((one**2).mean()) for one in (errors, deviations)]
    print(f"forces on atoms: error {rms[0]:.1f}, deviation {rms[1]:.1f} (root mean square)")
    print(f"rank correlation {spearmanr(errors, deviations).statistic:.2f}")
    print(
        f"on the {FAR:.0%} of atoms with the largest deviations, above {1000 * deviations[far].min():.0f}: "
        f"error {1000 * errors[far].mean():.0f}, on the others {1000 * errors[~far].mean():.0f} (mean)"
    )


if __name__ == "__main__":
    main()
