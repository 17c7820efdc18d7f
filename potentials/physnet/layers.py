"""PhysNet's layers: radial functions, residual block, interaction, module and output."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.potentials.shared.layers import ShiftedSoftplus


class ExpNormalBasis(nn.Module):
    r"""Gaussians in :math:`e^{-r}`, gone smoothly at the cutoff.

    .. math:: g_k(r) = \varphi(r)\, \exp\left(-\beta_k (e^{-r} - \mu_k)^2\right)

    Centres μ and widths β are trained, and are positive as softplus of what is stored.
    """

    def __init__(self, n_basis: int, cutoff: float):
        super().__init__()
        self.cutoff = cutoff
        # Centres μ_k at even spacing in e^{−r} from r = 0 to the cutoff; β = [2 (1 − e^{−r_cut}) / K]^{−2}.
        nearest_to_zero = math.exp(-cutoff)
        centres = torch.linspace(1.0, nearest_to_zero, n_basis, dtype=torch.float64)
        width = (2 / n_basis * (1 - nearest_to_zero)) ** -2
        self.raw_centres = _stored(centres)
        self.raw_widths = _stored(torch.full_like(centres, width))

    def forward(self, distances: Tensor) -> Tensor:
        offsets = torch.exp(-distances)[:, None] - softplus(self.raw_centres)
        gaussians = torch.exp(-softplus(self.raw_widths) * offsets**2)
        return smooth_cutoff(distances, self.cutoff)[:, None] * gaussians


def _stored(positive: Tensor) -> nn.Parameter:
    """What softplus makes these numbers of: the inverse of ln(1 + eˣ) is x + ln(1 − e^{−x})."""
    inverse = positive + torch.log(-torch.expm1(-positive))
    return nn.Parameter(inverse.to(torch.get_default_dtype()))


class PreActivationResidual(nn.Module):
    """Pre-activation residual block, x + W₂ σ(W₁ σ(x) + b₁) + b₂."""

    def __init__(self, width: int):
        super().__init__()
        self.change = nn.Sequential(ShiftedSoftplus(), dense(width), ShiftedSoftplus(), dense(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


class InteractionModule(nn.Module):
    r"""An interaction between neighbors, and residual blocks on each atom.

    .. math::
        \tilde v_i &= \sigma(W_I \sigma(x_i) + b_I)
            + \sum_j G\, g(r_{ij}) \circ \sigma(W_J \sigma(x_j) + b_J) \\
        x_i' &= u \circ x_i + W \sigma(v_i) + b

    ============================ =================
    paper                        code
    ============================ =================
    W_I, b_I                     ``centre``
    W_J, b_J                     ``neighbor``
    G, the attention mask        ``mask``
    residual blocks from ṽ to v  ``message``
    W, b                         ``update``
    gates u                      ``gates``
    residual blocks on x'        ``refinement``
    ============================ =================
    """

    def __init__(self, width: int, n_basis: int, n_message: int, n_refinement: int):
        super().__init__()
        self.activation = ShiftedSoftplus()
        self.centre = nn.Sequential(dense(width), ShiftedSoftplus())
        self.neighbor = nn.Sequential(dense(width), ShiftedSoftplus())
        self.mask = zero(nn.Linear(n_basis, width, bias=False))
        self.message = nn.Sequential(*_residuals(n_message, width), ShiftedSoftplus())
        self.update = dense(width)
        self.gates = nn.Parameter(torch.ones(width))
        self.refinement = nn.Sequential(*_residuals(n_refinement, width))

    def forward(self, x: Tensor, basis: Tensor, edge_index: Tensor) -> Tensor:
        centres, neighbors = edge_index
        # Messages of the neighbors: G g(r_ij) ∘ σ(W_J σ(x_j) + b_J).
        activated = self.activation(x)
        messages = self.mask(basis) * take(self.neighbor(activated), neighbors)
        # ṽ_i: the atom's own part and the sum over its neighbors.
        message = self.centre(activated) + segment_sum(messages, centres, x.shape[0])
        # Residual blocks on ṽ, the gated update of x, and residual blocks on the result.
        return self.refinement(self.gates * x + self.update(self.message(message)))


class ModuleOutput(nn.Module):
    """Residual blocks and a linear map without bias from a module's features to its outputs."""

    def __init__(self, width: int, n_residual: int, n_outputs: int):
        super().__init__()
        self.hidden = nn.Sequential(*_residuals(n_residual, width), ShiftedSoftplus())
        self.linear = zero(nn.Linear(width, n_outputs, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return hidden, self.linear(hidden)


def _residuals(n_blocks: int, width: int) -> list[PreActivationResidual]:
    return [PreActivationResidual(width) for _ in range(n_blocks)]


def dense(width: int) -> nn.Linear:
    """A linear map that starts orthogonal, with the variance of Glorot, and without bias."""
    linear = nn.Linear(width, width)
    nn.init.orthogonal_(linear.weight)
    with torch.no_grad():
        linear.weight *= (width * linear.weight.var(correction=0)).rsqrt()
    nn.init.zeros_(linear.bias)
    return linear


def zero(linear: nn.Linear) -> nn.Linear:
    """A linear map that starts at zero, as those to masks and to outputs do."""
    nn.init.zeros_(linear.weight)
    return linear


__getattr__ = renamed(
    __name__, {"RadialBasis": "ExpNormalBasis", "Residual": "PreActivationResidual", "Output": "ModuleOutput"}
)
