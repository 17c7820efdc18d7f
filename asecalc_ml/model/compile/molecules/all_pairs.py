"""Sums over neighbors as sums over an axis, where every atom of a molecule is paired with every other.

An edge list needs reads by index and sums by index, which no compiler fuses with the operations around them.
With all pairs (i, j) of molecules of one size, in the order of system, i and j, the list is an array of shape
(n_systems, n_atoms, n_atoms): features of centres and of neighbors are broadcast along an axis, and the sum
of messages is a sum along an axis.

:func:`find_places` reads from the graph of an energy where its indices lead: each index is evaluated twice,
once with the true numbers and once with a number that is unique to each edge. An index that it cannot explain
raises :class:`NotDenseError`, and the architecture runs on the edge list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, map_arg

from asecalc_ml.model.compile.molecules.energy_graph import Node, dependents
from asecalc_ml.model.compile.molecules.half_pairs import (
    HalfPairs,
    Kept,
    OfAllPairs,
    even_nodes,
    is_of_rows,
    with_rows,
)
from asecalc_ml.model.compile.molecules.matrix_products import JointProduct, joint_products

aten = torch.ops.aten

#: Numbers from here on stand for an edge and not for an atom.
UNIQUE = 1 << 40

READS = (aten.gather.default, aten.index_select.default, aten.index.Tensor)
ZEROS = (aten.new_zeros.default, aten.zeros.default, aten.zeros_like.default)


class NotDenseError(Exception):
    """An index that is neither centre nor neighbor of all edges, nor the system of all atoms."""


class Molecules(NamedTuple):
    """Number of molecules, and number of atoms that each has room for."""

    n_systems: int
    n_atoms: int

    def __str__(self) -> str:
        if self.n_systems == 1:
            return f"{self.n_atoms} atoms"
        return f"{self.n_systems} molecules of up to {self.n_atoms} atoms"

    @property
    def n_pairs(self) -> int:
        """Number of pairs, those of an atom with itself included."""
        return self.n_systems * self.n_atoms**2

    def edge_index(self, device: torch.device) -> Tensor:
        """All pairs, those of an atom with itself included, shape (2, n_systems n_atoms²)."""
        atoms = torch.arange(self.n_systems * self.n_atoms, device=device).view(self.n_systems, self.n_atoms)
        centres = atoms[:, :, None].expand(-1, -1, self.n_atoms)
        neighbors = atoms[:, None, :].expand(-1, self.n_atoms, -1)
        return torch.stack([centres.flatten(), neighbors.flatten()])

    def batch(self, device: torch.device) -> Tensor:
        """The system of each atom, shape (n_systems n_atoms,)."""
        return torch.arange(self.n_systems, device=device).repeat_interleave(self.n_atoms)


class Place(NamedTuple):
    """Where an index leads: from rows to the axes of an array in which they are summed.

    Parameters
    ----------
    rows : tuple of int
        Shape of the rows as an array.
    axis : int
        The axis along which the rows of one target follow each other.
    open : Tensor, shape (n_rows,), bool
        Rows that count only where a mask of pairs or atoms is True; the others always count.
    """

    rows: tuple[int, ...]
    axis: int
    open: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Read by index: (n_targets, ...) to (n_rows, ...)."""
        features = values.shape[1:]
        kept = [n for axis, n in enumerate(self.rows) if axis != self.axis]
        values = values.reshape(*kept, *features).unsqueeze(self.axis)
        return values.expand(*self.rows, *features).reshape(-1, *features)

    def sum(self, values: Tensor) -> Tensor:
        """Sum by index: (n_rows, ...) to (n_targets, ...)."""
        return values.reshape(*self.rows, *values.shape[1:]).sum(dim=self.axis).reshape(-1, *values.shape[1:])

    def largest(self, values: Tensor) -> Tensor:
        """Largest by index: (n_rows, ...) to (n_targets, ...)."""
        array = values.reshape(*self.rows, *values.shape[1:])
        return array.amax(dim=self.axis).reshape(-1, *values.shape[1:])


def find_places(graph: GraphModule, molecules: Molecules, arguments: list[Tensor]) -> dict[Node, Place]:
    """For every read and sum by index the place where the index leads.

    Parameters
    ----------
    graph : GraphModule
        Of :func:`asecalc_ml.model.compile.molecules.energy_graph.energy_graph`, for inputs with all pairs.
    arguments : list of Tensor
        The example it was traced with.

    Raises
    ------
    NotDenseError
        If an index is used in any other way.
    """
    return _Places(graph, molecules, arguments).found


