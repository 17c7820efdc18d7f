"""SMILES as molecules of RDKit, and the errors of those that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml.errors import StructureError

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def need_rdkit(what: str) -> None:
    """Refuse what needs RDKit where it is not installed.

    Raises
    ------
    StructureError
    """
    try:
        import rdkit  # noqa: F401
    except ImportError:
        raise StructureError(
            f"{what} needs RDKit",
            name="RDKit",
            value=what,
            remedy="pip install 'asecalc-ml[molecules]', or give a name or a file",
        ) from None


def molecule_of_smiles(smiles: str) -> Mol:
    """The one molecule of a SMILES, with hydrogens as atoms after the atoms that the SMILES names.

    Raises
    ------
    StructureError
        If RDKit cannot read it, or it holds several molecules.
    """
    need_rdkit(f"'smiles:{smiles}'")
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise StructureError(
            f"'{smiles}' is not a SMILES that RDKit can read",
            name="SMILES",
            value=smiles,
            remedy="correct it, or give a name or a file",
        )
    if len(Chem.GetMolFrags(molecule)) > 1:
        raise StructureError(
            f"'{smiles}' holds several molecules, and a SMILES does not say where they are",
            name="SMILES",
            value=smiles,
            remedy="give a file",
        )
    return Chem.AddHs(molecule)
