"""Make the molecules that the package ships: `python docs/make_molecules.py` from the root of the repository.

Each starts from RDKit's embedding of its SMILES and is relaxed with GFN2-xTB until no force exceeds
1e-4 eV/Å; the Hessian by finite differences of the forces then shows that it is a minimum. The second line
of each file says so, with charge and spin.

The pair of ethylammonium and nitrate is no minimum in the gas phase: from each of fourteen random contacts
GFN2-xTB moves a proton to nitrate. So two files are made: the ion pair with its N-H bonds held at the length
they have in the free cation, and the hydrogen-bonded ethylamine and nitric acid that it relaxes to.
"""

import importlib.metadata

import numpy as np
from ase import Atoms
from ase.constraints import FixBondLengths
from ase.io import write
from ase.optimize import BFGS

from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.structure.loading import MOLECULES, check_structure, load_structure

FMAX = 1e-4  # eV/Å
RELAXED = f"relaxed with GFN2-xTB (tblite {importlib.metadata.version('tblite')}) to {FMAX} eV/Å"
SOFTEST = -1e-2  # eV/Å²: less than this is noise of translation and rotation, not a saddle

SMILES = {
    "ethanol": "CCO",
    "1-propanol": "CCCO",
    "2-propanol": "CC(C)O",
    "acetic-acid": "CC(=O)O",
    "benzene": "c1ccccc1",
    "ethylammonium": "CC[NH3+]",
    "malonaldehyde": r"O=C/C=C\O",
    "naphthalene": "c1ccc2ccccc2c1",
    "nitrate": "[O-][N+](=O)[O-]",
    "nitric-acid": "O[N+](=O)[O-]",
    "pyrimidine": "c1cncnc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
    "water": "O",
}


def main() -> None:
    for name, smiles in SMILES.items():
        atoms = load_structure(f"smiles:{smiles}")
        relax(atoms)
        save(name, atoms, f"RDKit from {smiles}, {RELAXED}, a minimum")
    pair = ion_pair()
    relax(pair)
    save("ethylammonium-nitrate", pair, f"two ions in contact, {RELAXED}, the N-H bonds held, no minimum")
    pair.set_constraint()
    relax(pair)
    save("ethylamine-nitric-acid", pair, f"the ion pair after its proton moved, {RELAXED}, a minimum")


def ion_pair() -> Atoms:
    """Ethylammonium with one N-H pointing at an oxygen of nitrate, H...O 1.7 Å, the N-H bonds held."""
    cation, anion = load_structure("ethylammonium"), load_structure("nitrate")
    nitrogen = int(np.flatnonzero(cation.numbers == 7)[0])
    hydrogens = np.flatnonzero(cation.numbers == 1)
    held = hydrogens[np.argsort(cation.get_distances(nitrogen, hydrogens))[:3]]
    proton = held[0]
    along = cation.positions[proton] - cation.positions[nitrogen]
    along /= np.linalg.norm(along)
    oxygen = int(np.flatnonzero(anion.numbers == 8)[0])
    centre = int(np.flatnonzero(anion.numbers == 7)[0])
    anion.rotate(anion.positions[centre] - anion.positions[oxygen], along, center=anion.positions[oxygen])
    anion.translate(cation.positions[proton] + 1.7 * along - anion.positions[oxygen])
    pair = cation + anion
    pair.info = {"charge": 0, "spin": 0}
    pair.set_constraint(FixBondLengths([(nitrogen, int(hydrogen)) for hydrogen in held]))
    return pair


def relax(atoms: Atoms) -> None:
    atoms.calc = make_calculator("gfn2-xtb", accuracy=0.01)
    if not BFGS(atoms, logfile=None).run(fmax=FMAX, steps=2000):
        raise RuntimeError("not relaxed after 2000 steps")
    check_structure(atoms)


def softest_curvature(atoms: Atoms, step: float = 5e-3) -> float:
    """Lowest eigenvalue of the Hessian, eV/Å², from central differences of the forces."""
    probe, hessian = Atoms(atoms, constraint=[]), []
    probe.calc = atoms.calc
    for index in np.ndindex(len(atoms), 3):
        forces = []
        for sign in (1, -1):
            probe.positions = atoms.positions
            probe.positions[index] += sign * step
            forces.append(probe.get_forces().ravel())
        hessian.append((forces[1] - forces[0]) / (2 * step))
    return float(np.linalg.eigvalsh(np.array(hessian) + np.array(hessian).T)[0] / 2)


def save(name: str, atoms: Atoms, origin: str) -> None:
    energy, forces = atoms.get_potential_energy(), np.abs(atoms.get_forces()).max()
    curvature = softest_curvature(atoms)
    if curvature < SOFTEST and not atoms.constraints:
        raise RuntimeError(f"{name} is not a minimum: curvature {curvature:.3f} eV/Å²")
    shipped = Atoms(atoms.numbers, positions=atoms.positions - atoms.get_center_of_mass())
    shipped.info = {
        "charge": atoms.info["charge"],
        "spin": atoms.info["spin"],
        "made": origin,
        "gfn2_energy_eV": round(energy, 6),
    }
    write(MOLECULES / f"{name}.xyz", shipped, format="extxyz")
    print(f"{name:24s} {energy:14.6f} eV, largest force {forces:.1e} eV/Å, softest {curvature:.1e} eV/Å²")


if __name__ == "__main__":
    main()
