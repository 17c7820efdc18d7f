r"""Grad-CAM of each interaction block: its features, weighted with the mean slope of the target.

.. math:: \alpha^l_k = \frac1N \sum_i \frac{\partial T}{\partial A^l_{ik}}, \qquad
          R^l_i = \sum_k \alpha^l_k A^l_{ik}, \qquad R_i = \frac1L \sum_l R^l_i

A^l is what block l puts out, scalars, vectors and tensors alike: α turns with the molecule as A does, and R
does not. The ReLU of the paper keeps what speaks for a class; an energy is no class, and the sign is kept.
Where the features of a block belong to edges, an edge's part goes to its two atoms. Selvaraju et al.,
arXiv:1610.02391, equations (1) and (2); for graphs Pope et al., CVPR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asecalc_ml.analysis.relevance.methods.hidden import run_with_blocks
from asecalc_ml.analysis.relevance.methods.method_output import Found
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import Subject, gradients
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.segments import segment_mean


def explain(subject: Subject, target: Target, options: RelevanceOptions) -> Found:
    """A map for each block, and their mean."""
    run, outputs = run_with_blocks(subject)
    value = target.value(run)
    maps = {}
    for number, tensors in enumerate(outputs, start=1):
        slopes = gradients(value, tensors)
        parts = [_weighted(subject, *pair) for pair in zip(tensors, slopes, strict=True)]
        maps[f"block {number}"] = sum(parts)
    return Found(torch.stack(list(maps.values())).mean(dim=0), blocks=maps)


def _weighted(subject: Subject, features: Tensor, slopes: Tensor) -> Tensor:
    """Features times the mean slopes of their structure, for each atom."""
    inputs = subject.inputs
    features, slopes = features.detach().flatten(1), slopes.flatten(1)
    if len(features) == subject.n_atoms + 1:
        alphas = segment_mean(slopes, inputs.batch, inputs.n_systems)
        return (alphas[inputs.batch] * features).sum(dim=1)[:-1]
    systems = inputs.batch[inputs.edge_index[0]]
    sums = torch.zeros(inputs.n_systems, slopes.shape[1], dtype=slopes.dtype, device=slopes.device)
    counts = torch.bincount(systems, minlength=inputs.n_systems).clamp(min=1)
    alphas = sums.index_add(0, systems, slopes) / counts[:, None]
    return subject.halves(subject.own_edges((alphas[systems] * features).sum(dim=1)))
