"""A calculator in plain numpy, beside an input file. The runs hold a hash of this file: it stays as it is."""

import numpy as np
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """A spring between every two atoms of H2O, CH4 or C2H6O: E = k/2 Σ (r − r₀)²."""

    name = "springs"
    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    rest = {"H2O": "H2O", "CH4": "CH4", "C2H6O": "CH3CH2OH"}  # noqa: RUF012

    def __init__(self, stiffness=30.0):
        super().__init__()
        self.stiffness = stiffness

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        rest = molecule(self.rest[atoms.get_chemical_formula()]).positions
        first, second = np.triu_indices(len(atoms), 1)
        lengths = np.linalg.norm(rest[second] - rest[first], axis=1)
        vectors = atoms.positions[second] - atoms.positions[first]
        distances = np.linalg.norm(vectors, axis=1)
        pulls = (self.stiffness * (1 - lengths / distances))[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, pulls)
        np.subtract.at(forces, second, pulls)
        energy = 0.5 * self.stiffness * float(((distances - lengths) ** 2).sum())
        self.results = {"energy": energy, "forces": forces}
