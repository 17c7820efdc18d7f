"""A model of another package in our terms, whichever package it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from asecalc_ml.config.options import Options
from asecalc_ml.errors import ModelError
from asecalc_ml.model.architectures import build_potential
from asecalc_ml.model.model import Model, Pooling

SHOWN = 3  # names of weights in a message
FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class UpstreamModel:
    r"""An architecture of ours with weights, and what turns its contributions into energies.

    .. math:: E = \sum_i \left( s_{Z_i} \, c_i + e_{Z_i} \right) + k

    Parameters
    ----------
    architecture : str
        Registered name.
    hyperparameters : Options
        Of this architecture.
    weights : mapping of str to Tensor
        By the names of our potential.
    scale, shift : Tensor, shape (119,), float64, eV
        s and e, by atomic number.
    constant_eV : float
        k, which belongs to a structure and not to an atom.
    pooling : {"sum", "mean"}
    fitted : list of str
        Labels that the loss had, as cards name them.
    notes : list of str
        What a user should know of the imported model.
    """

    architecture: str
    hyperparameters: Options
    weights: Mapping[str, Tensor]
    scale: Tensor
    shift: Tensor
    constant_eV: float = 0.0
    pooling: Pooling = "sum"
    fitted: list[str] = field(default_factory=lambda: ["energy", "forces"])
    notes: list[str] = field(default_factory=list)

    def shifted(self, energy_eV: float) -> UpstreamModel:
        """The same model with this energy on every atom in place of the constant."""
        return replace(self, shift=self.shift + energy_eV, constant_eV=0.0)

    def build(self, source: str) -> Model:
        """The model with its weights, in their type.

        Raises
        ------
        ModelError
            If they are not those of the architecture; the message begins with the source.
        """
        with torch.random.fork_rng(devices=[]):
            potential = build_potential(self.hyperparameters)
        _check_weights(potential.state_dict(), self.weights, f"{source}: {self.architecture}")
        potential.to(_dtype(self.weights, source)).load_state_dict(self.weights)
        return Model(potential, self.scale, self.shift, self.pooling)


def _check_weights(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Names and shapes, told before torch does in its own words."""
    complaints = {
        "lacks": sorted(expected.keys() - given.keys()),
        "has unknown": sorted(given.keys() - expected.keys()),
        "has of another shape": [
            f"{name} {tuple(given[name].shape)}, not {tuple(expected[name].shape)},"
            for name in sorted(expected.keys() & given.keys())
            if given[name].shape != expected[name].shape
        ],
    }
    misfits = {what: names for what, names in complaints.items() if names}
    if misfits:
        told = "; ".join(f"it {what} {_some(names)}" for what, names in misfits.items())
        raise ModelError(
            f"{source} with these hyper-parameters has other weights than the checkpoint: {told}. "
            "The checkpoint is of another architecture or version: this one cannot be imported",
            name="weights",
            value=misfits,
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]).rstrip(",") + more


def _dtype(weights: Mapping[str, Tensor], source: str) -> torch.dtype:
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)
    if len(names) == 1 and names[0] in FLOATS:
        return dtypes.pop()
    raise ModelError(
        f"{source} holds weights in {', '.join(names) or 'no numbers'}; models here are "
        f"{' or '.join(FLOATS)}",
        name=source,
        value=names,
        allowed=FLOATS,
        remedy="convert the checkpoint to one of them",
    )
