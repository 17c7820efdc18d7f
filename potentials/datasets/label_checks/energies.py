"""Energies against compositions: spread, energies per atom, outliers, mixed units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asecalc_ml.graph.neighbors import find_pairs
from asecalc_ml.potentials.datasets.label_checks.clusters import CLUSTERS, deviation, two_clusters
from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled
from asecalc_ml.potentials.datasets.label_checks.units import mixed_units_text, units_of_ratio
from asecalc_ml.structure.pair_vectors import pair_vectors

#: eV an atom (and for each unit of charge) that no bond makes: N≡N binds with 4.9 eV an atom, tungsten 8.9.
BEYOND_CHEMISTRY_EV = 15.0
#: A frame among at least ten of its composition, with as many bonds, but so far off in energy.
FAR_DEVIATIONS, FAR_EV_ATOM, FEWEST = 60.0, 1.0, 10
#: Frames of one composition of which more than this share have one energy to the last digit.
FEWEST_REPEATED, REPEATED = 3, 0.5
BONDED, COMPRESSED = 1.3, 0.7  # times the sum of covalent radii
MANY_COMPRESSED = 0.3  # of the frames of a composition: their energies are no measure for the others
#: Misfit of shares of elements over misfit of numbers of atoms: 2.6 to 2,300 for the total energies of the
#: sets tried, 0.0005 to 0.37 once these are divided by the number of atoms.
PER_ATOM = 0.5


@dataclass(frozen=True, eq=False)
class EnergyFit:
    """Energies less the best sum of one value per element.

    Parameters
    ----------
    left : array, shape (n_frames,), eV
        NaN where a frame has no energy.
    per_atom : tuple of float, optional
        Lowest, median and highest energy per atom, eV.
    spread_eV_atom : float, optional
        Root mean square of what is left, per atom, after a fit of least squares.
    """

    left: np.ndarray
    per_atom: tuple[float, float, float] | None
    spread_eV_atom: float | None


def fit_energies(labels: Labelled) -> EnergyFit:
    """Fit one energy per element: by squares for the spread, by absolute deviations to find outliers."""
    known = np.isfinite(labels.energies)
    left = np.full(len(labels), np.nan)
    if not known.any():
        return EnergyFit(left, None, None)
    # Numbers of atoms of each element in each frame.
    _, table, of_frame = labels.compositions
    counts, energies, n_atoms = table[of_frame[known]], labels.energies[known], labels.n_atoms[known]
    # Least squares for the spread; least absolute deviations, which outliers do not move, to find these.
    spread = _left_over(counts, energies) / n_atoms
    left[known] = _left_over(counts, energies, reweighted=20)
    low, middle, high = np.quantile(energies / n_atoms, [0, 0.5, 1])
    return EnergyFit(left, (float(low), float(middle), float(high)), float(np.sqrt((spread**2).mean())))


def _left_over(counts: np.ndarray, energies: np.ndarray, reweighted: int = 0) -> np.ndarray:
    """Residuals of a fit: least squares, or by reweighting least absolute deviations."""
    weights = np.ones(len(energies))
    for _ in range(reweighted + 1):
        # Weighted least squares; weights 1 / |residual| make the squares absolute deviations.
        root = np.sqrt(weights)
        per_element = np.linalg.lstsq(counts * root[:, None], energies * root, rcond=None)[0]
        left = energies - counts @ per_element
        weights = 1 / np.maximum(np.abs(left), 1e-3)
    return left


def energy_warnings(labels: Labelled, fit: EnergyFit, explained: set[int]) -> Iterator[str]:
    """Yield warnings from energies alone; frames that forces have explained already are left out."""
    yield from _mixed_units(labels, explained)
    off = [k for k in _beyond_chemistry(labels, fit) if k not in explained]
    off += [k for k in _far_from_their_composition(labels) if k not in {*off, *explained}]
    off = _not_compressed(labels, fit, off)
    if off:
        yield _outlier_warning(labels, fit, np.array(sorted(off)))


def repeated_warning(labels: Labelled, group: np.ndarray) -> str | None:
    """Warn if one energy belongs to most structures of a composition, as of frames with one calculator.

    Parameters
    ----------
    labels : Labelled
    group : array, shape (n_frames,)
        Numbers that copies of a structure share.
    """
    for frames in _of_one_composition(labels, FEWEST_REPEATED):
        energies, counts = np.unique(labels.energies[frames], return_counts=True)
        same = frames[labels.energies[frames] == energies[np.argmax(counts)]]
        if len(same) > REPEATED * len(frames) and len(np.unique(group[same])) > 1:
            first, second = labels.names[same[0]], labels.names[same[1]]
            return (
                f"{len(same)} of {len(frames)} frames of the same atoms have one energy to the last digit, "
                f"such as {first} and {second}, though they differ in structure. Frames that share one "
                "calculator when they are written all get its last results: label them anew, such as by "
                "`asecalc-ml data label`"
            )
    return None


def per_atom_warning(labels: Labelled) -> str | None:
    """Warn if energies scale with the shares of the elements instead of the numbers of atoms."""
    known = np.isfinite(labels.energies)
    elements, table, of_frame = labels.compositions
    counts, energies = table[of_frame[known]], labels.energies[known]
    n_compositions = len(np.unique(of_frame[known]))
    if n_compositions < len(elements) + 3 or np.ptp(labels.n_atoms[known]) == 0:
        return None
    # Misfit of Σ_Z n_Z e_Z, as for total energies, and of Σ_Z (n_Z / N) e_Z, as for energies per atom.
    as_totals = _rms(_left_over(counts, energies))
    as_means = _rms(_left_over(counts / counts.sum(axis=1, keepdims=True), energies))
    if not as_means < PER_ATOM * as_totals:
        return None
    return (
        f"energies look like energies per atom: one value per element leaves {as_means:.3g} eV where it is "
        f"weighted with the element's share, and {as_totals:.3g} eV where it is multiplied with the number "
        "of atoms. Multiply each energy with the frame's number of atoms"
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _mixed_units(labels: Labelled, explained: set[int]) -> Iterator[str]:
    """Two clusters of energies of one composition whose ratio is that of two units."""
    for frames in _of_one_composition(labels):
        energies = labels.energies[frames]
        upper, _, separation = two_clusters(energies)
        if min(upper.sum(), (~upper).sum()) < 1 or separation < CLUSTERS or explained & {*frames}:
            continue
        # the smaller cluster is suspected; the ratio of the medians is that of two units
        few = frames[upper if upper.mean() <= 0.5 else ~upper]
        others = np.setdiff1d(frames, few)
        units = units_of_ratio(*(np.median(labels.energies[part]) for part in (few, others)))
        if units:
            explained.update(int(k) for k in few)
            yield mixed_units_text(labels.names[few[0]], len(few), len(frames), units)
            return


def _of_one_composition(labels: Labelled, fewest: int = FEWEST) -> Iterator[np.ndarray]:
    _, table, of_frame = labels.compositions
    known = np.isfinite(labels.energies) & labels.with_cell
    for composition in range(len(table)):
        frames = np.flatnonzero((of_frame == composition) & known)
        if len(frames) >= fewest:
            yield frames


def _beyond_chemistry(labels: Labelled, fit: EnergyFit) -> list[int]:
    allowed = BEYOND_CHEMISTRY_EV * (labels.n_atoms + np.abs(labels.charges))
    return [int(k) for k in np.flatnonzero(np.abs(np.nan_to_num(fit.left)) > allowed)]


def _far_from_their_composition(labels: Labelled) -> list[int]:
    far = []
    for frames in _of_one_composition(labels):
        per_atom = labels.energies[frames] / labels.n_atoms[frames]
        off = np.abs(per_atom - np.median(per_atom))
        candidates = frames[off > max(FAR_DEVIATIONS * deviation(per_atom), FAR_EV_ATOM)]
        if 0 < len(candidates) <= len(frames) // 4:
            usual = np.median([_bonds(labels, k) for k in np.setdiff1d(frames, candidates)[:20]])
            if usual > 0:
                far += [int(k) for k in candidates if 0.9 * usual <= _bonds(labels, k) <= 1.1 * usual]
    return far


def _not_compressed(labels: Labelled, fit: EnergyFit, off: list[int]) -> list[int]:
    """Without frames that lie high because atoms repel each other, and frames that are compared with such."""
    if not off:
        return []
    _, _, of_frame = labels.compositions
    known, kept = np.isfinite(labels.energies) & labels.with_cell, []
    repelled = {}
    for composition in np.unique(of_frame[off]):
        frames = np.flatnonzero((of_frame == composition) & known)
        spread_out = frames[:: max(1, len(frames) // 20)]
        repelled[composition] = np.mean([_bonds(labels, k, COMPRESSED) > 0 for k in spread_out])
    for k in off:
        high = fit.left[k] > 0 and _bonds(labels, k, COMPRESSED) > 0
        if not high and not repelled[of_frame[k]] > MANY_COMPRESSED:
            kept.append(k)
    return kept


def _bonds(labels: Labelled, index: int, within: float = BONDED) -> int:
    """Number of pairs of atoms within so many sums of covalent radii."""
    from ase.data import covalent_radii

    atoms = labels.frames[index]
    radii = covalent_radii[atoms.numbers]
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 2 * within * radii.max())
    i, j = pairs.edge_index
    vectors = pair_vectors(atoms.positions, *pairs, atoms.cell.array)
    return int((np.linalg.norm(vectors, axis=1) < within * (radii[i] + radii[j])).sum())


def _outlier_warning(labels: Labelled, fit: EnergyFit, frames: np.ndarray) -> str:
    worst = frames[np.argmax(np.abs(fit.left[frames]))]
    count = "the energy of a frame lies" if len(frames) == 1 else f"energies of {len(frames)} frames lie"
    return (
        f"{count} farther from the others than bonds can: {labels.names[worst]} by {fit.left[worst]:+.4g} eV "
        "after a fit of one energy per element. Leave it out, label it anew, or put all energies on one "
        "zero and one unit"
    )
