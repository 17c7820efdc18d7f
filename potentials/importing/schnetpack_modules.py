"""Hyper-parameters of schnetpack's representations, read off the modules in our options' names."""

from __future__ import annotations

from typing import Any

from torch import nn

from asecalc_ml.errors import ModelError
from asecalc_ml.model.model import N_ELEMENTS

BASES = {"GaussianRBF": "gaussian", "BesselRBF": "bessel"}

#: Names of functions and modules, and ours.
ACTIVATIONS = {
    "shifted_softplus": "ssp",
    "silu": "silu",
    "SiLU": "silu",
    "tanh": "tanh",
    "Tanh": "tanh",
}

#: Upstream's constant under the root of a norm, which is ours too.
EPSILON = 1e-8


def kind(module: object) -> str:
    """Name of a module's class."""
    return type(module).__name__


def architecture_options(
    representation: nn.Module, readout: nn.Module, length_A: float, source: str
) -> dict[str, Any]:
    """Options of our architecture.

    Parameters
    ----------
    representation : nn.Module
        schnetpack's SchNet, PaiNN or SO3net.
    readout : nn.Module
        Its Atomwise.
    length_A : float
        The model's unit of length, Å.
    source : str
        What messages call the model.

    Raises
    ------
    ModelError
        If a part of it is one that we do not have.
    """
    blocks = {"SchNet": "interactions", "PaiNN": "interactions", "SO3net": "so3convs"}[kind(representation)]
    shared = {
        "cutoff_A": length_A * _cutoff(representation, source),
        "n_atom_basis": representation.n_atom_basis,
        "n_interactions": len(getattr(representation, blocks)),
        "n_rbf": representation.radial_basis.n_rbf,
        "radial_basis": _known(kind(representation.radial_basis), BASES, "radial basis", source),
        "readout_activation": _activation(readout.outnet, source),
        "max_atomic_number": min(len(representation.embedding.weight), N_ELEMENTS) - 1,
    }
    return shared | _OWN[kind(representation)](representation, source)


def _schnet(representation: nn.Module, source: str) -> dict[str, Any]:
    return {
        "n_filters": representation.n_filters,
        "activation": _activation(representation.interactions, source),
        "aggregation": "sum",
    }


def _painn(representation: nn.Module, source: str) -> dict[str, Any]:
    if any(block.epsilon != EPSILON for block in representation.mixing):
        raise ModelError(
            f"{source}: PaiNN has epsilon {representation.mixing[0].epsilon}; only {EPSILON} can be imported",
            name="epsilon",
            value=representation.mixing[0].epsilon,
            allowed=[EPSILON],
        )
    if representation.share_filters and len(representation.interactions) > 1:
        raise ModelError(
            f"{source}: PaiNN with shared_filters cannot be represented here",
            name="shared_filters",
            value=True,
            allowed=[False],
        )
    blocks = nn.ModuleList([representation.interactions, representation.mixing])
    return {"activation": _activation(blocks, source)}


def _so3net(representation: nn.Module, source: str) -> dict[str, Any]:
    return {"lmax": representation.lmax}


_OWN = {"SchNet": _schnet, "PaiNN": _painn, "SO3net": _so3net}


def _cutoff(representation: nn.Module, source: str) -> float:
    _known(kind(representation.cutoff_fn), {"CosineCutoff": ""}, "cutoff function", source)
    return float(representation.cutoff_fn.cutoff)


def _activation(network: nn.Module, source: str) -> str:
    """The one activation of all nonlinear layers."""
    functions = (layer.activation for layer in network.modules() if kind(layer) == "Dense")
    names = {_name(one) for one in functions if not isinstance(one, nn.Identity)}
    if len(names) != 1:
        raise ModelError(
            f"{source}: its activation functions are {', '.join(sorted(names)) or 'none'}; one kind can be "
            "imported",
            name="activation function",
            value=sorted(names),
            allowed="one kind",
        )
    return _known(names.pop(), ACTIVATIONS, "activation function", source)


def _name(function: object) -> str:
    return getattr(function, "__name__", kind(function))


def _known(name: str, known: dict[str, str], what: str, source: str) -> str:
    if name not in known:
        raise ModelError(
            f"{source}: its {what} is {name}; what can be imported are {', '.join(known)}",
            name=what,
            value=name,
            allowed=list(known),
        )
    return known[name]
