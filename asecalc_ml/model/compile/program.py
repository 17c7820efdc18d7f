"""What is compiled: a function of tensors of fixed shapes, with calls whose results are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor
from torch.fx import GraphModule

#: Numbers that packages are told apart by: see :class:`Program`.
Shape = tuple[int, ...]

#: A model, or the members of a committee.
Models = TypeVar("Models")

#: Compiled code.
Function = Callable[[list[Tensor]], list[Tensor]]


class KnownCall(NamedTuple):
    """A call of the model in eager mode.

    Parameters
    ----------
    arguments : list of Tensor
    results : list of Tensor
    bounds : list of Tensor
        Largest deviations that rounding explains, of the results' shapes or of one element.
    """

    arguments: list[Tensor]
    results: list[Tensor]
    bounds: list[Tensor]

    def agrees_with(self, function: Function) -> bool:
        """Return True if a function gives these results; NaN agrees with nothing."""
        computed = zip(function(list(self.arguments)), self.results, self.bounds, strict=True)
        return all(bool(((value - known).abs() <= bound).all()) for value, known, bound in computed)


@dataclass(frozen=True)
class Program(Generic[Models]):
    """A function of tensors of fixed shapes.

    Parameters
    ----------
    shape : tuple of int
        For molecules, their number and the number of atoms that each has room for. For an edge list, the
        numbers of atoms, systems, edges, and triplets if the potential needs them, the ghost's included.
    size : str
        What the function computes, for messages, as in "64 atoms".
    n_edges : int
        Edges (or triplets, where there are more) that one call computes.
    arguments : sequence of Tensor
        An example.
    trace : callable
        Of the model, or of the members of a committee; gives a graph of plain tensor operations.
    known_calls : callable
        Of the same; gives calls that compiled code has to reproduce.
    options : dict
        Of the compiler.
    """

    shape: Shape
    size: str
    n_edges: int
    arguments: Sequence[Tensor]
    trace: Callable[[Models], GraphModule]
    known_calls: Callable[[Models], list[KnownCall]]
    options: dict = field(default_factory=dict)

    def plain_arguments(self) -> list[Tensor]:
        """In the layout that compiled code takes for granted."""
        return plain(self.arguments)


def as_function(graph: GraphModule) -> Function:
    """Run a graph as compiled code is run: with a list of tensors."""
    return lambda tensors: list(graph(*tensors))


def plain(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Compiled code takes the layout of its example for granted, and reads rubbish from any other."""
    return [tensor.contiguous() for tensor in tensors]


def traced(function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor]) -> GraphModule:
    """Graph of plain tensor operations of a function, without what its results do not need."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function)(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
