"""The normal boiling point as the target of a training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.targets.target import IntensiveScalar


class BoilingPoint(IntensiveScalar):
    """Normal boiling point."""

    quantity: ClassVar[None] = None  # temperatures are not converted

    name: Literal["boiling-point"] = Field("boiling-point", description="name of the target")
    unit: Literal["K"] = Field("K", description="unit of the target")
