"""The stages of a potential as programs, for chunks of one shape.

The shape of a chunk does not depend on the size of a structure: what is compiled for a thousand atoms serves
for a million. Numbers of neighbors enter in steps of a factor √2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.chunks import Arguments, Chunk, ChunkShape, Slopes, StageFunctions, chunks_of, in_order
from asecalc_ml.model.compile.materialize import materialize_broadcasts
from asecalc_ml.model.compile.program import Function, KnownCall, Program, Shape, plain, traced
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import Neighborhood, PotentialInput, Rows
from asecalc_ml.model.rounding import rounding_of

#: Edges of a compiled chunk: few enough for their numbers to stay in a processor's cache. With TensorNet half
#: as many take 15 % longer, and twice as many 11 %.
COMPILED_EDGES = 2112


def atoms_of_a_chunk(n_neighbors: float, is_there: Callable[[int], bool]) -> int:
    """Number of atoms of a compiled chunk in which the edges find room.

    Parameters
    ----------
    n_neighbors : float
        Mean number of edges of an atom.
    is_there : callable
        Whether chunks of so many atoms are compiled already: then one step more or less will do, so that
        structures of one substance share them.
    """
    step = math.floor(2 * math.log2(max(1.0, n_neighbors)))
    # one atom is padding
    fitting, *alike = (math.ceil(COMPILED_EDGES / 2 ** (k / 2)) + 1 for k in (step, step + 1, step - 1))
    return next((n_atoms for n_atoms in (fitting, *alike) if is_there(n_atoms)), fitting)


def compiled_shape(n_atoms: int) -> ChunkShape:
    """Shape of compiled chunks of so many atoms."""
    return ChunkShape(n_atoms, COMPILED_EDGES, padded=True)


def n_compiled_chunks(n_edges: int) -> int:
    """Smallest number of compiled chunks that have room for so many edges."""
    return math.ceil(n_edges / COMPILED_EDGES)


def program_shape(shape: ChunkShape, stage: int = 0, backward: bool = True) -> Shape:
    """Shape of a program: its chunks, its stage, and whether it goes backward.

    A chunk belongs to no system: its number of systems is 0.
    """
    return shape.n_atoms, 0, shape.n_edges, stage, int(backward)


def fits_compiled_chunks(inputs: PotentialInput) -> bool:
    """True if no atom has more edges than a compiled chunk; the ghost, which is in none, does not count."""
    n_edges = inputs.edge_index[0].bincount(minlength=inputs.n_atoms)[:-1]
    return int(n_edges.max()) <= COMPILED_EDGES


@dataclass(frozen=True)
class StagePrograms:
    """A stage forward and backward; the last one has no pass forward alone."""

    forward: Program | None
    backward: Program

    @property
    def programs(self) -> list[Program]:
        """Those that there are."""
        return [program for program in (self.forward, self.backward) if program is not None]

    def functions(self, eager: StageFunctions, run: Callable[[Program], Function | None]) -> StageFunctions:
        """Compiled functions, or eager ones where there is none.

        Parameters
        ----------
        eager : StageFunctions
        run : callable
            Gives a program's compiled function, if it has one.
        """
        forward = None if self.forward is None else run(self.forward)
        backward = run(self.backward)
        return StageFunctions(
            eager.forward if forward is None else partial(_run_forward, forward),
            eager.backward if backward is None else partial(_run_backward, backward),
            is_compiled=not (forward is backward is None),
        )


def stage_programs(model: Model, inputs: PotentialInput, shape: ChunkShape) -> list[StagePrograms]:
    """The programs of all stages of a model.

    Parameters
    ----------
    model : Model
    inputs : PotentialInput
        Its first chunk is the example, as if its atoms were all there are.
    shape : ChunkShape
    """
    chunk = _alone(next(iter(chunks_of(in_order(inputs)[1], model, shape))))
    functions = StageFunctions.of(model.potential.stages)
    programs: list[StagePrograms] = []
    rows: Rows = ()
    for number, stage in enumerate(functions):
        arguments = chunk.arguments(rows)
        with torch.no_grad():
            slopes = rows = stage.forward(arguments)
        n_rows, tensors = len(arguments[1]), _flat(arguments)
        is_last = stage is functions[-1]
        backward = _program(_backward_of, number, n_rows, shape, [*tensors, *slopes])
        forward = None if is_last else _program(_forward_of, number, n_rows, shape, tensors)
        programs.append(StagePrograms(forward, backward))
    return programs


def _program(
    function_of: Callable, number: int, n_rows: int, shape: ChunkShape, tensors: Sequence[Tensor]
) -> Program:
    return Program(
        program_shape(shape, number, function_of is _backward_of),
        f"chunks of {shape.n_atoms - 1} atoms",  # one is padding
        shape.n_edges,
        plain(tensors),
        lambda model: _trace(function_of(model, number, n_rows), tensors),
        lambda model: [_known_call(function_of(model, number, n_rows), tensors)],
    )


def _trace(function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]) -> GraphModule:
    return materialize_broadcasts(traced(function, tensors), tensors)


def _known_call(function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]) -> KnownCall:
    with torch.no_grad():
        return KnownCall(list(tensors), list(function(*tensors)), rounding_of(function, tensors))


def _forward_of(model: Model, number: int, n_rows: int) -> Callable[..., list[Tensor]]:
    """A stage as a function of tensors alone."""
    stage = StageFunctions.of(model.potential.stages)[number]
    return lambda *tensors: list(stage.forward(_nested(tensors, n_rows)[0]))


def _backward_of(model: Model, number: int, n_rows: int) -> Callable[..., list[Tensor]]:
    """A stage's vector-Jacobian product as a function of tensors alone."""
    stage = StageFunctions.of(model.potential.stages)[number]

    def function(*tensors: Tensor) -> list[Tensor]:
        values, slopes = stage.backward(*_nested(tensors, n_rows))
        received = () if slopes.received is None else (slopes.received,)
        return [slopes.edge_vectors, *slopes.rows, *received, *values]

    return function


def _run_forward(function: Function, arguments: Arguments) -> Rows:
    return tuple(function(plain(_flat(arguments))))


def _run_backward(function: Function, arguments: Arguments, slopes: Rows) -> tuple[Rows, Slopes]:
    by_vectors, *results = function(plain([*_flat(arguments), *slopes]))
    n_rows = len(arguments[1])
    by_rows, rest = results[:n_rows], results[n_rows:]
    by_received = None if arguments[2] is None else rest.pop(0)
    return tuple(rest), Slopes(by_vectors, tuple(by_rows), by_received)


def _flat(arguments: Arguments) -> list[Tensor]:
    neighborhood, rows, received = arguments
    return [*neighborhood, *rows, *(() if received is None else (received,))]


def _nested(tensors: Sequence[Tensor], n_rows: int) -> tuple[Arguments, Rows]:
    """Arguments of a stage, and slopes by its rows, from tensors in order; the first stage has no rows."""
    n_fields = len(Neighborhood._fields)
    neighborhood, rest = Neighborhood(*tensors[:n_fields]), tensors[n_fields:]
    rows, rest = tuple(rest[:n_rows]), rest[n_rows:]
    received, slopes = (rest[0], rest[1:]) if rows else (None, rest)
    return (neighborhood, rows, received), tuple(slopes)


def _alone(chunk: Chunk) -> Chunk:
    """A chunk whose neighbors are among its own atoms, which has rows for itself."""
    n_atoms = len(chunk.neighborhood.atomic_numbers)
    return chunk._replace(atoms=slice(0, n_atoms), neighbors=chunk.neighbors % n_atoms)
