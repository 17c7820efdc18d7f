"""HOMO and ZPVE of QM9 by kernel ridge on SOAP, and by predictors that know the composition alone.

python docs/experiments/qm9_baselines.py [--split training/NAME/split.json] [--output qm9_baselines.json]
       [--parity NAME=figures/parity.json ...]

The kernel of two molecules is the sum over pairs of their atoms (the mean for HOMO) of the kernels of the
atoms' SOAP vectors, k(a, b) = (a·b)^ζ for atoms of one element and 0 for others. It is expanded in
representative atoms (subset of regressors, as in Gaussian approximation potentials), which are chosen among
the atoms of 1,000 training molecules, each the farthest from those before. Radius, ζ and the regularisation
are chosen on the validation molecules, for each size of the training set and each target. The regression is
on what a least-squares value of each element leaves.

With --parity, errors are compared with those of a network on the same molecules: first
`asecalc-ml eval NAME --directory figures`, and the split.json of its training as --split.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from comparisons import interval_of_mean, markdown, parity_predictions, with_interval
from dscribe.descriptors import SOAP
from scipy.linalg import LinAlgError, block_diag, cho_factor, cho_solve
from scipy.sparse import csr_matrix

from asecalc_ml.potentials.datasets import QM9
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.options import SplitOptions

SYMBOLS = ("H", "C", "N", "O", "F")
NUMBERS = (1, 6, 7, 8, 9)
N_POINTS = (800, 1000, 500, 500, 100)  # representative atoms of each element, at most
TARGETS = ("homo", "zpve")
SIZES = (1000, 3000, 10000, 30000)
RADII_A = (3.0, 5.0)
POWERS = (1, 2, 4)
REGULARISATIONS = 10.0 ** np.arange(-12, 0)
AT_ONCE = 500  # molecules whose SOAP vectors are in memory


@dataclass(frozen=True)
class Kernels:
    """Sums over a molecule's atoms of their kernels with representative atoms, for one radius and power.

    Parameters
    ----------
    sums : ndarray, shape (n_molecules, n_points), float32
    between : ndarray, shape (n_points, n_points)
        Kernels of the representative atoms.
    """

    sums: np.ndarray
    between: np.ndarray


# ------------------------------------------------------------------------------------------------------ SOAP


def atoms_of_elements(
    frames: PackedFrames, numbers: Sequence[int], soap: SOAP
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """SOAP vectors of length 1, and the molecule of each, by element, for some molecules at a time.

    Yields
    ------
    list of (ndarray, ndarray)
        For each element, shapes (n_atoms, n_features) and (n_atoms,).
    """
    for start in range(0, len(numbers), AT_ONCE):
        molecules = [frames[int(k)] for k in numbers[start : start + AT_ONCE]]
        vectors = np.concatenate(soap.create(molecules)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        elements = np.concatenate([atoms.numbers for atoms in molecules])
        molecule = np.repeat(np.arange(len(molecules)), [len(atoms) for atoms in molecules])
        yield [(vectors[elements == z], molecule[elements == z]) for z in NUMBERS]


def farthest_points(vectors: np.ndarray, n_points: int) -> np.ndarray:
    """Vectors, each the farthest from those before, beginning with the first; at most ``n_points``."""
    chosen, largest = [0], vectors @ vectors[0]
    while len(chosen) < min(n_points, len(vectors)):
        farthest = int(largest.argmin())
        if largest[farthest] > 1 - 1e-6:
            break  # what is left equals one of them
        chosen.append(farthest)
        largest = np.maximum(largest, vectors @ vectors[farthest])
    return vectors[chosen]


def kernels(
    frames: PackedFrames, points_from: np.ndarray, numbers: np.ndarray, radius_A: float
) -> dict[int, Kernels]:
    """Kernels of molecules by power, with representative atoms from some of them."""
    soap = SOAP(species=SYMBOLS, r_cut=radius_A, n_max=6, l_max=4, sigma=0.3)
    parts = list(atoms_of_elements(frames, points_from, soap))
    points = [
        farthest_points(np.concatenate([part[k][0] for part in parts]), n) for k, n in enumerate(N_POINTS)
    ]
    sums: dict[int, list[np.ndarray]] = {power: [] for power in POWERS}
    for part in atoms_of_elements(frames, numbers, soap):
        n_molecules = 1 + max(int(molecule.max(initial=0)) for _, molecule in part)
        blocks: dict[int, list[np.ndarray]] = {power: [] for power in POWERS}
        for (vectors, molecule), representative in zip(part, points, strict=True):
            belongs = csr_matrix(
                (np.ones(len(molecule), dtype=np.float32), (molecule, np.arange(len(molecule)))),
                shape=(n_molecules, len(molecule)),
            )
            similarity = vectors @ representative.T
            for power in POWERS:
                blocks[power].append(belongs @ similarity**power)
        for power in POWERS:
            sums[power].append(np.concatenate(blocks[power], axis=1))
    between = {p: block_diag(*[(one @ one.T).astype(np.float64) ** p for one in points]) for p in POWERS}
    return {power: Kernels(np.concatenate(sums[power]), between[power]) for power in POWERS}


# ------------------------------------------------------------------------------------------------- regression


def normal_equations(
    sums: np.ndarray, factors: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Φᵀ Φ and Φᵀ y in float64; a row of Φ is that of ``sums`` times a factor, y the labels."""
    products, projected = np.zeros((sums.shape[1],) * 2), np.zeros(sums.shape[1])
    for start in range(0, len(labels), 10 * AT_ONCE):
        part = slice(start, min(start + 10 * AT_ONCE, len(labels)))
        features = sums[part] * factors[part, None]
        products += features.T @ features
        projected += features.T @ labels[part]
    return products, projected


