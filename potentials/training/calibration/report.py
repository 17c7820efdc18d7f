"""Calibration of what a calculator stated for labelled structures, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from asecalc_ml.calculators.results import Results
from asecalc_ml.potentials.datasets.labels import label_of
from asecalc_ml.statistics.calibration import Calibration
from asecalc_ml.targets.target import ENERGY, STD, Quantity

COLUMNS = ("values", "RMSE", "std", "miscalibration", "rank correlation", "likelihood", "surest half")

#: Committees with fewer members have no reliable factor: the mean of 1/σ² of so few normal draws is infinite.
FEWEST_MEMBERS = 4

#: What the columns are.
LEGEND = (
    "RMSE and std (root mean square) agree where uncertainties are calibrated.",
    "Miscalibration: area from 0 to 0.5, on average 0.31/√n for n independent values where calibrated.",
    "Rank correlation (Spearman): of std and absolute error. Likelihood: its mean negative logarithm.",
    "Surest half: MAE of the half with the smaller std over that of all.",
)


@dataclass(frozen=True)
class FittedScale:
    """Factor of standard deviations that makes errors on validation structures most likely.

    Parameters
    ----------
    factor : float
    n_structures : int
        Validation structures.
    n_members : int
        Of the committee.
    """

    factor: float
    n_structures: int
    n_members: int


def calibrations(
    quantities: Sequence[Quantity], frames: Sequence[Atoms], results: Sequence[Results]
) -> list[Calibration]:
    """Errors with standard deviations of each quantity that has both; components count one by one.

    Parameters
    ----------
    quantities : sequence of Quantity
        Of a model; forces are taken with energies.
    frames : sequence of Atoms
        With labels.
    results : sequence of dict
        Results of the frames, in their order.
    """
    units = {quantity.name: quantity.unit for quantity in quantities}
    if ENERGY in units:
        units["forces"] = "eV/Å"
    measured = []
    for name, unit in units.items():
        rows = [
            (np.ravel(of_frame[name]) - np.ravel(label_of(atoms, name)), np.ravel(of_frame[name + STD]))
            for atoms, of_frame in zip(frames, results, strict=True)
            if name + STD in of_frame and label_of(atoms, name) is not None
        ]
        if rows:
            errors, stds = (np.concatenate(part) for part in zip(*rows, strict=True))
            measured.append(Calibration(name, unit, errors, stds))
    return measured


def calibration_lines(
    measured: Sequence[Calibration], scales: Mapping[str, FittedScale] | None = None
) -> list[str]:
    """Table of calibrations, before and after the scaling of standard deviations where there is one."""
    if not measured:
        return []
    rows = []
    for one in measured:
        name = f"{one.quantity} ({one.unit})" if one.unit else one.quantity
        rows.append((name, _cells(one)))
        if scales and one.quantity in scales:
            scale = scales[one.quantity]
            rows.append((f"  std × {scale.factor:.3g}", _cells(one.scaled(scale.factor))))
    width = max(len("uncertainty"), *(len(name) for name, _ in rows))
    lines = [f"{'uncertainty':<{width}}" + "".join(f"{heading:>18}" for heading in COLUMNS)]
    lines += [f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells) for name, cells in rows]
    if scales:
        scale = next(iter(scales.values()))
        lines.append(
            f"The factor was fitted to {scale.n_structures:,} validation structures that trained no member."
        )
        if scale.n_members < FEWEST_MEMBERS:
            lines.append(
                f"It cannot be relied on: of {scale.n_members} members some standard deviations are nearly "
                "zero by chance, and these structures decide it. Use five members or more."
            )
    lines += [f"{one.quantity}: {sentence}." for one in measured if (sentence := _without_meaning(one))]
    return [*lines, *LEGEND]


def _cells(measured: Calibration) -> list[str]:
    rank, likelihood = measured.spearman, measured.negative_log_likelihood
    half, of_all = measured.selective_errors(np.array([0.5, 1.0]))
    return [
        f"{measured.n_values:,}",
        f"{measured.rmse:.4g}",
        f"{measured.rms_std:.4g}",
        f"{measured.miscalibration_area:.3f}",
        "none" if rank is None else f"{rank:.2f}",
        f"{likelihood:.2f}",
        f"{half / of_all:.2f}" if of_all > 0 else "none",
    ]


def _without_meaning(measured: Calibration) -> str | None:
    """A sentence on standard deviations that are zero."""
    n_zero = int((measured.stds == 0).sum())
    if not n_zero:
        return None
    return (
        f"{n_zero:,} of {measured.n_values:,} standard deviations are zero, and no factor calibrates them: "
        "the members of the committee are the same there. Use members that were trained from different seeds"
    )
