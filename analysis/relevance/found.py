"""What a method returns for a batch, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Found:
    """Relevance of a batch, in the unit of the target unless the method says otherwise.

    Parameters
    ----------
    atoms : Tensor, shape (n_atoms,)
    edges : Tensor, shape (n_edges,), optional
        Of the graph's edges. A pair's relevance is the sum over its two directions.
    absorbed : dict of str to Tensor, shape (n_systems,)
        For methods that share out the whole target: parts that no atom has, by what took them. With the
        relevance of all atoms they sum to the target.
    blocks : dict of str to Tensor, shape (n_atoms,)
        The same map for each part of the network.
    walks : dict of tuple of int to Tensor, shape (n_systems,)
        Relevance of sequences of atoms, numbered within their structure.
    """

    atoms: Tensor
    edges: Tensor | None = None
    absorbed: dict[str, Tensor] = field(default_factory=dict)
    blocks: dict[str, Tensor] = field(default_factory=dict)
    walks: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
