"""The calculator under test: made anew or reset, and asked about copies, so that nothing is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.conformance.bounds import BOUNDS, NOISE_FACTOR, Bounds
from asecalc_ml.conformance.checks.process import ProcessState
from asecalc_ml.conformance.noise import rounding
from asecalc_ml.conformance.result import NotApplicableError
from asecalc_ml.conformance.structures import Structures

Results = dict[str, Any]  # float or array, as each property has it


@dataclass(frozen=True)
class Effort:
    """How long the long checks are.

    Parameters
    ----------
    memory_calls : int
        Calls over which the process's memory is watched; below some 1000, caches that fill look like a leak.
    dynamics_steps : int
        Steps of each run of dynamics.
    """

    memory_calls: int = 3000
    dynamics_steps: int = 1000


class CalculatorUnderTest:
    """A calculator, how to make another like it, and the structures it is asked about.

    Parameters
    ----------
    calculator : BaseCalculator
    structures : Structures
    make : callable, optional
        Makes another such calculator, with keyword arguments that win over the former; None where only the
        object is at hand.
    before : ProcessState
        The process before the first calculator was made.
    """

    def __init__(
        self,
        calculator: BaseCalculator,
        structures: Structures,
        make: Callable[..., BaseCalculator] | None,
        before: ProcessState,
        effort: Effort,
    ):
        self.calculator, self.structures, self.make = calculator, structures, make
        self.before, self.effort = before, effort

    @property
    def molecule(self) -> Atoms:
        return self.structures.molecule.copy()

    @property
    def bulk(self) -> Atoms:
        return self.structures.bulk.copy()

    @property
    def slab(self) -> Atoms:
        return self.structures.slab.copy()

    def another(self) -> BaseCalculator:
        """A calculator that remembers nothing: a new one, or this one reset."""
        if self.make is not None:
            return self.make()
        reset(self.calculator)
        return self.calculator

    def in_precision(self, dtype: str) -> BaseCalculator:
        """The same calculator in float32 or float64, where it can be made in both.

        Raises
        ------
        NotApplicableError
        """
        if self.make is None:
            raise NotApplicableError(
                "only one object is at hand; name the calculator to have it in both precisions"
            )
        if "dtype" not in offered(self.calculator).default_parameters:
            raise NotApplicableError("no parameter dtype")
        return self.make(dtype=dtype)

    @cached_property
    def double(self) -> CalculatorUnderTest | None:
        """The same calculator in float64; None where it is already, or cannot be."""
        if self.dtype == "float64":
            return None
        with suppress(NotApplicableError):
            calculator = self.in_precision("float64")
            return CalculatorUnderTest(calculator, self.structures, None, self.before, self.effort)
        return None

    def evaluate(self, atoms: Atoms, *properties: str) -> Results:
        """Energy and forces, or what is named, of a copy of the atoms and after a reset."""
        reset(self.calculator)
        return ask(self.calculator, atoms.copy(), *properties)

    def energy(self, atoms: Atoms) -> float:
        """The energy whose derivative the forces are: ASE's free energy where there is one, eV."""
        return self.evaluate(atoms, self._energy_name)[self._energy_name]

    def everything(self, atoms: Atoms) -> Results:
        """Energy and forces, and stress where the calculator gives one for such a cell.

        A stress of another shape than ASE's, or none where one was promised, fails its own checks, and is
        left out of the others.
        """
        results = self.evaluate(atoms)
        if self.has("stress") and atoms.pbc.any() and atoms.cell.rank == 3:
            with suppress(Exception):
                stress = self.evaluate(atoms, "stress")["stress"]
                results |= {"stress": stress} if np.shape(stress) == (6,) else {}
        return results

    def has(self, name: str) -> bool:
        """Whether the calculator says that it implements a property."""
        return name in offered(self.calculator).implemented_properties

    def need(self, name: str) -> None:
        """Leave a check that a calculator without this property cannot be asked."""
        if not self.has(name):
            raise NotApplicableError(f"no {name}")

    def bodies(self) -> Iterator[Atoms]:
        """The molecule, and the bulk for calculators that take one."""
        yield self.molecule
        if self.takes_bulk:
            yield self.bulk

    @cached_property
    def takes_bulk(self) -> bool:
        """Whether the bulk is evaluated at all; the checks of periodic structures say why not."""
        try:
            self.evaluate(self.bulk)
        except Exception:  # whatever a foreign calculator raises
            return False
        return True

    @cached_property
    def _energy_name(self) -> str:
        return "free_energy" if self.has("free_energy") else "energy"

    # ------------------------------------------------------------------------------------- precision

    @cached_property
    def noise_eV(self) -> float:  # noqa: N802 - a unit
        """Rounding of the molecule's energy, eV."""
        return self.noise_of(self.molecule)

    def noise_of(self, atoms: Atoms) -> float:
        """Rounding of the energy of a structure, eV."""
        return rounding(self.energy, atoms)

    @cached_property
    def declared_dtype(self) -> str | None:
        """The precision that the calculator itself names, in its parameters or its card."""
        card = offered(self.calculator).card
        named = offered(self.calculator).parameters.get("dtype") or (card and card.dtype)
        name = str(named).removeprefix("torch.")
        return name if name in BOUNDS else None

    @cached_property
    def dtype(self) -> str:
        """The precision whose bounds apply: float64 where nothing is declared or seen to be less.

        A calculator that declares float64 and rounds as float32 fails that one check, not all.
        """
        limit = BOUNDS["float64"].noise_eV_atom * len(self.structures.molecule)
        return "float32" if self.declared_dtype == "float32" or self.noise_eV > limit else "float64"

    @cached_property
    def bounds(self) -> Bounds:
        """Bounds of the precision for the molecule, and for what is made of its atoms."""
        return self._bounds(self.noise_eV / len(self.molecule))

    def bounds_of(self, atoms: Atoms) -> Bounds:
        """Bounds for a structure: those of the bulk where it is periodic, else those of the molecule.

        Energies may round worse in the bulk, whose atoms may lie closer than any that a model has seen.
        """
        return self._bounds_of_bulk if atoms.pbc.any() else self.bounds

    @cached_property
    def _bounds_of_bulk(self) -> Bounds:
        return self._bounds(self.noise_of(self.bulk) / len(self.bulk))

    def _bounds(self, noise_eV_atom: float) -> Bounds:
        """Two energies may differ by their rounding where this is larger than the bound.

        A calculator that rounds too much fails the check of rounding, and not everything else.
        """
        bounds, rounded = BOUNDS[self.dtype], NOISE_FACTOR * noise_eV_atom
        return replace(bounds, energy_eV_atom=max(bounds.energy_eV_atom, rounded))


def reset(calculator: BaseCalculator) -> None:
    """Forget results, as ASE does it."""
    offered(calculator).reset()


def ask(calculator: BaseCalculator, atoms: Atoms, *properties: str) -> Results:
    """Properties of atoms: energy and forces, or those named. Not-finite answers are errors."""
    return {name: _number(value) for name, value in ask_raw(calculator, atoms, *properties).items()}


def ask_raw(calculator: BaseCalculator, atoms: Atoms, *properties: str) -> dict[str, Any]:
    """The same in whatever types the calculator gives."""
    names: Sequence[str] = properties or ("energy", "forces")
    values = {name: calculator.get_property(name, atoms) for name in names}
    for name, value in values.items():
        if value is None or not np.isfinite(value).all():
            raise ValueError(f"{name} is {value}")
    return values


def _number(value: Any) -> float | np.ndarray:
    """A float from what holds one number; a copy of an array, which the calculator may write to again."""
    return float(np.squeeze(value)) if np.size(value) == 1 else np.array(value)


__getattr__ = renamed(__name__, {"Subject": "CalculatorUnderTest"})
