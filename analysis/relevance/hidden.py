"""Hooks on the parts that every potential names: hidden states are recorded, and embeddings replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from asecalc_ml.analysis.relevance.subject import Run, Subject, embedding_modules

Change = Callable[[Tensor], Tensor]


@contextmanager
def hooks(modules: Sequence[nn.Module], hook: Callable) -> Iterator[None]:
    """Forward hooks that are gone at the end."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_with_embeddings(subject: Subject, change: Change) -> tuple[Run, list[Tensor]]:
    """A pass with changed embeddings, and these, with gradient; each of shape (n_atoms + 1, n_features)."""
    leaves: list[Tensor] = []

    def replace(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        leaves.append(change(output.detach()).requires_grad_(True))
        return leaves[-1]

    with hooks(embedding_modules(subject.model.potential), replace):
        return subject.run(), leaves


def run_with_blocks(subject: Subject) -> tuple[Run, list[list[Tensor]]]:
    """A pass, and for each interaction block the tensors that it has put out, first dimension atoms or edges.

    A block that returns several, such as scalars and vectors, has them all.
    """
    outputs: list[list[Tensor]] = []
    rows = (subject.n_atoms + 1, subject.inputs.edge_index.shape[1])

    def record(module: nn.Module, inputs: tuple, output) -> None:
        tensors = output if isinstance(output, tuple | list) else [output]
        outputs.append([t for t in tensors if isinstance(t, Tensor) and t.requires_grad and len(t) in rows])

    with hooks(subject.model.potential.interactions, record):
        return subject.run(), outputs
