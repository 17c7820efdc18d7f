"""Functional groups of the nitrogen atoms of a molecule, from its SMILES and its geometry."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase.data import covalent_radii

from asecalc_ml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

#: SMARTS whose first atom is the nitrogen; the first that matches names its group.
NITROGEN_GROUPS = {
    "aromatic N": "[n]",
    "nitrile": "[NX1]#[CX2]",
    "amide": "[NX3][CX3]=[OX1]",
    "amidine": "[NX3][CX3]=[NX2]",
    "oxime": "[NX2](=[#6])[OX2]",
    "imine": "[NX2]=[#6]",
    "primary amine": "[NX3;H2][#6]",
    "secondary amine": "[NX3;H1]([#6])[#6]",
    "tertiary amine": "[NX3;H0]([#6])([#6])[#6]",
    "ammonium": "[NX4+]",
}
OTHER = "other N"

#: A bond of the SMILES is at most this many sums of covalent radii long in the geometry.
LONGEST_BOND = 1.3


class NitrogenAtom(NamedTuple):
    """A nitrogen atom, the hydrogen atoms attached to it, and its functional group."""

    atom: int
    hydrogens: tuple[int, ...]
    group: str


def nitrogen_atoms(atoms: Atoms, smiles: str) -> list[NitrogenAtom]:
    """Nitrogen atoms of a molecule, with their groups.

    Parameters
    ----------
    atoms : Atoms
        Whose heavy atoms are in the order of the SMILES, as those of QM9 are.
    smiles : str

    Raises
    ------
    StructureError
        If RDKit is missing or cannot read the SMILES, or the molecule is not the one of the SMILES: other
        elements, a bond that is too long, or another number of hydrogen atoms at an atom.
    """
    molecule, patterns = _molecule(smiles), _patterns()
    heavy = np.flatnonzero(atoms.numbers != 1)
    hydrogens = _attached(atoms, heavy)
    reason = _mismatch(atoms, heavy, hydrogens, molecule)
    if reason is not None:
        raise StructureError(
            f"the molecule is not that of the SMILES '{smiles}': {reason}",
            name="SMILES",
            value=smiles,
            remedy="give the SMILES of this geometry, its heavy atoms in the same order",
        )
    groups: dict[int, str] = {}
    for name, pattern in patterns.items():
        for match in molecule.GetSubstructMatches(pattern):
            groups.setdefault(match[0], name)
    return [
        NitrogenAtom(int(atom), tuple(hydrogens[number]), groups.get(number, OTHER))
        for number, atom in enumerate(heavy)
        if atoms.numbers[atom] == 7
    ]


def _attached(atoms: Atoms, heavy: np.ndarray) -> list[list[int]]:
    """Hydrogen atoms by the nearest heavy atom, in the order of the heavy atoms."""
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    attached: list[list[int]] = [[] for _ in heavy]
    if len(heavy) == 0:
        return attached
    distances = np.linalg.norm(atoms.positions[hydrogens][:, None] - atoms.positions[heavy][None], axis=2)
    for hydrogen, number in zip(hydrogens.tolist(), distances.argmin(axis=1).tolist(), strict=True):
        attached[number].append(hydrogen)
    return attached


def _mismatch(atoms: Atoms, heavy: np.ndarray, hydrogens: list[list[int]], molecule: Any) -> str | None:
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    if numbers != atoms.numbers[heavy].tolist():
        return "its heavy atoms are others, or in another order"
    for number, atom in enumerate(molecule.GetAtoms()):
        if atom.GetTotalNumHs() != len(hydrogens[number]):
            return f"atom {heavy[number]} has {len(hydrogens[number])} hydrogen atoms"
    for bond in molecule.GetBonds():
        i, j = heavy[[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]]
        length = np.linalg.norm(atoms.positions[i] - atoms.positions[j])
        if length > LONGEST_BOND * covalent_radii[atoms.numbers[[i, j]]].sum():
            return f"atoms {i} and {j} are {length:.2f} Å apart"
    return None


def _molecule(smiles: str) -> Any:
    chem, base = _rdkit()
    with base.BlockLogs():
        molecule = chem.MolFromSmiles(smiles)
    if molecule is None:
        raise StructureError(
            f"'{smiles}' is not a SMILES that RDKit can read",
            name="SMILES",
            value=smiles,
            remedy="correct it",
        )
    return molecule


@cache
def _patterns() -> dict[str, Any]:
    chem, _ = _rdkit()
    return {name: chem.MolFromSmarts(pattern) for name, pattern in NITROGEN_GROUPS.items()}


def _rdkit() -> tuple[Any, Any]:
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise StructureError(
            "functional groups need RDKit", name="RDKit", remedy="pip install 'asecalc-ml[molecules]'"
        ) from error
    return Chem, rdBase
