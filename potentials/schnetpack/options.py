"""Hyperparameters of SchNetPack's architectures, under SchNetPack's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential

Activation = Literal["ssp", "silu", "tanh"]

SCHNETPACK = "K. T. Schütt et al., SchNetPack 2.0, J. Chem. Phys. 158, 144801 (2023), arXiv:2212.05517"


class SchNetPackOptions(Options):
    """What the architectures have in common."""

    packages: ClassVar[tuple[str, ...]] = ("schnetpack",)

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    n_atom_basis: int = Field(128, ge=2, description="width of the atom features")
    n_interactions: int = Field(3, ge=1, description="number of interaction blocks")
    n_rbf: int = Field(20, ge=2, description="number of radial basis functions")
    radial_basis: Literal["gaussian", "bessel"] = Field("gaussian", description="radial basis")
    readout_activation: Activation = Field("silu", description="activation function of the readout")
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )


class SchNet(SchNetPackOptions):
    """SchNet: continuous-filter convolutions (arXiv:1712.06113)."""

    citation: ClassVar[str] = f"K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018); {SCHNETPACK}"

    n_interactions: int = Field(6, ge=1, description="number of interaction blocks")
    n_filters: int | None = Field(
        None, ge=1, description="width of the continuous filters; n_atom_basis where left empty"
    )
    activation: Activation = Field(
        "ssp", description="activation function of the interactions; ssp is the shifted softplus"
    )
    aggregation: Literal["sum", "mean"] = Field(
        "sum", description="whether messages of the neighbors are summed, or divided by their number"
    )
    envelope: bool = Field(
        True,
        description="with the mean, count each neighbor with the weight of a cutoff function, so that the "
        "energy is continuous; false reproduces the paper, and dynamics refuses it",
    )

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.schnetpack.schnet import SchNetPotential

        return SchNetPotential(self)


class PaiNN(SchNetPackOptions):
    """PaiNN: the polarizable atom interaction network (arXiv:2102.03150)."""

    citation: ClassVar[str] = f"K. T. Schütt, O. T. Unke, M. Gastegger, ICML (2021); {SCHNETPACK}"

    activation: Activation = Field("silu", description="activation function of the interactions")

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.schnetpack.painn import PaiNNPotential

        return PaiNNPotential(self)


class SO3net(SchNetPackOptions):
    """SO3net: convolutions with spherical harmonics and Clebsch-Gordan products (arXiv:2212.05517)."""

    citation: ClassVar[str] = SCHNETPACK

    lmax: int = Field(2, ge=1, le=4, description="highest angular momentum of the features")

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.schnetpack.so3net import SO3netPotential

        return SO3netPotential(self)
