"""Models with random weights: enough to test everything around a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from asecalc_ml.config.options import Options
from asecalc_ml.model.architectures import build_potential
from asecalc_ml.model.compile.compiled_graph import load_package, write_package
from asecalc_ml.model.compile.program import Program
from asecalc_ml.model.derivative import EdgeDerivative
from asecalc_ml.model.model import N_ELEMENTS, Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.plugins import loaded
from asecalc_ml.store.build_card import build_card
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.registry import Entry, Registry


def untrained_model(options: Options, seed: int = 0, dtype: torch.dtype = torch.float64) -> Model:
    """A model with random weights, and a scale and a shift that differ from element to element.

    Biases are random too: where they start at zero, as in most networks, a jump at the cutoff or a
    parameter without effect does not show. Torch's random state is left as it was found.

    Parameters
    ----------
    options : Options
        Of an architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        potential = build_potential(options)
        for parameter in potential.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    numbers = torch.arange(N_ELEMENTS, dtype=torch.float64)
    return Model(potential, scale=1 + numbers / 50, shift=-10 * numbers).set_dtype(dtype)


def compiled_agrees(model: Model, program: Program, folder: Path) -> bool:
    """Compile a program in this folder; return True if its results are those of eager mode."""
    path = folder / "package.pt2"
    write_package(model, program, path)
    function = load_package(path, model.device)
    return all(call.agrees_with(function) for call in program.known_calls(model))


def plugin_name(group: str, options: Options) -> str:
    """Name under which the options' class is registered in a group of plugins, such as "architectures"."""
    for name, plugin in loaded(group).items():
        if plugin is type(options):
            return name
    raise LookupError(
        f"{type(options).__name__} is not registered: declare it in setup.cfg under [options.entry_points], "
        f"asecalc_ml.{group}"
    )


def untrained_card(name: str, options: Options, model: Model, atoms: Atoms, **fields: Any) -> ModelCard:
    """The card of a model with random weights.

    Parameters
    ----------
    atoms : Atoms
        Gives the golden values; its elements are those that the model takes.
    **fields
        Of :class:`~asecalc_ml.store.card.ModelCard`, in place of what is found here.
    """
    origin = {"versions": {}, "created": ""}  # the card of the same weights is the same every day
    fields = {"elements": sorted(set(atoms.symbols)), "energies_degenerate": False, **origin, **fields}
    return build_card(model, name, plugin_name("architectures", options), options, atoms, **fields)


def register_untrained(
    name: str, options: Options, atoms: Atoms, dtype: torch.dtype = torch.float32, **fields: Any
) -> Entry:
    """Register a model with random weights, as a training would; see :func:`untrained_card`."""
    model = untrained_model(options, dtype=dtype)
    return Registry().add_model(model, untrained_card(name, options, model, atoms, **fields))


def without_ghost(derivative: EdgeDerivative, inputs: PotentialInput) -> EdgeDerivative:
    """Leave out what belongs to the ghost (:mod:`asecalc_ml.graph.padding`)."""
    real = inputs.edge_index[0] < inputs.n_atoms - 1
    atoms, systems, gradient, charges, penalty = derivative
    return EdgeDerivative(atoms[:-1], systems[:-1], gradient[real], charges[:-1], penalty[:-1])
