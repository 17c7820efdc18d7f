"""Activation functions as modules of their own, each in its place, so that hooks and exchanges reach them."""

from torch import nn

from asecalc_ml.potentials.schnetpack.upstream import layers
from asecalc_ml.potentials.shared.layers import ShiftedSoftplus

ACTIVATIONS = {"ssp": ShiftedSoftplus, "silu": nn.SiLU, "tanh": nn.Tanh}


def use_activation(network: nn.Module, name: str) -> nn.Module:
    """Give each nonlinear ``Dense`` layer its own activation module; upstream's share a function."""
    for layer in network.modules():
        if isinstance(layer, layers().nn.Dense) and not isinstance(layer.activation, nn.Identity):
            layer.activation = ACTIVATIONS[name]()
    return network
