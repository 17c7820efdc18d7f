r"""Methods that read what the network computes on its way: contributions, CAM, Grad-CAM, attention weights.

**Exact contributions** are what the readout itself gives each atom:

.. math:: R_i = s_{Z_i} c_i + v_i, \qquad \sum_i R_i + \sum_i e_{Z_i} = E

with scale s, contribution c, electrostatic energy v and reference energy e of
:class:`asecalc_ml.model.model.Model`. Contributions hold the energy of bonds in a split between their atoms
that training does not decide.

**Class activation maps** (CAM) are features of an atom, weighted as the last linear map does:

.. math:: R_i = s_{Z_i} \, w \cdot f_i, \qquad \sum_i R_i + \sum_i (s_{Z_i} b + v_i + e_{Z_i}) = E

These are the contributions without the bias b of the last map (and without electrostatic energies v): the
same where there is no bias. They are also gradient × input on the features f, since ∂E/∂f_i = s w.
Zhou, Khosla, Lapedriza, Oliva and Torralba, arXiv:1512.04150; for graphs Pope et al., CVPR 2019.

**Grad-CAM** takes the features of each interaction block, weighted with the mean slope of the target:

.. math:: \alpha^l_k = \frac1N \sum_i \frac{\partial T}{\partial A^l_{ik}}, \qquad
          R^l_i = \sum_k \alpha^l_k A^l_{ik}, \qquad R_i = \frac1L \sum_l R^l_i

A^l is what block l puts out, scalars, vectors and tensors alike: α turns with the molecule as A does, and R
does not. The ReLU of the paper keeps what speaks for a class; an energy is no class, and the sign is kept.
Where the features of a block belong to edges, an edge's part goes to its two atoms. Selvaraju et al.,
arXiv:1610.02391, equations (1) and (2); for graphs Pope et al., CVPR 2019.

**Attention weights** are how much of each neighbor the layers let through:

.. math:: R^l_{ij} = \frac1H \sum_h a^l_{ijh}, \qquad R^l_j = \sum_i R^l_{ij}, \qquad
          R = \frac1L \sum_l R^l

An atom has what its neighbors pay to it. Weights are no share of the target, and the same for all targets;
architectures without a softmax may have negative ones. What atoms pay to themselves is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asecalc_ml.analysis.relevance.methods.hidden import hooks, run_with_blocks
from asecalc_ml.analysis.relevance.methods.method_output import MethodOutput
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, gradients
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.graph.segments import segment_mean, segment_sum


def contributions(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Shares of each atom without its reference energy, which is absorbed."""
    run = subject.run()
    # s c + v: the model's values of atoms less their reference energies; the last atom is padding
    shares = run.output.atoms[:-1] * subject.weights - subject.shifts
    atoms = target.shares(shares, run)
    references = target.value(run) - subject.per_system(atoms)
    return MethodOutput(atoms.detach(), absorbed={"reference energies": references.detach()})


def class_activation_map(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Weighted features; biases and what is no feature's are absorbed."""
    run = subject.run()
    weight, bias = (part[0].double() for part in subject.model.potential.last_linear)
    features = run.output.potential.features[:-1].double()
    # s w·f of each atom, and Σ s b of each structure
    atoms = target.shares(subject.scales * (features @ weight), run)
    biases = subject.per_system(target.shares(subject.scales * bias + 0 * features[:, 0], run))
    # what is left: electrostatic and reference energies
    rest = target.value(run) - subject.per_system(atoms) - biases
    absorbed = {"biases": biases.detach(), "reference energies and electrostatics": rest.detach()}
    return MethodOutput(atoms.detach(), absorbed=absorbed)


def grad_cam(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """A map for each block, and their mean."""
    run, outputs = run_with_blocks(subject)
    value = target.value(run)
    maps = {}
    for number, tensors in enumerate(outputs, start=1):
        slopes = gradients(value, tensors)
        parts = [_weighted(subject, *pair) for pair in zip(tensors, slopes, strict=True)]
        maps[f"block {number}"] = sum(parts)
    return MethodOutput(torch.stack(list(maps.values())).mean(dim=0), blocks=maps)


def _weighted(subject: ExplainedBatch, features: Tensor, slopes: Tensor) -> Tensor:
    """Features times the mean slopes of their structure, for each atom."""
    inputs = subject.inputs
    features, slopes = features.detach().flatten(1), slopes.flatten(1)
    if len(features) == subject.n_atoms + 1:
        # α_k of each structure, a mean over its atoms, then Σ_k α_k A_ik
        alphas = segment_mean(slopes, inputs.batch, inputs.n_systems)
        return (alphas[inputs.batch] * features).sum(dim=1)[:-1]
    # the same over edges: α_k is a mean over the edges of a structure, and an edge's part goes to its atoms
    systems = inputs.batch[inputs.edge_index[0]]
    sums = torch.zeros(inputs.n_systems, slopes.shape[1], dtype=slopes.dtype, device=slopes.device)
    counts = torch.bincount(systems, minlength=inputs.n_systems).clamp(min=1)
    alphas = sums.index_add(0, systems, slopes) / counts[:, None]
    return subject.halves(subject.own_edges((alphas[systems] * features).sum(dim=1)))


def attention(subject: ExplainedBatch, target: Target, options: RelevanceOptions) -> MethodOutput:
    """Means over heads and layers; a map for each layer."""
    layers: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple, weights: Tensor) -> None:
        layers.append(subject.own_edges(weights.detach().double().mean(dim=1)))  # over heads

    with hooks(subject.model.potential.attentions, record):
        subject.run()
    # Σ_i a_ij: what each atom is paid as the neighbor, in every layer
    received = [segment_sum(layer, subject.graph.edge_index[1], subject.n_atoms) for layer in layers]
    blocks = {f"layer {number}": atoms for number, atoms in enumerate(received, start=1)}
    return MethodOutput(torch.stack(received).mean(dim=0), torch.stack(layers).mean(dim=0), blocks=blocks)