def solutions(
    products: np.ndarray, projected: np.ndarray, between: np.ndarray
) -> Iterator[tuple[float, np.ndarray]]:
    """Coefficients for each regularisation λ: (ΦᵀΦ + λ tr(ΦᵀΦ)/tr(K) K) c = Φᵀ y."""
    trace = np.trace(products)
    jitter = 1e-13 * trace / len(products) * np.eye(len(products))
    for regularisation in REGULARISATIONS:
        try:
            factor = cho_factor(products + regularisation * trace / np.trace(between) * between + jitter)
        except LinAlgError:
            continue
        yield float(regularisation), cho_solve(factor, projected)


@dataclass
class Task:
    """One target and size of the training set, and the best regression of those tried so far.

    Labels and counts are those of all molecules: ``size`` or more to train on, then those of ``parts``, to
    validate and to test.
    """

    target: str
    size: int
    labels: np.ndarray
    counts: np.ndarray
    parts: tuple[slice, slice]
    validation_error: float = np.inf
    chosen: dict | None = None
    predicted: np.ndarray | None = None
    seconds: float = 0.0

    @property
    def fractions_or_counts(self) -> np.ndarray:
        """What element values are multiplied by: fractions for HOMO; numbers and a constant for ZPVE."""
        if self.target == "homo":
            return self.counts / self.counts.sum(axis=1, keepdims=True)
        return np.hstack([self.counts, np.ones((len(self.counts), 1))])

    @property
    def of_composition(self) -> np.ndarray:
        """Least-squares values of the elements of the training molecules, for all molecules."""
        table = self.fractions_or_counts
        return table @ np.linalg.lstsq(table[: self.size], self.labels[: self.size], rcond=None)[0]

    def try_kernel(self, kernel: Kernels, radius_A: float, power: int) -> None:
        """Fit with every regularisation, and keep what is best on the validation molecules."""
        started = time.process_time()
        factors = 1 / self.counts.sum(axis=1) if self.target == "homo" else np.ones(len(self.counts))
        offset, (validation, test) = self.of_composition, self.parts
        left = (self.labels - offset)[: self.size]
        products, projected = normal_equations(kernel.sums[: self.size], factors[: self.size], left)
        for regularisation, coefficients in solutions(products, projected, kernel.between):
            values = factors[validation] * (kernel.sums[validation] @ coefficients) + offset[validation]
            error = np.abs(values - self.labels[validation]).mean()
            if error < self.validation_error:
                self.validation_error = float(error)
                self.chosen = {"radius_A": radius_A, "power": power, "regularisation": regularisation}
                self.predicted = factors[test] * (kernel.sums[test] @ coefficients) + offset[test]
        self.seconds += time.process_time() - started

    def errors(self) -> dict[str, np.ndarray]:
        """Absolute errors of the test molecules by predictor, eV."""
        test = self.parts[1]
        predicted = {
            "mean": np.full(len(self.labels[test]), self.labels[: self.size].mean()),
            "composition": self.of_composition[test],
            "kernel ridge on SOAP": self.predicted,
        }
        return {name: np.abs(values - self.labels[test]) for name, values in predicted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--split", type=Path, help="split.json of a training on QM9 [default: drawn as there]"
    )
    parser.add_argument("--output", type=Path, default=Path("qm9_baselines.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sizes of the training set")
    parser.add_argument(
        "--parity", nargs="*", default=(), metavar="NAME=PATH", help="parity.json of a network"
    )
    given = parser.parse_args()
    frames = QM9(energies="atomisation").read()
    drawn = SplitOptions(n_train=max(SIZES), n_validation=2000, n_test=10000)
    split = Split.read(given.split) if given.split else Split.draw(frames, drawn, seed=0)
    # Training molecules in random order, so that the smaller sets are parts of the larger ones.
    train = np.random.default_rng(0).permutation(split.train)[: max(given.sizes)]
    numbers = np.concatenate([train, split.validation, split.test]).astype(int)
    n_held = len(train) + len(split.validation)
    parts = (slice(len(train), n_held), slice(n_held, len(numbers)))
    counts = np.array([[(frames[int(k)].numbers == z).sum() for z in NUMBERS] for k in numbers], dtype=float)
    tasks = [
        Task(target, size, frames.values(target)[numbers], counts, parts)
        for target in TARGETS
        for size in sorted(given.sizes)
        if size <= len(train)
    ]
    soap_seconds = 0.0
    for radius in RADII_A:
        started = time.process_time()
        by_power = kernels(frames, train[:1000], numbers, radius)
        soap_seconds += time.process_time() - started
        for task in tasks:
            for power, kernel in by_power.items():
                task.try_kernel(kernel, radius, power)
            print(
                f"{radius} Å, {task.target}, {task.size}: {task.validation_error:.5f} eV, {task.chosen}",
                flush=True,
            )
    report(
        tasks,
        split,
        soap_seconds / len(numbers),
        dict(pair.split("=", 1) for pair in given.parity),
        given.output,
    )


def report(
    tasks: Sequence[Task], split: Split, soap_seconds: float, networks: dict[str, str], output: Path
) -> None:
    """Print the table and write the numbers behind it."""
    rows, results = [], []
    for task in tasks:
        errors = task.errors()
        for name, path in networks.items():
            values = parity_predictions(Path(path), task.target)
            labels = task.labels[task.parts[1]]
            errors[name] = np.abs([values[k] - label for k, label in zip(split.test, labels, strict=True)])
        minutes = (task.seconds + soap_seconds * (task.size + len(split.validation))) / 60
        for name, of_name in errors.items():
            is_kernel = name.startswith("kernel")
            against = of_name - errors["kernel ridge on SOAP"]
            rows.append(
                [
                    task.target,
                    name,
                    "its own" if name in networks else task.size,
                    with_interval(of_name, 1000),
                    "" if is_kernel else with_interval(against, 1000),
                    f"{minutes:.1f}" if is_kernel else "",
                ]
            )
            results.append(
                {
                    "target": task.target,
                    "predictor": name,
                    "n_train": None if name in networks else task.size,
                    "mae_eV": float(of_name.mean()),
                    "interval_eV": interval_of_mean(of_name),
                    "above_kernel_ridge_eV": None if is_kernel else float(against.mean()),
                    "above_kernel_ridge_interval_eV": None if is_kernel else interval_of_mean(against),
                    "hyperparameters": task.chosen if is_kernel else None,
                    "validation_mae_eV": task.validation_error if is_kernel else None,
                    "core_minutes": minutes if is_kernel else None,
                    "predicted_eV": task.predicted.tolist() if is_kernel else None,
                }
            )
    header = [
        "target",
        "predictor",
        "training molecules",
        "MAE (meV)",
        "above kernel ridge (meV)",
        "core minutes",
    ]
    print("\n" + markdown(header, rows))
    output.write_text(json.dumps({"test": split.test, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
