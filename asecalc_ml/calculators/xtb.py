"""GFN2-xTB from tblite with the total charge and spin where the package keeps them: `atoms.info`."""

import base64
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from tblite.ase import TBLite
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from asecalc_ml.calculators.arguments import unknown_argument
from asecalc_ml.calculators.changes import changes
from asecalc_ml.calculators.factory import named_spec
from asecalc_ml.calculators.protocol import Spec
from asecalc_ml.calculators.results import need_structure
from asecalc_ml.errors import StructureError
from asecalc_ml.forks import allow_forks
from asecalc_ml.structure.charge_and_spin import charge_and_spin, check_electrons, check_spin_is_stated

#: Of the self-consistent field, ten times as tight as tblite's own. With that one the total energy of ethanol
#: falls by 0.31 meV/atom/ps at steps of 0.1 fs, since each step starts from the wave function of the one
#: before and ends short of its own; with this one by 0.004, and a step takes a tenth longer.
ACCURACY = 0.1


#: Electric field of finite differences, in atomic units.
FIELD = 1e-3

#: Attributes of tblite's own calculator, and the parameters that they are.
SETTINGS = {
    "accuracy": "accuracy",
    "max-iter": "max_iterations",
    "mixer": "mixer",
    "mixer-memory": "mixer_memory",
    "mixer-damping": "mixer_damping",
    "annealing": "annealing",
    "verbosity": "verbosity",
}

#: Properties beyond ASE's, computed where they are asked for, with their units.
FURTHER_PROPERTIES = {"homo": "eV", "lumo": "eV", "gap": "eV", "polarizability": "Bohr^3"}


