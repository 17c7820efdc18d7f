"""Density functional theory of molecules by pyscf, as an ASE calculator: reference labels and curves.

The defaults reproduce the labels of rMD17 (PBE/def2-SVP by ORCA), whose forces they meet within 0.1 meV/Å on
average: Coulomb energies by density fitting with the basis that ORCA takes (def2-universal-jfit; exact ones
are 0.5 to 1 meV/Å away), grids of level 4, and forces that count how the grid moves with the atoms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from pyscf import dft, gto, lib

from asecalc_ml.calculators.arguments import unknown_argument
from asecalc_ml.calculators.changes import changes
from asecalc_ml.calculators.factory import named_spec
from asecalc_ml.calculators.protocol import Spec
from asecalc_ml.calculators.results import need_structure
from asecalc_ml.errors import AsecalcError, CalculationError, ConfigError, StructureError
from asecalc_ml.structure.charge_and_spin import charge_and_spin, check_electrons, whole_number

Field: TypeAlias = dft.rks.KohnShamDFT  # a self-consistent field, of any spin

FITTING_BASIS = "def2-universal-jfit"  # of functionals without exact exchange; pyscf chooses for the others
SEARCHES = 4  # for a wave function that no rotation of orbitals lowers
COARSE_GRID = 1  # level at which stability is looked at first
SYMMETRIC = 1e-3  # expectation of S² up to which both spins have the same orbitals


class DFT(Calculator):
    """Kohn-Sham DFT (Q. Sun et al., J. Chem. Phys. 153, 024109 (2020)) for molecules.

    Charge and spin of the structure are read at every calculation
    (:mod:`asecalc_ml.structure.charge_and_spin`).

    Parameters
    ----------
    functional : str
        As libxc and pyscf know it: "PBE", "B3LYP", "wB97X".
    basis : str
        As pyscf knows it: "def2-svp", "cc-pvdz".
    charge, spin : int, optional
        In place of those of the structure.
    unrestricted : bool, optional
        Orbitals of their own for each spin; by default where electrons are unpaired. They are rotated until
        no small rotation lowers the energy, a singlet's from broken symmetry on, as bonds that break into
        radicals need it. False with unpaired electrons is restricted open-shell.
    density_fitting : bool
        Coulomb (and exchange) energies through an auxiliary basis.
    grid_level : int
        Of pyscf's integration grids, 0 to 9.
    max_cycles : int
        Iterations after which the self-consistent field gives up.

    Raises
    ------
    ConfigError
        If pyscf does not know functional or basis, or charge or spin is no whole number.
    StructureError
        If the structure is periodic, or its number of electrons cannot have that many unpaired ones.
    CalculationError
        If the self-consistent field does not converge, also not by Newton's method.

    Notes
    -----
    A self-consistent field may have several solutions that nothing small leads between: where states cross,
    as along a bond that breaks, a curve may jump from one to another. Look for jumps.

    It runs on one thread, and each calculation starts from the density of the one before, if the atoms are
    the same: energies agree to 1e-9 eV, not to the last bit.
    """

    name: ClassVar[str] = "pyscf-dft"
    packages: ClassVar[tuple[str, ...]] = ("pyscf",)
    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]
    default_parameters: ClassVar[dict[str, Any]] = {
        "functional": "PBE",
        "basis": "def2-svp",
        "charge": None,
        "spin": None,
        "unrestricted": None,
        "density_fitting": True,
        "grid_level": 4,
        "max_cycles": 100,
    }

    def __init__(self, **parameters: Any):
        self._density: np.ndarray | None = None
        self._restored: np.ndarray | None = None
        self._solution = None  # the field of the last calculation
        for key in parameters:
            if key not in self.default_parameters:
                raise unknown_argument("pyscf-dft", key, self.default_parameters)
        super().__init__(**parameters)
        for key in ("charge", "spin"):
            self.parameters[key] = _whole_or_none(key, self.parameters[key])
        with _known_to_pyscf("functional", self.parameters.functional):
            self._kind = dft.libxc.xc_type(self.parameters.functional)
            self._is_hybrid = dft.libxc.is_hybrid_xc(self.parameters.functional)

    def spec(self) -> Spec:
        """Name and arguments that make the same calculator."""
        return named_spec(self.name, self.todict())

    def __getstate__(self) -> dict[str, Any]:
        """Without pyscf's field, whose class cannot be pickled; what needs it again solves again."""
        return self.__dict__ | {"_solution": None}

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last calculation, compared bit by bit."""
        return changes(self.atoms, atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy in eV, and where they are asked for forces in eV/Å."""
        super().calculate(atoms, properties, system_changes)
        need_structure(self.atoms)
        if set(system_changes) - {"positions"}:
            self._density, self._restored = self._restored, None
        with lib.with_omp_threads(1):
            if system_changes or self._solution is None:
                self._solution = None  # it may not be found
                self._solution = self._converged(self._field(self._molecule(self.atoms)))
            energy = float(self._solution.e_tot) * units.Hartree
            self.results = {"energy": energy, "free_energy": energy}
            if "forces" in properties:
                self.results["forces"] = self._forces(self._solution)

    def checkpoint_state(self) -> dict[str, list]:
        """The density that the next calculation starts from, ready for JSON."""
        return {} if self._density is None else {"density": self._density.tolist()}

    def restore_state(self, state: dict[str, list]) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        self.reset()
        self._restored = np.array(state["density"]) if state else None

    def _molecule(self, atoms: Atoms) -> gto.Mole:
        if atoms.pbc.any():
            raise StructureError(
                "pyscf-dft computes molecules only",
                name=self.name,
                value=atoms.pbc.tolist(),
                remedy="set pbc to false, or use another reference",
            )
        charge, spin = self._charge_and_spin(atoms)
        check_electrons(atoms, charge, spin)
        places = [
            (symbol, tuple(xyz / units.Bohr))
            for symbol, xyz in zip(atoms.symbols, atoms.positions, strict=True)
        ]
        basis = self.parameters.basis
        with _known_to_pyscf("basis", basis, f" for {', '.join(sorted(set(atoms.symbols)))}"):
            return gto.M(
                atom=places, unit="Bohr", basis=basis, charge=charge, spin=spin, verbose=0, parse_arg=False
            )

    def _charge_and_spin(self, atoms: Atoms) -> tuple[int, int]:
        charge, spin = self.parameters.charge, self.parameters.spin
        if charge is None or spin is None:
            of_structure = charge_and_spin(atoms)
            charge = of_structure[0] if charge is None else charge
            spin = of_structure[1] if spin is None else spin
        return charge, spin

    def _field(self, molecule: gto.Mole) -> Field:
        """A self-consistent field that is to be solved."""
        parameters = self.parameters
        unrestricted = parameters.unrestricted if parameters.unrestricted is not None else molecule.spin > 0
        kind = dft.UKS if unrestricted else dft.ROKS if molecule.spin else dft.RKS
        field = kind(molecule, xc=parameters.functional)
        if parameters.density_fitting:
            field = field.density_fit(auxbasis=None if self._is_hybrid else FITTING_BASIS)
        field.grids.level = parameters.grid_level
        field.conv_tol, field.max_cycle = 1e-10, parameters.max_cycles
        return field

    def _converged(self, field: Field) -> Field:
        """The field solved, from the density of the last calculation where that fits."""
        known = self._density is not None and self._density.shape[-1] == field.mol.nao
        field = self._solved(field, self._density if known else None)
        if isinstance(field, dft.uks.UKS) and _n_rotations(field):
            field = self._lowest(field)
        self._density = np.asarray(field.make_rdm1())  # without the orbitals, as in a checkpoint
        return field

    def _solved(self, field: Field, density: np.ndarray | None) -> Field:
        field.kernel(dm0=density)
        return field if field.converged else self._by_newton(field, field.mo_coeff)

    def _by_newton(self, field: Field, orbitals: np.ndarray) -> Field:
        second = field.newton()
        second.max_cycle = self.parameters.max_cycles
        second.kernel(orbitals, field.mo_occ)
        if not second.converged:
            self._density = None
            raise CalculationError(
                f"the self-consistent field of {self.parameters.functional}/{self.parameters.basis} did not "
                f"converge in {self.parameters.max_cycles} cycles, nor by Newton's method",
                value=self.parameters.max_cycles,
                remedy="another spin, unrestricted: true or more max_cycles may help",
            )
        field.mo_coeff, field.mo_occ, field.mo_energy = second.mo_coeff, second.mo_occ, second.mo_energy
        field.e_tot, field.converged = second.e_tot, True
        return field

    def _lowest(self, field: Field) -> Field:
        """An unrestricted field that no small rotation of orbitals lowers.

        A singlet breaks symmetry where that lowers the energy, as in a broken bond. The symmetric solution is
        no minimum there, but its Hessian's eigenvectors are searched from symmetric guesses and may not tell.
        So it is left by mixing the frontier orbitals, differently for each spin.
        """
        if field.mol.spin == 0 and field.spin_square()[0] < SYMMETRIC:
            before = field.e_tot, field.mo_coeff, field.mo_occ, field.mo_energy
            field = self._solved(field, field.make_rdm1(_mixed(field), field.mo_occ))
            if field.e_tot > before[0]:
                field.e_tot, field.mo_coeff, field.mo_occ, field.mo_energy = before
        for _ in range(SEARCHES):
            if _is_stable(field):
                break
            orbitals, _, is_stable, _ = field.stability(return_status=True)
            if is_stable:
                break
            field = self._by_newton(field, orbitals)  # plain iterations would fall back to where they were
        return field

    def _forces(self, field: Field) -> np.ndarray:
        gradient = field.nuc_grad_method()
        gradient.grid_response = self._kind != "MGGA"  # for which pyscf has none
        return -gradient.kernel() * units.Hartree / units.Bohr


