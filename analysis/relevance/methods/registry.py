"""The methods by name: where each one lies, what it needs, and what its numbers are. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError

ALL = "all"

#: What an architecture may have, in words for messages.
PARTS = {
    "embeddings": "embeddings of elements",
    "interactions": "interaction blocks",
    "messages": "interaction blocks that take features of atoms (tensors with a row an atom among their "
    "arguments)",
    "attentions": "attention",
    "contributions": "contributions of atoms, since its readout is not a sum over atoms",
}


@dataclass(frozen=True)
class Method:
    """A way to say how much an atom counts.

    Parameters
    ----------
    place : str
        Module below this package and function ``(batch, target, options) -> MethodOutput``, with a colon
        between them.
    title : str
    unit : str
        ``{unit}`` stands for the target's.
    needs : str, optional
        What an architecture must have: a key of :data:`PARTS`.
    additive : bool
        Whether it takes a target that is linear in the energy.
    """

    place: str
    title: str
    unit: str = "{unit}"
    needs: str | None = None
    additive: bool = False

    def unit_of(self, target: str) -> str:
        """Unit of the relevance of a target in this unit; empty for numbers without one."""
        unit = self.unit.format(unit=target or "1")
        return "" if unit == "1" else unit

    @property
    def explain(self) -> Callable:
        """The function that does the work; importing it imports torch."""
        module, _, function = self.place.partition(":")
        return getattr(import_module(f"asecalc_ml.analysis.relevance.{module}"), function)


METHODS: dict[str, Method] = {
    "saliency": Method("methods.gradients:saliency", "Saliency", "{unit}/Å"),
    "gradient-edges": Method("methods.gradients:gradient_edges", "Gradient × edge vector"),
    "gradient-embeddings": Method(
        "methods.gradients:gradient_embeddings", "Gradient × embedding", needs="embeddings"
    ),
    "integrated-gradients": Method(
        "methods.gradients:integrated_gradients", "Integrated gradients", needs="embeddings"
    ),
    "contributions": Method(
        "methods.activations:contributions", "Exact contributions", needs="contributions", additive=True
    ),
    "cam": Method(
        "methods.activations:class_activation_map",
        "Class activation map",
        needs="contributions",
        additive=True,
    ),
    "grad-cam": Method("methods.activations:grad_cam", "Grad-CAM", needs="interactions"),
    "attention": Method("methods.activations:attention", "Attention weights", "1", needs="attentions"),
    "lrp": Method("lrp.method:explain", "Relevance propagation"),
    "walks": Method("lrp.walks:explain", "Relevant walks", needs="messages"),
    "occlusion": Method("methods.occlusion:explain", "Occlusion"),
}


def check_methods(names: list[str]) -> list[str]:
    """Known names, each once.

    Raises
    ------
    ValueError
        If one is unknown.
    """
    for name in names:
        if name not in METHODS and name != ALL:
            remedy = f"There are {', '.join(METHODS)}, and {ALL}"
            complaint = f"no method is called {name!r}"
            raise ValueError(str(unknown_name_error(ConfigError, complaint, name, METHODS, remedy)))
    return list(dict.fromkeys(names))
