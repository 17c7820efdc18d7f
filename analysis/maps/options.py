"""Options of a map."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.config.options import Options

Representation = Literal["features", "soap", "coulomb-matrix", "morgan"]
ProjectionMethod = Literal["pca", "umap"]
Metric = Literal["euclidean", "cityblock", "cosine"]
Level = Literal["structures", "atoms"]

#: Representations that have a row for each atom.
OF_ATOMS = ("features", "soap")


class MapOptions(Options):
    """Which representations are drawn, how, and whose roughness is measured.

    Examples
    --------
    >>> MapOptions(representations="features,soap").representations
    ['features', 'soap']
    """

    representations: list[Representation] = Field(
        ["features"],
        min_length=1,
        description="features (the model's last hidden layer) and fingerprints of the structure: soap, "
        "coulomb-matrix, morgan",
    )
    level: Level = Field(
        "structures", description="a point for each structure (mean over atoms) or each atom"
    )
    projections: list[ProjectionMethod] = Field(
        ["pca"], min_length=1, description="pca, umap, or both; umap needs the extra [explain]"
    )
    dimensions: Literal[2, 3] = Field(2, description="axes of a projection")
    metrics: list[Metric] = Field(
        ["euclidean", "cityblock"],
        description="euclidean, cityblock, cosine: distances that roughness is measured with (of morgan "
        "always Tanimoto's); an empty list measures none",
    )
    target: str | None = Field(
        None,
        description="quantity that points are coloured by, such as homo, of a model of several",
    )
    info: list[str] = Field([], description="keys of the frames' info that points are coloured by, too")
    roughness_points: int = Field(
        1000, ge=4, le=5000, description="points, evenly spread, that roughness is measured on"
    )
    bootstraps: int = Field(
        20, ge=0, description="random halves of the points for the error of a roughness; 0 gives none"
    )
    neighbors: int = Field(
        15,
        ge=2,
        description="number of neighbors, of UMAP (few show detail, many the whole) and of the comparison of "
        "values of neighbors",
    )
    shuffles: int = Field(
        99,
        ge=0,
        description="random orders of the values, whose neighbors the values of neighbors are compared with; "
        "0 for no comparison",
    )
    seed: int = Field(0, ge=0, description="of UMAP, of the samples and of the random orders")

    @field_validator("representations", "projections", "metrics", "info", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """A name, names with commas between them, or a list."""
        if not isinstance(value, str):
            return value
        return [name.strip() for name in value.split(",") if name.strip()]

    @model_validator(mode="after")
    def _rows_of_atoms(self) -> MapOptions:
        whole = [name for name in self.representations if name not in OF_ATOMS]
        if self.level == "atoms" and whole:
            raise ValueError(
                f"{whole[0]} describes a whole structure: take level: structures, or representations "
                f"of atoms ({', '.join(OF_ATOMS)})"
            )
        return self
