"""Values of quantities without a derivative: of structures, and how far rounding changes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.segments import segment_mean
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
from asecalc_ml.model.rounding import ROUNDOFF, SAFETY, perturbed

if TYPE_CHECKING:
    from asecalc_ml.model.model import Model
    from asecalc_ml.model.potential import PotentialInput

#: Atoms of structures that are computed at once: on a CPU as many as the caches hold, on others more.
BATCH_ATOMS, BATCH_ATOMS_CPU = 2048, 256


@torch.no_grad()
def values_of(
    model: Model, graphs: Iterable[AtomGraph], uncertainty: LastLayerUncertainty | None = None
) -> list[dict[str, Tensor]]:
    """Values of each structure by the name of the quantity, each of the quantity's shape, float64.

    Parameters
    ----------
    model : Model
    graphs : iterable of AtomGraph
        Read one batch ahead. One structure each, with all pairs within the model's cutoff.
    uncertainty : LastLayerUncertainty, optional
        Adds standard deviations, as ``homo_std``.
    """
    values: list[dict[str, Tensor]] = []
    most = BATCH_ATOMS_CPU if model.device.type == "cpu" else BATCH_ATOMS
    for batch in batches_by_atoms(graphs, most, n_atoms=lambda graph: graph.n_atoms):
        together = collate([graph.to(model.device) for graph in batch])
        inputs = with_ghost(together, model.cutoff, triplet_cutoff=model.triplet_cutoff)
        output, inputs = model.outputs(inputs)
        by_name = model.by_name(model.combine(output, inputs).systems[:-1])
        if uncertainty is not None:
            by_name |= uncertainty.deviations(model, output, inputs)
        values += [{name: rows[k] for name, rows in by_name.items()} for k in range(len(batch))]
    return values


@torch.no_grad()
def rounding_of_values(model: Model, inputs: PotentialInput) -> Tensor:
    """Largest deviations of components that rounding explains, shape (n_systems, n_components).

    As in :mod:`asecalc_ml.model.rounding`: the roundoff times the sum of the absolute terms, and what the
    model makes of edge vectors that differ by the roundoff. Of a norm, both are those of its components.
    """
    roundoff, numbers = ROUNDOFF[model.dtype], inputs.atomic_numbers
    values = model(inputs).systems
    moved = [(model(other).systems - values).abs() for other in perturbed(inputs, roundoff)]
    change = torch.stack(moved).amax(dim=0).reshape(inputs.n_systems, -1)
    output = model.outputs(inputs)
    sizes = []
    for head, scale in zip(model.quantity_heads, model.scale.view(-1, model.scale.shape[-1]), strict=True):
        terms, scales = head.sizes(*output, model.potential).double(), scale[numbers].abs()
        if output[0].contributions is not None:
            pooled = head.pool(scales[:, None] * terms, inputs)
        else:
            pooled = segment_mean(scales, inputs.batch, inputs.n_systems)[:, None] * terms
        sizes.append(pooled.norm(dim=1, keepdim=True) if pooled.shape[1] != head.n_values else pooled)
    return SAFETY * (roundoff * torch.cat(sizes, dim=1) + change)
