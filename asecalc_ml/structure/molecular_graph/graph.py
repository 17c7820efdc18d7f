"""Features of the atoms and pairs of one molecule."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.molecular_graph.bonding import molecule_of
from asecalc_ml.structure.molecular_graph.features import (
    BOND_TYPES,
    ELEMENTS,
    GRAPH_DISTANCES,
    HYBRIDIZATIONS,
    N_CONSTANT_PAIR_FEATURES,
    RING_SIZES,
)
from asecalc_ml.structure.molecular_graph.order import canonical_order
from asecalc_ml.structure.smiles import need_rdkit

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

#: Molecules whose features are kept in memory, of about 4 kB each.
N_KEPT = 65_536

SEES_GEOMETRY = "use an architecture that sees geometry, such as painn"

#: Donors of hydrogen bonds: N, O and F with a hydrogen. With the next pattern these are the definitions of
#: RDKit's module Lipinski, but that water counts and aromatic nitrogen without a lone pair does not.
DONOR = "[$([N,n,O,F;!H0])]"

#: Acceptors: O, but that of the hydroxyl group of an acid; N with a lone pair, but that of an amide.
ACCEPTOR = (
    "[$([O;!H0;v2;!$(O-*=[O,N])]),$([O;H0;v2]),$([O;-]),$([N;v3;!$(N-*=!@[O,N])]),$([n;X2;+0]),$([o;+0])]"
)

#: Steps in which RDKit may rank the neighbors of chiral centres.
MOST_RANKINGS = 1_000_000


class MolecularGraph(NamedTuple):
    """Features of a molecule, named in :mod:`asecalc_ml.structure.molecular_graph.features`.

    Parameters
    ----------
    atoms : ndarray, shape (n_atoms, 21), float64
    pairs : ndarray, shape (n_pairs, 13), float64
        Of the pairs i < j in the order of ``numpy.triu_indices(n_atoms, 1)``; the last is the distance in Å.
    """

    atoms: np.ndarray
    pairs: np.ndarray


class ConstantFeatures(NamedTuple):
    """Features that do not change while the atoms of a molecule move a little.

    Parameters
    ----------
    atoms : ndarray, shape (n_atoms, 21), float32
    pairs : ndarray, shape (n_pairs, 12), uint8
        Those of :class:`MolecularGraph` without the distance.
    """

    atoms: np.ndarray
    pairs: np.ndarray


def molecular_graph(structure: Atoms) -> MolecularGraph:
    """Features of the atoms and pairs of a molecule.

    Parameters
    ----------
    structure : Atoms
        One molecule of H, C, N, O and F, with all hydrogens. Bonds are those of ``info["smiles"]``, or
        follow from the geometry and the total charge.

    Raises
    ------
    StructureError
        If it is periodic, holds other elements, or has no molecular graph that can be determined.

    Examples
    --------
    >>> from ase.build import molecule
    >>> graph = molecular_graph(molecule("C6H6"))
    >>> graph.atoms.shape, graph.pairs.shape
    ((12, 21), (66, 13))
    """
    constant = constant_features(structure)
    i, j = np.triu_indices(len(structure), 1)
    distances = np.linalg.norm(structure.positions[i] - structure.positions[j], axis=1)
    pairs = np.concatenate([constant.pairs, distances[:, None]], axis=1)
    return MolecularGraph(constant.atoms.astype(np.float64), pairs)


def constant_features(structure: Atoms) -> ConstantFeatures:
    """Features of a molecule without its distances; those of :data:`N_KEPT` molecules are kept.

    Parameters and errors are those of :func:`molecular_graph`.
    """
    if structure.pbc.any():
        raise StructureError(
            "it is periodic, and a molecular graph is that of a molecule;",
            name="pbc",
            value=structure.pbc.tolist(),
            remedy=f"set pbc to false for a molecule, or {SEES_GEOMETRY}",
        )
    if unknown := sorted(set(structure.symbols) - set(ELEMENTS)):
        raise StructureError(
            f"it contains {', '.join(unknown)}, and the features of a molecular graph have places for "
            f"{', '.join(ELEMENTS)};",
            name=unknown[0],
            value=unknown,
            allowed=ELEMENTS,
            remedy=f"leave it out, or {SEES_GEOMETRY}",
        )
    charge, _ = charge_and_spin(structure)
    stated = structure.info.get("smiles")
    smiles = str(stated).strip() if isinstance(stated, str) else ""
    numbers = np.asarray(structure.numbers, dtype=np.uint8)
    positions = np.ascontiguousarray(structure.positions, dtype=np.float64)
    return _features(numbers.tobytes(), positions.tobytes(), charge, smiles)


@lru_cache(maxsize=N_KEPT)
def _features(numbers: bytes, positions: bytes, charge: int, smiles: str) -> ConstantFeatures:
    """Features of a molecule, in the order of its atoms.

    Parameters
    ----------
    numbers : bytes of uint8, shape (n_atoms,)
    positions : bytes of float64, shape (n_atoms, 3), Å
    """
    need_rdkit("a molecular graph")
    atomic_numbers = np.frombuffer(numbers, dtype=np.uint8)
    places = np.frombuffer(positions, dtype=np.float64).reshape(-1, 3)
    order = canonical_order(atomic_numbers, places)
    molecule = molecule_of(atomic_numbers[order], places[order], charge, smiles)
    # back from the canonical order: atom k of the structure is atom rank[k] of the molecule
    rank = np.argsort(order)
    i, j = np.triu_indices(len(order), 1)
    features = ConstantFeatures(
        _of_atoms(molecule)[rank], _of_pairs(molecule)[rank[i], rank[j]].astype(np.uint8)
    )
    for array in features:
        array.flags.writeable = False
    return features


# -------------------------------------------------------------------------------------------------- atoms


def _of_atoms(molecule: Mol) -> np.ndarray:
    """Features of atoms, shape (n_atoms, 21), float32."""
    atoms, rings = list(molecule.GetAtoms()), molecule.GetRingInfo()
    columns = [
        _one_hot([chemical_symbols[atom.GetAtomicNum()] for atom in atoms], ELEMENTS),
        _one_hot(_chirality(molecule), ("R", "S")),
        _column([atom.GetFormalCharge() for atom in atoms]),
        _column(_partial_charges(molecule)),
        # number of rings of each size that the atom is a member of
        np.array([[rings.AtomRingSizes(a.GetIdx()).count(size) for size in RING_SIZES] for a in atoms]),
        _one_hot([str(atom.GetHybridization()).lower() for atom in atoms], HYBRIDIZATIONS),
        _hydrogen_bonding(molecule),
        _column([atom.GetIsAromatic() for atom in atoms]),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _column(values: list) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def _one_hot(values: list[str], names: tuple[str, ...]) -> np.ndarray:
    """A column for each name: 1 where a value is that name; shape (n_values, n_names)."""
    return np.array([[value == name for name in names] for value in values], dtype=float)


def _chirality(molecule: Mol) -> list[str]:
    """CIP label of each atom in this geometry, by P. Hanson et al., J. Chem. Inf. Model. 58, 1755 (2018).

    It is R or S of a chiral centre, r or s of a pseudoasymmetric one, which mirror images share.
    """
    from rdkit import Chem
    from rdkit.Chem import rdCIPLabeler

    Chem.AssignStereochemistryFrom3D(molecule)
    for atom in molecule.GetAtoms():
        atom.ClearProp("_CIPCode")
    try:
        rdCIPLabeler.AssignCIPLabels(molecule, maxRecursiveIterations=MOST_RANKINGS)
    except RuntimeError as error:
        raise StructureError(
            f"its chiral centres cannot be named ({str(error).strip()});",
            name="chirality",
            remedy=f"leave it out, or {SEES_GEOMETRY}",
        ) from None
    return [atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else "" for atom in molecule.GetAtoms()]


def _partial_charges(molecule: Mol) -> list[float]:
    """Gasteiger charges, e: J. Gasteiger, M. Marsili, Tetrahedron 36, 3219 (1980)."""
    from rdkit.Chem import rdPartialCharges

    rdPartialCharges.ComputeGasteigerCharges(molecule)
    charges = [atom.GetDoubleProp("_GasteigerCharge") for atom in molecule.GetAtoms()]
    if not np.isfinite(charges).all():
        raise StructureError(
            "it has atoms without Gasteiger charges;",
            name="partial charge",
            remedy=f"leave it out, or {SEES_GEOMETRY}",
        )
    return charges


def _hydrogen_bonding(molecule: Mol) -> np.ndarray:
    """Whether each atom is a donor and an acceptor of hydrogen bonds, shape (n_atoms, 2)."""
    flags = np.zeros((molecule.GetNumAtoms(), 2))
    for column, pattern in enumerate(_patterns()):
        atoms = [atom for (atom,) in molecule.GetSubstructMatches(pattern)]
        flags[atoms, column] = 1
    return flags


@cache
def _patterns() -> tuple[Mol, Mol]:
    from rdkit import Chem

    return Chem.MolFromSmarts(DONOR), Chem.MolFromSmarts(ACCEPTOR)


# -------------------------------------------------------------------------------------------------- pairs


def _of_pairs(molecule: Mol) -> np.ndarray:
    """Features of all pairs without the spatial distance, shape (n_atoms, n_atoms, 12)."""
    from rdkit import Chem

    n_atoms = molecule.GetNumAtoms()
    pairs = np.zeros((n_atoms, n_atoms, N_CONSTANT_PAIR_FEATURES), dtype=bool)
    first_distance, same_ring = len(BOND_TYPES), len(BOND_TYPES) + len(GRAPH_DISTANCES)
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        kind = BOND_TYPES.index(str(bond.GetBondType()).lower())
        pairs[ends[0], ends[1], kind] = pairs[ends[1], ends[0], kind] = True
    # whether the shortest path has at most so many bonds
    n_bonds = Chem.GetDistanceMatrix(molecule)
    pairs[:, :, first_distance:same_ring] = n_bonds[:, :, None] <= np.array(GRAPH_DISTANCES)
    for ring in molecule.GetRingInfo().AtomRings():
        pairs[np.ix_(ring, ring, [same_ring])] = True
    return pairs
