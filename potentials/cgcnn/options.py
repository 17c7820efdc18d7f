"""Hyperparameters of CGCNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

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
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.cgcnn.network import CGCNNPotential

        return CGCNNPotential(self)
