"""Options of the network; importing them does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asecalc_ml.config import Options
from asecalc_ml.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.potential import Potential


class ExampleNetwork(Options):
    """Message passing over Gaussian functions of the distance."""

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(64, ge=1, description="features of an atom")
    n_layers: int = Field(3, ge=1, description="interaction blocks")
    n_rbf: int = Field(16, ge=2, description="Gaussian functions of the distance")
    max_atomic_number: int = Field(36, ge=1, le=118, description="largest atomic number")

    def build(self) -> Potential:
        """Build the network with random weights."""
        from asecalc_example.network_torch import ExamplePotential

        return ExamplePotential(self)