class _Places:
    def __init__(self, graph: GraphModule, molecules: Molecules, arguments: list[Tensor]):
        placeholders = graph.graph.find_nodes(op="placeholder")
        _, edges, vectors, batch, *_ = placeholders
        _, self.edge_index, _, self.batch, *_ = arguments
        self.graph, self.molecules = graph, molecules
        n_edges, device = self.edge_index.shape[1], self.edge_index.device
        numbers = torch.arange(n_edges, device=device)
        marked = torch.stack([UNIQUE + numbers, 2 * UNIQUE + numbers])
        # an index, as it is and with unique numbers in place of atoms
        self.indices: dict[Node, tuple[Tensor, Tensor]] = {
            edges: (self.edge_index, marked),
            batch: (self.batch, self.batch),
        }
        self.moving = dependents(graph, vectors)
        self.found: dict[Node, Place] = {}
        for node in graph.graph.nodes:
            if any(argument in self.indices for argument in node.all_input_nodes):
                self._follow(node)

    def _follow(self, node: Node) -> None:
        """A node of which at least one argument is an index."""
        if node.op == "output":
            raise NotDenseError("an index is returned")
        if all(argument in self.indices or self._is_constant(argument) for argument in node.all_input_nodes):
            self.indices[node] = self._evaluated(node, 0), self._evaluated(node, 1)
            return
        source, index = node.args[0], _index_of(node)
        if index not in self.indices or source in self.indices:
            raise NotDenseError(f"an index is used by {node.target}")
        if node.target in READS and source not in self.moving:
            return  # nothing is differentiated: read by index
        self.found[node] = self._place(*self.indices[index], node)

    def _is_constant(self, node: Node) -> bool:
        """A tensor that is made of nothing, such as the numbers of all atoms."""
        if node.op == "get_attr":
            return True
        return node.op == "call_function" and all(map(self._is_constant, node.all_input_nodes))

    def _evaluated(self, node: Node, which: int) -> Tensor:
        def value(argument: Node) -> Tensor:
            if argument in self.indices:
                return self.indices[argument][which]
            if argument.op == "get_attr":
                return getattr(self.graph, str(argument.target))
            return self._evaluated(argument, which)

        function: Callable = node.target
        try:
            return function(*map_arg(node.args, value), **map_arg(node.kwargs, value))
        except (IndexError, RuntimeError) as error:
            raise NotDenseError(f"an index is used by {node.target}") from error

    def _place(self, index: Tensor, marked: Tensor, node: Node) -> Place:
        while index.dim() > 1:  # repeated along all further dimensions
            if not bool((index == index[..., :1]).all()):
                raise NotDenseError("an index that differs between features")
            index, marked = index[..., 0], marked[..., 0]
        n_systems, n_atoms = self.molecules
        if _same(index, self.batch) and _same(marked, self.batch):
            return Place((n_systems, n_atoms), 1, torch.ones_like(self.batch, dtype=torch.bool))
        n_edges = self.edge_index.shape[1]
        pairs = (n_systems, n_atoms, n_atoms)
        is_edge = marked >= UNIQUE
        numbers = torch.arange(n_edges, device=index.device)
        if len(index) != n_edges or not _same(marked[is_edge] % UNIQUE, numbers[is_edge]):
            raise NotDenseError(f"{node.target} by an index that is not one row for each edge")
        for row, axis in ((0, 2), (1, 1)):
            is_of_row = marked[is_edge] // UNIQUE == row + 1
            if _same(index, self.edge_index[row]) and bool(is_of_row.all()):
                return Place(pairs, axis, is_edge)
        raise NotDenseError(f"{node.target} by an index that is neither centre nor neighbor")


def _same(index: Tensor, other: Tensor) -> bool:
    return index.shape == other.shape and bool((index == other).all())


def _index_of(node: Node) -> object:
    if node.target is aten.index.Tensor and len(node.args[1]) == 1:
        return node.args[1][0]
    along_first = len(node.args) > 2 and node.args[1] == 0
    return node.args[2] if along_first else None


class Constants(NamedTuple):
    """Constants of the graph of an energy, and the products of its linear layers.

    Parameters
    ----------
    attributes : dict of str to Tensor
        Parameters, buffers and other tensors by the names of the nodes that read them.
    products : list of JointProduct
        Of the linear layers.
    """

    attributes: dict[str, Tensor]
    products: list[JointProduct]

    @classmethod
    def of(cls, graph: GraphModule, replaced: Mapping[str, Tensor] | None = None) -> Constants:
        """Constants of a graph, or other tensors in their place, with whose derivatives it is run."""
        names = dict.fromkeys(str(node.target) for node in graph.graph.find_nodes(op="get_attr"))
        attributes = {name: getattr(graph, name).detach() for name in names} | dict(replaced or {})
        products, _ = joint_products(graph, attributes)
        return cls(attributes, products)


