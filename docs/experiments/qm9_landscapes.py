"""Do similar values lie together in what a network has learned, and is a smoother landscape learned better?

python docs/experiments/qm9_landscapes.py MODEL ... --map-molecules 13400 --roughness-molecules 2000

MODEL is the name of a model of one property of QM9, such as qm9-physnet-homo; all of one call predict the
same one. Molecules are random ones that trained none of the models. The folder `--output` receives
landscapes.json, and for each model points and figures of PCA and UMAP in two and three dimensions
(`--map-molecules 0` for none).

**Similar values.** Moran's I of the property (the label, not the prediction) over the 15 nearest neighbors is
1 where neighbors have equal values and 0 where values lie at random. It is given in the space of the features
(means over atoms) and in each projection, beside that of shuffled values and of a network with random
weights.

**Roughness.** ROGI and ROGI-XD of the labels over features (three metrics; sums over atoms where the property
is a sum over atoms, else means) and over Morgan's fingerprint (Tanimoto), beside the mean absolute error of
each model on the same molecules. Spearman's correlation of roughness and error has an interval from
resampling cells, all networks of one architecture and size of the training set, with replacement. "Lower
roughness goes with lower error" is confirmed if the interval lies above 0, not confirmed if it lies below
0.3, a moderate correlation, and undecided otherwise.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from qm9_common import Record, qm9, unseen
from scipy.stats import spearmanr

from asecalc_ml import MLCalculator
from asecalc_ml.analysis import maps
from asecalc_ml.analysis.maps.fingerprints import fingerprints
from asecalc_ml.analysis.maps.roughness import (
    relative_distances,
    roughness_index,
    roughness_index_xd,
    standard_errors,
)
from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.errors import AsecalcError
from asecalc_ml.model.model import Model
from asecalc_ml.store.model_file import untrained_model
from asecalc_ml.store.registry import Registry

METRICS = ["euclidean", "cityblock", "cosine"]
HALVES = 20  # of the molecules, for the errors of ROGI
RESAMPLES = 2000  # of the networks
MODERATE = 0.3
FEWEST_CELLS = 3  # for a correlation


def similar_values(model: str, frames: list[Atoms], target: str, folder: Path, record: Record) -> None:
    """Moran's I of the labels in features, PCA and UMAP, of the trained network and an untrained one."""
    networks: dict[str, str | Model] = {
        model: model,
        f"{model}, random weights": untrained_model(Registry().find(model).path, seed=0),
    }
    rows = []
    for name, network in networks.items():
        for dimensions in (2, 3):
            found = maps.draw_map(
                network, frames, info=[target], projections="pca,umap", dimensions=dimensions, metrics=[]
            )
            found.write(folder / f"{name.replace(', ', '-').replace(' ', '-')}-{dimensions}d")
            rows += [
                {
                    "network": name,
                    "space": one.projection if one.projection != "none" else "features",
                    "dimensions": dimensions if one.projection != "none" else "all",
                    "Moran's I": one.morans_i,
                    "shuffled": one.shuffled_mean,
                    "std of shuffled": one.shuffled_std,
                    "p": one.p_value,
                    "difference of neighbors": one.difference,
                    "difference of any two": one.mean_difference,
                    "molecules": one.n_points,
                }
                for one in found.neighbor_similarity
                if one.quantity == f"{target}-info" and (one.projection != "none" or dimensions == 2)
            ]
    record.add(f"{model}: {target} of neighbors", rows)


def error_of(model: str, frames: list[Atoms], target: str) -> float:
    """Mean absolute error on these molecules."""
    located = {str(number): atoms for number, atoms in enumerate(frames)}
    (values,) = predict(MLCalculator(model), located).columns.values()
    return float(np.mean(np.abs(values - [atoms.info[target] for atoms in frames])))


def pooled_features(model: str, frames: list[Atoms]) -> np.ndarray:
    """Features of each molecule, pooled as the model pools contributions."""
    (quantity,) = Registry().find(model).card.quantities
    rows = maps.features(model, frames, quiet=True)
    return np.stack([own.sum(axis=0) if quantity.pooling == "sum" else own.mean(axis=0) for own in rows])