def _whole_or_none(key: str, value: Any) -> int | None:
    number = whole_number(value)
    if number is None and value is not None:
        allowed = "a whole number, or empty"
        problem = f"pyscf-dft: {key} is {value!r}, but should be {allowed}"
        raise ConfigError(problem, name=key, value=value, allowed=allowed)
    return number


def _is_stable(field: Field) -> bool:
    """Whether a coarse grid, which costs less, shows no rotation of orbitals that lowers the energy.

    Only the sign of the Hessian's lowest eigenvalue counts, which hardly knows the grid. Where it is
    negative here, the field's own grid decides; a minimum too shallow for the coarse one passes.
    """
    coarse = field.copy()
    coarse.grids = dft.gen_grid.Grids(field.mol)
    coarse.grids.level = COARSE_GRID
    return coarse.stability(return_status=True)[2]


def _n_rotations(field: Field) -> int:
    """Pairs of an occupied and an empty orbital of one spin."""
    return int(sum((occupied > 0).sum() * (occupied == 0).sum() for occupied in field.mo_occ))


def _mixed(field: Field) -> np.ndarray:
    """Orbitals of both spins with the frontier ones turned by 45 degrees, in opposite senses."""
    orbitals = np.array(field.mo_coeff)
    for spin, sign in ((0, 1), (1, -1)):
        order = np.argsort(field.mo_energy[spin])
        n_occupied = int(field.mo_occ[spin].sum())
        if n_occupied in (0, len(order)):
            continue
        highest, lowest = order[n_occupied - 1], order[n_occupied]
        # (HOMO ± LUMO)/√2 for one spin and the opposite sign for the other breaks the symmetry of the spins
        first, second = orbitals[spin][:, highest].copy(), orbitals[spin][:, lowest].copy()
        orbitals[spin][:, highest] = (first + sign * second) / np.sqrt(2)
        orbitals[spin][:, lowest] = (second - sign * first) / np.sqrt(2)
    return orbitals


@contextlib.contextmanager
def _known_to_pyscf(option: str, value: Any, atoms: str = "") -> Iterator[None]:
    """Turn what pyscf says to a name that it does not know into a ConfigError."""
    try:
        yield
    except AsecalcError:
        raise
    except Exception as error:
        problem = f"pyscf does not know {option} {value!r}{atoms} ({error})"
        raise ConfigError(problem, name=option, value=value, remedy="correct its name") from error
