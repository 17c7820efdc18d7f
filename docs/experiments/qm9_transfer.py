"""What the features of a network trained on one property are worth for another one with few labels.

python docs/experiments/qm9_transfer.py MODEL --targets lumo gap mu alpha zpve cv --molecules 500 --repeats 5

MODEL is the name of a model of a property of QM9, such as qm9-physnet-homo. It is frozen; ridge regression
on its last hidden layer predicts another property. Training molecules of each repeat, and 2,000 test
molecules for all, are random ones that MODEL was not trained on. Beside it:

- random weights: the same on the features of a network like it without training;
- composition: ridge on the numbers of atoms of each element;
- from scratch (`--epochs N`): the same architecture trained on the same molecules, of which a fifth choose
  the epoch;
- mean: that of the training labels.

Features are means over atoms, of an extensive property sums and numbers of atoms. The strength of the ridge
is that of the least error of leave-one-out prediction. Intervals are over repeats (Student's t). "Transfer
beats training from scratch" is confirmed if the paired difference of the errors lies below 0 with 95 %
confidence, not confirmed if it lies above, and undecided otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import write
from qm9_common import Record, qm9, unseen
from scipy.stats import t as student

from asecalc_ml.analysis import maps
from asecalc_ml.errors import AsecalcError
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.store.model_file import untrained_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.targets import parse_targets

N_TEST = 2000
SCRATCH = "from scratch"
STRENGTHS = np.logspace(-8, 4, 25)
ELEMENTS = (1, 6, 7, 8, 9)


def compositions(frames: list[Atoms]) -> np.ndarray:
    """Numbers of atoms of each element, shape (n_frames, 5)."""
    return np.array([[np.count_nonzero(atoms.numbers == one) for one in ELEMENTS] for atoms in frames], float)


def pooled(rows: list[np.ndarray], frames: list[Atoms], extensive: bool) -> np.ndarray:
    """Features of each molecule."""
    if not extensive:
        return np.stack([own.mean(axis=0) for own in rows])
    return np.hstack([np.stack([own.sum(axis=0) for own in rows]), compositions(frames)])


def ridge(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions by ridge regression on standardised features; leave-one-out errors choose its strength."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread == 0] = 1.0
    x, y = (train - mean) / spread, labels - labels.mean()
    # X = U S Vᵀ; fitted values are U S²/(S² + λ) Uᵀ y, and residuals left out (y − ŷ)/(1 − H_ii − 1/n)
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    projected, errors = left.T @ y, []
    for strength in STRENGTHS * len(y):
        shrunk = singular**2 / (singular**2 + strength)
        leverage = (left**2 * shrunk).sum(axis=1) + 1 / len(y)
        errors.append(np.abs((y - left @ (shrunk * projected)) / (1 - leverage).clip(1e-6)).mean())
    strength = STRENGTHS[int(np.argmin(errors))] * len(y)
    weights = right.T @ (singular / (singular**2 + strength) * projected)
    return labels.mean() + (test - mean) / spread @ weights


def from_scratch(
    model: str, train_frames: list[Atoms], test: list[Atoms], target: str, epochs: int, folder: Path
) -> float:
    """Test error of the same architecture trained on these molecules alone."""
    card = Registry().find(model).card
    (quantity,) = parse_targets([target])
    for name, frames in (("train", train_frames), ("test", test)):
        copies = [
            Atoms(atoms.numbers, atoms.positions, info={target: atoms.info[target]}) for atoms in frames
        ]
        write(folder / f"{name}.xyz", copies, format="extxyz")
    reader = {"format": "ase", "properties": {target: {"key": target, "unit": quantity.unit}}}
    n_validation = len(train_frames) // 5
    options = TrainOptions(
        name=f"from-scratch-{folder.name}",
        target=target,
        data={**reader, "path": str(folder / "train.xyz")},
        test_data={**reader, "path": str(folder / "test.xyz")},
        split={"n_train": len(train_frames) - n_validation, "n_validation": n_validation, "n_test": 0},
        model={"architecture": card.architecture, **card.hyperparameters},
        optimizer={"learning_rate": 1e-3},
        batch_size=16,
        max_epochs=epochs,
        directory=folder / "training",
    )
    entry = train(options, quiet=True)
    error = entry.card.metrics.quantities[target].mae
    entry.path.unlink()
    return error


def errors_of(
    target: str,
    networks: dict[str, str | Model],
    rows: dict[str, list[np.ndarray]],
    parts: list[np.ndarray],
    frames: list[Atoms],
    arguments: argparse.Namespace,
) -> dict[str, list[float]]:
    """Mean absolute errors on the test molecules, those behind all parts, for each repeat."""
    (quantity,) = [one.as_quantity() for one in parse_targets([target])]
    extensive = quantity.kind == "extensive scalar"
    labels = np.array([atoms.info[target] for atoms in frames])
    inputs = {name: pooled(rows[name], frames, extensive) for name in networks}
    inputs["composition"] = compositions(frames)
    test = np.arange(len(frames) - N_TEST, len(frames))
    errors: dict[str, list[float]] = {}
    for part in parts:
        for name, points in inputs.items():
            predicted = ridge(points[part], labels[part], points[test])
            errors.setdefault(name, []).append(float(np.abs(predicted - labels[test]).mean()))
        errors.setdefault("mean", []).append(float(np.abs(labels[part].mean() - labels[test]).mean()))
        if arguments.epochs:
            with tempfile.TemporaryDirectory() as folder:
                own, tested = [frames[k] for k in part], [frames[k] for k in test]
                error = from_scratch(arguments.model, own, tested, target, arguments.epochs, Path(folder))
            errors.setdefault(SCRATCH, []).append(error)
    return errors


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its interval of 95 %."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def verdict(transfer: list[float], scratch: list[float]) -> dict[str, object]:
    """The paired difference of errors, and what it says."""
    mean, half = interval(np.subtract(transfer, scratch))
    word = "confirmed" if mean + half < 0 else "not confirmed" if mean - half > 0 else "undecided"
    return {"transfer less from scratch": mean, "± 95 %": half, "verdict": word}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--targets", nargs="+", default=["lumo", "gap", "mu", "alpha", "zpve", "cv"])
    parser.add_argument("--molecules", type=int, default=500, help="to train on")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="of training from scratch; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of molecules")
    parser.add_argument("--output", type=Path, default=Path("qm9_transfer.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parse_targets(arguments.targets)  # refuses names of no target
    n_trained = arguments.repeats * arguments.molecules
    frames = unseen(qm9(), [arguments.model], n_trained + N_TEST, arguments.seed, keep=lambda atoms: True)
    parts = np.split(np.arange(n_trained), arguments.repeats)
    control = untrained_model(Registry().find(arguments.model).path, seed=0)
    networks: dict[str, str | Model] = {"transfer": arguments.model, "random weights": control}
    features = {name: maps.features(network, frames, quiet=True) for name, network in networks.items()}
    record = Record("Transfer of features", {**vars(arguments), "output": str(arguments.output)})
    table, verdicts = [], []
    for target in arguments.targets:
        errors = errors_of(target, networks, features, parts, frames, arguments)
        unit = parse_targets([target])[0].unit
        for name, values in errors.items():
            mean, half = interval(np.array(values))
            table.append({"target": target, "unit": unit, "from": name, "MAE": mean, "± 95 %": half})
        if arguments.epochs:
            verdicts.append({"target": target, "unit": unit, **verdict(errors["transfer"], errors[SCRATCH])})
    record.add(f"{arguments.model}: errors with {arguments.molecules} molecules", table)
    if verdicts:
        record.add("Transfer and training from scratch", verdicts)
    record.write(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except AsecalcError as error:
        raise SystemExit(str(error)) from None
