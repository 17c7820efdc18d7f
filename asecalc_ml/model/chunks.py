"""Energies and edge derivative of a large structure, computed for a few thousand edges at a time.

Automatic differentiation keeps every intermediate value of every edge until the derivative is taken: hundreds
of kB for each atom. Here a potential is a chain of stages. Between them lie a few rows of numbers for each
atom, which are kept; all that lies within a stage is computed for one chunk of atoms after the other, and
computed again when the derivative is taken (checkpointing: A. Griewank, A. Walther, ACM Trans. Math. Softw.
26, 19 (2000)). Nothing is approximated, and no atom is computed twice in one pass: a chunk needs its edges
and the rows of the atoms at their ends, which the stage before has left.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from asecalc_ml.graph.padding import ghost_vector
from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import AtomOutput, Neighborhood, PotentialInput, Rows, Stage

#: Edges of a chunk that is not compiled: enough to hide what a call of torch costs, and no more.
CHUNK_EDGES = 8192


class ChunkShape(NamedTuple):
    """Largest numbers of atoms and edges of a chunk.

    Parameters
    ----------
    n_atoms, n_edges : int
    padded : bool
        Whether smaller chunks are padded to these numbers, as compiled code needs it.
    """

    n_atoms: int
    n_edges: int
    padded: bool = False


class Chunk(NamedTuple):
    """Consecutive atoms and all their edges.

    Parameters
    ----------
    atoms, edges : slice
    neighbors : Tensor, shape (n_edges,), int64
        The atom at the other end of each edge; 0 for padding.
    neighborhood : Neighborhood
        What a stage is given of them. Edges that are padding belong to the last of the atoms, which is
        padding too.
    """

    atoms: slice
    edges: slice
    neighbors: Tensor
    neighborhood: Neighborhood

    def of(self, values: Tensor) -> Tensor:
        """The rows of these atoms, zero for padding."""
        return _padded(values[self.atoms], len(self.neighborhood.atomic_numbers))

    def arguments(self, rows: Rows) -> Arguments:
        """Arguments of a stage: the neighborhood, the rows of its atoms, and what their neighbors send."""
        received = rows[0].index_select(0, self.neighbors) if rows else None
        return self.neighborhood, tuple(map(self.of, rows)), received


#: Of a stage: the neighborhood, its atoms' rows, and what the neighbors send.
Arguments: TypeAlias = tuple[Neighborhood, Rows, Tensor | None]


class Slopes(NamedTuple):
    """Slopes of the energy by what a stage is given."""

    edge_vectors: Tensor
    rows: Rows
    received: Tensor | None


@dataclass(frozen=True)
class StageFunctions:
    """A stage forward and backward.

    Parameters
    ----------
    forward : callable
        The rows after the stage.
    backward : callable
        Slopes of the energy by what the stage is given, from those by the rows after it; and these rows, for
        the last stage, which needs no other pass.
    is_compiled : bool
        True if either is compiled, for chunks of one shape.
    """

    forward: Callable[[Arguments], Rows]
    backward: Callable[[Arguments, Rows], tuple[Rows, Slopes]]
    is_compiled: bool = False

    @classmethod
    def of(cls, stages: Sequence[Stage] | None) -> list[StageFunctions]:
        """The functions of a potential's stages, as torch runs them."""
        stages = stages or ()
        return [
            cls(partial(_rows, stage), partial(_vector_jacobian_product, stage, stage is stages[-1]))
            for stage in stages
        ]


def _rows(stage: Stage, arguments: Arguments) -> Rows:
    return stage(*arguments)


