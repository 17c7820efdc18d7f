"""Options of an explanation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from asecalc_ml.analysis.relevance.methods.registry import ALL, METHODS, check_methods
from asecalc_ml.analysis.relevance.target_text import ATOMS_NEEDED, HELP, parse_text
from asecalc_ml.config.options import Options


class RelevanceOptions(Options):
    """Which atoms and pairs a model's prediction rests on.

    Examples
    --------
    >>> RelevanceOptions(method="saliency", target="force:2-0").method
    ['saliency']
    """

    method: list[str] = Field(
        ["gradient-edges", "occlusion"],
        min_length=1,
        description=f"methods, of {', '.join(METHODS)}; {ALL} for all that the architecture offers",
    )
    target: str | None = Field(
        None, description=f"what is explained: {HELP}; empty: the energy, or the model's only quantity"
    )
    pairs: Literal["bonds", "all", "none"] = Field(
        "bonds", description="pairs of atoms that are listed: chemical bonds, all within the cutoff, or none"
    )
    integration_points: int = Field(32, ge=1, le=1000, description="passes of integrated gradients")
    walk_length: int = Field(3, ge=1, le=3, description="steps of the longest walks")
    top_walks: int = Field(20, ge=1, description="walks that are listed for each structure, largest first")
    compared_frames: int = Field(
        10,
        ge=0,
        description="structures, evenly spread, on which methods are compared with occlusion, which takes a "
        "pass for each atom; 0 for none",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """A name, names with commas between them, or a list."""
        names = value.split(",") if isinstance(value, str) else value
        return [name.strip() if isinstance(name, str) else name for name in names]

    @field_validator("method")
    @classmethod
    def _known_methods(cls, value: list[str]) -> list[str]:
        return check_methods(value)

    @field_validator("target")
    @classmethod
    def _known_target(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_text(value))

    @property
    def quantity(self) -> str | None:
        """Name of the quantity that is explained; None where it follows from the model."""
        kind = None if self.target is None else parse_text(self.target).kind
        return None if kind in ATOMS_NEEDED else kind
