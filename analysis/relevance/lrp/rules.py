r"""Rules of layer-wise relevance propagation for the plain tensor operations that any potential consists of.

A *signal* is a number that depends on embeddings, or on what geometry alone adds up over edges. Every
operation z = f(x) is replaced by one with the same value that is linear in its signals and their constant
terms, so that gradient × input of the whole sends relevance to signals and to constants, and loses nothing:

.. math:: z = \sum_k x_k \, [\partial z / \partial x_k]_{\text{rule}} + \text{absorbed}

======================================= ===================================================================
operation                               rule
======================================= ===================================================================
linear maps, sums, rows taken           the operation itself (LRP-0, z-rule)
bias, constant or geometry added        a source of its own: absorbed, or relevance of the edge it belongs to
activation f(x)                         f(0) absorbed, the rest through the secant: x · (f(x) − f(0))/x
signal × weight (no signal)             all to the signal
signal × signal                         half to each
signal × sigmoid of a signal            all to the signal; the gate is a weight
attention (``Potential.attentions``)    a weight: all to the values
signal / signal                         all to the numerator; the denominator is a weight
1/x, x to a negative power              a weight
x to a positive power                   the secant through zero
norm of a vector                        the operation itself, which is homogeneous: x · ∂‖x‖/∂x = ‖x‖
layer normalisation                     linear in x with its standard deviation a weight; bias absorbed
======================================= ===================================================================

Sources: Bach et al., PLoS ONE 10, e0130140 (2015) for linear maps; Arras et al., arXiv:1706.07206 for gates;
Ali et al., arXiv:2202.07304 for attention and normalisation; Achtibat et al., arXiv:2402.05602 for products.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from asecalc_ml.errors import AnalysisError

aten = torch.ops.aten

NEAR_ZERO = 1e-6  # below it a secant is replaced by the slope at zero, an error of less than 1e-12

#: Linear in a single signal, without constants. Index tensors are no signals.
LINEAR = {
    operator.getitem,
    aten._to_copy.default,
    aten._unsafe_view.default,
    aten.alias.default,
    aten.clone.default,
    aten.diagonal.default,
    aten.expand.default,
    aten.flip.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.linalg_vector_norm.default,
    aten.mean.default,
    aten.mean.dim,
    aten.neg.default,
    aten.permute.default,
    aten.repeat.default,
    aten.roll.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.dim,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.t.default,
    aten.transpose.int,
    aten.unbind.int,
    aten.unsafe_split.Tensor,
    aten.unsqueeze.default,
    aten.view.default,
}

#: Places of operands that are added; what is no signal there is a source of its own.
ADDITIVE: dict[Any, tuple[int, ...]] = {
    aten.add.Tensor: (0, 1),
    aten.sub.Tensor: (0, 1),
    aten.rsub.Scalar: (0, 1),
    aten.cat.default: (0,),
    aten.stack.default: (0,),
    aten.where.self: (1, 2),
    aten.scatter_add.default: (0, 3),
}

BILINEAR = {aten.mul.Tensor, aten.mm.default, aten.bmm.default}

ELEMENTWISE = {
    aten.celu.default,
    aten.clamp.default,
    aten.cos.default,
    aten.elu.default,
    aten.exp.default,
    aten.gelu.default,
    aten.leaky_relu.default,
    aten.relu.default,
    aten.sigmoid.default,
    aten.silu.default,
    aten.sin.default,
    aten.softplus.default,
    aten.sqrt.default,
    aten.tanh.default,
}

#: Nothing reads what was overwritten, which the value of the whole shows.
OUT_OF_PLACE = {
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.sigmoid_.default: aten.sigmoid.default,
    aten.sub_.Tensor: aten.sub.Tensor,
    aten.tanh_.default: aten.tanh.default,
}

#: Without relevance, whatever they are computed from.
WEIGHTS = {
    aten.ceil.default,
    aten.detach.default,
    aten.eq.Tensor,
    aten.full_like.default,
    aten.gt.Scalar,
    aten.lt.Scalar,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.ones_like.default,
    aten.reciprocal.default,
    aten.rsqrt.default,
    aten.scatter_reduce.two,
    aten.zeros_like.default,
}

#: What keeps a gate a gate.
SHAPING = {*LINEAR, aten.rsub.Scalar}

#: With a rule of their own.
SPECIAL = {
    aten.addmm.default,
    aten.div.Tensor,
    aten.native_layer_norm.default,
    aten.pow.Tensor_Scalar,
}

#: Rules that any operation can be given with :func:`register_rule`, by name.
KINDS: dict[str, set] = {"linear": LINEAR, "elementwise": ELEMENTWISE, "weight": WEIGHTS}


def register_rule(operation: Callable, kind: str) -> None:
    """Give an operation of an architecture a rule, before the first explanation.

    Parameters
    ----------
    operation : callable
        As it stands in the traced graph, such as ``torch.ops.aten.erf.default``.
    kind : {"linear", "elementwise", "weight"}
        "linear": linear in its only signal, without constants. "elementwise": an activation f(x); f(0) is
        absorbed, the rest takes the secant. "weight": without relevance.

    Raises
    ------
    AnalysisError
        If there is no such kind, or the operation has another rule.
    """
    if kind not in KINDS:
        raise AnalysisError(
            f"no rule {kind!r} for {operation}",
            name=kind,
            value=kind,
            allowed=list(KINDS),
            remedy=f"the rules are {', '.join(KINDS)}",
        )
    others = {*ADDITIVE, *BILINEAR, *OUT_OF_PLACE, *SPECIAL}.union(
        *(KINDS[other] for other in KINDS if other != kind)
    )
    if operation in others:
        raise AnalysisError(
            f"{operation} has another rule than {kind!r} already", name=str(operation), value=kind
        )
    KINDS[kind].add(operation)


def has_rule(operation: Callable) -> bool:
    """Return True if relevance passes an operation, and False if it ends there."""
    return operation in SPECIAL or any(operation in ruled for ruled in (ADDITIVE, BILINEAR, *KINDS.values()))


def is_signal(value: Any) -> bool:
    """Whether a value, or one of a list of values, carries relevance."""
    if isinstance(value, list | tuple):
        return any(map(is_signal, value))
    return isinstance(value, Tensor) and value.requires_grad


def additive(target: Callable, args: tuple, kwargs: dict, source: Callable[[Any], Tensor]) -> Tensor:
    """A sum, with constants replaced by sources; ``source(value)`` makes one."""
    changed = list(args)
    for place in ADDITIVE[target]:
        value = changed[place]
        if isinstance(value, list | tuple):
            changed[place] = [part if is_signal(part) else source(part) for part in value]
        elif not is_signal(value):
            changed[place] = source(value)
    if target is aten.rsub.Scalar:  # other − alpha · self, with the other a tensor now
        return changed[1] - changed[0] * (changed[2] if len(changed) > 2 else 1)
    return target(*changed, **kwargs)


def bilinear(target: Callable, first: Tensor, second: Tensor, gates: tuple[bool, bool]) -> Tensor:
    """A product: relevance to its only signal, to the one that is no gate, or half to each."""
    # weight × signal: the operation itself
    if not (is_signal(first) and is_signal(second)):
        return target(first, second)
    # gate × signal: the gate is a weight
    if gates[0] != gates[1]:
        return target(first.detach(), second) if gates[0] else target(first, second.detach())
    # signal × signal: the value is that of the product, its derivative half of each factor's
    return 0.5 * (target(first, second.detach()) + target(first.detach(), second))


def quotient(first: Tensor, second: Any) -> Tensor:
    """Relevance to the numerator; the denominator is a weight."""
    return first / (second.detach() if isinstance(second, Tensor) else second)


def secant(function: Callable[[Tensor], Tensor], x: Tensor, source: Callable[[Tensor], Tensor]) -> Tensor:
    """An activation: its value at zero is a source, the rest goes through the secant."""
    # f(0) and f'(0)
    zero = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    at_zero = function(zero)
    (slope,) = torch.autograd.grad(at_zero, zero)
    # where x is near 0 the secant is f'(0); a root has no slope there, and its value is 0 at 0
    known = x.detach()
    near = known.abs() < NEAR_ZERO if slope.isfinite() else known == 0
    slope = torch.nan_to_num(slope, posinf=0.0)
    # x · (f(x) − f(0))/x, with the secant a constant factor
    secants = (function(known) - at_zero.detach()) / torch.where(near, 1.0, known)
    linear = x * torch.where(near, slope, secants)
    return linear if float(at_zero.detach()) == 0 else linear + source(at_zero.detach())


def power(x: Tensor, exponent: float, source: Callable[[Tensor], Tensor]) -> Tensor:
    """A positive power goes through its secant; a negative one is a weight."""
    if exponent <= 0:
        return x.detach() ** exponent
    return secant(lambda values: values**exponent, x, source)


def layer_norm(args: tuple, source: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Centred values over a standard deviation that is a weight; the bias is a source."""
    x, shape, weight, bias, eps = args
    dims = tuple(range(-len(shape), 0))
    # (x − ⟨x⟩)/σ with σ a constant
    mean = x.mean(dims, keepdim=True)
    deviation = (x.detach().var(dims, correction=0, keepdim=True) + eps).sqrt()
    normal = (x - mean) / deviation
    # γ (x − ⟨x⟩)/σ + β, where β is absorbed
    normal = normal if weight is None else normal * weight
    return (normal if bias is None else normal + source(bias)), mean.detach(), 1 / deviation
