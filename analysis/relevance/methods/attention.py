r"""Attention weights: how much of each neighbor the layers let through.

.. math:: R^l_{ij} = \frac1H \sum_h a^l_{ijh}, \qquad R^l_j = \sum_i R^l_{ij}, \qquad
          R = \frac1L \sum_l R^l

An atom has what its neighbors pay to it. Weights are no share of the target, and the same for all targets;
architectures without a softmax may have negative ones. What atoms pay to themselves is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asecalc_ml.analysis.relevance.methods.hidden import hooks
from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.segments import segment_sum


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """Means over heads and layers; a map for each layer."""
    layers: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, weights: Tensor) -> None:
        layers.append(subject.own_edges(weights.detach().double().mean(dim=1)))

    with hooks(subject.model.potential.attentions, record):
        subject.run()
    received = [segment_sum(layer, subject.graph.edge_index[1], subject.n_atoms) for layer in layers]
    blocks = {f"layer {number}": one for number, one in enumerate(received, start=1)}
    return Found(torch.stack(received).mean(dim=0), torch.stack(layers).mean(dim=0), blocks=blocks)