class DenseEnergy(Interpreter):
    """Runs the graph of an energy with its reads and sums by index as broadcasts and sums along an axis.

    Parameters
    ----------
    graph : GraphModule
        Of :func:`asecalc_ml.model.compile.molecules.energy_graph.energy_graph`, for inputs with all pairs.
    molecules : Molecules
    arguments : list of Tensor
        The example it was traced with.

    Raises
    ------
    NotDenseError
        See :func:`find_places`.
    """

    def __init__(self, graph: GraphModule, molecules: Molecules, arguments: list[Tensor]):
        super().__init__(graph)
        self.places = find_places(graph, molecules, arguments)
        self.is_complete = {node: bool(place.open.all()) for node, place in self.places.items()}
        self.half = HalfPairs(arguments[1])
        self.even = even_nodes(graph, graph.graph.find_nodes(op="placeholder")[2], self.half)
        self.constants = Constants.of(graph)
        _, self.layers = joint_products(graph, self.constants.attributes)
        for node in self.places:
            if node.target not in (*READS, *_SUMS):
                raise NotDenseError(f"{node.target} by index")

    def __call__(
        self,
        arguments: list[Tensor],
        visible: Tensor,
        present: Tensor,
        constants: Constants | None = None,
    ) -> tuple[Tensor, ...]:
        """Energies of atoms and systems, and charges.

        Parameters
        ----------
        arguments : list of Tensor
            Of the graph.
        visible : Tensor, shape (n_edges,), bool
            Pairs of different atoms within the cutoff.
        present : Tensor, shape (n_atoms,), bool
            Atoms that are there.
        constants : Constants, optional
            In place of the graph's own.
        """
        self._constants = constants or self.constants
        self._masks = {3: visible, 2: present}  # by the number of axes
        self._outputs: dict[int, list[Tensor]] = {}
        self._other_rows: dict[Node, Tensor] = {}
        return self.run(*arguments)

    def get_attr(self, target: Any, args: tuple, kwargs: dict) -> Tensor:
        return self._constants.attributes[str(target)]

    def run_node(self, n: Node) -> object:
        if n in self.layers:
            return self._layer(*self.layers[n], n)
        if n in self.even:
            arguments, keywords = self.fetch_args_kwargs_from_env(n)
            return self.call_function(n.target, with_rows(n, arguments, self.half), keywords)
        if n not in self.places:
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        place = self.places[n]
        if n.target in READS:
            return place.spread(arguments[0])
        if n.args[0].target not in ZEROS:
            raise NotDenseError(f"{n.target} onto other values than zero")
        return _SUMS[n.target](place, self._mask(n, place), *arguments, **keywords)

    def _layer(self, number: int, place: int, node: Node) -> Tensor:
        """Output of one layer; the first layer of a joint product computes those of all."""
        if number not in self._outputs:
            product = self._constants.products[number]
            self._outputs[number] = product(self._argument(node.args[-2], node))
        return self._outputs[number][place]

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[Any, Any]:
        """Arguments of an operation, with the rows that it takes."""
        fetched: Any = map_arg((n.args, n.kwargs), lambda argument: self._argument(argument, n))
        return fetched[0], fetched[1]

    def _argument(self, argument: Node, user: Node) -> Any:
        """A value with the rows that its user takes: pairs i ≤ j for an even operation, or all pairs."""
        value = self.env[argument]
        if (argument in self.even) == (user in self.even):
            return value
        if argument not in self.even and not is_of_rows(argument, user, self.half):
            return value
        if argument not in self._other_rows:
            change = OfAllPairs if argument in self.even else Kept
            self._other_rows[argument] = change.apply(value, self.half)
        return self._other_rows[argument]

    def _mask(self, node: Node, place: Place) -> Tensor:
        """Rows that count, shape (n_rows,), bool."""
        mask = self._masks[len(place.rows)]
        return mask if self.is_complete[node] else mask | ~place.open


def _sum(place: Place, mask: Tensor, zeros: Tensor, dim: int, index: Tensor, values: Tensor) -> Tensor:
    return place.sum(torch.where(_like(mask, values), values, 0.0))


def _largest(
    place: Place,
    mask: Tensor,
    zeros: Tensor,
    dim: int,
    index: Tensor,
    values: Tensor,
    reduce: str,
    include_self: bool = True,
) -> Tensor:
    if reduce != "amax":
        raise NotDenseError(f"{reduce} by index")
    largest = place.largest(torch.where(_like(mask, values), values, -torch.inf))
    if include_self:
        return largest.clamp(min=0)
    return torch.where(largest == -torch.inf, 0.0, largest)  # nothing to take the largest of


_SUMS: dict[Any, Callable[..., Tensor]] = {aten.scatter_add.default: _sum, aten.scatter_reduce.two: _largest}


def _like(mask: Tensor, values: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (values.dim() - 1))
