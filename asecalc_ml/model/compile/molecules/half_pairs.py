"""Radial functions and filters, which depend on distances alone, once for the pairs (i, j) and (j, i).

The value at (j, i) equals that at (i, j) if a function does not change when the vector of the pair changes
its sign. :func:`even_nodes` finds these operations in the graph of an energy; they run on the pairs i ≤ j.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from asecalc_ml.model.compile.molecules.energy_graph import Node, dependents

aten = torch.ops.aten

#: Operations between rows of a pair that are no elementwise ones: they keep the order of rows.
ROWWISE = (
    aten.mm.default, aten.addmm.default, aten.view.default, aten._unsafe_view.default, aten.reshape.default,
    aten.unsqueeze.default, aten.expand.default, aten.slice.Tensor,
)  # fmt: skip

REDUCTIONS = (aten.sum.dim_IntList, aten.linalg_vector_norm.default)

#: Operations whose arguments hold the number of rows.
WITH_SIZES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default)


class HalfPairs:
    """Pairs i ≤ j of molecules among all pairs (i, j) in the order of system, i and j.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
        All pairs of atoms of one system.
    """

    def __init__(self, edge_index: Tensor):
        i, j = edge_index
        self.is_kept = i <= j
        self.kept = self.is_kept.nonzero()[:, 0]
        # number of the kept pair that has the same two atoms, for every pair
        n_atoms = int(edge_index.max()) + 1
        names = torch.minimum(i, j) * n_atoms + torch.maximum(i, j)
        self.of_pair = torch.searchsorted(names[self.kept], names)
        # each pair's reverse, and by how often a kept pair occurs
        reverse_names = j * n_atoms + i
        order = torch.argsort(i * n_atoms + j)
        self.reverse = order[torch.searchsorted((i * n_atoms + j)[order], reverse_names)]
        self.weight = torch.where(i == j, 0.5, 1.0)[self.kept]

    @property
    def n_kept(self) -> int:
        return len(self.kept)

    @property
    def n_pairs(self) -> int:
        return len(self.of_pair)

    def is_symmetric(self, values: Tensor) -> bool:
        """Return True if values of pairs are those of the reverse pairs."""
        return bool((values == values[self.reverse]).all())


class _OfRows(torch.autograd.Function):
    """A linear function of values of pairs, which are the rows along an axis.

    Each of the four functions below has another one as its derivative, so that a training can differentiate
    twice, and no derivative is a sum by index.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.half, ctx.axis = inputs

    @classmethod
    def vmap(
        cls, info: Any, in_dims: tuple, values: Tensor, half: HalfPairs, axis: int
    ) -> tuple[Tensor, int]:
        return cls.apply(values.movedim(in_dims[0], 0), half, axis + 1), 0


