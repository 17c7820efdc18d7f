"""Permutation test of a difference between two groups within blocks, such as the atoms of each molecule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

Alternative = Literal["greater", "two-sided"]


@dataclass(frozen=True)
class BlockedDifference:
    """The difference between a group and the others within blocks, and what exchanged labels make of it.

    Parameters
    ----------
    n_blocks : int
        Blocks that hold both members of the group and others.
    difference : float
        Mean over blocks of the mean value of the group less that of the others.
    relative_difference : float
        The difference over the mean of all absolute values, so that units do not matter.
    superiority : float
        Mean over blocks of the probability that a member of the group has a larger value than another, ties
        counted half: 1/2 without a difference (Vargha and Delaney's A).
    superiority_error : float
        Standard error of the superiority, from its spread over blocks.
    z : float
        The difference in standard deviations of its distribution under exchange of labels, which are exact.
    p_value : float
        Share of random exchanges with a difference at least as large, the given labels counted.
    """

    n_blocks: int
    difference: float
    relative_difference: float
    superiority: float
    superiority_error: float
    z: float
    p_value: float

    @property
    def interval(self) -> tuple[float, float]:
        """Superiority within 95 %."""
        half = 1.96 * self.superiority_error
        return self.superiority - half, self.superiority + half


def blocked_difference(
    values: Sequence[ArrayLike],
    is_member: Sequence[ArrayLike],
    n_permutations: int = 999,
    seed: int = 0,
    alternative: Alternative = "greater",
) -> BlockedDifference:
    r"""Compare a group with the others of the same block, by exchange of labels within each block.

    .. math:: D = \frac1B \sum_b \left( \langle x \rangle_{\text{group in } b}
                  - \langle x \rangle_{\text{others in } b} \right)

    Under exchange D has the mean 0 and the variance :math:`B^{-2} \sum_b s_b^2 \, n_b / (k_b (n_b - k_b))`
    with the variance s_b² of the n_b values of a block (1/(n − 1)), k_b of them in the group.

    Parameters
    ----------
    values : sequence of array, shape (n_b,)
        Of each block. Blocks without members, or without others, are left out.
    is_member : sequence of array of bool, shape (n_b,)
    n_permutations : int
    seed : int
        Of the permutations.
    alternative : {"greater", "two-sided"}

    Raises
    ------
    AnalysisError
        If no block has both.

    Examples
    --------
    >>> found = blocked_difference([[3.0, 1.0, 1.0]] * 20, [[True, False, False]] * 20)
    >>> found.difference, found.superiority, found.p_value
    (2.0, 1.0, 0.001)
    """
    given = [
        (np.asarray(x, dtype=float), np.asarray(labels, dtype=bool))
        for x, labels in zip(values, is_member, strict=True)
    ]
    blocks = [(x, labels) for x, labels in given if labels.any() and not labels.all()]
    if not blocks:
        raise AnalysisError(
            "no block has both members of the group and others",
            remedy="give blocks that have both",
        )
    x = np.concatenate([block for block, _ in blocks])
    member = np.concatenate([labels for _, labels in blocks])
    sizes = np.array([len(block) for block, _ in blocks])
    counts = np.array([np.count_nonzero(labels) for _, labels in blocks])
    difference = _difference(x, member, sizes, counts)
    # exact variance of the difference of each block under exchange, of which D is the mean
    variances = [
        block.var(ddof=1) * n / (k * (n - k)) for (block, _), n, k in zip(blocks, sizes, counts, strict=True)
    ]
    spread = float(np.sqrt(np.sum(variances))) / len(blocks)
    superiorities = np.array([_superiority(block[labels], block[~labels]) for block, labels in blocks])
    size = np.abs(x).mean()
    return BlockedDifference(
        n_blocks=len(blocks),
        difference=difference,
        relative_difference=float(difference / size) if size > 0 else 0.0,
        superiority=float(superiorities.mean()),
        superiority_error=float(superiorities.std(ddof=1) / np.sqrt(len(blocks)))
        if len(blocks) > 1
        else np.nan,
        z=difference / spread if spread > 0 else 0.0,
        p_value=_p_value(x, sizes, counts, difference, n_permutations, seed, alternative),
    )


def _difference(x: np.ndarray, member: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> float:
    starts = np.cumsum(sizes) - sizes
    totals, of_members = np.add.reduceat(x, starts), np.add.reduceat(np.where(member, x, 0.0), starts)
    return float((of_members / counts - (totals - of_members) / (sizes - counts)).mean())


def _p_value(
    x: np.ndarray,
    sizes: np.ndarray,
    counts: np.ndarray,
    difference: float,
    n_permutations: int,
    seed: int,
    alternative: Alternative,
) -> float:
    """Share of exchanges at least as extreme; rounding errors make no tie a smaller one."""
    rng, block = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    # after a random order within each block the first k_b of it are the members
    is_first = np.arange(len(x)) - np.repeat(np.cumsum(sizes) - sizes, sizes) < np.repeat(counts, sizes)
    differences = np.empty(n_permutations)
    for k in range(n_permutations):
        order = np.argsort(block + rng.random(len(x)))
        differences[k] = _difference(x[order], is_first, sizes, counts)
    if alternative == "two-sided":
        differences, difference = np.abs(differences), abs(difference)
    tolerance = 1e-12 * np.abs(x).max(initial=0.0)
    return float(1 + np.count_nonzero(differences >= difference - tolerance)) / (n_permutations + 1)


def _superiority(group: np.ndarray, others: np.ndarray) -> float:
    pairs = group[:, None] - others[None]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
