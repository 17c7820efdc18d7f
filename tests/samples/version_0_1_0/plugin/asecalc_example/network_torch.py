"""The network itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asecalc_example.network import ExampleNetwork
from asecalc_ml.analysis.relevance.rules import register_rule
from asecalc_ml.cutoffs import smooth_cutoff
from asecalc_ml.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.segments import segment_sum, take

register_rule(torch.ops.aten.erf.default, "elementwise")  # an activation that asecalc-ml has no rule for


class Interaction(nn.Module):
    """One message-passing block: h_i ← h_i + A erf(Σ_j φ(r_ij) · W h_j)."""

    def __init__(self, n_features: int, n_rbf: int):
        super().__init__()
        self.filters = nn.Linear(n_rbf, n_features, bias=False)
        self.source = nn.Linear(n_features, n_features, bias=False)
        self.update = nn.Linear(n_features, n_features)

    def forward(self, h: Tensor, *, edge_index: Tensor, radial: Tensor) -> dict[str, Tensor]:
        """Features of atoms (n_atoms, n_features) and messages (n_edges, n_features)."""
        i, j = edge_index
        messages = self.filters(radial) * take(self.source(h), j)
        return {"h": h + self.update(torch.erf(segment_sum(messages, i, len(h)))), "messages": messages}


class ExamplePotential(Potential):
    """A sum of contributions of atoms, from their last features."""

    def __init__(self, options: ExampleNetwork):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.embedding = nn.Embedding(options.max_atomic_number + 1, options.hidden_channels)
        self.blocks = nn.ModuleList(
            Interaction(options.hidden_channels, options.n_rbf) for _ in range(options.n_layers)
        )
        self.last = nn.Linear(options.hidden_channels, 1)
        self.register_buffer("centers", torch.linspace(0, options.cutoff_A, options.n_rbf))
        self.width = options.cutoff_A / options.n_rbf

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        """Contributions and features of each atom."""
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)[:, None]
        gaussians = torch.exp(-(((distances - self.centers) / self.width) ** 2) / 2)
        radial = gaussians * smooth_cutoff(distances, self.cutoff)
        h = self.embedding(inputs.atomic_numbers)
        for block in self.blocks:
            h = block(h=h, edge_index=inputs.edge_index, radial=radial)["h"]
        return AtomOutput(features=h, contributions=self.last(h))

    @property
    def embeddings(self) -> list[nn.Module]:
        """The table of elements."""
        return [self.embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        """The blocks."""
        return self.blocks

    @property
    def readout(self) -> nn.Module:
        """The last linear map."""
        return self.last

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        """Its weight and bias."""
        return self.last.weight, self.last.bias
