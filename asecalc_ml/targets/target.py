"""A quantity that a model predicts: name, unit, kind and pooling, once for YAML, cards and networks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.units import name_with_unit

Kind = Literal[
    "extensive scalar",
    "intensive scalar",
    "vector",
    "vector norm",
    "symmetric rank-2 tensor",
    "symmetric rank-3 tensor",
]
Pooling = Literal["sum", "mean", "softmax"]

#: Shape of the value of each kind.
SHAPES: dict[str, tuple[int, ...]] = {
    "extensive scalar": (),
    "intensive scalar": (),
    "vector": (3,),
    "vector norm": (),
    "symmetric rank-2 tensor": (3, 3),
    "symmetric rank-3 tensor": (3, 3, 3),
}

ENERGY = "energy"

#: Ends the name of a standard deviation among the results of a calculator: ``energy_std``.
STD = "_std"


class Quantity(Options):
    """Statement of a card about a quantity that the model predicts."""

    name: str = Field(description="name of the quantity, under which results and labels are found")
    unit: str = Field(description="unit of its values")
    kind: Kind = Field(description="how its values transform, and whether they grow with the structure")
    pooling: Pooling = Field(description="how contributions of atoms become the value")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a value, such as (3, 3) of a tensor; () of a scalar."""
        return SHAPES[self.kind]

    @property
    def is_scalar(self) -> bool:
        """True if a value is a single number that is a sum or mean over atoms."""
        return self.kind in ("extensive scalar", "intensive scalar")

    @property
    def components(self) -> list[str]:
        """Names of the components of a value, such as "xy"; one empty name for a scalar."""
        names = [""]
        for _ in self.shape:
            names = [f"{name}{axis}" for name in names for axis in "xyz"]
        return names

    def __str__(self) -> str:
        return name_with_unit(self.name, self.unit)


class TargetOptions(Options):
    """Base of all targets: options of a quantity that a training fits.

    A subclass sets ``kind``, ``quantity`` and ``pooling``, and the options ``name`` and ``unit``.

    Attributes
    ----------
    kind : Kind
    quantity : str or None
        Name in :mod:`asecalc_ml.units` of the physical quantity that units are converted by; None if the
        values are used as they are.
    neutral : bool
        True if the value depends on the origin for a charged structure, which is then refused.
    relative : bool
        True if values depend on the choice of a zero, such as free atoms, and compare only with those of the
        same zero (:mod:`asecalc_ml.targets.zeros`).
    """

    kind: ClassVar[Kind]
    quantity: ClassVar[str | None] = None
    neutral: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    name: str = Field(description="name of the target: of its values in data, results and files")
    unit: str = Field(description="unit of the target")

    def as_quantity(self) -> Quantity:
        """Statement of a card about the target."""
        return Quantity(name=self.name, unit=self.unit, kind=self.kind, pooling=self._pooling)

    @property
    def _pooling(self) -> Pooling:
        return "sum"

    @property
    def per_element(self) -> dict[str, float] | None:
        """Reference value of each element by symbol; None if they are fitted to the training data."""
        return None


class ExtensiveScalar(TargetOptions):
    """Base of quantities that grow with the structure: a sum over atoms, with a reference per element."""

    kind: ClassVar[Kind] = "extensive scalar"

    references: dict[str, float] | None = Field(
        None,
        description="value of an isolated atom by element symbol, in the target's unit; empty: least squares "
        "over the training data",
    )

    @property
    def per_element(self) -> dict[str, float] | None:
        return self.references


class IntensiveScalar(TargetOptions):
    """Base of quantities that do not grow with the structure: an average over atoms."""

    kind: ClassVar[Kind] = "intensive scalar"

    pooling: Literal["mean", "softmax"] = Field(
        "mean",
        description="mean over atoms, or an average with learned weights; an architecture with a readout of "
        "the whole structure uses that one",
    )

    @property
    def _pooling(self) -> Pooling:
        return self.pooling
