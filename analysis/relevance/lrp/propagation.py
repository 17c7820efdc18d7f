"""A potential as a graph of plain operations, run once more by the rules of relevance propagation.

The traced graph knows no modules; where embeddings, attention and the states of interaction blocks lie is
marked by an operation that does nothing, put there by hooks while the graph is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from asecalc_ml.analysis.relevance.lrp import rules
from asecalc_ml.analysis.relevance.methods.hidden import only_tensor
from asecalc_ml.analysis.relevance.subject import ExplainedBatch, embedding_modules
from asecalc_ml.errors import AnalysisError
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput

aten = torch.ops.aten

EMBEDDING, ATTENTION, STATE, END = "embedding", "attention", "state", "end"

BIASES, CONSTANTS = "biases", "activations at zero and other constants"


@torch.library.custom_op("asecalc_ml::mark", mutates_args=())
def mark(values: Tensor, kind: str, number: int) -> Tensor:
    """The same values, with a name in the graph."""
    return values.clone()


@mark.register_fake
def _(values: Tensor, kind: str, number: int) -> Tensor:
    return torch.empty_like(values)


MARK = torch.ops.asecalc_ml.mark.default


# ------------------------------------------------------------------------------------------------ tracing


def padded_inputs(subject: ExplainedBatch) -> PotentialInput:
    """Inputs whose numbers of atoms, edges and triplets differ: a first dimension tells what it counts."""
    model, graph, capacity = subject.model, subject.graph, subject.graph.n_edges
    while True:
        inputs = with_ghost(graph, model.cutoff, capacity, model.triplet_cutoff)
        counts = _counts(inputs)
        if len(set(counts)) == len(counts):
            return inputs
        capacity = max(capacity, inputs.edge_index.shape[1]) + 1


def _counts(inputs: PotentialInput) -> tuple[int, ...]:
    n_triplets = () if inputs.triplets is None else (inputs.triplets.shape[1],)
    return (inputs.n_systems, inputs.n_atoms, inputs.edge_index.shape[1], *n_triplets)


def trace(model: Model, inputs: PotentialInput) -> GraphModule:
    """Values of atoms, of systems and charges as a graph of plain operations, with marks."""

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        output = model(PotentialInput(*tensors))
        charges = output.potential.charges
        return output.atoms, output.systems, output.systems[:0] if charges is None else charges

    with torch.no_grad(), _marks(model.potential, inputs.n_atoms):
        graph = make_fx(run)(*inputs.tensors)
    graph.graph.eliminate_dead_code()
    return graph


@contextmanager
def _marks(potential: nn.Module, n_atoms: int) -> Iterator[None]:
    """Hooks that mark outputs of embeddings and attention, and what goes into and out of each block."""
    with ExitStack() as stack:
        for kind, modules in ((EMBEDDING, embedding_modules(potential)), (ATTENTION, potential.attentions)):
            for number, module in enumerate(modules):
                stack.callback(module.register_forward_hook(_marking(kind, number)).remove)
        for number, block in enumerate(potential.interactions):
            marking = _marking_states(number, n_atoms)
            stack.callback(block.register_forward_pre_hook(marking, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(_marking_end(number)).remove)
        yield


def _marking(kind: str, number: int) -> Callable:
    return lambda module, inputs, output: MARK(only_tensor(f"the {kind}", module, output), kind, number)


def _marking_states(number: int, n_atoms: int) -> Callable:
    def marked(value: Any) -> Any:
        return MARK(value, STATE, number) if is_state(value, n_atoms) else value

    def hook(module: nn.Module, inputs: tuple, keywords: dict) -> tuple[tuple, dict]:
        return tree_map(marked, inputs), tree_map(marked, keywords)

    return hook


def _marking_end(number: int) -> Callable:
    def hook(module: nn.Module, inputs: tuple, output: Any) -> Any:
        values, structure = tree_flatten(output)
        first = next((k for k, value in enumerate(values) if isinstance(value, Tensor)), None)
        if first is not None:
            values[first] = MARK(values[first], END, number)
        return tree_unflatten(values, structure)

    return hook


def is_state(value: Any, n_atoms: int) -> bool:
    """Whether an argument of a block is features of atoms."""
    return (
        isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1 and len(value) == n_atoms
    )


def message_blocks(graph: GraphModule, inputs: PotentialInput) -> list[int]:
    """Blocks that take features of atoms and sum over edges, in order; others see one atom at a time."""
    blocks, here = [], None
    for node in graph.graph.nodes:
        if node.target is MARK and node.args[1] == STATE:
            here = node.args[2]
        elif node.target is MARK and node.args[1] == END:
            here = None
        elif here is not None and here not in blocks and _sums_over_edges(node, inputs):
            blocks.append(here)
    return blocks


def _sums_over_edges(node: Node, inputs: PotentialInput) -> bool:
    if node.target is not aten.scatter_add.default:
        return False
    return len(node.args[3].meta["val"]) >= inputs.edge_index.shape[1]  # and self loops, where there are any


# ---------------------------------------------------------------------------------------------- running


@dataclass
class Sources:
    """Where relevance comes from, as leaves of the graph; after the run.

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


