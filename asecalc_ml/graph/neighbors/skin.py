"""Pairs kept from step to step: one place that says when they are stale."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.errors import ConfigError
from asecalc_ml.graph.neighbors.pairs import (
    Pairs,
    all_pairs,
    as_geometry,
    check_geometry,
    pairs_around,
    takes_all_pairs,
    within,
)
from asecalc_ml.structure.lattice import complete

DEFAULT_SKIN_A = 1.0


class SkinNeighborList:
    """Pairs within a cutoff, searched for only when atoms or cell have moved far enough to matter.

    The search goes out to cutoff + skin. Each update returns those pairs that are within the cutoff now,
    in the canonical order: bit for bit what a search from the start gives, whenever the last one was.

    The pairs are good as long as nothing can have come in from beyond. With reference cell h₀ and
    positions r₀, the step since then is r = r₀ F + u, where F = h₀⁻¹ h strains everything alike and u is
    what remains. A pair at distance d now was at most (d + |uᵢ| + |uⱼ|) / σ_min(F) apart, so pairs
    within the cutoff are all there while (cutoff + two largest |u|) / σ_min(F) ≤ cutoff + skin.
    This holds for any strain: a barostat that changes the cell every step costs no search, and an atom put
    back into the cell by a lattice vector has a large u and does.

    Molecules that take all pairs keep them as long as the number of atoms stays.

    Parameters
    ----------
    cutoff : float, Å
    skin : float, Å
        0 for a search whenever anything has moved.
    backend : {"auto", "vesin", "matscipy", "all-pairs"}
        See :func:`asecalc_ml.graph.neighbors.find_pairs`.
    device : str or torch.device
        Where pairs are found and returned.

    Attributes
    ----------
    n_builds : int
        How often pairs were searched for.
    is_static : bool
        True if the last structure takes all pairs, which do not depend on positions.

    Raises
    ------
    ConfigError
        If the skin is negative or not finite.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float = DEFAULT_SKIN_A,
        backend: str = "auto",
        device: str | torch.device = "cpu",
    ):
        if not _is_length(skin):
            raise ConfigError(
                f"skin is {skin} Å;",
                name="skin",
                value=skin,
                allowed="0 or a positive length",
                remedy=f"use 0 (none) or a positive length, such as {DEFAULT_SKIN_A}",
            )
        self.cutoff, self.skin, self.backend = float(cutoff), float(skin), backend
        self.device = torch.device(device)
        self.n_builds = 0
        self.is_static = False
        self._pairs: Pairs | None = None

    def update(
        self, positions: Tensor | np.ndarray, cell: Tensor | np.ndarray, pbc: Tensor | np.ndarray
    ) -> Pairs:
        """Pairs of a structure as it is now.

        Parameters
        ----------
        positions : Tensor or array, shape (n_atoms, 3), Å
        cell : Tensor or array, shape (3, 3), Å
        pbc : Tensor or array, shape (3,), bool

        Returns
        -------
        edge_index : Tensor, shape (2, n_edges), int64
        cell_shifts : Tensor, shape (n_edges, 3), float64

        Raises
        ------
        StructureError
            See :func:`asecalc_ml.graph.neighbors.find_pairs`.
        """
        positions = torch.as_tensor(positions, dtype=torch.float64, device=self.device)
        positions, cell, pbc = as_geometry(positions, cell, pbc)
        pairs = self._pairs
        if pairs is None or not self._are_good(positions, cell, pbc):
            pairs = self._build(positions, cell, pbc)
        return pairs if self.is_static else within(pairs, positions, cell, self.cutoff)

    def _build(self, positions: Tensor, cell: np.ndarray, pbc: np.ndarray) -> Pairs:
        self._pairs = None  # stays so if this structure is refused
        self.is_static = takes_all_pairs(len(positions), pbc, self.backend)
        if self.is_static:
            check_geometry(positions, cell, pbc)
            pairs = all_pairs(len(positions), positions.device)
        else:
            pairs = pairs_around(positions, cell, pbc, self.cutoff + self.skin, self.backend)
        self._positions, self._pbc = positions.clone(), pbc.copy()
        self._cell = complete(cell, pbc)
        self._pairs = pairs
        self.n_builds += 1
        return pairs

    def _are_good(self, positions: Tensor, cell: np.ndarray, pbc: np.ndarray) -> bool:
        if len(positions) != len(self._positions) or (pbc != self._pbc).any():
            return False
        if not np.isfinite(cell).all():
            return False
        if self.is_static:
            return bool(torch.isfinite(positions).all())
        return self._reach(positions, np.where(pbc[:, None], cell, self._cell)) <= self.cutoff + self.skin

    def _reach(self, positions: Tensor, cell: np.ndarray) -> float:
        """How far apart a pair within the cutoff can have been at the last search; NaN for NaN."""
        expected, shrunk = self._positions, np.float64(1.0)
        if (cell != self._cell).any():
            # F = h0^-1 h; positions that are strained alike, and the smallest singular value of F
            strain = np.linalg.solve(self._cell, cell)
            expected, shrunk = expected @ positions.new_tensor(strain), np.linalg.svd(strain).S[-1]
        # u = r - r0 F, and (cutoff + the two largest |u|) / sigma_min
        moved = positions - expected
        moved = torch.linalg.vector_norm(moved - moved.mean(dim=0), dim=1)  # all together count for nothing
        with np.errstate(divide="ignore"):
            return (self.cutoff + moved.topk(min(2, len(moved))).values.sum().item()) / shrunk


def _is_length(value: object) -> bool:
    """Return True for a number that is finite and not negative."""
    return isinstance(value, Real) and 0 <= float(value) < np.inf
