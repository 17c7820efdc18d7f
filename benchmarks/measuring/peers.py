"""ASE calculators of the packages that the architectures come from, with the weights of a model of ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import nn

from asecalc_ml.config.options import Options, parse_options
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import Potential
from asecalc_ml.plugins import get
from asecalc_ml.potentials.schnetpack.options import SchNetPackOptions
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions
from asecalc_ml.store.card import ModelCard
from asecalc_ml.testing.models import plugin_name

#: torchmd-net's arguments: ours under its names, and those that we have no option for.
TORCHMDNET_NAMES = {
    "hidden_channels": "embedding_dimension",
    "n_layers": "num_layers",
    "n_rbf": "num_rbf",
    "rbf": "rbf_type",
    "cutoff_A": "cutoff_upper",
    "attention_activation": "attn_activation",
    "n_heads": "num_heads",
    "envelope": "vector_cutoff",
    "group": "equivariance_invariance_group",
}
TORCHMDNET_FIXED = {
    "cutoff_lower": 0.0,
    "max_num_neighbors": 64,
    "aggr": "add",
    "derivative": True,
    "atom_filter": -1,
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "sum",
    "precision": 32,
}


#: What a model is made for.
LABELS = ("energy", "forces")

#: schnetpack's neighbor list in its tutorials, and the fastest of them for a molecule.
SCHNETPACK_LISTS = ("ASENeighborList", "TorchNeighborList")


def peer_calculators(card: ModelCard, model: Model, atoms: Atoms, device: str) -> dict[str, Calculator]:
    """Calculators of the package that an architecture comes from, in float32, by name; none for our own.

    Parameters
    ----------
    card : ModelCard
    model : Model
        Its weights have the names of that package.
    atoms : Atoms
        What is to be computed: scale and shift of its first element serve for all.
    """
    options = options_of(card)
    scale = model.scale[atoms.numbers[0]].item()
    if isinstance(options, TorchMDNetOptions):
        return {"torchmd-net": torchmdnet_calculator(options, model.potential, scale, device)}
    if isinstance(options, SchNetPackOptions):
        return {
            f"schnetpack, {neighbors}": schnetpack_calculator(
                options, model.potential, scale, device, neighbors
            )
            for neighbors in SCHNETPACK_LISTS
        }
    return {}


def options_of(card: ModelCard) -> Options:
    """The options of the card's architecture."""
    return parse_options(dict(card.hyperparameters), get("architectures", card.architecture), card.name)


def torchmdnet_calculator(
    options: TorchMDNetOptions, potential: Potential, scale: float, device: str = "cpu"
) -> Calculator:
    """Return torchmd-net's own calculator, made from a checkpoint as its users have one."""
    from torchmdnet.calculators import TMDNETCalculator

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upstream.ckpt"
        write_torchmdnet_checkpoint(path, options, potential, scale)
        return TMDNETCalculator(str(path), device=device)


def torchmdnet_arguments(options: TorchMDNetOptions) -> dict[str, object]:
    """The arguments of torchmd-net's training script that make the same architecture."""
    own = options.model_dump(exclude={"max_atomic_number"})
    return {
        **TORCHMDNET_FIXED,
        **{TORCHMDNET_NAMES.get(name, name): value for name, value in own.items()},
        "model": plugin_name("architectures", options),
        "max_z": options.max_atomic_number + 1,
    }


def write_torchmdnet_checkpoint(
    path: Path, options: TorchMDNetOptions, potential: Potential, scale: float
) -> None:
    """Write a checkpoint of torchmd-net with our weights."""
    from torchmdnet.models.model import create_model

    arguments = torchmdnet_arguments(options)
    model = create_model(arguments, std=torch.tensor(scale))
    _copy_weights(potential, model)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"hyper_parameters": arguments, "state_dict": state}, path)


def schnetpack_calculator(
    options: SchNetPackOptions,
    potential: Potential,
    scale: float,
    device: str = "cpu",
    neighbors: str = "ASENeighborList",
) -> Calculator:
    """Return schnetpack's own calculator, patched so that its import and its load of a model succeed.

    Parameters
    ----------
    neighbors : str
        Name of a neighbor list of ``schnetpack.transform``.
    """
    from asecalc_ml.potentials.schnetpack.upstream import whole_package

    schnetpack = whole_package()
    model = schnetpack_model(schnetpack, options)
    _copy_weights(potential, model)
    with tempfile.TemporaryDirectory() as folder, _unpickling():
        path = Path(folder) / "best_model"
        torch.save(model, path)
        transform = getattr(schnetpack.transform, neighbors)(options.cutoff_A)
        return schnetpack.interfaces.SpkCalculator(
            str(path), transform, energy_unit=scale, device=device, stress_key=None
        )


def schnetpack_model(schnetpack, options: SchNetPackOptions, labels: Sequence[str] = LABELS) -> nn.Module:
    """The model that schnetpack's configuration files describe for energies, forces and stress."""
    activations = {
        "ssp": schnetpack.nn.shifted_softplus,
        "silu": nn.functional.silu,
        "tanh": torch.tanh,
    }
    radial = {"gaussian": schnetpack.nn.GaussianRBF, "bessel": schnetpack.nn.BesselRBF}
    own = {name: getattr(options, name) for name in ("n_filters", "lmax") if hasattr(options, name)}
    if hasattr(options, "activation"):
        own["activation"] = activations[options.activation]
    representation = getattr(schnetpack.representation, type(options).__name__)(
        n_atom_basis=options.n_atom_basis,
        n_interactions=options.n_interactions,
        radial_basis=radial[options.radial_basis](n_rbf=options.n_rbf, cutoff=options.cutoff_A),
        cutoff_fn=schnetpack.nn.CosineCutoff(options.cutoff_A),
        **own,
    )
    # releases differ in how they make an embedding: this is what they have in common
    representation.embedding = nn.Embedding(options.max_atomic_number + 1, options.n_atom_basis)
    readout = schnetpack.atomistic.Atomwise(
        n_in=options.n_atom_basis,
        activation=activations[options.readout_activation],
        output_key="energy",
    )
    with_stress = "stress" in labels
    responses = [schnetpack.atomistic.Forces("forces" in labels, with_stress)] if len(labels) > 1 else []
    return schnetpack.model.NeuralNetworkPotential(
        representation,
        input_modules=[
            *([schnetpack.atomistic.Strain()] if with_stress else []),
            schnetpack.atomistic.PairwiseDistances(),
        ],
        output_modules=[readout, *responses],
    )


def _copy_weights(potential: Potential, model: nn.Module) -> None:
    """Load our weights into another package's model: every parameter of it has to be among them."""
    missing = model.load_state_dict(potential.state_dict(), strict=False).missing_keys
    parameters = dict(model.named_parameters())
    if absent := [name for name in missing if name in parameters]:
        raise LookupError(f"the peer's parameters {absent} have no counterpart in our potential")


@contextmanager
def _unpickling() -> Iterator[None]:
    """Let torch load a pickled network, which it refuses by default."""
    with patch.dict(os.environ, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}):
        yield
