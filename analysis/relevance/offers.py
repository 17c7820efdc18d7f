"""Which methods an architecture offers for a target."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.utils._pytree import tree_leaves

from asecalc_ml.analysis.relevance.lrp.propagation import is_state
from asecalc_ml.analysis.relevance.methods.hidden import run_with_embeddings
from asecalc_ml.analysis.relevance.methods.registry import ALL, METHODS, PARTS
from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.analysis.relevance.targets import Target
from asecalc_ml.errors import AnalysisError


def parts(subject: ExplainedBatch) -> set[str]:
    """What the model has of :data:`~asecalc_ml.analysis.relevance.methods.registry.PARTS`."""
    potential = subject.model.potential
    present = {
        "embeddings": len(potential.embeddings) > 0,
        "interactions": len(potential.interactions) > 0,
        "messages": passes_messages(subject),
        "attentions": len(potential.attentions) > 0,
        "contributions": subject.run().output.potential.contributions is not None,
    }
    return {name for name, there in present.items() if there}


def passes_messages(subject: ExplainedBatch) -> bool:
    """Whether an interaction block takes features that atoms have from their embeddings."""
    states = []

    def look(module: nn.Module, inputs: tuple, keywords: dict) -> None:
        values = tree_leaves((inputs, keywords))
        states.extend(
            value for value in values if is_state(value, subject.n_atoms + 1) and value.requires_grad
        )

    potential = subject.model.potential
    handles = [block.register_forward_pre_hook(look, with_kwargs=True) for block in potential.interactions]
    try:
        run_with_embeddings(subject, lambda h: h)
    finally:
        for handle in handles:
            handle.remove()
    return len(potential.embeddings) > 0 and len(states) > 0


def offered(subject: ExplainedBatch, target: Target) -> list[str]:
    """Names of the methods, in the order of the registry."""
    there = parts(subject)
    return [
        name
        for name, method in METHODS.items()
        if (method.needs is None or method.needs in there) and (target.additive or not method.additive)
    ]


def chosen(wanted: Sequence[str], subject: ExplainedBatch, target: Target) -> list[str]:
    """The wanted methods, or all that are offered.

    Raises
    ------
    AnalysisError
        If the architecture cannot offer one of them; the message names those it can.
    """
    possible = offered(subject, target)
    if ALL in wanted:
        return possible
    for name in wanted:
        if name not in possible:
            raise AnalysisError(
                f"{_reason(name, target)};",
                name=name,
                value=name,
                allowed=possible,
                remedy=f"methods for it are {', '.join(possible)}",
            )
    return list(wanted)


def _reason(name: str, target: Target) -> str:
    method = METHODS[name]
    if method.additive and not target.additive:
        return f"method {name!r} shares out energies, and {target} is none and no force"
    return f"method {name!r} cannot be offered: this architecture has no {PARTS[method.needs]}"
