"""What a method returns for a batch, as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asecalc_ml._lazy import renamed


@dataclass(frozen=True)
class MethodOutput:
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


def joined(parts: Sequence[MethodOutput]) -> MethodOutput:
    """Structures explained one by one, as a batch; what one of them has not is zero there."""
    edges = None if parts[0].edges is None else torch.cat([part.edges for part in parts])
    return MethodOutput(
        atoms=torch.cat([part.atoms for part in parts]),
        edges=edges,
        absorbed=_in_a_row([part.absorbed for part in parts]),
        walks=_in_a_row([part.walks for part in parts]),
    )


def weighted_sum(terms: Sequence[tuple[float, MethodOutput]]) -> MethodOutput:
    """A sum of maps of the same structures, each with its weight."""
    weights, parts = zip(*terms, strict=True)

    def total(values: Sequence[Tensor]) -> Tensor:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    edges = None if parts[0].edges is None else total([part.edges for part in parts])
    return MethodOutput(
        atoms=total([part.atoms for part in parts]),
        edges=edges,
        absorbed={name: total(values) for name, values in _by_key([part.absorbed for part in parts]).items()},
        walks={walk: total(values) for walk, values in _by_key([part.walks for part in parts]).items()},
    )


def _in_a_row(maps: Sequence[Mapping]) -> dict:
    return {key: torch.cat([part.cpu() for part in values]) for key, values in _by_key(maps).items()}


def _by_key(maps: Sequence[Mapping]) -> dict:
    """What each map has of every key; zero where it has none, as for a walk that a cutoff ends."""
    zero = torch.zeros(1, dtype=torch.float64)
    keys = dict.fromkeys(key for part in maps for key in part)
    return {key: [part.get(key, zero) for part in maps] for key in keys}


__getattr__ = renamed(__name__, {"Found": "MethodOutput"})
