"""The memory that an evaluation takes, known before it begins."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asecalc_ml.errors import MemoryShortageError
from asecalc_ml.graph.memory_left import memory_left
from asecalc_ml.model.chunks import CHUNK_EDGES, chunked_derivative, takes_chunks
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput

#: Bytes taken for each byte of tensors: the allocator's own, and what lies between blocks in use.
ALLOCATED = 1.15


def check_memory(model: Model, inputs: PotentialInput) -> None:
    """Refuse a structure whose energies and derivative need more memory than there is.

    Raises
    ------
    MemoryShortageError
    """
    needed, left = memory_needed(model, inputs), memory_left(model.device)
    if needed > left:
        n_atoms, n_edges = inputs.n_atoms - 1, inputs.edge_index.shape[1]
        raise MemoryShortageError(
            f"{n_atoms} atoms with {n_edges} pairs need {needed / 1e9:.1f} GB of memory, and "
            f"{left / 1e9:.1f} GB are left on {str(model.device)!r};",
            name="atoms",
            value=needed,
            allowed=f"at most {left} bytes",
            remedy="take a smaller structure, dtype float32, a device with more memory, or a model of an "
            "architecture that computes large structures in chunks, such as tensornet",
        )


def memory_needed(model: Model, inputs: PotentialInput) -> int:
    """Bytes that the energies and the edge derivative of a structure take."""
    tensors = peak_of_chunks(model, inputs) if takes_chunks(model) else peak_of_the_whole(model, inputs)
    return int(ALLOCATED * tensors)


def peak_of_the_whole(model: Model, inputs: PotentialInput) -> int:
    """Bytes of tensors at the peak of :func:`asecalc_ml.model.derivative.edge_derivative`.

    Nothing is computed and no memory is taken: torch's fake tensors have shapes alone.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        shapes = inputs.with_tensors([fake.from_tensor(value) for value in inputs.tensors])
        return peak_of(lambda: edge_derivative(model, shapes))


def peak_of_chunks(model: Model, inputs: PotentialInput) -> int:
    """Bytes of tensors at the peak of :func:`asecalc_ml.model.chunks.chunked_derivative`.

    Two small parts of the structure, with neighbors among their own atoms, give what chunks take and what
    each edge adds.
    """
    sizes = [min(n * CHUNK_EDGES, inputs.edge_index.shape[1]) for n in (2, 4)]
    small, large = (peak_of(partial(chunked_derivative, model, _first_edges(inputs, n))) for n in sizes)
    per_edge = (large - small) / max(1, sizes[1] - sizes[0])
    return int(large + per_edge * (inputs.edge_index.shape[1] - sizes[1]))


def _first_edges(inputs: PotentialInput, n_edges: int) -> PotentialInput:
    """The atoms of the first edges, which are no structure but have as many neighbors, and a ghost."""
    centres, neighbors = inputs.edge_index[:, :n_edges]
    n_atoms = min(int(centres[-1]) + 1, inputs.n_atoms - 1)
    return inputs._replace(
        atomic_numbers=inputs.atomic_numbers[: n_atoms + 1],
        edge_index=torch.stack([centres, neighbors % n_atoms]),
        edge_vectors=inputs.edge_vectors[:n_edges],
        batch=inputs.batch[: n_atoms + 1],
    )


def peak_of(function: Callable[[], object]) -> int:
    """Largest number of bytes of tensors, made by a function, that live at once while it runs."""
    with _Storages() as storages:
        function()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Adds up the storages of the tensors that operations return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return results

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            weakref.finalize(storage, self._sizes.pop, key, None)
            self.peak = max(self.peak, sum(self._sizes.values()))
