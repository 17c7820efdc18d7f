"""From labelled frames to the summary: runs every check and collects what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ase import Atoms

from asecalc_ml.potentials.datasets.label_checks.copies import conflict_warnings, find_copies
from asecalc_ml.potentials.datasets.label_checks.distances import (
    distance_warnings,
    length_unit_warning,
    measure_distances,
)
from asecalc_ml.potentials.datasets.label_checks.energies import (
    EnergyFit,
    energy_warnings,
    fit_energies,
    per_atom_warning,
    repeated_warning,
)
from asecalc_ml.potentials.datasets.label_checks.forces import (
    ForceSlope,
    measure_slope,
    mixed_forces,
    slope_warning,
    unrelated_text,
)
from asecalc_ml.potentials.datasets.label_checks.labelled import Labelled
from asecalc_ml.potentials.datasets.label_checks.near import NearPairs, near_pairs
from asecalc_ml.potentials.datasets.label_checks.net_forces import measure_net_forces, net_force_warnings
from asecalc_ml.potentials.datasets.label_checks.offsets import find_offsets, misfit_of, offset_warnings
from asecalc_ml.potentials.datasets.label_checks.report import LabelReport
from asecalc_ml.store.card import formula_of


def examine(
    parts: Mapping[str, Sequence[Atoms]],
    names: Mapping[str, Sequence[str]] | None = None,
    training: Sequence[Atoms] = (),
) -> LabelReport:
    """Summarise labels and look for contradictions.

    Energies and forces are compared on a sample of near frames, and in large sets of periodic structures the
    shortest distances are those of a sample; both samples are the same each time.

    Parameters
    ----------
    parts : mapping of str to sequence of Atoms
        Frames of each part of the data, such as "train" and "test": energies (eV) and, where a frame has
        them, forces (eV/Å) in ``calc.results``.
    names : mapping, optional
        What messages call each frame; default "frame 0 of train".
    training : sequence of Atoms
        Frames of which the parts should hold no copies. A part that is this very object is left out.
    """
    names = names or {part: [f"frame {k} of {part}" for k in range(len(parts[part]))] for part in parts}
    labels = Labelled(
        [atoms for frames in parts.values() for atoms in frames],
        [name for part in parts for name in names[part]],
    )
    random = np.random.default_rng(0)
    pairs, distances = near_pairs(labels, random), measure_distances(labels, random)
    slope, net, fit = measure_slope(pairs), measure_net_forces(labels), fit_energies(labels)
    group, copies = _copies(parts, training)
    warnings = [
        *distance_warnings(distances, labels),
        *([] if length_unit_warning(distances) else _contradictions(labels, pairs, slope, fit)),
        *filter(None, [repeated_warning(labels, group)]),
        *net_force_warnings(net, labels),
        *conflict_warnings(group, labels),
        *(_copies_text(n, len(parts[part]), part) for part, n in copies.items() if n),
    ]
    return LabelReport(
        n_frames={part: len(frames) for part, frames in parts.items()},
        compositions=dict(_formulas(labels).most_common()),
        energy_per_atom_eV=fit.per_atom,
        energy_spread_meV_atom=None if fit.spread_eV_atom is None else 1000 * fit.spread_eV_atom,
        forces_rms_eV_A=net.forces_rms,
        largest_net_force_eV_A=net.largest,
        shortest_distances_A=distances.shortest,
        n_frames_searched=distances.n_searched,
        n_duplicates=len(group) - len(np.unique(group)),
        copies_of_training=copies,
        slope=slope.slope if slope.decided else None,
        explained=slope.explained,
        n_pairs=slope.n_pairs,
        warnings=warnings,
    )


def _contradictions(labels: Labelled, pairs: NearPairs, slope: ForceSlope, fit: EnergyFit) -> Iterator[str]:
    """Energies against compositions, then against forces, then those of near frames, then alone."""
    per_atom = per_atom_warning(labels)
    if per_atom is not None:
        yield per_atom
        return
    wrong, factor = slope_warning(slope, pairs), slope.slope if slope.decided else 1.0
    offsets = [] if wrong else find_offsets(pairs, factor)
    mixed = None if wrong else mixed_forces(pairs)
    if mixed and mixed.misfit_eV < misfit_of(pairs, factor, offsets):
        wrong, offsets = mixed.text(labels.names), []
    if not wrong and not offsets and slope.unrelated:
        wrong = unrelated_text(slope)
    yield from filter(None, [wrong])
    yield from offset_warnings(offsets, labels)
    if any(len(offset.frames) > 1 for offset in offsets):  # they spoil the fit of one energy per element
        return
    yield from energy_warnings(labels, fit, {int(k) for offset in offsets for k in offset.frames})


def _formulas(labels: Labelled) -> Counter:
    _, _, of_frame = labels.compositions
    _, first, n_frames = np.unique(of_frame, return_index=True, return_counts=True)
    formulas: Counter = Counter()
    for index, n in zip(first, n_frames, strict=True):
        formulas[formula_of(labels.frames[index].numbers)] += int(n)
    return formulas


def _copies(
    parts: Mapping[str, Sequence[Atoms]], training: Sequence[Atoms]
) -> tuple[np.ndarray, dict[str, int]]:
    """Group of copies of each frame, and the number of copies of training frames in each other part."""
    frames = [atoms for part in parts.values() for atoms in part]
    extra = [] if any(part is training for part in parts.values()) else list(training)
    group = find_copies([*frames, *extra])
    starts = np.cumsum([len(part) for part in parts.values()])[:-1]
    of_part = dict(zip(parts, np.split(group[: len(frames)], starts), strict=True))
    of_training = [own for name, own in of_part.items() if parts[name] is training]
    trained = np.concatenate([group[len(frames) :], *of_training])
    counts = {name: int(np.isin(own, trained).sum()) for name, own in of_part.items()}
    others = {name: n for name, n in counts.items() if parts[name] is not training}
    return group[: len(frames)], others if len(trained) else {}


def _copies_text(n_copies: int, n_frames: int, part: str) -> str:
    return (
        f"{n_copies} of the {n_frames} frames of {part} are copies of training frames, so errors on them say "
        "nothing of new structures: leave them out, or split with `split.group_distance_A`"
    )
