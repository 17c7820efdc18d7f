"""Hyperparameters of PhysNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class PhysNet(Options):
    """PhysNet (arXiv:1902.08408), with partial charges and their Coulomb energy. Defaults are the paper's."""

    citation: ClassVar[str] = (
        "O. T. Unke, M. Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), arXiv:1902.08408"
    )

    cutoff_A: Cutoff_A = Field(10.0, description="distance beyond which no messages are passed, Å")
    charges: bool = Field(
        True,
        description="whether partial charges are predicted, and their Coulomb energy is a part of the energy",
    )
    coulomb_cutoff_A: Cutoff_A = Field(
        15.0,
        description="distance from which on two atoms have no Coulomb energy, Å; at least cutoff_A",
    )
    hidden_channels: int = Field(128, ge=2, description="width of the atom features")
    n_rbf: int = Field(64, ge=2, description="number of radial basis functions")
    n_layers: int = Field(5, ge=1, description="number of modules, each with an output of its own")
    n_residual_interaction: int = Field(3, ge=0, description="residual blocks on the message of each module")
    n_residual_atomic: int = Field(
        2, ge=0, description="residual blocks on the features after each interaction"
    )
    n_residual_output: int = Field(1, ge=0, description="residual blocks before the output of each module")
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )

    @model_validator(mode="after")
    def _coulomb_reaches_further(self) -> PhysNet:
        if self.charges and self.coulomb_cutoff_A < self.cutoff_A:
            raise ValueError(
                f"coulomb_cutoff_A is {self.coulomb_cutoff_A:g}, below cutoff_A ({self.cutoff_A:g}): raise "
                "it to at least that, or set charges to false"
            )
        return self

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.physnet.network import PhysNetPotential

        return PhysNetPotential(self)
