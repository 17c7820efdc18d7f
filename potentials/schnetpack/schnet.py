"""SchNetPack's SchNet on our edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.schnetpack.activations import use_activation
from asecalc_ml.potentials.schnetpack.edge_features import cutoff_function, radial_basis
from asecalc_ml.potentials.schnetpack.readout import SchNetPackPotential, embedding
from asecalc_ml.potentials.schnetpack.upstream import layers

if TYPE_CHECKING:
    from asecalc_ml.potentials.schnetpack.options import SchNet


class SchNetPotential(SchNetPackPotential):
    r"""SchNet of Schütt et al., J. Chem. Phys. 148, 241722 (2018), arXiv:1712.06113.

    ============================================== ===============================================
    paper                                          code
    ============================================== ===============================================
    embedding, x_i⁰ = a_{Z_i}                      ``representation.embedding``
    radial basis, e_k = exp(−γ (r_ij − μ_k)²)      ``representation.radial_basis``
    cutoff function, ½ (1 + cos(π r_ij / r_cut))   ``representation.cutoff_fn``
    filter-generating network, W(r_ij)             ``interactions[l].filter_network``
    atom-wise layer before the convolution         ``interactions[l].in2f``
    convolution, Σ_j x_j ∘ W(r_ij)                 :class:`SchNetInteraction`
    atom-wise layers after it                      ``interactions[l].f2out``
    x_i^{l+1} = x_i^l + v_i^l                      ``representation.forward``
    contributions                                  ``output_modules[0].outnet``
    ============================================== ===============================================

    For periodic systems the paper divides the convolution by the number of neighbors,
    :math:`\frac{1}{|\mathcal N_i|} \sum_j`, which schnetpack does not (``aggregation: mean`` and ``sum``).
    The number jumps where a neighbor crosses the cutoff, and the energy with it. With ``envelope`` it is
    :math:`1 + \sum_j \phi(r_{ij})`, where φ is :func:`~asecalc_ml.graph.cutoffs.smooth_cutoff`. The 1 counts
    the atom itself: without it, an only neighbor would keep its weight until it is gone.

    Parameters
    ----------
    options : SchNet
    """

    def __init__(self, options: SchNet):
        super().__init__(options)
        self.continuous = options.envelope or options.aggregation == "sum"
        self.representation = _Representation(options)

    @property
    def interactions(self) -> nn.ModuleList:
        return self.representation.interactions


class SchNetInteraction(layers().schnet.SchNetInteraction):
    """Upstream's interaction with a sum over edges that can be compiled.

    See :mod:`asecalc_ml.graph.segments`.
    """

    def forward(self, x: Tensor, basis: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        # Continuous-filter convolution Σ_j x_j ∘ W(r_ij) between two atom-wise layers.
        filters = self.filter_network(basis) * weights[:, None]
        messages = take(self.in2f(x), edge_index[1]) * filters
        return self.f2out(segment_sum(messages, edge_index[0], x.shape[0]))


class _Representation(nn.Module):
    """The layers of schnetpack's SchNet."""

    def __init__(self, options: SchNet):
        super().__init__()
        self.aggregation, self.envelope, self.cutoff = options.aggregation, options.envelope, options.cutoff_A
        self.embedding = embedding(options)
        self.radial_basis = radial_basis(options)
        self.cutoff_fn = cutoff_function(options)
        self.interactions = nn.ModuleList(_interaction(options) for _ in range(options.n_interactions))

    def forward(self, inputs: PotentialInput) -> tuple[Tensor, None]:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        basis, weights = self.radial_basis(distances), self.cutoff_fn(distances)
        if self.aggregation == "mean":
            weights = weights / take(self.n_neighbors(inputs, distances), inputs.edge_index[0])
        x = self.embedding(inputs.atomic_numbers)
        for interaction in self.interactions:
            x = x + interaction(x, basis, weights, inputs.edge_index)
        return x, None

    def n_neighbors(self, inputs: PotentialInput, distances: Tensor) -> Tensor:
        """What the mean divides by, shape (n_atoms,); only read where an atom has neighbors."""
        if self.envelope:
            weights = smooth_cutoff(distances, self.cutoff)
            return 1 + segment_sum(weights, inputs.edge_index[0], inputs.n_atoms)
        return segment_sum(torch.ones_like(distances), inputs.edge_index[0], inputs.n_atoms)


def _interaction(options: SchNet) -> nn.Module:
    width = options.n_atom_basis
    interaction = SchNetInteraction(width, options.n_rbf, options.n_filters or width)
    return use_activation(interaction, options.activation)


__getattr__ = renamed(__name__, {"Interaction": "SchNetInteraction"})