class GFN2(TBLite):
    """GFN2-xTB (C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019)).

    ``get_property`` also gives "homo", "lumo" and "gap" (eV), and "polarizability", shape (3, 3), in cubed
    Bohr: the slope of the dipole in an electric field, by central differences of six calculations.

    Charge and spin are read at every calculation (:mod:`asecalc_ml.structure.charge_and_spin`), so that one
    calculator serves molecules of any charge.

    Parameters
    ----------
    **kwargs
        As of :class:`tblite.ase.TBLite` (``accuracy``, ``electronic_temperature``,
        ``max_iterations``, ``solvation`` ...), without ``charge`` and ``multiplicity``; ``accuracy`` is 0.1.

    Raises
    ------
    ConfigError
        For an argument that tblite does not know; tblite itself would ignore it.
    StructureError
        If the number of electrons cannot have that number of unpaired ones, or if only the initial magnetic
        moments of a periodic structure say something about its spin.
    """

    name = "gfn2-xtb"
    implemented_properties: ClassVar[list[str]] = [*TBLite.implemented_properties, *FURTHER_PROPERTIES]
    #: Parameters that are those of the structure computed last, and say nothing about the calculator.
    of_the_structure: ClassVar[Collection[str]] = ("charge", "multiplicity")
    default_parameters: ClassVar[dict[str, Any]] = {
        **TBLite.default_parameters,
        "accuracy": ACCURACY,
        "verbosity": 0,
    }
    _restored: str | None = None

    def __init__(self, **kwargs: Any):
        known = set(self.default_parameters) - {"method", *self.of_the_structure}
        for key in kwargs:
            if key not in known and not key.endswith("_solvation"):
                raise unknown_argument("gfn2-xtb", key, known)
        allow_forks()
        super().__init__(**kwargs)

    def spec(self) -> Spec:
        """Name and arguments that make the same calculator."""
        return named_spec(self.name, self.todict())

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Arguments that make the same calculator: charge and spin are those of a structure."""
        refused = ("method", *self.of_the_structure)
        return {key: value for key, value in super().todict(skip_default).items() if key not in refused}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last calculation, compared bit by bit."""
        return changes(self.atoms, atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy (eV), forces (eV/Å), stress (eV/Å³) where periodic, charges (e), dipole (e Å)."""
        need_structure(atoms)
        if set(system_changes) - {"positions", "cell"}:
            charge, multiplicity = charge_and_multiplicity(atoms)
            self.set(charge=charge, multiplicity=multiplicity)
        super().calculate(atoms, properties, system_changes)
        asked = set(properties or ()) & set(FURTHER_PROPERTIES)
        if asked - {"polarizability"}:
            self.results |= self._frontier_orbitals()
        if "polarizability" in asked:
            self.results["polarizability"] = self._polarizability()

    def _frontier_orbitals(self) -> dict[str, float]:
        """Energies of the highest occupied and lowest unoccupied orbital and their difference, eV.

        Of a structure with unpaired electrons the highest orbital that holds an electron.
        """
        n_electrons = valence_electrons(self.atoms) - self.parameters.charge
        n_occupied = (n_electrons + self.parameters.multiplicity - 1) // 2
        energies = np.sort(np.ravel(self._res["orbital-energies"])) * units.Hartree
        homo, lumo = (float(energy) for energy in energies[n_occupied - 1 : n_occupied + 1])
        return {"homo": homo, "lumo": lumo, "gap": lumo - homo}

    def _polarizability(self) -> np.ndarray:
        """Slope of the dipole in an electric field, shape (3, 3), Bohr³."""
        if self.atoms.pbc.any():
            raise PropertyNotImplementedError(
                "a periodic structure has no dipole in a field: set pbc to false, or do not ask for it"
            )
        fields = FIELD * np.eye(3)
        slopes = [(self._dipole_in(field) - self._dipole_in(-field)) / (2 * FIELD) for field in fields]
        return 0.5 * (np.array(slopes) + np.transpose(slopes))

    def _dipole_in(self, field: np.ndarray) -> np.ndarray:
        """Dipole in an electric field, shape (3,), in atomic units."""
        calculator = self._of_interface()
        calculator.add("electric-field", field.tolist())  # which takes no array
        return calculator.singlepoint()["dipole"]

    def _of_interface(self) -> Calculator:
        """Calculator of tblite's own interface for the molecule at hand, with the same parameters."""
        given = self.parameters
        n_unpaired = given.multiplicity - 1
        positions = self.atoms.positions / units.Bohr
        calculator = Calculator(
            given.method, self.atoms.numbers, positions, given.charge, n_unpaired, xtb_config=given.xtb_config
        )
        for attribute, name in SETTINGS.items():
            if given[name] is not None:
                calculator.set(attribute, given[name])
        calculator.set("temperature", given.electronic_temperature * units.kB / units.Hartree)
        if given.spin_polarization is not None:
            calculator.add("spin-polarization", given.spin_polarization)
        if given.solvation is not None:
            model, *arguments = given.solvation
            calculator.add(f"{model}-solvation", *arguments)
        return calculator

    def checkpoint_state(self) -> dict[str, str]:
        """The wave function that the next calculation starts from, ready for JSON."""
        return {} if self._res is None else {"wave_function": _saved(self._res)}

    def restore_state(self, state: dict[str, str]) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        self.reset()
        self._restored = state.get("wave_function")

    def _check_api_calculator(self, system_changes: list[str]) -> None:
        super()._check_api_calculator(system_changes)  # forgets the wave function of another molecule
        if self._restored is not None:
            self._res, self._restored = _loaded(self._restored), None


def _saved(result: Result) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder, "wave_function.npz")
        try:
            result.save(str(path))
        except TBLiteRuntimeError as error:
            raise OSError(f"the wave function cannot be written to {folder}: {error}") from error
        return base64.b64encode(path.read_bytes()).decode()


def _loaded(text: str) -> Result:
    with TemporaryDirectory() as folder:
        path, result = Path(folder, "wave_function.npz"), Result()
        path.write_bytes(base64.b64decode(text))
        result.load(str(path))
        return result


def charge_and_multiplicity(atoms: Atoms) -> tuple[int, int]:
    """Total charge and multiplicity, refused where the electrons do not fit."""
    charge, spin = charge_and_spin(atoms)
    if charge > valence_electrons(atoms):
        n_electrons = valence_electrons(atoms)
        raise StructureError(
            f"{atoms.get_chemical_formula()} has {n_electrons} valence electrons, so its charge cannot be "
            f"{charge:+d}",
            name="charge",
            value=charge,
            allowed=f"at most {n_electrons:+d}",
            remedy="correct it",
        )
    check_spin_is_stated(atoms)
    check_electrons(atoms, charge, spin)
    return charge, spin + 1


def valence_electrons(atoms: Atoms) -> int:
    """Electrons outside noble-gas cores."""
    cores = np.array([0, 2, 10, 18, 36, 54, 86])
    return int(sum(z - cores[cores < z].max() for z in atoms.numbers))
