"""Intervals of errors and of their differences, and tables, for the scripts of this folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

N_DRAWS = 1000


def interval_of_mean(
    values: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval (95 %) of a mean: values are drawn with replacement.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Absolute errors of structures; or differences of those of two predictors on the same structures, for a
        paired interval.
    groups : ndarray, shape (n,), optional
        Values of one group, such as errors of one structure in several trainings, are drawn together.
    """
    random = np.random.default_rng(seed)
    _, group = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    totals, counts = np.bincount(group, values), np.bincount(group)
    drawn = random.integers(len(counts), size=(N_DRAWS, len(counts)))
    low, high = np.quantile(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def with_interval(
    values: np.ndarray, factor: float = 1.0, digits: int = 3, groups: np.ndarray | None = None
) -> str:
    """Mean with its interval as text, such as ``0.123 (0.120 to 0.126)``."""
    mean, (low, high) = values.mean(), interval_of_mean(values, groups)
    return f"{mean * factor:.{digits}g} ({low * factor:.{digits}g} to {high * factor:.{digits}g})"


def parity_predictions(path: Path, name: str) -> dict[int, float]:
    """Predictions of a quantity by number of the frame, from the ``parity.json`` of ``asecalc-ml eval``."""
    quantities = json.loads(path.read_text())["quantities"]
    values = next(quantity for quantity in quantities if quantity["name"] == name)
    numbers = [int(structure.rsplit(" ", 1)[1]) for structure in values["structures"]]
    return {number: row[0] for number, row in zip(numbers, values["predicted"], strict=True)}
