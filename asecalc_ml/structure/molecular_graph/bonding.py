"""Bonds, bond orders and formal charges of a structure, as a molecule of RDKit.

A structure with a SMILES (``atoms.info["smiles"]``) has the bonds of the SMILES, if the graph of its nearest
pairs is that of the SMILES; others have the bond orders that RDKit finds for their pairs and total charge.
Both look at the atoms in the canonical order, so that neither a rotation nor another order of the atoms
changes what is found where several assignments are equivalent, as for the oxygens of a carboxylate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from ase.data import covalent_radii

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.smiles import molecule_of_smiles

if TYPE_CHECKING:
    from rdkit.Chem import Mol, RWMol

#: Longest bonds without a SMILES, in units of the sum of covalent radii. Bonds of QM9
#: end at 1.07, and opposite corners of its small rings come as close as 1.17. The second is for bonds that
#: vibrations have stretched, and is tried where the first gives no molecule.
TOLERANCES = (1.15, 1.3)

#: Longest bond of a structure whose SMILES says how many bonds there are.
LONGEST = 1.3

#: Assignments of bond orders that are tried before a structure is refused.
MOST_ASSIGNMENTS = 100_000

GIVE_SMILES = (
    "check geometry and charge, or state its bonds as a SMILES in atoms.info['smiles'] (smiles=... in the "
    "comment line of an extended XYZ file)"
)


def molecule_of(numbers: np.ndarray, positions: np.ndarray, charge: int, smiles: str) -> Mol:
    """Molecule with bond orders, formal charges, rings, aromaticity and a conformer.

    Parameters
    ----------
    numbers : ndarray of int, shape (n_atoms,)
    positions : ndarray, shape (n_atoms, 3), Å
    charge : int
        Total charge, e.
    smiles : str
        Empty where the structure has none.

    Raises
    ------
    StructureError
        If it has no bonds, is several molecules, if RDKit finds no bond orders, or if geometry and SMILES
        disagree.
    """
    lengths = _PairLengths(numbers, positions)
    if smiles:
        return _by_smiles(numbers, positions, charge, smiles, lengths)
    problems: list[StructureError] = []
    for tolerance in TOLERANCES:
        try:
            return _by_geometry(numbers, positions, charge, lengths.within(tolerance))
        except StructureError as problem:
            problems.append(problem)
    raise problems[0]


class _PairLengths:
    """Distances of all pairs of atoms in units of the sum of their covalent radii."""

    def __init__(self, numbers: np.ndarray, positions: np.ndarray):
        self.pairs = np.stack(np.triu_indices(len(numbers), 1), axis=1)
        i, j = self.pairs.T
        radii = covalent_radii[numbers]
        self.lengths = np.linalg.norm(positions[i] - positions[j], axis=1) / (radii[i] + radii[j])

    def within(self, tolerance: float) -> np.ndarray:
        """Pairs that are nearer, shape (n_bonds, 2)."""
        return self.pairs[self.lengths < tolerance]

    def nearest(self, n_bonds: int) -> np.ndarray:
        """So many nearest pairs, but none beyond :data:`LONGEST`, shape (n_bonds, 2)."""
        nearest = np.sort(np.argsort(self.lengths, kind="stable")[:n_bonds])
        return self.pairs[nearest[self.lengths[nearest] < LONGEST]]


def _skeleton(numbers: np.ndarray, bonds: np.ndarray) -> RWMol:
    """Atoms and their pairs as single bonds, without formal charges."""
    from rdkit import Chem

    molecule = Chem.RWMol()
    for number in numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for first, second in bonds.tolist():
        molecule.AddBond(first, second, Chem.BondType.SINGLE)
    return molecule


def _give_positions(molecule: Mol, positions: np.ndarray) -> None:
    from rdkit import Chem

    conformer = Chem.Conformer(len(positions))
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=float))
    molecule.RemoveAllConformers()
    molecule.AddConformer(conformer)


def _settle_resonance(molecule: RWMol) -> None:
    """Of equal ends of one atom, as in a carboxylate or nitro group, give the first the highest bond order.

    Which of them has it is arbitrary, and has to be the same whatever found the orders.
    """
    for centre in molecule.GetAtoms():
        ends = [bond for bond in centre.GetBonds() if bond.GetOtherAtom(centre).GetDegree() == 1]
        by_element: dict[int, list] = defaultdict(list)
        for bond in sorted(ends, key=lambda bond: bond.GetOtherAtomIdx(centre.GetIdx())):
            by_element[bond.GetOtherAtom(centre).GetAtomicNum()].append(bond)
        for bonds in by_element.values():
            atoms = [bond.GetOtherAtom(centre) for bond in bonds]
            states = [
                (bond.GetBondType(), atom.GetFormalCharge(), atom.GetNumRadicalElectrons())
                for bond, atom in zip(bonds, atoms, strict=True)
            ]
            if len(set(states)) < 2:
                continue
            for bond, atom, state in zip(bonds, atoms, sorted(states, reverse=True), strict=True):
                bond.SetBondType(state[0])
                atom.SetFormalCharge(state[1])
                atom.SetNumRadicalElectrons(state[2])


# ----------------------------------------------------------------------------------------- from the geometry


def _by_geometry(numbers: np.ndarray, positions: np.ndarray, charge: int, bonds: np.ndarray) -> Mol:
    """Bond orders of pairs by RDKit's search (after Y. Kim, W. Y. Kim, Bull. Korean Chem. Soc. 36, 1769)."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    molecule = _skeleton(numbers, bonds)
    _check_one_molecule(molecule)
    _give_positions(molecule, positions)
    try:
        with rdBase.BlockLogs():
            rdDetermineBonds.DetermineBondOrders(
                molecule, charge=charge, embedChiral=False, maxIterations=MOST_ASSIGNMENTS
            )
            _settle_resonance(molecule)
            Chem.SanitizeMol(molecule)
    except Exception as error:  # RDKit has a class of its own for each kind of failure
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise StructureError(
            f"its bonds cannot be determined for a total charge of {charge} ({reason});",
            name="bonds",
            value=reason,
            remedy=GIVE_SMILES,
        ) from None
    return molecule