class Kept(_OfRows):
    """Values of the pairs that are kept, of values of all pairs."""

    @staticmethod
    def forward(values: Tensor, half: HalfPairs, axis: int = 0) -> Tensor:
        return values.index_select(axis, half.kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return Placed.apply(gradient, ctx.half, ctx.axis), None, None


class Placed(_OfRows):
    """Values of all pairs: those of the pairs that are kept, and zero for the others."""

    @staticmethod
    def forward(values: Tensor, half: HalfPairs, axis: int = 0) -> Tensor:
        spread = values.index_select(axis, half.of_pair)
        return torch.where(_along(axis, half.is_kept, values), spread, 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return Kept.apply(gradient, ctx.half, ctx.axis), None, None


class OfAllPairs(_OfRows):
    """Values of all pairs, of values of those that are kept."""

    @staticmethod
    def forward(values: Tensor, half: HalfPairs, axis: int = 0) -> Tensor:
        return values.index_select(axis, half.of_pair)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return OverBoth.apply(gradient, ctx.half, ctx.axis), None, None


class OverBoth(_OfRows):
    """Sums over a pair and its reverse, for the pairs that are kept."""

    @staticmethod
    def forward(values: Tensor, half: HalfPairs, axis: int = 0) -> Tensor:
        kept, reverse = half.kept, half.reverse[half.kept]
        both = values.index_select(axis, kept) + values.index_select(axis, reverse)
        # an atom with itself is its own reverse
        return both * _along(axis, half.weight.to(values), values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return OfAllPairs.apply(gradient, ctx.half, ctx.axis), None, None


def _along(axis: int, rows: Tensor, like: Tensor) -> Tensor:
    """A value for each row along an axis, with dimensions behind it so that it is broadcast."""
    return rows.view(-1, *[1] * (like.dim() - axis - 1))


def even_nodes(graph: GraphModule, vectors: Node, half: HalfPairs) -> set[Node]:
    """Operations on pairs whose value does not change when all vectors change their signs.

    Parameters
    ----------
    graph : GraphModule
        With shapes, see :func:`asecalc_ml.model.compile.molecules.energy_graph.with_shapes`.
    vectors : Node
        The argument that holds the vectors of all pairs.
    """
    moving = dependents(graph, vectors)
    even: set[Node] = set()
    odd = {vectors}
    for node in graph.graph.nodes:
        if node not in moving or node is vectors or not _is_of_pairs(node, half):
            continue
        arguments = [argument for argument in node.all_input_nodes if argument in moving]
        constants = [argument for argument in node.all_input_nodes if argument not in moving]
        if not (_is_rowwise(node) and all(is_of_rows(argument, node, half) for argument in arguments)):
            continue
        if not all(_is_even_constant(graph, constant, node, half) for constant in constants):
            continue
        n_odd = sum(argument in odd for argument in arguments)
        if not all(argument in odd or argument in even for argument in arguments):
            continue
        if n_odd == 0 or node.target is aten.linalg_vector_norm.default or _is_square(node):
            even.add(node)
        elif node.target is aten._to_copy.default:
            odd.add(node)
    return even


def with_rows(node: Node, arguments: tuple, half: HalfPairs) -> tuple:
    """Arguments of an operation, its number of rows replaced by the number of pairs that are kept."""
    if node.target not in WITH_SIZES:
        return arguments
    first, sizes, *rest = arguments
    return (first, [half.n_kept, *sizes[1:]], *rest)


def is_of_rows(argument: Node, user: Node, half: HalfPairs) -> bool:
    """Return True for an argument with a row for each pair, and not a column that is as long by chance."""
    if user.target in (aten.mm.default, aten.addmm.default):
        return argument is user.args[-2]
    same_rank = len(argument.meta.get("shape", ())) == len(user.meta["shape"])
    elementwise = torch.Tag.pointwise in getattr(user.target, "tags", ())
    return _is_of_pairs(argument, half) and (same_rank or not elementwise)


def _is_of_pairs(node: Node, half: HalfPairs) -> bool:
    shape = node.meta.get("shape", ())
    return len(shape) > 0 and shape[0] == half.n_pairs


def _is_rowwise(node: Node) -> bool:
    """Return True for an operation on the rows of pairs that mixes no two rows."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    if node.target in REDUCTIONS:
        dims = node.args[1] if node.target is aten.sum.dim_IntList else node.args[2]
        n_dims = len(node.args[0].meta["shape"])
        return bool(dims) and all(dim % n_dims != 0 for dim in dims)
    if node.target is aten.unsqueeze.default:
        return node.args[1] != 0
    if node.target is aten.expand.default and len(node.args[0].meta["shape"]) < len(node.meta["shape"]):
        return False  # repeated along a new first dimension
    if node.target in (*WITH_SIZES, aten.slice.Tensor):
        return node.args[0].meta["shape"][0] == node.meta["shape"][0]
    return (
        node.target in ROWWISE
        or torch.Tag.pointwise in node.target.tags
        or node.target is aten._to_copy.default
    )


def _is_square(node: Node) -> bool:
    if node.target is aten.mul.Tensor:
        return node.args[0] is node.args[1]
    return node.target is aten.pow.Tensor_Scalar and node.args[1] == 2


def _is_even_constant(graph: GraphModule, constant: Node, user: Node, half: HalfPairs) -> bool:
    """Return True for what is no value of pairs, and for a constant that is that of the reverse pair too."""
    if not is_of_rows(constant, user, half):
        return True
    return constant.op == "get_attr" and half.is_symmetric(getattr(graph, str(constant.target)))