def roughness(points: np.ndarray, labels: np.ndarray, metrics: list[str]) -> list[dict[str, object]]:
    """ROGI and ROGI-XD of the labels, a row for each metric."""
    rows: list[dict[str, object]] = []
    for metric in metrics:
        distances = relative_distances(points, metric)
        error, error_xd = standard_errors(labels, distances, HALVES, seed=0)
        rows.append(
            {
                "metric": metric,
                "ROGI": roughness_index(labels, distances),
                "error of ROGI": error,
                "ROGI-XD": roughness_index_xd(labels, distances),
                "error of ROGI-XD": error_xd,
            }
        )
    return rows


def correlation(rows: list[dict], index: str) -> dict[str, object]:
    """Spearman's correlation of an index with the error, with an interval over cells, and the verdict."""
    cells: dict[tuple, list[tuple[float, float]]] = {}
    for row in rows:
        cells.setdefault((row["architecture"], row["trained on"]), []).append((row[index], row["MAE"]))
    pairs = [np.array(cell) for cell in cells.values()]
    rng, samples = np.random.default_rng(0), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sample of one cell
        for _ in range(RESAMPLES):
            drawn = np.concatenate([pairs[k] for k in rng.integers(len(pairs), size=len(pairs))])
            samples.append(spearmanr(*drawn.T).statistic)
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return {
        "networks": len(rows),
        "cells": len(pairs),
        "Spearman": float(spearmanr(*np.concatenate(pairs).T).statistic),
        "95 % from": float(low),
        "to": float(high),
        "verdict": "confirmed" if low > 0 else "not confirmed" if high < MODERATE else "undecided",
    }


def compare_roughness(models: list[str], frames: list[Atoms], target: str, record: Record) -> None:
    """Roughness of all models, and its correlation with their errors, over all and within architectures."""
    rows, labels = [], np.array([atoms.info[target] for atoms in frames])
    for model in models:
        card, error = Registry().find(model).card, error_of(model, frames, target)
        own = {
            "model": model,
            "architecture": card.architecture,
            "trained on": card.dataset.n_train if card.dataset else None,
        }
        points = pooled_features(model, frames)
        rows += [{**own, "MAE": error, **row} for row in roughness(points, labels, METRICS)]
    record.add(f"Roughness of {target} over features, {len(frames)} molecules", rows)
    record.add(
        f"Roughness of {target} over Morgan's fingerprint",
        roughness(fingerprints("morgan", frames, of_atoms=False), labels, ["tanimoto"]),
    )
    correlations = []
    for metric in METRICS:
        for kind in ("all", *dict.fromkeys(row["architecture"] for row in rows)):
            own = [row for row in rows if row["metric"] == metric and kind in ("all", row["architecture"])]
            if (
                len({row["trained on"] for row in own}) * len({row["architecture"] for row in own})
                >= FEWEST_CELLS
            ):
                for index in ("ROGI", "ROGI-XD"):
                    place = {"index": index, "metric": metric, "networks of": kind}
                    correlations.append({**place, **correlation(own, index)})
    if correlations:
        record.add(f"Roughness of {target} and error", correlations)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--map-molecules", type=int, default=13_400)
    parser.add_argument("--roughness-molecules", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of molecules")
    parser.add_argument("--output", type=Path, default=Path("qm9_landscapes"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    targets = {tuple(one.name for one in Registry().find(name).card.quantities) for name in arguments.models}
    if len(targets) != 1 or len(*targets) != 1:
        parser.error(
            f"the models predict {', '.join(sorted(', '.join(one) for one in targets))}; give one property"
        )
    ((target,),) = targets
    record = Record("Landscapes of a property", {**vars(arguments), "output": str(arguments.output)})
    n_molecules = max(arguments.map_molecules, arguments.roughness_molecules)
    frames = unseen(qm9(), arguments.models, n_molecules, arguments.seed, keep=lambda atoms: True)
    path = arguments.output / "landscapes.json"
    if arguments.roughness_molecules:
        compare_roughness(arguments.models, frames[: arguments.roughness_molecules], target, record)
        record.write(path)
    if arguments.map_molecules:
        for model in arguments.models:
            similar_values(model, frames[: arguments.map_molecules], target, arguments.output, record)
            record.write(path)


if __name__ == "__main__":
    try:
        main()
    except AsecalcError as error:
        raise SystemExit(str(error)) from None