def _check_one_molecule(molecule: Mol) -> None:
    """Refuse a structure without bonds, and several molecules."""
    from rdkit import Chem

    if not molecule.GetNumBonds():
        raise StructureError(
            "it has no bonds, and a molecular graph consists of bonds;",
            name="bonds",
            value=0,
            remedy="check its distances and their unit, or use an architecture that sees geometry, such as "
            "painn",
        )
    fragments = Chem.GetMolFrags(molecule)
    if len(fragments) > 1:
        sizes = ", ".join(str(len(fragment)) for fragment in fragments)
        raise StructureError(
            f"it is not one molecule: its bonds form {len(fragments)} parts of {sizes} atoms;",
            name="bonds",
            value=[len(fragment) for fragment in fragments],
            remedy="give each molecule as a structure of its own, or check its distances and their unit",
        )


# ------------------------------------------------------------------------------------------- from the SMILES


def _by_smiles(
    numbers: np.ndarray, positions: np.ndarray, charge: int, smiles: str, lengths: _PairLengths
) -> Mol:
    """The molecule of the SMILES, its atoms in the order of the structure."""
    from rdkit import Chem

    stated = molecule_of_smiles(smiles)
    if sorted(atom.GetAtomicNum() for atom in stated.GetAtoms()) != sorted(numbers.tolist()):
        _disagree(smiles, "they have different atoms")
    if (of_smiles := Chem.GetFormalCharge(stated)) != charge:
        _disagree(smiles, f"the SMILES has charge {of_smiles}, the structure {charge}")
    skeleton = _skeleton(numbers, lengths.nearest(stated.GetNumBonds()))
    # Atom of the structure for each atom of the SMILES: an isomorphism, as both have equally many bonds.
    place = skeleton.GetSubstructMatch(_without_orders(stated))
    if not place or skeleton.GetNumBonds() != stated.GetNumBonds():
        _disagree(smiles, "its nearest pairs of atoms are not the bonds of the SMILES")
    _copy_orders(stated, skeleton, place)
    _give_positions(skeleton, positions)
    _check_stereo(skeleton, stated, smiles)
    return skeleton


def _copy_orders(stated: Mol, skeleton: RWMol, place: Sequence[int]) -> None:
    """Give a skeleton the bond orders, charges and radical electrons of the molecule that it is.

    It is built as a skeleton with orders from the geometry is, since RDKit's labels of some cages depend on
    the order of the bonds.
    """
    from rdkit import Chem

    kekulized = Chem.Mol(stated)
    Chem.Kekulize(kekulized, clearAromaticFlags=True)
    for atom in kekulized.GetAtoms():
        own = skeleton.GetAtomWithIdx(place[atom.GetIdx()])
        own.SetFormalCharge(atom.GetFormalCharge())
        own.SetNumRadicalElectrons(atom.GetNumRadicalElectrons())
    for bond in kekulized.GetBonds():
        ends = place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()]
        skeleton.GetBondBetweenAtoms(*ends).SetBondType(bond.GetBondType())
    _settle_resonance(skeleton)
    Chem.SanitizeMol(skeleton)


def _without_orders(molecule: Mol) -> Mol:
    """Its atoms and bonds as a skeleton."""
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    return _skeleton(np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()]), np.array(bonds))


def _check_stereo(molecule: Mol, stated: Mol, smiles: str) -> None:
    """Refuse a geometry whose configuration is not the one that the SMILES states."""
    from rdkit import Chem

    if not any(mark in smiles for mark in "@/\\"):
        return
    built = Chem.Mol(molecule)
    Chem.AssignStereochemistryFrom3D(built)
    if not built.HasSubstructMatch(stated, useChirality=True):
        _disagree(smiles, "the SMILES states another configuration")


def _disagree(smiles: str, reason: str) -> NoReturn:
    raise StructureError(
        f"geometry and SMILES disagree: {smiles!r}, {reason};",
        name="smiles",
        value=smiles,
        remedy="correct the SMILES or the geometry, or remove atoms.info['smiles'], so that the bonds are "
        "those of the geometry",
    )
