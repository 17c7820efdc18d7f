"""Functional groups of nitrogen, of molecules that everybody knows."""

import numpy as np
import pytest
from raising import told

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.topology.functional_groups import nitrogen_atoms

pytest.importorskip("rdkit", reason="pip install 'asecalc-ml[molecules]'")

KNOWN = {
    "CCN": [("primary amine", 2)],
    "CNC": [("secondary amine", 1)],
    "CN(C)C": [("tertiary amine", 0)],
    "CC(=O)N": [("amide", 2)],
    "CC(=N)N": [("imine", 1), ("amidine", 2)],
    "CC#N": [("nitrile", 0)],
    "CC=N": [("imine", 1)],
    "CC=NO": [("oxime", 0)],
    "c1ccncc1": [("aromatic N", 0)],
    "c1cc[nH]c1": [("aromatic N", 1)],
    "C[NH3+]": [("ammonium", 3)],
    "NCC(=O)N": [("primary amine", 2), ("amide", 2)],
    "CN=[N+]=[N-]": [("other N", 0)] * 3,
    "CCO": [],
}


@pytest.mark.parametrize("smiles", KNOWN)
def test_groups_and_their_hydrogen_atoms(smiles):
    atoms = load_structure(f"smiles:{smiles}")
    found = nitrogen_atoms(atoms, smiles)
    assert [(one.group, len(one.hydrogens)) for one in found] == KNOWN[smiles]
    for one in found:
        assert atoms.symbols[one.atom] == "N"
        for hydrogen in one.hydrogens:
            assert atoms.get_distance(one.atom, hydrogen) < 1.1
    attached = [hydrogen for one in found for hydrogen in one.hydrogens]
    assert len(set(attached)) == len(attached)
    assert np.all(atoms.numbers[attached] == 1)


def test_a_geometry_of_another_molecule_is_told():
    atoms = load_structure("smiles:CCN")
    for smiles, reason in (("CCO", "order"), ("C=CN", "hydrogen"), ("NCC", "order")):
        with pytest.raises(StructureError, match=reason, check=told(value=smiles, remedy=True)):
            nitrogen_atoms(atoms, smiles)
    far = atoms.copy()
    far.positions[1] += 0.6 * (far.positions[1] - far.positions[0])
    with pytest.raises(StructureError, match="apart"):
        nitrogen_atoms(far[[0, 1, 2]], "[C][C][N]")
    with pytest.raises(StructureError, check=told(value="C(", remedy=True)):
        nitrogen_atoms(atoms, "C(")
