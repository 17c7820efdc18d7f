"""Partial charges that sum to the total charge, and the Coulomb energy between them."""

from __future__ import annotations

import torch
from ase import units
from torch import Tensor

from asecalc_ml.graph.cutoffs import smooth_cutoff
from asecalc_ml.graph.segments import segment_sum, take

COULOMB_EV_A = units.Hartree * units.Bohr  # e²/4πε₀

SOFTENING_A = 1.0


def conserved(charges: Tensor, total: Tensor, batch: Tensor) -> Tensor:
    r"""Charges that sum to the total charge of their system.

    .. math:: \tilde q_i = q_i - \frac{1}{N} \Big(\sum_j q_j - Q\Big)

    Parameters
    ----------
    charges : Tensor, shape (n_atoms,), e
    total : Tensor, shape (n_systems,), e
    batch : Tensor, shape (n_atoms,), int64
    """
    # Σ_j q_j − Q of each system, shared evenly among its N atoms.
    excess = segment_sum(charges, batch, total.shape[0]) - total
    n_atoms = segment_sum(torch.ones_like(charges), batch, total.shape[0])
    return charges - take(excess / n_atoms, batch)


def coulomb_energies(
    charges: Tensor, distances: Tensor, edge_index: Tensor, cutoff: float, coulomb_cutoff: float
) -> Tensor:
    r"""Each atom's half of the Coulomb energy with its neighbors, shape (n_atoms,), eV.

    .. math::
        E_i &= \tfrac12 k_e \sum_j \tilde q_i \tilde q_j \, \chi(r_{ij}) \\
        \chi(r) &= \varphi(2r)\, s\big(\sqrt{r^2 + 1}\big) + (1 - \varphi(2r))\, s(r)

    The switch φ(2r), of the network's cutoff, keeps the energy finite where atoms come close. The paper has
    s(r) = 1/r without end. With a cutoff R it is the authors' code's s(r) = 1/r + r/R² − 2/R, whose value
    and slope are zero at R.

    Parameters
    ----------
    charges : Tensor, shape (n_atoms,), e
    distances : Tensor, shape (n_edges,), Å
    edge_index : Tensor, shape (2, n_edges), int64
    cutoff, coulomb_cutoff : float, Å
        That of φ, and R.
    """
    centres, neighbors = edge_index
    # φ(2r) switches from 1/√(r² + 1) at short distances to 1/r.
    shielding = smooth_cutoff(2 * distances, cutoff)
    softened = torch.sqrt(distances**2 + SOFTENING_A**2)
    near, far = (_shifted(r, coulomb_cutoff) for r in (softened, distances))
    chi = shielding * near + (1 - shielding) * far
    # Half of the energy of each pair goes to each of its atoms.
    pairs = 0.5 * COULOMB_EV_A * take(charges, centres) * take(charges, neighbors) * chi
    return segment_sum(pairs, centres, charges.shape[0])


def _shifted(distances: Tensor, cutoff: float) -> Tensor:
    return 1 / distances + distances / cutoff**2 - 2 / cutoff
