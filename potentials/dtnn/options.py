"""Hyperparameters of DTNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class DTNN(Options):
    """Deep tensor neural network (Nat. Commun. 8, 13890)."""

    citation: ClassVar[str] = (
        "K. T. Schütt, F. Arbabzadah, S. Chmiela, K.-R. Müller, A. Tkatchenko, Nat. Commun. 8, 13890 (2017), "
        "doi:10.1038/ncomms13890"
    )

    cutoff_A: Cutoff_A = Field(
        10.0,
        description="distance beyond which atoms do not see each other, Å; the paper has none, so take one "
        "that reaches across the molecules",
    )
    hidden_channels: int = Field(30, ge=1, description="width of the atom features")
    n_factors: int = Field(60, ge=1, description="rank of the factorised tensor layer")
    n_passes: int = Field(3, ge=0, description="interaction passes, which share their weights")
    readout_channels: int = Field(15, ge=1, description="width of the hidden layer of the readout")
    basis_spacing_A: float = Field(
        0.2, ge=0.01, le=10, description="distance between, and width of, the Gaussians of the distances, Å"
    )
    envelope: bool = Field(
        True,
        description="weight interactions with the cutoff function, so that the energy is continuous; false "
        "reproduces the paper, and dynamics refuses it",
    )
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.dtnn.network import DTNNPotential

        return DTNNPotential(self)
