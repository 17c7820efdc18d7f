"""Accessible volume fraction of MOFs, or their working capacity for CO2, by tree ensembles and by networks.

python docs/experiments/mof_baselines.py void [--networks void-list void-nearest ...] [--figure void.png]
python docs/experiments/mof_baselines.py co2  [--networks co2-list co2-nearest ...]

Data and splits are those of examples/mof/void_list.yaml and examples/mof/co2_list.yaml with the seeds 0 to 4.
Random forests and gradient-boosted trees see the composition; then density and cell; then pore diameters;
then accessible surface areas. No column that is the volume fraction in another unit is among them.
Hyperparameters are chosen on the validation structures. A network NAME stands for the trainings
NAME-0 to NAME-4 (`asecalc-ml train examples/mof/void_list.yaml --name void-list-0 --seed 0`). The others are
compared with the first one, structure by structure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import units
from ase.data import atomic_masses, covalent_radii
from ase.formula import Formula
from comparisons import interval_of_mean, markdown, with_interval
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

from asecalc_ml.analysis.comparing.parity import ParityQuantity, draw
from asecalc_ml.analysis.figures import GREY, PALETTE, STYLE
from asecalc_ml.config import load_options
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.store.registry import Registry

EXAMPLES = Path(__file__).parents[2] / "examples" / "mof"
SEEDS = (0, 1, 2, 3, 4)
G_CM3 = units._amu * 1e3 / 1e-24  # amu/Å³ in g/cm³
PORES = ("LCD", "PLD", "LFPD")
SURFACES = ("ASA_m2_cm3", "ASA_m2_g", "NASA_m2_cm3", "NASA_m2_g")
#: Structures of one composition, whose densities differ by less, may be the same framework twice.
SAME_DENSITY = 0.02


# --------------------------------------------------------------------------------------------------- features


def features(frames: PackedFrames) -> dict[str, np.ndarray]:
    """Features, shape (n_structures, n_features), by the name of a set, which contains those before it."""
    elements = np.unique(frames.numbers)
    rows_of_composition, rows_of_cell = [], []
    for atoms in frames:
        volume = atoms.get_volume()
        fractions = (atoms.numbers[:, None] == elements).mean(axis=0)
        masses, radii = atomic_masses[atoms.numbers], covalent_radii[atoms.numbers]
        rows_of_composition.append([*fractions, masses.mean(), radii.mean()])
        rows_of_cell.append(
            [
                masses.sum() / volume * G_CM3,
                volume / len(atoms),
                (4 / 3 * np.pi * radii**3).sum() / volume,
                volume,
                *np.sort(atoms.cell.lengths()),
            ]
        )
    sets = {"composition": np.array(rows_of_composition), "density and cell": np.array(rows_of_cell)}
    for name, columns in (("pore diameters", PORES), ("surface areas", SURFACES)):
        if all(column in frames.properties for column in columns):
            sets[name] = np.stack([frames.values(column) for column in columns], axis=1)
    names, joined = list(sets), list(sets.values())
    return {
        " + ".join(names[: k + 1]) if k < 2 else f"… + {name}": np.hstack(joined[: k + 1])
        for k, name in enumerate(names)
    }


def near_copies(frames: PackedFrames, train: Sequence[int], test: Sequence[int]) -> np.ndarray:
    """True for test structures of the composition of a training structure and nearly its density."""
    kinds: dict[str, list[float]] = {}
    for number in train:
        formula, density = _kind(frames, number)
        kinds.setdefault(formula, []).append(density)
    found = []
    for number in test:
        formula, density = _kind(frames, number)
        found.append(any(abs(other / density - 1) < SAME_DENSITY for other in kinds.get(formula, [])))
    return np.array(found)


def _kind(frames: PackedFrames, number: int) -> tuple[str, float]:
    atoms = frames[number]
    formula, _ = Formula(atoms.get_chemical_formula()).reduce()
    return str(formula), atoms.get_masses().sum() / atoms.get_volume()


# ------------------------------------------------------------------------------------------------------ trees


def fitted_trees(x: np.ndarray, y: np.ndarray, split: Split, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Predictions for the test structures of the forest and the boosted trees that are best in validation."""
    forests = [
        RandomForestRegressor(n_estimators=200, max_features=share, random_state=seed)
        for share in (1 / 3, 1.0)
    ]
    boosted = [
        HistGradientBoostingRegressor(
            learning_rate=rate, max_iter=n, max_leaf_nodes=leaves, min_samples_leaf=5, random_state=seed
        )
        for rate, n in ((0.1, 100), (0.05, 400))
        for leaves in (7, 31)
    ]
    for name, candidates in (("random forest", forests), ("gradient-boosted trees", boosted)):
        errors = []
        for candidate in candidates:
            candidate.fit(x[split.train], y[split.train])
            errors.append(np.abs(candidate.predict(x[split.validation]) - y[split.validation]).mean())
        yield name, candidates[int(np.argmin(errors))].predict(x[split.test])


# --------------------------------------------------------------------------------------------------- networks


