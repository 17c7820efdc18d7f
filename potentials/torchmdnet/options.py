"""Hyperparameters of TorchMD-NET's architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential

Activation = Literal["silu", "ssp", "tanh", "sigmoid"]
RadialBasis = Literal["expnorm", "gauss"]

TORCHMD_NET = (
    "R. P. Pelaez et al., TorchMD-Net 2.0, J. Chem. Theory Comput. 20, 4076 (2024), arXiv:2402.17660"
)


class TorchMDNetOptions(Options):
    """What the three architectures have in common."""

    packages: ClassVar[tuple[str, ...]] = ("torchmd-net",)

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(64, ge=2, description="width of the atom features")
    n_layers: int = Field(4, ge=0, description="number of interaction layers")
    n_rbf: int = Field(32, ge=2, description="number of radial basis functions")
    rbf: RadialBasis = Field("expnorm", description="radial basis")
    trainable_rbf: bool = Field(False, description="whether centres and widths of the basis are trained")
    activation: Activation = Field("silu", description="activation function")
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )


class EquivariantTransformer(TorchMDNetOptions):
    """TorchMD-NET's equivariant transformer (arXiv:2202.02541)."""

    citation: ClassVar[str] = f"P. Thölke, G. De Fabritiis, ICLR (2022), arXiv:2202.02541; {TORCHMD_NET}"

    n_heads: int = Field(8, ge=1, description="attention heads; hidden_channels is a multiple of it")
    neighbor_embedding: bool = Field(True, description="embed each atom's neighbors before the first layer")
    distance_influence: Literal["keys", "values", "both", "none"] = Field(
        "both", description="where distances enter the attention"
    )
    attention_activation: Activation = Field("silu", description="activation of the attention weights")
    envelope: bool = Field(
        True,
        description="weight whole messages with the cutoff function (torchmd-net's vector_cutoff), so that "
        "the energy is continuous; false reproduces the paper, and dynamics refuses it",
    )

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> EquivariantTransformer:
        if self.hidden_channels % self.n_heads or self.hidden_channels % 2:
            raise ValueError(
                f"hidden_channels is {self.hidden_channels}; it must be even and a multiple of "
                f"n_heads ({self.n_heads})"
            )
        return self

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.torchmdnet.equivariant_transformer import EquivariantTransformerPotential

        return EquivariantTransformerPotential(self)


class TensorNet(TorchMDNetOptions):
    """TorchMD-NET's TensorNet (arXiv:2306.06482)."""

    citation: ClassVar[str] = f"G. Simeon, G. De Fabritiis, NeurIPS (2023), arXiv:2306.06482; {TORCHMD_NET}"

    n_layers: int = Field(2, ge=0, description="number of interaction layers")
    group: Literal["O(3)", "SO(3)"] = Field(
        "O(3)", description="O(3): energies are the same for mirror images; SO(3): they need not be"
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.torchmdnet.tensornet import TensorNetPotential

        return TensorNetPotential(self)


class GraphNetwork(TorchMDNetOptions):
    """TorchMD-NET's graph network: continuous-filter convolutions as in SchNet."""

    citation: ClassVar[str] = f"M. Majewski et al., Nat. Commun. 14, 5739 (2023); {TORCHMD_NET}"

    neighbor_embedding: bool = Field(True, description="embed each atom's neighbors before the first layer")

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.torchmdnet.graph_network import GraphNetworkPotential

        return GraphNetworkPotential(self)
