"""Tensors on which each plain operation is carried out by a rule, so that a model runs by rules as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import enable_reentrant_dispatch
from torch.utils._pytree import tree_leaves, tree_map


class Operations(Protocol):
    """Carries out operations on tensors of rules."""

    def operation(self, target: Callable, args: tuple, kwargs: dict) -> Any:
        """The result of an operation of which some arguments are tensors of rules."""


class RuleTensor(Tensor):
    """A tensor whose operations another object carries out.

    Parameters
    ----------
    operations : Operations
    values : Tensor
        With gradient where it carries relevance.
    is_gate : bool
        Whether it is a sigmoid, also turned to 1 − σ, or reshaped.
    without_rule : callable, optional
        An operation without a rule that it results from: it has values, and its relevance is unknown.
    """

    operations: Operations
    values: Tensor
    is_gate: bool
    without_rule: Callable | None

    @staticmethod
    def __new__(
        cls,
        operations: Operations,
        values: Tensor,
        is_gate: bool = False,
        without_rule: Callable | None = None,
    ) -> RuleTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=values.device,
        )
        tensor.operations, tensor.values = operations, values
        tensor.is_gate, tensor.without_rule = is_gate, without_rule
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # functions are split into operations first

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, target: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        operations = rule_tensors((args, kwargs))[0].operations
        with enable_reentrant_dispatch(), torch.enable_grad():
            return operations.operation(target, args, kwargs or {})

    def overwrite(self, other: RuleTensor) -> RuleTensor:
        """Take the values of a result, as an operation in place does."""
        self.values, self.is_gate, self.without_rule = other.values, other.is_gate, other.without_rule
        return self

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"RuleTensor({self.values})"


def rule_tensors(values: Any) -> list[RuleTensor]:
    """The tensors of rules among nested arguments."""
    return [value for value in tree_leaves(values) if isinstance(value, RuleTensor)]


def unwrapped(values: Any) -> Any:
    """Nested arguments with what the tensors of rules hold in their places."""
    return tree_map(lambda value: value.values if isinstance(value, RuleTensor) else value, values)


def detached(values: Any) -> Any:
    """Nested arguments without gradients."""
    return tree_map(lambda value: value.detach() if isinstance(value, Tensor) else value, values)
