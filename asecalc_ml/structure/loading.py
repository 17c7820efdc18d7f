"""Structures by name, SMILES or file, and the check every structure passes before it is used."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from asecalc_ml.errors import StructureError
from asecalc_ml.structure.charge_and_spin import charge_and_spin, set_charge_and_spin  # noqa: F401
from asecalc_ml.structure.element_checks import check_elements
from asecalc_ml.structure.lattice import check_cell
from asecalc_ml.structure.pair_vectors import pair_vectors
from asecalc_ml.structure.smiles import molecule_of_smiles

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MOLECULES = Path(__file__).parents[1] / "data" / "molecules"
MIN_DISTANCE_A = 0.4  # below every bond length, H2 (0.74 Å) included
EMBED_SEED = 7

#: Smallest masses and momenta that a structure may hold.
SMALLEST = {"masses": np.finfo(float).tiny, "momenta": -np.inf}


def load_structure(spec: str | Path | Atoms) -> Atoms:
    """Read or build a structure.

    Parameters
    ----------
    spec : str, Path or Atoms
        In this order: a name of :func:`shipped_names` ("ethanol"), a name of ASE's g2 set
        ("CH3CH2OH"), "smiles:CCO" (needs RDKit), a file that ASE reads ("start.xyz",
        "run.traj@-1"). A file that is called like a molecule is meant by "./ethanol".

    Returns
    -------
    Atoms
        A new object, positions in Å. ``info["charge"]`` is the total charge in units of e and
        ``info["spin"]`` the number of unpaired electrons (multiplicity - 1), as
        :mod:`asecalc_ml.structure.charge_and_spin` decides them.

    Raises
    ------
    StructureError
        If nothing is found under the name (the nearest names are given), if a file or a SMILES
        cannot be read, if its charge or spin is no whole number, or if :func:`check_structure` objects.
    """
    atoms = spec.copy() if isinstance(spec, Atoms) else _find(str(spec))
    set_charge_and_spin(atoms, where="" if isinstance(spec, Atoms) else str(spec))
    check_structure(atoms)
    return atoms


def shipped_names() -> list[str]:
    """Names of the molecules that the package ships, sorted."""
    return sorted(path.stem for path in MOLECULES.glob("*.xyz"))


def check_structure(atoms: Atoms) -> None:
    """Refuse what no potential can evaluate.

    Raises
    ------
    StructureError
        For no atoms, positions, cell or momenta that are not finite, masses that are not positive, a
        periodic direction without a cell vector, sites that
        :func:`asecalc_ml.structure.element_checks.check_elements` refuses, and two atoms (periodic images
        included) closer than 0.4 Å; the message names them.
    """
    if len(atoms) == 0:
        raise StructureError(
            "the structure is empty: no atoms.", remedy="Check the file or the name it came from"
        )
    check_positions(atoms)
    check_cell(atoms.cell.array, atoms.pbc)
    check_elements(atoms)
    _check_masses_and_momenta(atoms)
    _check_overlaps(atoms)


def check_positions(atoms: Atoms) -> None:
    """Refuse positions that are NaN or infinite.

    Raises
    ------
    StructureError
        It names the first atom.
    """
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise StructureError(
            f"positions of {_label(atoms, bad[0])} are not finite ({len(bad)} atoms in all)",
            name=f"positions of {_label(atoms, bad[0])}",
            value=atoms.positions[bad[0]].tolist(),
            remedy="look where they come from; if from dynamics, start it again from an earlier frame with a "
            "shorter time step",
        )


def _check_masses_and_momenta(atoms: Atoms) -> None:
    for name, smallest in SMALLEST.items():
        values = atoms.arrays.get(name)
        if values is None:
            continue
        bad = np.flatnonzero(
            ~(np.isfinite(values) & (values >= smallest)).reshape(len(atoms), -1).all(axis=1)
        )
        if len(bad):
            raise StructureError(
                f"{name} of {_label(atoms, bad[0])} are {values[bad[0]]} ({len(bad)} atoms in all)",
                name=f"{name} of {_label(atoms, bad[0])}",
                value=values[bad[0]].tolist(),
                remedy="correct them in the file or with ASE, or leave them out",
            )


def _check_overlaps(atoms: Atoms) -> None:
    from asecalc_ml.graph.neighbors import find_pairs  # ASE's own takes seconds for a molecule in a large box

    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, MIN_DISTANCE_A)
    # of a small molecule these are all pairs, near or far
    distances = np.linalg.norm(pair_vectors(atoms.positions, *pairs, atoms.cell.array), axis=1)
    if not (distances < MIN_DISTANCE_A).any():
        return
    i, j = pairs.edge_index
    worst = int(np.argmin(distances))
    both = f"{_label(atoms, i[worst])} and {_label(atoms, j[worst])}"
    raise StructureError(
        f"{both} are {distances[worst]:.3f} Å apart (at least {MIN_DISTANCE_A} Å expected)",
        name=both,
        value=float(distances[worst]),
        allowed=f"at least {MIN_DISTANCE_A} Å",
        remedy="look for duplicate atoms, a wrong cell or a wrong unit of length",
    )


def _label(atoms: Atoms, index: int) -> str:
    return f"atom {int(index)} ({atoms.symbols[int(index)]})"


def _find(spec: str) -> Atoms:
    from ase.collections import g2

    if spec.startswith("smiles:"):
        return _from_smiles(spec.removeprefix("smiles:").strip())
    if spec in shipped_names():
        return _read(MOLECULES / f"{spec}.xyz", "")
    if spec in g2.names:
        return g2[spec]
    path, _, index = spec.rpartition("@") if "@" in spec and not Path(spec).is_file() else (spec, "", "")
    if Path(path).is_file():
        return _read(Path(path), index)
    raise _unknown(spec, g2.names)


def _unknown(spec: str, g2_names: list[str]) -> StructureError:
    path = Path(spec.rpartition("@")[0] or spec)
    if path.is_dir():
        return StructureError(f"{path} is a folder", name=str(path), remedy="name a file in it")
    names = shipped_names()
    near = difflib.get_close_matches(spec, names + list(g2_names), n=3)
    if not near and (path.suffix or len(path.parts) > 1):
        return StructureError(
            f"no structure file {path} (looked in {Path.cwd()})", name=str(path), remedy="correct its name"
        )
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return StructureError(
        f"no structure '{spec}': neither a name nor a file.",
        name=spec,
        allowed=[*names, *g2_names],
        remedy=f"{hint}Names: {', '.join(names)}, those of ASE's g2 set ('CH3CH2OH'); or give 'smiles:CCO' "
        "or a file",
    )


def _read(path: Path, index: str) -> Atoms:
    from asecalc_ml.structure.files.structure_file import open_structures

    frames = open_structures(path)
    if not len(frames):
        raise StructureError(f"{path} holds no structure", name=str(path), remedy="check that it is complete")
    try:
        atoms = frames[int(index or -1)]
    except ValueError:
        raise StructureError(
            f"'{path}@{index}' names several structures, or none",
            name=str(path),
            value=index,
            remedy=f"give the number of one of the {len(frames)}, such as '{path}@-1'",
        ) from None
    except IndexError:
        raise StructureError(
            f"cannot read '{path}@{index}': the file has no such frame, its {len(frames)} have the numbers "
            f"0 to {len(frames) - 1}",
            name=str(path),
            value=index,
            allowed=f"0 to {len(frames) - 1}",
        ) from None
    atoms.calc = None
    return atoms


def _from_smiles(smiles: str) -> Atoms:
    molecule = molecule_of_smiles(smiles)
    from rdkit import Chem
    from rdkit.Chem import AllChem, rdDistGeom

    if rdDistGeom.EmbedMolecule(molecule, randomSeed=EMBED_SEED) != 0:
        raise StructureError(
            f"RDKit finds no three-dimensional geometry for the SMILES '{smiles}'",
            name="SMILES",
            value=smiles,
            remedy="give a file instead",
        )
    _relax_with_force_field(AllChem, molecule)
    return Atoms(
        [atom.GetSymbol() for atom in molecule.GetAtoms()],
        masses=_isotope_masses(molecule),
        positions=molecule.GetConformer().GetPositions(),
        info={
            "charge": Chem.GetFormalCharge(molecule),
            "spin": sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()),
            "smiles": smiles,
        },
    )


def _isotope_masses(molecule: Mol) -> list[float | None] | None:
    """Masses in u where the SMILES names isotopes; None for the element's mean, and where it names none."""
    masses = [atom.GetMass() if atom.GetIsotope() else None for atom in molecule.GetAtoms()]
    return masses if any(masses) else None


def _relax_with_force_field(chem: ModuleType, molecule: Mol) -> None:
    """MMFF94 where it has parameters, else UFF, else the embedding as it is."""
    if chem.MMFFHasAllMoleculeParams(molecule):
        chem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elif chem.UFFHasAllMoleculeParams(molecule):
        chem.UFFOptimizeMolecule(molecule, maxIters=2000)
