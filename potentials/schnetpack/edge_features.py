"""What schnetpack's radial bases and cutoff functions make of edge lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.potentials.schnetpack.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.schnetpack.options import SchNetPackOptions


class BesselRBF(layers().nn.BesselRBF):
    """sin(nπr/r_cut)/r without upstream's case r = 0, which no edge has."""

    def forward(self, distances: Tensor) -> Tensor:
        return (distances[..., None] * self.freqs).sin() / distances[..., None]


def radial_basis(options: SchNetPackOptions) -> nn.Module:
    """Functions of the distance, shape (...) to (..., n_rbf)."""
    kinds = {"gaussian": layers().nn.GaussianRBF, "bessel": BesselRBF}
    return kinds[options.radial_basis](n_rbf=options.n_rbf, cutoff=options.cutoff_A)


def cutoff_function(options: SchNetPackOptions) -> nn.Module:
    """½ (1 + cos(πr/r_cut)), shape (...) to (...)."""
    return layers().nn.CosineCutoff(options.cutoff_A)
