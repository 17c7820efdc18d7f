"""Hyperparameters of MPNN and MPNN-transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A
from asecalc_ml.potentials.shared.geometric import TORCH_GEOMETRIC

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class MPNN(Options):
    """Message passing neural network with edge network and gated recurrent unit (arXiv:1704.01212)."""

    citation: ClassVar[str] = (
        "J. Gilmer, S. S. Schoenholz, P. F. Riley, O. Vinyals, G. E. Dahl, ICML (2017), arXiv:1704.01212; "
        f"{TORCH_GEOMETRIC}"
    )
    packages: ClassVar[tuple[str, ...]] = ("torch-geometric",)

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(64, ge=1, description="width of the atom features")
    n_passes: int = Field(3, ge=0, description="message passes, which share their weights")
    edge_channels: int = Field(64, ge=1, description="width of the hidden layer of the edge network")
    basis_spacing_A: float = Field(
        0.2, ge=0.01, le=10, description="distance between, and width of, the Gaussians of the distances, Å"
    )
    readout: Literal["gated", "set2set"] = Field(
        "gated",
        description="gated: a contribution of each atom, as energies and forces need it; set2set: a value "
        "of the whole structure, for properties that do not grow with it",
    )
    set2set_steps: int = Field(3, ge=1, description="steps of the set2set readout")
    envelope: bool = Field(
        True,
        description="weight messages with the cutoff function, so that the energy is continuous; false "
        "reproduces the paper, and dynamics refuses it",
    )
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.mpnn.network import MPNNPotential

        return MPNNPotential(self)


class MPNNTransformer(MPNN):
    """Message passing neural network with an attention layer after each pass."""

    citation: ClassVar[str] = (
        f"{MPNN.citation}; H. Park, R. Zhu, E. A. Huerta, S. Chaudhuri, E. Tajkhorshid, D. Cooper, "
        "End-to-end AI framework for interpretable prediction of molecular and crystal properties "
        "(2022), arXiv:2212.11317; Y. Shi et al., arXiv:2009.03509"
    )

    n_heads: int = Field(4, ge=1, description="attention heads; hidden_channels is a multiple of it")

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> MPNNTransformer:
        if self.hidden_channels % self.n_heads:
            raise ValueError(
                f"hidden_channels is {self.hidden_channels}; it must be a multiple of n_heads "
                f"({self.n_heads})"
            )
        return self

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.mpnn.network import MPNNTransformerPotential

        return MPNNTransformerPotential(self)
