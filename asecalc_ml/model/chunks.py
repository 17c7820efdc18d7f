"""Energies and edge derivative of a large structure, computed for a few thousand edges at a time.

Automatic differentiation keeps every intermediate value of every edge until the derivative is taken: hundreds
of kB for each atom. Here a potential is a chain of stages. Between them lie a few rows of numbers for each
atom, which are kept; all that lies within a stage is computed for one chunk of atoms after the other, and
computed again when the derivative is taken (checkpointing: A. Griewank, A. Walther, ACM Trans. Math. Softw.
26, 19 (2000)). Nothing is approximated, and no atom is computed twice in one pass: a chunk needs its edges and
the rows of the atoms at their ends, which the stage before has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import AtomOutput, Neighborhood, PotentialInput, Rows, Stage

#: Edges of a chunk: few enough for their numbers to stay in a processor's cache, and enough to hide what a
#: call of torch costs.
CHUNK_EDGES = 8192


class Chunk(NamedTuple):
    """Consecutive atoms and all their edges.

    Parameters
    ----------
    atoms, edges : slice
    neighbors : Tensor, shape (n_edges,), int64
        The atom at the other end of each edge.
    neighborhood : Neighborhood
        What a stage is given of them.
    """

    atoms: slice
    edges: slice
    neighbors: Tensor
    neighborhood: Neighborhood

    def received(self, rows: Rows) -> Tensor | None:
        """What the neighbors send: the first of the rows that the stage before has left."""
        return rows[0].index_select(0, self.neighbors) if rows else None


def chunked_derivative(
    model: Model, inputs: PotentialInput, chunk_edges: int = CHUNK_EDGES
) -> EdgeDerivative:
    """The result of :func:`asecalc_ml.model.derivative.edge_derivative`, with little memory.

    Parameters
    ----------
    model : Model
        Its potential has stages.
    inputs : PotentialInput
        Edges in the order of their centres.
    chunk_edges : int
        Edges that are computed together; more where one atom has more.
    """
    stages, dtype = model.potential.stages, model.dtype
    assert stages is not None  # the caller has asked
    chunks = [*_chunks(inputs, dtype, chunk_edges)]
    # forward through all stages but the last, whose values and derivative come from one pass
    passed: list[Rows] = [()]
    for stage in stages[:-1]:
        passed.append(_forward(stage, passed[-1], chunks))
    # E is linear in the contributions: its slope needs none of their values
    slope = _slope(model, inputs, dtype)
    contributions = slope.new_empty(slope.shape)
    gradient = inputs.edge_vectors.new_zeros(inputs.edge_vectors.shape)
    slopes: Rows = (slope,)
    for stage, rows in zip(reversed(stages), reversed(passed), strict=True):
        is_last = stage is stages[-1]
        slopes = _backward(stage, rows, slopes, chunks, gradient, contributions if is_last else None)
    output = model.combine(AtomOutput(contributions, contributions), inputs)
    empty = gradient.new_empty(0)
    return EdgeDerivative(output.atoms, output.systems, gradient, empty, empty)


def _chunks(inputs: PotentialInput, dtype: torch.dtype, chunk_edges: int) -> Iterator[Chunk]:
    """Atoms with at most so many edges together, or one atom that has more."""
    centres, neighbors = inputs.edge_index
    first_edges = torch.searchsorted(
        centres.contiguous(), torch.arange(inputs.n_atoms + 1, device=centres.device)
    )
    charge, spin = inputs.charge.to(dtype)[inputs.batch], inputs.spin.to(dtype)[inputs.batch]
    starts = first_edges.tolist()
    start = 0
    while start < inputs.n_atoms:
        stop = max(
            start + 1, int(torch.searchsorted(first_edges, starts[start] + chunk_edges, right=True)) - 1
        )
        atoms, edges = slice(start, stop), slice(starts[start], starts[stop])
        neighborhood = Neighborhood(
            atomic_numbers=inputs.atomic_numbers[atoms],
            neighbor_numbers=inputs.atomic_numbers[neighbors[edges]],
            centres=centres[edges] - start,
            edge_vectors=inputs.edge_vectors[edges].to(dtype),
            charge=charge[atoms],
            spin=spin[atoms],
        )
        yield Chunk(atoms, edges, neighbors[edges], neighborhood)
        start = stop


@torch.no_grad()
def _forward(stage: Stage, rows: Rows, chunks: Sequence[Chunk]) -> Rows:
    """Rows of all atoms after a stage."""
    by_chunk = [
        stage(chunk.neighborhood, tuple(values[chunk.atoms] for values in rows), chunk.received(rows))
        for chunk in chunks
    ]
    return tuple(torch.cat(values) for values in zip(*by_chunk, strict=True))


@torch.enable_grad()
def _backward(
    stage: Stage,
    rows: Rows,
    slopes: Rows,
    chunks: Sequence[Chunk],
    gradient: Tensor,
    contributions: Tensor | None,
) -> Rows:
    """Slopes of the energy by the rows before a stage, from those by the rows after it.

    Its slopes by edge vectors are added to ``gradient``, and the values of the last stage are stored in
    ``contributions``.
    """
    before = tuple(torch.zeros_like(values) for values in rows)
    for chunk in chunks:
        vectors = chunk.neighborhood.edge_vectors.detach().requires_grad_()
        own = tuple(values[chunk.atoms].detach().requires_grad_() for values in rows)
        received = chunk.received(rows)
        received = () if received is None else (received.requires_grad_(),)
        after = stage(chunk.neighborhood._replace(edge_vectors=vectors), own, *(received or (None,)))
        by_vectors, *by_rows = _slopes(
            after, [values[chunk.atoms] for values in slopes], [vectors, *own, *received]
        )
        gradient[chunk.edges] += by_vectors
        for total, slope in zip(before, by_rows, strict=False):
            total[chunk.atoms] += slope
        if received:  # what the neighbors have sent
            before[0].index_add_(0, chunk.neighbors, by_rows[-1])
        if contributions is not None:
            contributions[chunk.atoms] = after[0].detach()
    return before


def _slopes(
    outputs: Sequence[Tensor], slopes: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Σ slope · ∂output/∂input for each input; 0 where no output depends on it."""
    dependent = [
        (output, slope) for output, slope in zip(outputs, slopes, strict=True) if output.requires_grad
    ]
    if not dependent:
        return [torch.zeros_like(x) for x in inputs]
    outputs, slopes = zip(*dependent, strict=True)
    return torch.autograd.grad(outputs, inputs, slopes, materialize_grads=True)


def _slope(model: Model, inputs: PotentialInput, dtype: torch.dtype) -> Tensor:
    """∂E/∂contribution of each atom, shape (n_atoms, 1)."""
    zeros = inputs.edge_vectors.new_zeros((inputs.n_atoms, 1), dtype=dtype)
    with torch.enable_grad():
        contributions = zeros.requires_grad_()
        energy = model.combine(AtomOutput(contributions, contributions), inputs).systems.sum()
        return torch.autograd.grad(energy, contributions)[0]
