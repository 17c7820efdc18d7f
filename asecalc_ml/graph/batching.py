"""Cuts many structures into batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Structure = TypeVar("Structure")  # with a length, or any for which ``n_atoms`` is given


def batches_by_atoms(
    structures: Iterable[Structure], max_atoms: int, n_atoms: Callable[[Any], int] = len
) -> Iterator[list[Structure]]:
    """Cut structures, in their order, into batches of at most ``max_atoms`` atoms.

    Parameters
    ----------
    structures : iterable
        Read one batch ahead, not as a whole.
    max_atoms : int
        A structure with more atoms is a batch of its own.
    n_atoms : callable
        Number of atoms of a structure; ``len`` by default, as for :class:`ase.Atoms`.

    Yields
    ------
    list, never empty

    Examples
    --------
    >>> list(batches_by_atoms(["HCN", "CO", "CO", "C2H5OH"], max_atoms=5))
    [['HCN', 'CO'], ['CO'], ['C2H5OH']]
    """
    batch: list[Structure] = []
    n_in_batch = 0
    for structure in structures:
        size = n_atoms(structure)
        if batch and n_in_batch + size > max_atoms:
            yield batch
            batch, n_in_batch = [], 0
        batch.append(structure)
        n_in_batch += size
    if batch:
        yield batch
