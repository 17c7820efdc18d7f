"""Topologically equivalent atoms, and orders of atoms that do not depend on how they are numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

Neighbors = Sequence[Sequence[int]]


def priorities(numbers: Sequence[int], neighbors: Neighbors) -> np.ndarray:
    """Rank of each atom by its element, then by the atoms bonded to it, then by those bonded to these.

    Parameters
    ----------
    numbers : sequence of int
        Atomic numbers.
    neighbors : sequence of sequences of int
        The atoms bonded to each.

    Returns
    -------
    ndarray of int, shape (n_atoms,)
        Equal for atoms that are topologically equivalent, such as the hydrogens of a methyl group; higher for
        heavier atoms, as in the rules of Cahn, Ingold and Prelog.

    Notes
    -----
    Source: H. L. Morgan, J. Chem. Doc. 5, 107 (1965), with elements as the first invariant.

    Examples
    --------
    >>> priorities([6, 1, 1, 1, 8, 1], [[1, 2, 3, 4], [0], [0], [0], [0, 5], [4]]).tolist()
    [2, 0, 0, 0, 3, 1]
    """
    return _refined(list(numbers), neighbors)


def orders(ranks: np.ndarray, neighbors: Neighbors, atoms: Sequence[int]) -> Iterator[np.ndarray]:
    """Ranks that tell all of some atoms apart, one for each symmetry of the bonds that permutes them.

    Of equivalent atoms one after the other comes first, and ranks are refined after each such choice. The
    set of all results does not depend on how atoms are numbered.

    Parameters
    ----------
    ranks : array of int, shape (n_atoms,)
        Those of :func:`priorities`.
    neighbors : sequence of sequences of int
    atoms : sequence of int
        The atoms to tell apart.
    """
    counts = Counter(ranks[atoms].tolist())
    tied = [rank for rank, count in counts.items() if count > 1]
    if not tied:
        yield ranks
        return
    for atom in atoms:
        if ranks[atom] == min(tied):
            chosen = 2 * ranks
            chosen[atom] -= 1
            yield from orders(_refined(chosen.tolist(), neighbors), neighbors, atoms)


def _refined(keys: list, neighbors: Neighbors) -> np.ndarray:
    """Ranks of keys, then of keys with those of the neighbors, until no more atoms are told apart."""
    ranks, n_before = _dense(keys), 0
    while (n_ranks := max(ranks, default=-1) + 1) > n_before:
        n_before = n_ranks
        around = (tuple(sorted((ranks[j] for j in bonded), reverse=True)) for bonded in neighbors)
        ranks = _dense(list(zip(ranks, around, strict=True)))
    return np.array(ranks, dtype=int)


def _dense(keys: list) -> list[int]:
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return [numbers[key] for key in keys]
