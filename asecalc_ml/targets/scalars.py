"""Scalar targets: the energy, the scalars of QM9, and scalars of any name and unit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from asecalc_ml.plugins import names
from asecalc_ml.targets.target import ExtensiveScalar, IntensiveScalar, Kind, Pooling, TargetOptions

NAME, UNIT = "name of the target", "unit of the target"


class PotentialEnergy(ExtensiveScalar):
    """Potential energy, whose slope are the forces."""

    quantity: ClassVar[str] = "energy"

    name: Literal["energy"] = Field("energy", description=NAME)
    unit: Literal["eV"] = Field("eV", description=UNIT)


class HOMO(IntensiveScalar):
    """Energy of the highest occupied molecular orbital."""

    quantity: ClassVar[str] = "energy"

    name: Literal["homo"] = Field("homo", description=NAME)
    unit: Literal["eV"] = Field("eV", description=UNIT)


class LUMO(IntensiveScalar):
    """Energy of the lowest unoccupied molecular orbital."""

    quantity: ClassVar[str] = "energy"

    name: Literal["lumo"] = Field("lumo", description=NAME)
    unit: Literal["eV"] = Field("eV", description=UNIT)


class Gap(IntensiveScalar):
    """Difference of the energies of LUMO and HOMO."""

    quantity: ClassVar[str] = "energy"

    name: Literal["gap"] = Field("gap", description=NAME)
    unit: Literal["eV"] = Field("eV", description=UNIT)


class ZPVE(ExtensiveScalar):
    """Zero-point vibrational energy."""

    quantity: ClassVar[str] = "energy"

    name: Literal["zpve"] = Field("zpve", description=NAME)
    unit: Literal["eV"] = Field("eV", description=UNIT)


class ThermodynamicEnergy(ExtensiveScalar):
    """Base of energies of molecules, whose zero the data choose."""

    quantity: ClassVar[str] = "energy"
    relative: ClassVar[bool] = True

    unit: Literal["eV"] = Field("eV", description=UNIT)


class U0(ThermodynamicEnergy):
    """Internal energy at 0 K."""

    name: Literal["u0"] = Field("u0", description=NAME)


class U298(ThermodynamicEnergy):
    """Internal energy at 298.15 K."""

    name: Literal["u298"] = Field("u298", description=NAME)


class H298(ThermodynamicEnergy):
    """Enthalpy at 298.15 K."""

    name: Literal["h298"] = Field("h298", description=NAME)


class G298(ThermodynamicEnergy):
    """Gibbs energy at 298.15 K."""

    name: Literal["g298"] = Field("g298", description=NAME)


class HeatCapacity(ExtensiveScalar):
    """Heat capacity at constant volume, at 298.15 K."""

    quantity: ClassVar[str] = "heat capacity"

    name: Literal["cv"] = Field("cv", description=NAME)
    unit: Literal["cal/mol/K"] = Field("cal/mol/K", description=UNIT)


class SpatialExtent(ExtensiveScalar):
    """Electronic spatial extent, the expectation value of the squared distance of electrons from the centre.

    It is no extensive quantity: it grows with the square of a molecule's size, and is the sum over atoms of
    nuclear charge times squared distance from the centre of charge, within the size of the atoms. A sum over
    contributions of atoms is what networks without positions can fit to molecules of similar size.
    """

    quantity: ClassVar[str] = "area"

    name: Literal["r2"] = Field("r2", description=NAME)
    unit: Literal["Bohr^2"] = Field("Bohr^2", description=UNIT)


class IsotropicPolarizability(ExtensiveScalar):
    """Isotropic polarizability, a third of the trace of the tensor."""

    quantity: ClassVar[str] = "volume"

    name: Literal["alpha"] = Field("alpha", description=NAME)
    unit: Literal["Bohr^3"] = Field("Bohr^3", description=UNIT)


class Scalar(TargetOptions):
    """A scalar of any name and unit, such as the uptake of CO2 in mol/kg."""

    name: str = Field(
        "scalar", pattern=r"^[a-z][a-z0-9_-]*$", description="name of the target: that of its labels"
    )
    unit: str = Field("", description="unit of the labels, such as mol/kg; empty: a number without a unit")
    extensive: bool = Field(
        False, description="true: a sum over atoms with a reference per element; false: an average over atoms"
    )
    pooling: Literal["mean", "softmax"] = Field(
        "mean", description="average of an intensive scalar: the mean, or one with learned weights"
    )

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        """A registered target has its own unit, into which readers convert its values."""
        if name != "scalar" and name in names("targets"):
            raise ValueError(f"{name} is a target of its own: write `target: {name}`, or choose another name")
        return name

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # of each instance, where other targets have one kind
        return "extensive scalar" if self.extensive else "intensive scalar"

    @property
    def _pooling(self) -> Pooling:
        return "sum" if self.extensive else self.pooling
