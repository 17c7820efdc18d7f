"""A model as a function of its weights, for batches of molecules of one size: sums over axes, not by index.

The same form as in :mod:`asecalc_ml.model.compile.molecules`. A batch has the edge list of all pairs, of
which those beyond the cutoff lead to the ghost; in the array they keep their places and count in no sum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asecalc_ml.graph.padding import ghost_vector
from asecalc_ml.graph.segments import take
from asecalc_ml.model.compile.molecules.all_pairs import Constants, DenseEnergy, Molecules, NotDenseError
from asecalc_ml.model.compile.molecules.energy_graph import energy_graph
from asecalc_ml.model.model import Model, ModelOutput
from asecalc_ml.model.potential import AtomOutput, PotentialInput
from asecalc_ml.potentials.training.optimization.eager import Evaluate
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights


def molecule_model(
    model: Model, weights: FlatWeights, example: PotentialInput
) -> Callable[[Tensor], Evaluate]:
    """Return the model as a function of its joined weights, for batches of the example's shape.

    Parameters
    ----------
    example : PotentialInput
        Molecules of one size with all pairs, and the ghost.

    Raises
    ------
    NotDenseError
        If the architecture has no such form.
    """
    if model.triplet_cutoff is not None:
        raise NotDenseError("triplets depend on positions")
    if model.molecular_graph:
        raise NotDenseError("features of a molecular graph are no part of the array")
    if model(example).potential.penalty is not None:
        raise NotDenseError("a penalty is no part of the graph of an energy")
    arrays = _Arrays(example, model.cutoff)
    given = arrays.of(example)
    graph = energy_graph(model, given)
    dense = DenseEnergy(graph, arrays.molecules, given.tensors)
    names = _names(graph, weights)

    def with_weights(values: Tensor) -> Evaluate:
        views = weights.views(values)
        constants = Constants.of(graph, {name: views[place] for name, place in names.items()})

        def evaluate(inputs: PotentialInput) -> ModelOutput:
            tensors, visible = arrays.of(inputs).tensors, arrays.visible(inputs)
            atoms, systems, *charges = dense(tensors, visible, arrays.present, constants)
            with_ghost = [
                torch.cat([part, part.new_zeros(1, *part.shape[1:])]) for part in (atoms, systems, *charges)
            ]
            atoms, systems, *charges = with_ghost
            return ModelOutput(atoms, systems, AtomOutput(atoms, charges=charges[0] if charges else None))

        return evaluate

    return with_weights


def _names(graph: torch.fx.GraphModule, weights: FlatWeights) -> dict[str, int]:
    """Place among the trainable parameters of each constant of a graph that is one."""
    places = {id(parameter): place for place, parameter in enumerate(weights.parameters)}
    names = [str(node.target) for node in graph.graph.find_nodes(op="get_attr")]
    return {name: places[id(value)] for name in names if id(value := getattr(graph, name)) in places}


class _Arrays:
    """From the edge list of a batch to arrays of all pairs of its molecules, without the ghost.

    Parameters
    ----------
    example : PotentialInput
    cutoff : float, Å
    """

    def __init__(self, example: PotentialInput, cutoff: float):
        n_systems, device = example.n_systems - 1, example.edge_vectors.device
        self.molecules = Molecules(n_systems, (example.n_atoms - 1) // n_systems)
        self.edge_index, self.batch = self.molecules.edge_index(device), self.molecules.batch(device)
        self.self_pairs = self.edge_index[0] == self.edge_index[1]
        self.present = torch.ones_like(self.batch, dtype=torch.bool)
        self.outside = ghost_vector(example.edge_vectors, cutoff)[None]
        # number of each pair's edge; one more stands for an atom with itself
        n_edges = example.edge_index.shape[1]
        numbers = (~self.self_pairs).cumsum(0) - 1
        self.edges = torch.where(self.self_pairs, n_edges, numbers)

    def of(self, inputs: PotentialInput) -> PotentialInput:
        """The same molecules with all pairs (i, j)."""
        return PotentialInput(
            inputs.atomic_numbers[:-1],
            self.edge_index,
            take(torch.cat([inputs.edge_vectors, self.outside]), self.edges),
            self.batch,
            inputs.charge[:-1],
            inputs.spin[:-1],
            self_pairs=self.self_pairs,
        )

    def visible(self, inputs: PotentialInput) -> Tensor:
        """Pairs within the cutoff, shape (n_pairs,), bool."""
        inside = inputs.edge_index[0] < inputs.n_atoms - 1
        return torch.cat([inside, inside.new_zeros(1)]).index_select(0, self.edges)
