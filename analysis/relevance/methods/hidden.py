"""Hooks on the parts that every potential names: hidden states are recorded, and embeddings replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from asecalc_ml.analysis.relevance.subject import ExplainedBatch, Run, embedding_modules
from asecalc_ml.errors import PluginError

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


def only_tensor(part: str, module: nn.Module, output: object) -> Tensor:
    """The output of a part of a potential that has to be one tensor.

    Raises
    ------
    PluginError
        If it is something else.
    """
    if not isinstance(output, Tensor):
        raise PluginError(
            f"{part} {type(module).__name__} of this architecture returns a {type(output).__name__}",
            name=type(module).__name__,
            value=type(output).__name__,
            allowed="one tensor",
            remedy="name a module that returns one tensor",
        )
    return output


def run_with_embeddings(subject: ExplainedBatch, change: Change) -> tuple[Run, list[Tensor]]:
    """A pass with changed embeddings, and these, with gradient; each of shape (n_atoms + 1, n_features)."""
    leaves: list[Tensor] = []

    def replace(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        output = only_tensor("the embedding", module, output)
        leaves.append(change(output.detach()).requires_grad_(True))
        return leaves[-1]

    with hooks(embedding_modules(subject.model.potential), replace):
        return subject.run(), leaves


def run_with_blocks(subject: ExplainedBatch) -> tuple[Run, list[list[Tensor]]]:
    """A pass, and for each interaction block the tensors that it has put out, first dimension atoms or edges.

    A block that returns several, such as scalars and vectors in a tuple, a list or a dict, has them all.

    Raises
    ------
    PluginError
        If a block returns none.
    """
    outputs: list[list[Tensor]] = []
    rows = (subject.n_atoms + 1, subject.inputs.edge_index.shape[1])

    def record(module: nn.Module, inputs: tuple, output: Any) -> None:
        tensors = [tensor for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
        outputs.append(
            [tensor for tensor in tensors if tensor.requires_grad and tensor.dim() and len(tensor) in rows]
        )
        if not tensors:
            raise PluginError(
                f"the interaction block {type(module).__name__} of this architecture returns a "
                f"{type(output).__name__}",
                name=type(module).__name__,
                value=type(output).__name__,
                allowed="tensors",
                remedy="let it return tensors with a row for each atom or edge, alone or in a tuple, a list "
                "or a dict",
            )

    with hooks(subject.model.potential.interactions, record):
        return subject.run(), outputs
