"""Hyperparameters of DimeNet++; the defaults are the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class DimeNetPlusPlus(Options):
    """DimeNet++: messages that see the angle between two edges (arXiv:2003.03123, arXiv:2011.14115)."""

    citation: ClassVar[str] = (
        "J. Gasteiger, J. Groß, S. Günnemann, ICLR (2020), arXiv:2003.03123; J. Gasteiger, S. Giri, "
        "J. T. Margraf, S. Günnemann, arXiv:2011.14115 (2020)"
    )

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(128, ge=1, description="width of the messages")
    n_layers: int = Field(4, ge=0, description="number of interaction layers")
    triplet_channels: int = Field(64, ge=1, description="width of the messages where angles enter")
    basis_channels: int = Field(8, ge=1, description="width between the two linear maps of a basis")
    output_channels: int = Field(256, ge=1, description="width of the output networks")
    n_radial: int = Field(6, ge=1, description="number of radial basis functions")
    n_spherical: int = Field(7, ge=1, description="number of orders of the spherical basis, s, p, d, ...")
    envelope_exponent: int = Field(6, ge=3, description="exponent p of the cutoff polynomial")
    n_before_skip: int = Field(1, ge=0, description="residual layers before the skip connection")
    n_after_skip: int = Field(2, ge=0, description="residual layers after the skip connection")
    n_output_layers: int = Field(3, ge=1, description="hidden layers of each output network")
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.dimenet.network import DimeNetPlusPlusPotential

        return DimeNetPlusPlusPotential(self)
