"""Pairs of atoms with the features that networks on molecular graphs take."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.structure.molecular_graph.features import PAIR_GROUPS, places_of

#: Edges are all pairs of a molecule, however long it is; no molecule of these networks reaches so far, Å.
CUTOFF_A = 100.0


class FeaturedPairs(NamedTuple):
    """Pairs of atoms of molecules, in both orders.

    Parameters
    ----------
    edge_index : Tensor, shape (2, n_edges), int64
    features : Tensor, shape (n_edges, 13)
        Of the molecular graph; the last is the distance.
    distances : Tensor, shape (n_edges,), Å
    weights : Tensor, shape (n_edges,), or None
        1 for pairs that send messages and 0 for others; None if all do.
    """

    edge_index: Tensor
    features: Tensor
    distances: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, inputs: PotentialInput, max_graph_distance: int | None) -> FeaturedPairs:
        """Pairs of a batch.

        Parameters
        ----------
        inputs : PotentialInput
        max_graph_distance : int or None
            Bonds between two atoms up to which they send each other messages.
        """
        assert inputs.pair_features is not None  # Potential.molecular_graph asks for them
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        features = torch.cat([inputs.pair_features, distances[:, None]], dim=1)
        if max_graph_distance is None:
            return cls(inputs.edge_index, features, distances, None)
        column = places_of(PAIR_GROUPS)["graph distance"].start + max_graph_distance - 1
        return cls(inputs.edge_index, features, distances, inputs.pair_features[:, column])