def network_predictions(name: str, test: Sequence[int], labels: np.ndarray) -> np.ndarray | None:
    """Predictions of a trained network for the test structures; None if it is not registered."""
    if not any(entry.name == name for entry in Registry().list()):
        return None
    (values,) = evaluate_model(name).predictions
    if not np.allclose(values.labelled[:, 0], labels[test]):
        raise SystemExit(f"{name} was tested on other structures")
    return values.predicted[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=("void", "co2"))
    parser.add_argument("--networks", nargs="*", default=(), help="names of trainings, without -SEED")
    parser.add_argument("--output", type=Path, help="JSON file [default: mof_DATA.json]")
    parser.add_argument("--figure", type=Path, help="training curves and parity of the networks, PNG")
    given = parser.parse_args()
    options = load_options(EXAMPLES / f"{given.data}_list.yaml", TrainOptions)
    target = options.targets[0]
    frames = dataset(options.data).read()
    y = frames.values(target.name)
    tables = features(dataset(options.data | {"properties": None, "units": {}}).read())

    test, copies, labels = [], [], []
    predicted: dict[tuple[str, str], list[np.ndarray]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for seed in SEEDS:
        split = Split.draw(frames, options.split, seed)
        test.append(split.test)
        labels.append(y[split.test])
        copies.append(near_copies(frames, [*split.train, *split.validation], split.test))
        predicted.setdefault(("mean", ""), []).append(np.full(len(split.test), y[split.train].mean()))
        for features_name, x in tables.items():
            started = time.process_time()
            for name, values in fitted_trees(x, y, split, seed):
                predicted.setdefault((name, features_name), []).append(values)
                key = (name, features_name)
                seconds[key] = seconds.get(key, 0) + time.process_time() - started
                started = time.process_time()
        for name in given.networks:
            values = network_predictions(f"{name}-{seed}", split.test, y)
            if values is not None:
                predicted.setdefault((name, "structure"), []).append(values)
        print(f"seed {seed} done", flush=True)
    report(given, predicted, seconds, labels, copies, test, target.unit)
    if given.figure is not None:
        draw_networks(given.figure, given.networks, predicted, labels, target)


def report(
    given: argparse.Namespace,
    predicted: Mapping[tuple[str, str], list[np.ndarray]],
    seconds: Mapping[tuple[str, str], float],
    labels: list[np.ndarray],
    copies: list[np.ndarray],
    test: list[list[int]],
    unit: str,
) -> None:
    """Print the table and write the numbers behind it."""
    structures, is_copy = np.concatenate(test), np.concatenate(copies)
    first = next(((name, "structure") for name in given.networks if (name, "structure") in predicted), None)
    rows, results = [], []
    for key, by_seed in predicted.items():
        n = len(by_seed)  # trainings that are finished
        errors = np.concatenate([np.abs(v - t) for v, t in zip(by_seed, labels, strict=False)])
        groups, new = structures[: len(errors)], ~is_copy[: len(errors)]
        of_seeds = np.array([np.abs(v - t).mean() for v, t in zip(by_seed, labels, strict=False)])
        against = None
        if first is not None and key != first:
            other = np.concatenate([np.abs(v - t) for v, t in zip(predicted[first], labels, strict=False)])
            both = min(len(other), len(errors))
            against = errors[:both] - other[:both]
        rows.append(
            [
                *key,
                n,
                with_interval(errors, groups=groups),
                f"{of_seeds.std(ddof=1):.2g}" if n > 1 else "",
                with_interval(errors[new], groups=groups[new]),
                "" if against is None else with_interval(against, groups=structures[: len(against)]),
                f"{seconds[key] / 60 / n:.2f}" if key in seconds else "",
            ]
        )
        results.append(
            {
                "predictor": key[0],
                "features": key[1],
                "mae_by_seed": of_seeds.tolist(),
                "mae": float(errors.mean()),
                "interval": interval_of_mean(errors, groups),
                "mae_new_structures": float(errors[new].mean()),
                "rmse": float(np.sqrt((errors**2).mean())),
                "difference": None if against is None else float(against.mean()),
                "difference_interval": None
                if against is None
                else interval_of_mean(against, structures[: len(against)]),
            }
        )
    in_unit = f" ({unit})" if unit else ""
    header = [
        "predictor", "sees", "trainings", f"MAE{in_unit}", "std over seeds", "MAE, no near copies",
        f"above {first[0] if first else 'network'}", "core minutes",
    ]  # fmt: skip
    print("\n" + markdown(header, rows))
    spread = np.concatenate(labels).std()
    print(
        f"\nStandard deviation of the labels {spread:.4g}{in_unit}; {is_copy.sum()} of {len(is_copy)} test "
        f"structures have the composition of a training structure, and its density within {SAME_DENSITY:.0%}."
    )
    output = given.output or Path(f"mof_{given.data}.json")
    output.write_text(json.dumps({"data": given.data, "unit": unit, "results": results}, indent=1) + "\n")


def draw_networks(path: Path, networks: Sequence[str], predicted: Mapping, labels: list, target) -> None:
    """Validation errors of each training over its epochs, and parity of the first network's trainings."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained", facecolor="white")
        curves, parity = figure.subplots(1, 2)
        for name, color in zip(networks, PALETTE, strict=False):
            for seed in SEEDS:
                file = Path("training") / f"{name}-{seed}" / "metrics.csv"
                if file.exists():
                    table = np.genfromtxt(file, delimiter=",", names=True)
                    label = name if seed == 0 else None
                    curves.plot(
                        table["epoch"], table[f"val_{target.name}_mae"], color=color, alpha=0.7, label=label
                    )
        spread = float(np.abs(np.concatenate(labels) - np.concatenate(labels).mean()).mean())
        curves.axhline(spread, color=GREY, dashes=(4, 2), label="mean predictor")
        unit = f" ({target.unit})" if target.unit else ""
        curves.set(xlabel="epoch", ylabel=f"MAE of validation structures{unit}", yscale="log")
        curves.legend()
        values = predicted[(networks[0], "structure")]
        n_done = len(values)
        both = [np.concatenate(part)[:, None] for part in (labels[:n_done], values)]
        quantity = target.as_quantity()
        draw(parity, ParityQuantity.of(quantity, [""] * len(both[0]), *both))
        parity.set_title(f"{networks[0]}, test structures of {n_done} trainings")
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
