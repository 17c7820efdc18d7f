"""A pass through a model by the rules of relevance propagation.

Edge vectors and embeddings are :class:`~.rule_tensor.RuleTensor`, so that each plain operation of the model
is carried out by its rule while the model runs. Nothing is traced beforehand: structures of any sizes pass in
one batch. Hooks tell where embeddings, attention and the states of interaction blocks lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from asecalc_ml.analysis.relevance.lrp import rules
from asecalc_ml.analysis.relevance.lrp.rule_tensor import RuleTensor, detached, rule_tensors, unwrapped
from asecalc_ml.analysis.relevance.methods.hidden import only_tensor
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, embedding_modules
from asecalc_ml.errors import AnalysisError
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput

aten = torch.ops.aten

BIASES, CONSTANTS = "biases", "activations at zero and other constants"


def padded_inputs(subject: ExplainedBatch) -> PotentialInput:
    """Inputs whose numbers of edges and of triplets tell them from all else that has rows."""
    model, graph, capacity = subject.model, subject.graph, subject.graph.n_edges
    while True:
        inputs = with_ghost(graph, model.cutoff, capacity, model.triplet_cutoff)
        others, terms = {inputs.n_systems, inputs.n_atoms}, _numbers_of_terms(inputs)
        if len(others.union(terms)) == len(others) + len(terms):
            return inputs
        capacity = max(capacity, inputs.edge_index.shape[1]) + 1


def _numbers_of_terms(inputs: PotentialInput) -> tuple[int, ...]:
    """Numbers of edges and, where there are any, of triplets."""
    n_triplets = () if inputs.triplets is None else (inputs.triplets.shape[1],)
    return (inputs.edge_index.shape[1], *n_triplets)


def is_state(value: Any, n_atoms: int) -> bool:
    """Whether an argument of a block is features of atoms."""
    return (
        isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1 and len(value) == n_atoms
    )


@dataclass
class Sources:
    """Where relevance comes from, as leaves of the pass.

    Parameters
    ----------
    embeddings : list of Tensor, first dimension n_atoms
    edges, triplets : list of Tensor, first dimension n_edges or n_triplets
        What geometry alone adds to the signal.
    constants : list of (str, Tensor)
        By what absorbs them.
    states : dict of int to list of (Tensor, Tensor)
        For each block that was cut: values that went in, and the leaf that goes on from there.
    """

    embeddings: list[Tensor] = field(default_factory=list)
    edges: list[Tensor] = field(default_factory=list)
    triplets: list[Tensor] = field(default_factory=list)
    constants: list[tuple[str, Tensor]] = field(default_factory=list)
    states: dict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)


class Propagation:
    """Runs a model by the rules; derivatives of what it returns are relevance per input.

    Parameters
    ----------
    model : Model
    inputs : PotentialInput
        From :func:`padded_inputs`.
    cuts : collection of int
        Blocks whose states become leaves.

    Attributes
    ----------
    sources : Sources
        Filled by :meth:`propagate`.
    message_blocks : list of int
        Blocks that take features of atoms and sum over edges, in order; others see one atom at a time. Filled
        by :meth:`propagate`.
    """

    def __init__(self, model: Model, inputs: PotentialInput, cuts: tuple[int, ...] = ()):
        self.model, self.inputs, self.cuts = model, inputs, cuts
        self.sources = Sources()
        self.message_blocks: list[int] = []
        self._block: int | None = None  # the one that runs, once it has taken features of atoms
        self._parameters = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def propagate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values of atoms, of systems, and charges, those of the ghost included.

        Raises
        ------
        AnalysisError
            If they result from an operation without a rule.
        """
        vectors = RuleTensor(self, self.inputs.edge_vectors)
        with torch.no_grad(), self._hooks():
            output = self.model(self.inputs._replace(edge_vectors=vectors))
            charges = output.potential.charges
            results = output.atoms, output.systems, output.systems[:0] if charges is None else charges
        for result in rule_tensors(results):
            if result.without_rule is not None:
                raise _no_rule_error(result.without_rule)
        return unwrapped(results)

    # ------------------------------------------------------------------------------------------- operations

    def operation(self, target: Callable, args: tuple, kwargs: dict) -> Any:
        """Apply an operation by its rule, and wrap its result again."""
        if target is aten.scatter_add.default:
            self._note_sum(args[3])
        in_place, target = target in rules.OUT_OF_PLACE, rules.OUT_OF_PLACE.get(target, target)
        values, keywords = unwrapped((args, kwargs))
        without_rule = self._without_rule(target, args, values)
        if without_rule is None:
            result = self._by_rule(target, values, keywords, tuple(map(_is_gate, args[:2])))
        else:
            result = target(*detached(values), **keywords)
        is_gate = target is aten.sigmoid.default or (target in rules.SHAPING and _is_gate(args[0]))
        wrapped = tree_map(lambda value: self._wrapped(value, is_gate, without_rule), result)
        return args[0].overwrite(wrapped) if in_place and isinstance(args[0], RuleTensor) else wrapped

    def _wrapped(self, value: Any, is_gate: bool, without_rule: Callable | None) -> Any:
        return RuleTensor(self, value, is_gate, without_rule) if isinstance(value, Tensor) else value

    def _without_rule(self, target: Callable, args: tuple, values: tuple) -> Callable | None:
        """The operation, or the one before it, that no relevance passes; it counts if the output needs it."""
        for tensor in rule_tensors(args):
            if tensor.without_rule is not None:
                return tensor.without_rule
        return None if rules.has_rule(target) or not rules.is_signal(values) else target

    def _by_rule(self, target: Callable, args: tuple, kwargs: dict, gates: tuple[bool, ...]) -> Any:
        if target is aten.scatter_add.default and not rules.is_signal(args) and self._geometric(args[3]):
            args = (*args[:3], self._leaf(args[3], CONSTANTS))
        if target in rules.WEIGHTS:
            return detached(target(*args, **kwargs))
        if not rules.is_signal(args) or target in rules.LINEAR:
            return target(*args, **kwargs)
        if target in rules.ADDITIVE:
            return rules.additive(target, args, kwargs, self._constant)
        if target in rules.BILINEAR:
            return rules.bilinear(target, *args, gates=gates)
        if target in rules.ELEMENTWISE:
            return rules.secant(lambda x: target(x, *args[1:], **kwargs), args[0], self._at_zero)
        return self._special(target, args)

    def _special(self, target: Callable, args: tuple) -> Any:
        if target is aten.div.Tensor:
            return rules.quotient(*args)
        if target is aten.addmm.default:
            product = rules.bilinear(aten.mm.default, *args[1:], gates=(False, False))
            return product + (args[0] if rules.is_signal(args[0]) else self._bias(args[0]))
        if target is aten.pow.Tensor_Scalar:
            return rules.power(*args, source=self._at_zero)
        return rules.layer_norm(args, self._bias)

    # ----------------------------------------------------------------------------------------------- leaves

    def _geometric(self, values: Tensor) -> bool:
        """Whether these are terms of edges or triplets."""
        return values.is_floating_point() and len(values) in _numbers_of_terms(self.inputs)

    def _leaf(self, value: Tensor, cause: str) -> Tensor:
        leaf = value.detach().clone().requires_grad_(True)
        terms = _numbers_of_terms(self.inputs)
        if cause == CONSTANTS and leaf.dim() > 0 and len(leaf) in terms:
            (self.sources.edges, self.sources.triplets)[terms.index(len(leaf))].append(leaf)
        else:
            self.sources.constants.append((cause, leaf))
        return leaf

    def _constant(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value), dtype=torch.float64)
        return self._leaf(value, BIASES if id(value) in self._parameters else CONSTANTS)

    def _bias(self, value: Tensor) -> Tensor:
        return self._leaf(value, BIASES)

    def _at_zero(self, value: Tensor) -> Tensor:
        return self._leaf(value, CONSTANTS)

    # ------------------------------------------------------------------------------------------------ hooks

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Hooks on embeddings, attention, and what goes into and out of each block."""
        potential = self.model.potential
        with ExitStack() as stack:
            for module in embedding_modules(potential):
                stack.callback(module.register_forward_hook(self._embedded).remove)
            for module in potential.attentions:
                stack.callback(module.register_forward_hook(self._attended).remove)
            for number, block in enumerate(potential.interactions):
                entering = self._entering(number)
                stack.callback(block.register_forward_pre_hook(entering, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(self._left).remove)
            yield

    def _embedded(self, module: nn.Module, inputs: tuple, output: Any) -> Tensor:
        values = unwrapped(only_tensor("the embedding", module, output))
        self.sources.embeddings.append(values.detach().clone().requires_grad_(True))
        return RuleTensor(self, self.sources.embeddings[-1])

    def _attended(self, module: nn.Module, inputs: tuple, output: Any) -> Tensor:
        return RuleTensor(self, unwrapped(only_tensor("the attention", module, output)).detach())

    def _entering(self, number: int) -> Callable:
        def entered(value: Any) -> Any:
            if not is_state(value, self.inputs.n_atoms):
                return value
            self._block = number
            return self._cut(value, number) if number in self.cuts else value

        return lambda module, inputs, keywords: (tree_map(entered, inputs), tree_map(entered, keywords))

    def _cut(self, value: Tensor, number: int) -> Tensor:
        values = unwrapped(value)
        if not values.requires_grad:
            return value
        leaf = values.detach().clone().requires_grad_(True)
        self.sources.states.setdefault(number, []).append((values, leaf))
        return RuleTensor(self, leaf)

    def _left(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self._block = None

    def _note_sum(self, terms: Tensor) -> None:
        """Note a block that sums over edges, and self loops where there are any."""
        n_edges = self.inputs.edge_index.shape[1]
        if self._block is not None and self._block not in self.message_blocks and len(terms) >= n_edges:
            self.message_blocks.append(self._block)


def _is_gate(value: Any) -> bool:
    return isinstance(value, RuleTensor) and value.is_gate


def _no_rule_error(operation: Callable) -> AnalysisError:
    return AnalysisError(
        f"method 'lrp' has no rule for the operation {operation} of this architecture;",
        name=str(operation),
        remedy="take another method, or give it one with "
        "asecalc_ml.analysis.relevance.lrp.rules.register_rule",
    )


def moved(subject: ExplainedBatch, motion: Tensor, step: float) -> ExplainedBatch:
    """The same structures and pairs with atoms moved along directions, Å."""
    graph = subject.graph
    return ExplainedBatch(subject.model, replace(graph, positions=graph.positions + step * motion))
