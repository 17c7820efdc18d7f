"""JAT: attention over neighbors from their features and distances."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_softmax, segment_sum, take
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.potentials.jat.options import JAT

HEAD_WIDTHS = (64, 32, 16, 16)


class JATPotential(Potential):
    r"""Jraph Attention Networks (JAT) of Hödl's thesis, TU Wien (2022), chapter 3.

    ========================================================= =======================================
    thesis                                                    code
    ========================================================= =======================================
    h_i⁰, one vector per element                              ``embedding``
    W_r h_i + W_s h_j, eq. (3.1)                              ``layers[t].receiver``, ``.sender``
    e_ij = aᵀ(σ(W_r h_i + W_s h_j) ‖ d_ij), fig. 3.4          ``layers[t].score``
    α_ij, softmax of e_ij over the neighbors of i, eq. (2.10) ``layers[t].attention``
    h_iᵗ⁺¹ = LN(h_iᵗ + σ(Σ_j α_ij W_s h_jᵗ)), eq. (3.3)       ``layers[t].update``, ``layers[t].norm``
    readout 64:32:16:16:1                                     ``head``
    ========================================================= =======================================

    σ is Swish-1, eq. (3.2), which torch calls SiLU. Messages go from neighbors j to centres i.

    What the thesis leaves open follows its code: no biases but the last, orthogonal matrices to start
    from, and no normalisation after the last attention layer. Where the code differs (squared distances,
    each atom among its own neighbors, heads of full width, one more Swish after the last neuron), the
    thesis is followed. Several heads share the features, and head k sees
    :math:`d_{ij} (d_{ij} / r_{cut})^{k-1}`, the k-th power of the distance in a unit in which all heads'
    are alike at the cutoff.

    The softmax of the thesis jumps where a neighbor enters. With ``envelope`` its numerators are weighted
    with the cutoff function, see :func:`asecalc_ml.graph.segments.segment_softmax`.

    Parameters
    ----------
    options : JAT
    """

    def __init__(self, options: JAT):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.continuous = options.envelope
        self.n_heads = options.n_heads
        width = options.hidden_channels
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        last = options.n_layers - 1
        self.layers = nn.ModuleList(
            JATLayer(options, nn.Identity() if t == last else nn.LayerNorm(width))
            for t in range(options.n_layers)
        )
        self.head = Head(width)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        edges = self._edges(inputs)
        h = self.embedding(inputs.atomic_numbers)
        for layer in self.layers:
            h = layer(h, edges)
        return self.head(h)

    def _edges(self, inputs: PotentialInput) -> AttentionEdges:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        # Head k sees the distance times (d / r_cut)^(k − 1).
        relative = distances / self.cutoff
        powers = torch.stack([distances * relative**k for k in range(self.n_heads)], dim=1)
        weights = smooth_cutoff(distances, self.cutoff) if self.continuous else None
        return AttentionEdges(inputs.edge_index[0], inputs.edge_index[1], powers, weights)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.layers

    @property
    def attentions(self) -> list[nn.Module]:
        return [layer.get_submodule("attention") for layer in self.layers]

    @property
    def readout(self) -> nn.Module:
        return self.head

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.head.last.weight, self.head.last.bias


class AttentionEdges(NamedTuple):
    """What every layer reads of the edges.

    Parameters
    ----------
    centres, neighbors : Tensor, shape (n_edges,), int64
        Receivers and senders of messages.
    powers : Tensor, shape (n_edges, n_heads), Å
        The distance as each head sees it.
    weights : Tensor, shape (n_edges,), or None
        Cutoff function.
    """

    centres: Tensor
    neighbors: Tensor
    powers: Tensor
    weights: Tensor | None


class JATLayer(nn.Module):
    """One round of messages, shapes (n_atoms, hidden_channels) in and out.

    Parameters
    ----------
    options : JAT
    norm : nn.Module
        What the new features pass at the end.
    """

    def __init__(self, options: JAT, norm: nn.Module):
        super().__init__()
        width = options.hidden_channels
        self.n_heads = options.n_heads
        self.receiver = nn.Linear(width, width, bias=False)
        self.sender = nn.Linear(width, width, bias=False)
        self.activation = nn.SiLU()
        self.score = Score(width // options.n_heads, options.n_heads)
        self.attention = nn.Identity()  # a name by which the weights are reached
        self.update = nn.GRUCell(width, width) if options.update == "gru" else SkipConnection()
        self.norm = norm
        for linear in (self.receiver, self.sender):
            nn.init.orthogonal_(linear.weight)

    def forward(self, h: Tensor, edges: AttentionEdges) -> Tensor:
        # W_s h_j of each edge, and σ(W_r h_i + W_s h_j).
        senders = take(self.sender(h), edges.neighbors)
        lifted = self.activation(take(self.receiver(h), edges.centres) + senders)
        # e_ij of each head, and α_ij, their softmax over the neighbors of i.
        scores = self.score(self._per_head(lifted), edges.powers)
        attention = self.attention(segment_softmax(scores, edges.centres, h.shape[0], edges.weights))
        # Σ_j α_ij W_s h_j enters the features.
        messages = (attention[:, :, None] * self._per_head(senders)).flatten(start_dim=1)
        return self.norm(self.update(segment_sum(messages, edges.centres, h.shape[0]), h))

    def _per_head(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (self.n_heads, -1))


class Score(nn.Module):
    """Attention before the softmax: each head's aᵀ on its features and its power of the distance."""

    def __init__(self, n_features: int, n_heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_heads, n_features + 1))
        nn.init.orthogonal_(self.weight)

    def forward(self, lifted: Tensor, powers: Tensor) -> Tensor:
        on_features, on_distance = self.weight[:, :-1], self.weight[:, -1]
        return (lifted * on_features).sum(dim=2) + powers * on_distance


class SkipConnection(nn.Module):
    """Activated messages added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.SiLU()

    def forward(self, messages: Tensor, h: Tensor) -> Tensor:
        return h + self.activation(messages)


class Head(nn.Module):
    """Pyramid of linear maps, layer normalisation and Swish, then one neuron with a bias."""

    def __init__(self, width: int):
        super().__init__()
        widths = (width, *HEAD_WIDTHS)
        self.hidden = nn.Sequential(*(_stage(*pair) for pair in pairwise(widths)))
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, h: Tensor) -> AtomOutput:
        features = self.hidden(h)
        return AtomOutput(features=features, contributions=self.last(features))


def _stage(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out, bias=False), nn.LayerNorm(n_out), nn.SiLU())


__getattr__ = renamed(__name__, {"Edges": "AttentionEdges"})
