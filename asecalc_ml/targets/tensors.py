"""Targets that turn with the structure: dipole, polarizability, first hyperpolarizability; and a norm."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.targets.scalars import NAME, UNIT
from asecalc_ml.targets.target import Kind, TargetOptions


class _OfDipole(TargetOptions):
    """Base of the dipole moment of a neutral molecule and its norm."""

    quantity: ClassVar[str] = "dipole"
    neutral: ClassVar[bool] = True


class Dipole(_OfDipole):
    """Dipole moment of a neutral molecule."""

    kind: ClassVar[Kind] = "vector"

    name: Literal["dipole"] = Field("dipole", description=NAME)
    unit: Literal["e Angstrom"] = Field("e Angstrom", description=UNIT)


class DipoleNorm(_OfDipole):
    """Norm of the dipole moment of a neutral molecule, for data that hold nothing else of it.

    A molecule without dipole is predicted to have :math:`10^{-6}` Debye, see
    :class:`asecalc_ml.model.heads.equivariant.NormHead`.
    """

    kind: ClassVar[Kind] = "vector norm"

    name: Literal["mu"] = Field("mu", description=NAME)
    unit: Literal["Debye"] = Field("Debye", description=UNIT)


class Polarizability(TargetOptions):
    """Polarizability tensor."""

    kind: ClassVar[Kind] = "symmetric rank-2 tensor"
    quantity: ClassVar[str] = "volume"

    name: Literal["polarizability"] = Field("polarizability", description=NAME)
    unit: Literal["Bohr^3"] = Field("Bohr^3", description=UNIT)


class Hyperpolarizability(TargetOptions):
    """First hyperpolarizability tensor."""

    kind: ClassVar[Kind] = "symmetric rank-3 tensor"
    quantity: ClassVar[str] = "hyperpolarizability"

    name: Literal["hyperpolarizability"] = Field("hyperpolarizability", description=NAME)
    unit: Literal["e^3 Bohr^3/Hartree^2"] = Field("e^3 Bohr^3/Hartree^2", description=UNIT)
