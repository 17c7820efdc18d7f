"""Hyperparameters of NeuralIL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A
from asecalc_ml.potentials.shared.elements import Elements

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class NeuralIL(Options):
    """NeuralIL (J. Chem. Inf. Model. 62, 88): spherical Bessel descriptors of neighbors, one network."""

    citation: ClassVar[str] = (
        "H. Montes-Campos, J. Carrete, S. Bichelmaier, L. M. Varela, G. K. H. Madsen, J. Chem. Inf. Model. "
        "62, 88 (2022), doi:10.1021/acs.jcim.1c01380; E. Kocer, J. K. Mason, H. Erturk, AIP Adv. 10, 015021 "
        "(2020), doi:10.1063/1.5111045"
    )

    elements: Elements = Field(
        ["H", "C", "N", "O"], description="elements that are told apart, in the order of the descriptors"
    )
    cutoff_A: Cutoff_A = Field(3.5, description="distance beyond which atoms do not see each other, Å")
    n_max: int = Field(
        4, ge=0, le=8, description="largest radial order n and angular order l, with n + l at most n_max"
    )
    embedding_dimensions: int = Field(2, ge=1, description="length of the vector of each central element")
    hidden_channels: list[Annotated[int, Field(ge=1)]] = Field(
        [64, 32, 16, 16, 16], min_length=1, description="widths of the hidden layers"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.neuralil.network import NeuralILPotential

        return NeuralILPotential(self)
