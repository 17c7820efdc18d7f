"""Molecules of QM9: their properties, units, free atoms, and those that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.packed.frames import Lists, PackedFrames, offsets_of
from asecalc_ml.units import energy_unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Properties in the order of QM9's files, each with its unit in the frames.
UNITS = {
    "mu": "Debye", "alpha": "Bohr^3", "homo": "eV", "lumo": "eV", "gap": "eV", "r2": "Bohr^2", "zpve": "eV",
    "u0": "eV", "u298": "eV", "h298": "eV", "g298": "eV", "cv": "cal/mol/K",
}  # fmt: skip
ROTATIONAL = ("A", "B", "C")
#: The numbers of a molecule in the order of QM9's files.
SCALARS = (*ROTATIONAL, *UNITS)

#: Energies of free atoms in QM9 (Hartree): atomref.txt of its authors, figshare 1057643.
ATOMS = {
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "u298": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h298": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "g298": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
#: No HOMO of a molecule lies below this, Hartree, and nearly all lie below it in eV.
LOWEST_HOMO_Ha = -1.5

ABSENT = {
    "polarizability": "QM9's polarizability tensors are in the frame of Gaussian's standard orientation, "
    "which is not that of its geometries. Take alpha, alpha_anisotropy or alpha_eigenvalues, which do not "
    "depend on it",
    "dipole": "QM9 has the norm of the dipole only. Take mu",
}


def molecules(
    index: ArrayLike,
    numbers: np.ndarray,
    positions: np.ndarray,
    n_atoms: ArrayLike,
    scalars: np.ndarray,
    *,
    smiles: Sequence[str] | None = None,
    charges: np.ndarray | None = None,
    frequencies: Lists | None = None,
) -> PackedFrames:
    """Molecules with their properties, converted from the units of QM9's files.

    Parameters
    ----------
    index : array of int, shape (n_molecules,)
        Numbers in QM9, 1 to 133,885; 0 where the file does not state it.
    numbers : ndarray, shape (n_atoms,)
    positions : ndarray, shape (n_atoms, 3), Å
    n_atoms : array of int, shape (n_molecules,)
    scalars : ndarray, shape (n_molecules, 15)
        In the order of :data:`SCALARS`: GHz, Debye, a0³, Hartree, a0², Hartree, cal/mol/K; NaN if unknown.
    smiles : sequence of str, optional
    charges : ndarray, shape (n_atoms,), e, optional
    frequencies : Lists, 1/cm, optional

    Raises
    ------
    DatasetError
        If the orbital energies are not in Hartree.
    """
    columns = dict(zip(SCALARS, np.asarray(scalars, dtype=np.float64).T, strict=True))
    if np.nanmin(columns["homo"], initial=0) < LOWEST_HOMO_Ha:
        raise DatasetError(
            f"a homo is {np.nanmin(columns['homo']):.3f}, so the file is not in Hartree, as QM9 is.",
            name="homo",
            value=float(np.nanmin(columns["homo"])),
            allowed=f"above {LOWEST_HOMO_Ha} Hartree",
            remedy="Give QM9's own files, or read this one with `format: ase`",
        )
    per_hartree = energy_unit("Hartree")
    factors = {name: per_hartree if unit == "eV" else 1.0 for name, unit in UNITS.items()}
    properties = {name: columns[name] * factors[name] for name in UNITS}
    properties["rotational_constants"] = np.stack([columns[name] for name in ROTATIONAL], axis=1)
    return PackedFrames(
        numbers=numbers,
        positions=positions,
        offsets=offsets_of(n_atoms),
        properties=properties,
        units={**UNITS, "rotational_constants": "GHz"},
        texts={} if smiles is None else {"smiles": np.array(smiles)},
        of_atoms={} if charges is None else {"mulliken_charges": charges},
        lists={} if frequencies is None else {"frequencies": frequencies},
        whole_numbers={"index": np.asarray(index, dtype=np.int64)},
        energy="u0",
        absent=ABSENT,
    )


def with_tensors(frames: PackedFrames, polarizabilities: ArrayLike) -> PackedFrames:
    """Molecules with those properties of their polarizability tensors that no rotation changes.

    These are the eigenvalues, ascending, and the anisotropy, the square root of half the sum of the squared
    differences of the eigenvalues. Their mean is alpha.

    Parameters
    ----------
    frames : PackedFrames
    polarizabilities : array, shape (n_molecules, 3, 3), a0³
        In any frame; NaN if unknown.
    """
    tensors = np.asarray(polarizabilities, dtype=np.float64)
    known = np.isfinite(tensors).all(axis=(1, 2))
    eigenvalues = np.full((len(tensors), 3), np.nan)
    eigenvalues[known] = np.linalg.eigvalsh(tensors[known])
    differences = eigenvalues - np.roll(eigenvalues, 1, axis=1)
    invariants = {
        "alpha_anisotropy": np.sqrt((differences**2).sum(axis=1) / 2),
        "alpha_eigenvalues": eigenvalues,
    }
    return replace(
        frames,
        properties={**frames.properties, **invariants},
        units={**frames.units, **dict.fromkeys(invariants, "Bohr^3")},
    )


def characterised(frames: PackedFrames) -> PackedFrames:
    """All but the uncharacterised molecules, in the order of QM9.

    Raises
    ------
    DatasetError
        If a molecule comes twice.
    """
    index = frames.whole_numbers["index"]
    known, counts = np.unique(index[index > 0], return_counts=True)
    if (counts > 1).any():
        raise DatasetError(
            f"molecule {known[counts > 1][0]} of QM9 comes twice ({(counts > 1).sum()} molecules do);",
            name=f"molecule {known[counts > 1][0]}",
            value=int(known[counts > 1][0]),
            remedy="remove the copies",
        )
    is_left_out = np.isin(index, uncharacterised())
    order = np.argsort(index, kind="stable")
    chosen = frames.take(order[~is_left_out[order]])
    return replace(chosen, left_out={**frames.left_out, **named(index[is_left_out])})


def named(index: np.ndarray) -> dict[str, str]:
    """Uncharacterised molecules as :class:`PackedFrames` lists what is left out."""
    return dict.fromkeys((f"molecule {number}" for number in index), "uncharacterised")


@cache
def uncharacterised() -> np.ndarray:
    """Numbers of the 3,054 molecules that did not relax to the structure of their SMILES, ascending."""
    text = Path(__file__).with_name("uncharacterised.txt").read_text(encoding="ascii")
    ends = [[int(end) for end in part.split("-")] for part in text.split()]
    return np.concatenate([np.arange(part[0], part[-1] + 1) for part in ends])


def less_atoms(frames: PackedFrames) -> PackedFrames:
    """Molecules whose energies are those of atomisation: less the energies of the free atoms.

    Raises
    ------
    DatasetError
        If there is an element that QM9 does not have.
    """
    if unknown := set(np.unique(frames.numbers).tolist()) - ATOMS["u0"].keys():
        raise DatasetError(
            f"QM9 has no free atom of atomic number {min(unknown)}, so there is no atomisation energy;",
            name="energies",
            value=min(unknown),
            allowed=list(ATOMS["u0"]),
            remedy="set energies: total",
        )
    energies = {}
    for name, of_element in ATOMS.items():
        table = np.zeros(max(of_element) + 1)
        table[list(of_element)] = list(of_element.values())
        of_atoms = np.add.reduceat(table[frames.numbers], frames.offsets[:-1])
        energies[name] = frames.properties[name] - of_atoms * energy_unit("Hartree")
    return replace(frames, properties={**frames.properties, **energies})
