"""AtomGraph: one structure or a batch of structures as tensors, in ASE's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asecalc_ml.graph.neighbors import Pairs, find_batch_pairs, find_tensor_pairs
from asecalc_ml.graph.neighbors.edge_vectors import edge_vectors
from asecalc_ml.structure.charge_and_spin import charge_and_spin


@dataclass(frozen=True)
class AtomGraph:
    """Atoms and the directed pairs between them.

    The one equation: ``edge_vectors = positions[j] - positions[i] + cell_shifts @ cell`` with
    ``i, j = edge_index``, i the centre and j its neighbor.

    Parameters
    ----------
    atomic_numbers : Tensor, shape (n_atoms,), int64
    positions : Tensor, shape (n_atoms, 3), float64, Å
    cell : Tensor, shape (n_systems, 3, 3), float64, Å
        Rows are the cell vectors a, b, c.
    pbc : Tensor, shape (n_systems, 3), bool
    edge_index : Tensor, shape (2, n_edges), int64
        Sorted by centre, neighbor and shift, whatever found the pairs.
    cell_shifts : Tensor, shape (n_edges, 3), float64
        Whole numbers.
    batch : Tensor, shape (n_atoms,), int64
        The system each atom belongs to.
    charge, spin : Tensor, shape (n_systems,), float64
        Total charge in units of e; number of unpaired electrons.
    atom_features : Tensor, shape (n_atoms, 21), float32, or None
    pair_features : Tensor, shape (n_edges, 12), uint8, or None
        Features of a molecular graph, which :func:`asecalc_ml.graph.graph_of.graph_of` adds for a model that
        takes them.
    """

    atomic_numbers: Tensor
    positions: Tensor
    cell: Tensor
    pbc: Tensor
    edge_index: Tensor
    cell_shifts: Tensor
    batch: Tensor
    charge: Tensor
    spin: Tensor
    atom_features: Tensor | None = None
    pair_features: Tensor | None = None

    @property
    def n_atoms(self) -> int:
        return self.atomic_numbers.shape[0]

    @property
    def n_systems(self) -> int:
        return self.cell.shape[0]

    @property
    def n_edges(self) -> int:
        return self.edge_index.shape[1]

    @property
    def edge_vectors(self) -> Tensor:
        """Vectors from centre to neighbor, shape (n_edges, 3), float64, Å."""
        cells = self.cell[self.batch[self.edge_index[0]]]
        return edge_vectors(self.positions, self.edge_index, self.cell_shifts, cells)

    def to(self, device: str | torch.device) -> AtomGraph:
        """The same graph on another device."""
        if self.positions.device == torch.device(device):
            return self
        return replace(self, **{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        """Those that are present, by name."""
        by_name = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: tensor for name, tensor in by_name.items() if tensor is not None}

    def with_edges(self, mask: Tensor) -> AtomGraph:
        """The same atoms with some of the edges.

        Parameters
        ----------
        mask : Tensor, shape (n_edges,), bool
            True for those that are kept.
        """
        return replace(
            self,
            edge_index=self.edge_index[:, mask],
            cell_shifts=self.cell_shifts[mask],
            pair_features=None if self.pair_features is None else self.pair_features[mask],
        )

    def with_pairs(self, cutoff: float, backend: str = "auto") -> AtomGraph:
        """The same atoms with their pairs found anew, on the device where they lie.

        Parameters
        ----------
        cutoff : float, Å
        backend : {"auto", "vesin", "matscipy", "all-pairs"}
            See :func:`asecalc_ml.graph.neighbors.find_pairs`.
        """
        pairs = find_batch_pairs(self.positions, self.cell, self.pbc, self.batch, cutoff, backend)
        return replace(self, edge_index=pairs.edge_index, cell_shifts=pairs.cell_shifts, pair_features=None)

    @classmethod
    def from_atoms(cls, atoms: Atoms, cutoff: float, backend: str = "auto") -> AtomGraph:
        """Graph of one structure.

        Parameters
        ----------
        atoms : Atoms
            Its charge and spin are those of :func:`asecalc_ml.structure.charge_and_spin.charge_and_spin`.
        cutoff : float, Å
        backend : {"auto", "vesin", "matscipy", "all-pairs"}
            See :func:`asecalc_ml.graph.neighbors.find_pairs`.
        """
        positions = position_tensor(atoms)
        return cls.from_pairs(
            atoms, find_tensor_pairs(positions, atoms.cell.array, atoms.pbc, cutoff, backend)
        )

    @classmethod
    def from_pairs(cls, atoms: Atoms, pairs: Pairs) -> AtomGraph:
        """Graph of one structure whose pairs are known, on their device."""
        device = pairs.edge_index.device
        charge, spin = charge_and_spin(atoms)
        return cls(
            atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.int64, device=device),
            positions=position_tensor(atoms).to(device, copy=True),
            cell=torch.tensor(atoms.cell.array, dtype=torch.float64, device=device)[None],
            pbc=torch.tensor(atoms.pbc, device=device)[None],
            edge_index=pairs.edge_index,
            cell_shifts=pairs.cell_shifts,
            batch=torch.zeros(len(atoms), dtype=torch.int64, device=device),
            charge=torch.tensor([charge], dtype=torch.float64, device=device),
            spin=torch.tensor([spin], dtype=torch.float64, device=device),
        )


def position_tensor(atoms: Atoms) -> Tensor:
    """Positions, shape (n_atoms, 3), float64, Å, in the same memory where they have this type already."""
    return torch.from_numpy(np.ascontiguousarray(atoms.positions, dtype=np.float64))


def collate(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """Join graphs into one batch; atoms and systems keep their order."""
    first_atom = np.cumsum([0] + [graph.n_atoms for graph in graphs])
    first_system = np.cumsum([0] + [graph.n_systems for graph in graphs])
    tables = [graph._tensors() for graph in graphs]
    joined = {name: [table[name] for table in tables] for name in tables[0]}
    joined["batch"] = [batch + int(n) for batch, n in zip(joined["batch"], first_system, strict=False)]
    edges = [edge_index + int(n) for edge_index, n in zip(joined["edge_index"], first_atom, strict=False)]
    joined["edge_index"] = [edge_index.T for edge_index in edges]
    tensors = {name: torch.cat(parts) for name, parts in joined.items()}
    return AtomGraph(**{**tensors, "edge_index": tensors["edge_index"].T.contiguous()})
