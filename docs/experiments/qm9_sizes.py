"""Errors of a model of one property of QM9, and its standard deviations, by the number of heavy atoms.

python docs/experiments/qm9_sizes.py MODEL ... [--molecules 400] [--output qm9_sizes.json]

MODEL is the name of a model of one property of QM9, such as qm9-homo. Molecules are random ones that did not
train it and did not choose its epoch; of up to four heavy atoms QM9 has fewer than 400.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from qm9_common import Record, qm9

from asecalc_ml import MLCalculator
from asecalc_ml.errors import AsecalcError
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.store.model_file import read_seen
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.structure.fingerprints import fingerprints

SIZES = ((1, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9))


def numbers_of_heavy_atoms(data: PackedFrames) -> np.ndarray:
    """Atoms other than hydrogen of each molecule, shape (n_molecules,)."""
    return np.add.reduceat(data.numbers > 1, data.offsets[:-1], dtype=int)


def errors_by_size(model: str, data: PackedFrames, n_molecules: int, seed: int) -> list[dict[str, object]]:
    """A row of errors and standard deviations for each range of sizes."""
    entry, calculator = Registry().find(model), MLCalculator(model)
    (quantity,) = entry.card.quantities
    seen, n_heavy = read_seen(entry.path) or SeenFrames.none(), numbers_of_heavy_atoms(data)
    random, rows = np.random.default_rng(seed), []
    for low, high in SIZES:
        of_size = np.flatnonzero((n_heavy >= low) & (n_heavy <= high))
        frames = data[random.permutation(of_size)[:n_molecules]]
        known = seen.has_seen(fingerprints(frames))
        frames = [atoms for atoms, is_known in zip(frames, known, strict=True) if not is_known]
        results = calculator.calculate_many(frames, [quantity.name, f"{quantity.name}_std"])
        labels = np.array([atoms.info[quantity.name] for atoms in frames])
        errors = np.array([result[quantity.name] for result in results]) - labels
        deviations = np.array([result[f"{quantity.name}_std"] for result in results])
        rows.append(
            {
                "heavy atoms": str(high) if low == high else f"{low} to {high}",
                "in QM9": len(of_size),
                "measured": len(frames),
                f"MAE ({quantity.unit})": float(np.abs(errors).mean()),
                "median": float(np.median(np.abs(errors))),
                "RMSE": float(np.sqrt((errors**2).mean())),
                "standard deviation": float(np.sqrt((deviations**2).mean())),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--molecules", type=int, default=400, help="of each size, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of molecules")
    parser.add_argument("--output", type=Path, default=Path("qm9_sizes.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = qm9()
    record = Record("Errors by number of heavy atoms", {**vars(arguments), "output": str(arguments.output)})
    for model in arguments.models:
        record.add(model, errors_by_size(model, data, arguments.molecules, arguments.seed))
    record.write(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except (AsecalcError, PropertyNotImplementedError) as error:
        raise SystemExit(str(error)) from None