class Propagation(Interpreter):
    """Runs a traced graph by the rules; derivatives of what it returns are relevance per input.

    Parameters
    ----------
    graph : GraphModule
        From :func:`trace`.
    inputs : PotentialInput
    cuts : collection of int
        Blocks whose states become leaves.

    Attributes
    ----------
    sources : Sources
        Filled by :meth:`propagate`.
    """

    def __init__(self, graph: GraphModule, inputs: PotentialInput, cuts: tuple[int, ...] = ()):
        super().__init__(graph)
        self.extra_traceback = False  # which would go into messages for users
        self.inputs, self.cuts, self.sources = inputs, cuts, Sources()
        self._gates = _gates(graph)
        self._node: Node | None = None

    def propagate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values of atoms, of systems, and charges, the ghost's included."""
        with torch.enable_grad():
            return self.run(*self.inputs.tensors)

    def run_node(self, n: Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_function(  # type: ignore[override]  # a call of a function has no name as its target
        self, target: Callable, args: tuple, kwargs: dict
    ) -> Any:
        """One operation by its rule."""
        target = rules.OUT_OF_PLACE.get(target, target)
        if target is MARK:
            return self._marked(*args)
        if target is aten.scatter_add.default and not rules.is_signal(args) and self._geometric(args[3]):
            args = (*args[:3], self._leaf(args[3], CONSTANTS))
        if target in rules.WEIGHTS:
            return _detached(target(*args, **kwargs))
        if not rules.is_signal(args) or target in rules.LINEAR:
            return target(*args, **kwargs)
        return self._by_rule(target, args, kwargs)

    def _by_rule(self, target: Callable, args: tuple, kwargs: dict) -> Any:
        if target in rules.ADDITIVE:
            return rules.additive(target, args, kwargs, self._constant)
        if target in rules.BILINEAR:
            return rules.bilinear(target, *args, gates=self._are_gates())
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
        if target is aten.native_layer_norm.default:
            return rules.layer_norm(args, self._bias)
        raise AnalysisError(
            f"method 'lrp' has no rule for the operation {target} of this architecture;",
            name=str(target),
            remedy="take another method, or give it one with "
            "asecalc_ml.analysis.relevance.lrp.rules.register_rule",
        )

    def _marked(self, values: Tensor, kind: str, number: int) -> Tensor:
        if kind == EMBEDDING:
            self.sources.embeddings.append(values.detach().clone().requires_grad_(True))
            return self.sources.embeddings[-1]
        if kind == ATTENTION:
            return values.detach()
        if kind == STATE and number in self.cuts and values.requires_grad:
            leaf = values.detach().clone().requires_grad_(True)
            self.sources.states.setdefault(number, []).append((values, leaf))
            return leaf
        return values

    def _geometric(self, values: Tensor) -> bool:
        """Whether these are terms of edges or triplets."""
        return values.is_floating_point() and len(values) in _counts(self.inputs)[2:]

    def _leaf(self, value: Tensor, cause: str) -> Tensor:
        leaf = value.detach().clone().requires_grad_(True)
        counts = _counts(self.inputs)[2:]
        if cause == CONSTANTS and leaf.dim() > 0 and len(leaf) in counts:
            (self.sources.edges, self.sources.triplets)[counts.index(len(leaf))].append(leaf)
        else:
            self.sources.constants.append((cause, leaf))
        return leaf

    def _constant(self, place: int, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value), dtype=torch.float64)
        argument = self._node.args[place]
        is_parameter = isinstance(argument, Node) and argument.op == "get_attr"
        return self._leaf(value, BIASES if is_parameter else CONSTANTS)

    def _bias(self, value: Tensor) -> Tensor:
        return self._leaf(value, BIASES)

    def _at_zero(self, value: Tensor) -> Tensor:
        return self._leaf(value, CONSTANTS)

    def _are_gates(self) -> tuple[bool, bool]:
        first, second = self._node.args[:2]
        return first in self._gates, second in self._gates


def _gates(graph: GraphModule) -> set[Node]:
    """Sigmoids, also turned to 1 − σ, and reshaped."""
    gates: set[Node] = set()
    for node in graph.graph.nodes:
        shaped = node.target in rules.SHAPING and node.args and node.args[0] in gates
        if rules.OUT_OF_PLACE.get(node.target, node.target) is aten.sigmoid.default or shaped:
            gates.add(node)
    return gates


def _detached(values: Any) -> Any:
    return values.detach() if isinstance(values, Tensor) else values


# ------------------------------------------------------------------------------------- many structures

#: Graphs of a model by the shape of its inputs, as long as the model lives, and how many are kept.
_GRAPHS: WeakKeyDictionary[Model, dict[tuple[int, ...], GraphModule]] = WeakKeyDictionary()
MOST_GRAPHS = 16


def graph_of(model: Model, inputs: PotentialInput) -> GraphModule:
    """The graph of a model for inputs of this shape, traced once for all methods and structures."""
    graphs, shape = _GRAPHS.setdefault(model, {}), _counts(inputs)
    if shape not in graphs:
        if len(graphs) == MOST_GRAPHS:
            del graphs[next(iter(graphs))]  # the oldest
        graphs[shape] = trace(model, inputs)
    return graphs[shape]


def moved(subject: ExplainedBatch, motion: Tensor, step: float) -> ExplainedBatch:
    """The same structures and pairs with atoms moved along directions, Å."""
    graph = subject.graph
    return ExplainedBatch(subject.model, replace(graph, positions=graph.positions + step * motion))
