"""Hyperparameters of CGCNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A
from asecalc_ml.potentials.shared.geometric import TORCH_GEOMETRIC

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class CGCNN(Options):
    """Crystal graph convolutional neural network (Phys. Rev. Lett. 120, 145301)."""

    citation: ClassVar[str] = (
        f"T. Xie, J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), arXiv:1710.10324; {TORCH_GEOMETRIC}"
    )
    packages: ClassVar[tuple[str, ...]] = ("torch-geometric",)

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(64, ge=1, description="width of the atom features")
    n_layers: int = Field(3, ge=0, description="number of convolutions")
    readout_channels: int = Field(128, ge=1, description="width of the hidden layer after the convolutions")
    basis_spacing_A: float = Field(
        0.2, ge=0.01, le=10, description="distance between the Gaussians that distances are expanded in, Å"
    )
    readout: Literal["atoms", "crystal"] = Field(
        "atoms",
        description="atoms: a contribution of each atom, as energies and forces need it; crystal: atom "
        "features are averaged first, as published, for properties that do not grow with the cell",
    )
    envelope: bool = Field(
        True,
        description="weight the gates with the cutoff function, so that the energy is continuous; false "
        "reproduces the paper, and dynamics refuses it",
    )
    average_neighbors: float = Field(
        1.0,
        gt=0,
        description="number that the sum over neighbors is divided by: 1 as published; the average number of "
        "neighbors where there are many, so that features keep their size",
    )
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )
    adjacency: Literal["list", "matrix", "unmasked-matrix"] = Field(
        "list",
        description="list: all edges within the cutoff; matrix: `max_neighbors` places for each atom, of "
        "which empty ones are masked; unmasked-matrix: empty places count as neighbors, as in the published "
        "code. Matrices serve comparisons, and dynamics refuses them",
    )
    max_neighbors: int | None = Field(
        None, ge=1, description="matrix: places for neighbors of an atom, which the nearest take"
    )
    max_atoms: int | None = Field(
        None,
        ge=1,
        description="matrix: rows of each structure, which is padded with atoms up to this number; empty: no "
        "padding atoms",
    )

    @model_validator(mode="after")
    def _sizes_of_the_matrix(self) -> CGCNN:
        sizes = {"max_neighbors": self.max_neighbors, "max_atoms": self.max_atoms}
        if self.adjacency == "list":
            if given := [name for name, size in sizes.items() if size is not None]:
                raise ValueError(f"{given[0]} is the size of a matrix, and adjacency is list: leave it out")
        elif self.max_neighbors is None:
            raise ValueError(f"adjacency: {self.adjacency} needs max_neighbors, such as 12")
        if self.adjacency == "unmasked-matrix" and self.envelope:
            raise ValueError(
                "adjacency: unmasked-matrix needs envelope: false, since the cutoff function is zero at "
                "empty places"
            )
        return self

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.cgcnn.network import CGCNNPotential

        return CGCNNPotential(self)