def _vector_jacobian_product(
    stage: Stage, is_last: bool, arguments: Arguments, slopes: Rows
) -> tuple[Rows, Slopes]:
    neighborhood, rows, received = arguments
    vectors = neighborhood.edge_vectors.detach().requires_grad_()
    rows = tuple(values.detach().requires_grad_() for values in rows)
    sent = () if received is None else (received.detach().requires_grad_(),)
    with torch.enable_grad():
        after = stage(neighborhood._replace(edge_vectors=vectors), rows, *(sent or (None,)))
        by_vectors, *by_rows = _slopes(after, slopes, [vectors, *rows, *sent])
    by_received = by_rows.pop() if sent else None
    values = tuple(values.detach() for values in after) if is_last else ()
    return values, Slopes(by_vectors, tuple(by_rows), by_received)


def takes_chunks(model: Model) -> bool:
    """Return True if large structures are computed in chunks, on a CPU; a GPU would wait for each of them."""
    return model.potential.stages is not None and model.device.type == "cpu"


def chunked_derivative(
    model: Model,
    inputs: PotentialInput,
    shape: ChunkShape | None = None,
    functions: Sequence[StageFunctions] | None = None,
) -> EdgeDerivative:
    """The result of :func:`asecalc_ml.model.derivative.edge_derivative`, with little memory.

    Parameters
    ----------
    model : Model
        Its potential has stages.
    inputs : PotentialInput
        Quickest with edges in the order of their centres.
    shape : ChunkShape, optional
        Of the chunks; :data:`CHUNK_EDGES` and no padding if not given. One atom may have more edges if chunks
        are not padded.
    functions : sequence of StageFunctions, optional
        Those of the potential's stages, compiled for this shape.
    """
    centres = inputs.edge_index[0]
    if bool((centres.diff() < 0).any()):  # pairs beyond the cutoff have been sent to the ghost
        order, ordered = in_order(inputs)
        derivative = chunked_derivative(model, ordered, shape, functions)
        gradient = torch.empty_like(derivative.gradient)
        gradient[order] = derivative.gradient
        return derivative._replace(gradient=gradient)
    stages = model.potential.stages
    assert stages is not None  # the caller has asked
    functions = functions or StageFunctions.of(stages)
    chunks = [*chunks_of(inputs, model, shape or ChunkShape(inputs.n_atoms, CHUNK_EDGES))]
    # forward through all stages but the last, whose values and derivative come from one pass
    passed: list[Rows] = [()]
    for stage in functions[:-1]:
        passed.append(_forward(stage, passed[-1], chunks))
    # E is linear in the contributions: its slope needs none of their values
    gradient = inputs.edge_vectors.new_zeros(inputs.edge_vectors.shape)
    slopes: Rows = (_slope(model, inputs),)
    contributions = torch.zeros_like(slopes[0])
    last: Tensor | None = contributions
    for stage, rows in zip(reversed(functions), reversed(passed), strict=True):
        slopes = _backward(stage, rows, slopes, chunks, gradient, last)
        last = None
    output = model.combine(AtomOutput(contributions, contributions), inputs)
    empty = gradient.new_empty(0)
    return EdgeDerivative(output.atoms, output.systems, gradient, empty, empty)


def in_order(inputs: PotentialInput) -> tuple[Tensor, PotentialInput]:
    """The order of edges by their centres, and the same structure with its edges in this order."""
    order = inputs.edge_index[0].argsort(stable=True)
    vectors = inputs.edge_vectors[order]
    return order, inputs._replace(edge_index=inputs.edge_index[:, order], edge_vectors=vectors)


