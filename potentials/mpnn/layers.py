"""Messages and attention, on torch-geometric's layers, and recurrent units.

The recurrent units are written in plain operations, so that every linear map and activation is a module.
Their equations and the order of their gates are those of torch's GRUCell and LSTMCell, whose fused
kernels on a GPU hide both, and are no plain operations to a tracer.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import NNConv, TransformerConv

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.segments import segment_softmax, segment_sum, take
from asecalc_ml.potentials.shared.geometric import OwnEdges
from asecalc_ml.potentials.shared.layers import SharedPass


class MessageEdges(NamedTuple):
    """What the layers see of a structure.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
        Row 0 the centre, which collects messages, row 1 the neighbor.
    features : Tensor, shape (n_edges, n_features)
    matrices : Tensor, shape (n_edges, width, width)
        What the edge network makes of the features.
    weights : Tensor, shape (n_edges,), or None
        Cutoff function; None where the paper is reproduced.
    """

    edge_index: Tensor
    features: Tensor
    matrices: Tensor
    weights: Tensor | None


class Messages(OwnEdges, NNConv):
    """Edge network messages m_i = Σ_j A(e_ij) h_j, where A is a network that makes matrices of edges.

    Parameters and their names are those of torch-geometric's ``NNConv``, without its root weight and
    bias, which the paper does not have. Its matrices are transposed: h_j stands on their left.
    """

    def __init__(self, width: int, n_edge_features: int, n_hidden: int):
        network = nn.Sequential(
            nn.Linear(n_edge_features, n_hidden), nn.SiLU(), nn.Linear(n_hidden, width * width)
        )
        super().__init__(width, width, network, root_weight=False, bias=False)

    def matrices(self, features: Tensor) -> Tensor:
        """Of each edge, the same in every pass, shape (n_edges, width, width)."""
        return self.nn(features).view(-1, self.in_channels, self.out_channels)

    def forward(self, x: Tensor, edges: MessageEdges) -> Tensor:
        centres, neighbors = edges.edge_index
        # A(e_ij) h_j of each edge, weighted with the cutoff function, summed over the neighbors.
        messages = torch.matmul(take(x, neighbors)[:, None, :], edges.matrices)[:, 0]
        if edges.weights is not None:
            messages = edges.weights[:, None] * messages
        return segment_sum(messages, centres, x.shape[0])


class MessageUpdate(nn.Module):
    """One pass, eqs. (1) and (2): messages of the neighbors, then h_i ← GRU(h_i, m_i)."""

    def __init__(self, width: int, n_edge_features: int, n_hidden: int):
        super().__init__()
        self.messages = Messages(width, n_edge_features, n_hidden)
        self.update = GatedRecurrentUnit(width)

    def forward(self, x: Tensor, edges: MessageEdges) -> Tensor:
        return self.update(self.messages(x, edges), x)


class GatedAttention(OwnEdges, TransformerConv):
    r"""Attention over the neighbors with a gated residual, arXiv:2009.03509.

    The coefficients α are :func:`asecalc_ml.graph.segments.segment_softmax`, weighted with the cutoff
    function, of :math:`q_i \cdot (k_j + e_{ij}) / \sqrt d`; what is gathered is
    :math:`\sum_j \alpha_{ij} (v_j + e_{ij})`. Parameters and their names are those of torch-geometric's
    ``TransformerConv`` with ``beta=True``. The weights pass through the module ``attention``.
    """

    def __init__(self, width: int, n_heads: int, n_edge_features: int):
        super().__init__(width, width // n_heads, heads=n_heads, beta=True, edge_dim=n_edge_features)
        self.attention, self.gate = nn.Identity(), nn.Sigmoid()

    def forward(self, x: Tensor, edges: MessageEdges) -> Tensor:
        centres, neighbors = edges.edge_index
        # Queries of the centre; keys and values of the neighbor, each with the edge's own part.
        bonds = self._by_head(self.lin_edge(edges.features))
        queries = self._by_head(take(self.lin_query(x), centres))
        keys = self._by_head(take(self.lin_key(x), neighbors)) + bonds
        values = self._by_head(take(self.lin_value(x), neighbors)) + bonds
        # α_ij, the softmax of q_i · k_ij / √d over the neighbors, and Σ_j α_ij v_ij.
        scores = (queries * keys).sum(dim=-1) / math.sqrt(self.out_channels)
        weights = self.attention(segment_softmax(scores, centres, x.shape[0], edges.weights))
        gathered = segment_sum(weights[:, :, None] * values, centres, x.shape[0])
        return self._mixed(self.lin_skip(x), gathered.flatten(1))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(-1, self.heads, self.out_channels)

    def _mixed(self, own: Tensor, gathered: Tensor) -> Tensor:
        """The gated residual β r + (1 − β) m of what the atom has and what it gathered."""
        beta = self.gate(self.lin_beta(torch.cat([gathered, own, gathered - own], dim=-1)))
        return beta * own + (1 - beta) * gathered


class AttentionPass(SharedPass):
    """A pass through the shared layer, then attention with weights of its own."""

    def __init__(self, width: int, n_heads: int, n_edge_features: int):
        super().__init__()
        self.attention_layer = GatedAttention(width, n_heads, n_edge_features)

    def forward(self, x: Tensor, layer: nn.Module, *edges: Any) -> Tensor:
        return self.attention_layer(super().forward(x, layer, *edges), *edges)


class GatedRecurrentUnit(nn.Module):
    """GRU of Cho et al., arXiv:1406.1078: a state that takes in a message.

    Parameters
    ----------
    width : int
        Of message and state.
    """

    def __init__(self, width: int):
        super().__init__()
        self.of_message, self.of_state = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.gate, self.activation = nn.Sigmoid(), nn.Tanh()

    def forward(self, message: Tensor, state: Tensor) -> Tensor:
        # Parts of the reset gate r, the update gate z and the new state n.
        message_reset, message_update, message_new = self.of_message(message).chunk(3, dim=1)
        state_reset, state_update, state_new = self.of_state(state).chunk(3, dim=1)
        reset = self.gate(message_reset + state_reset)
        update = self.gate(message_update + state_update)
        new = self.activation(message_new + reset * state_new)
        # h' = (1 − z) n + z h
        return (1 - update) * new + update * state


class LongShortTermMemory(nn.Module):
    """LSTM of Hochreiter and Schmidhuber with forget gate: state and memory take in an input.

    Parameters
    ----------
    n_inputs, width : int
        Of the input; of state and memory.
    """

    def __init__(self, n_inputs: int, width: int):
        super().__init__()
        self.of_input, self.of_state = nn.Linear(n_inputs, 4 * width), nn.Linear(width, 4 * width)
        self.gate, self.activation = nn.Sigmoid(), nn.Tanh()

    def forward(self, given: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        enter, keep, new, leave = (self.of_input(given) + self.of_state(state)).chunk(4, dim=1)
        memory = self.gate(keep) * memory + self.gate(enter) * self.activation(new)
        return self.gate(leave) * self.activation(memory), memory


__getattr__ = renamed(__name__, {"Edges": "MessageEdges", "Attention": "GatedAttention"})