def chunks_of(inputs: PotentialInput, model: Model, shape: ChunkShape) -> Iterator[Chunk]:
    """Group as many atoms as the shape allows; an atom with more edges is a chunk of its own.

    The ghost, whose output nobody reads, is in none.
    """
    centres, neighbors = inputs.edge_index
    n_atoms, dtype, device = inputs.n_atoms - 1, model.dtype, centres.device
    firsts = torch.searchsorted(centres.contiguous(), torch.arange(n_atoms + 1, device=device)).tolist()
    ghost = ghost_vector(inputs.edge_vectors, model.cutoff)
    most_atoms = shape.n_atoms - shape.padded  # the last atom of a padded chunk is padding
    start = 0
    while start < n_atoms:
        stop = bisect_right(firsts, firsts[start] + shape.n_edges) - 1
        stop = max(start + 1, min(stop, start + most_atoms, n_atoms))
        atoms, edges = slice(start, stop), slice(firsts[start], firsts[stop])
        size = shape if shape.padded else ChunkShape(stop - start, edges.stop - edges.start)
        element, systems = int(inputs.atomic_numbers[start]), inputs.batch[atoms]
        neighborhood = Neighborhood(
            atomic_numbers=_padded(inputs.atomic_numbers[atoms], size.n_atoms, element),
            neighbor_numbers=_padded(inputs.atomic_numbers[neighbors[edges]], size.n_edges, element),
            centres=_padded(centres[edges] - start, size.n_edges, size.n_atoms - 1),
            edge_vectors=_padded(inputs.edge_vectors[edges], size.n_edges, ghost).to(dtype),
            charge=_padded(inputs.charge[systems].to(dtype), size.n_atoms),
            spin=_padded(inputs.spin[systems].to(dtype), size.n_atoms),
        )
        yield Chunk(atoms, edges, _padded(neighbors[edges], size.n_edges), neighborhood)
        start = stop


def _padded(values: Tensor, n: int, padding: Tensor | float = 0) -> Tensor:
    """Values followed by as much padding as makes n of them."""
    n_missing = n - len(values)
    if n_missing <= 0:
        return values
    rows = values.new_empty((n_missing, *values.shape[1:]))
    rows[:] = padding
    return torch.cat([values, rows])


@torch.no_grad()
def _forward(stage: StageFunctions, rows: Rows, chunks: Sequence[Chunk]) -> Rows:
    """Rows of all atoms after a stage."""
    after: Rows = ()
    n_atoms = chunks[-1].atoms.stop
    for chunk in chunks:
        values = stage.forward(chunk.arguments(rows))
        after = after or tuple(value.new_empty((n_atoms, *value.shape[1:])) for value in values)
        for table, value in zip(after, values, strict=True):
            table[chunk.atoms] = value[: chunk.atoms.stop - chunk.atoms.start]
    return after


@torch.no_grad()
def _backward(
    stage: StageFunctions,
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
        n_atoms, n_edges = chunk.atoms.stop - chunk.atoms.start, chunk.edges.stop - chunk.edges.start
        values, by = stage.backward(chunk.arguments(rows), tuple(map(chunk.of, slopes)))
        if contributions is not None:
            contributions[chunk.atoms] = values[0][:n_atoms]
        gradient[chunk.edges] += by.edge_vectors[:n_edges]
        for total, slope in zip(before, by.rows, strict=True):
            total[chunk.atoms] += slope[:n_atoms]
        if by.received is not None:  # what the neighbors have sent; 0 for padding
            before[0].index_add_(0, chunk.neighbors, by.received)
    return before


def _slopes(
    outputs: Sequence[Tensor], slopes: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Σ slope · ∂output/∂input for each input; 0 where no output depends on it."""
    dependent = [pair for pair in zip(outputs, slopes, strict=True) if pair[0].requires_grad]
    if not dependent:
        return [torch.zeros_like(values) for values in inputs]
    outputs, slopes = zip(*dependent, strict=True)
    return torch.autograd.grad(outputs, inputs, slopes, materialize_grads=True)


def _slope(model: Model, inputs: PotentialInput) -> Tensor:
    """∂E/∂contribution of each atom, shape (n_atoms, 1)."""
    with torch.enable_grad():
        contributions = inputs.edge_vectors.new_zeros((inputs.n_atoms, 1), dtype=model.dtype).requires_grad_()
        energy = model.combine(AtomOutput(contributions, contributions), inputs).systems.sum()
        return torch.autograd.grad(energy, contributions)[0]
