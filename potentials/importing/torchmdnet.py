"""torchmd-net's checkpoints: what `torchmdnet.models.model.load_model` of version 3.1 reads, without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from asecalc_ml._lazy import renamed
from asecalc_ml.errors import ModelError
from asecalc_ml.model.model import N_ELEMENTS
from asecalc_ml.potentials.importing.pickles import load_torch
from asecalc_ml.potentials.importing.torchmdnet_arguments import (
    architecture_options,
    prior_arguments,
)
from asecalc_ml.potentials.importing.upstream_model import UpstreamModel
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions
from asecalc_ml.units import energy_unit, length_unit

if TYPE_CHECKING:
    from asecalc_ml.potentials.importing.options import TorchMDNetImport

#: Older names of weights, and today's.
RENAMED = {
    r"^(output_model\.output_network\.\d+\.update_net)\.(\d+)\.": r"\1.layers.\2.",
    r"^output_model\.output_network\.([02])\.(weight|bias)$": r"output_model.output_network.layers.\1.\2",
    r"^prior_model\.(atomref\.weight|initial_atomref)$": r"prior_model.0.\1",
}

#: Tables with one row for each atomic number.
BY_ELEMENT = (
    "representation_model.embedding.weight",
    "representation_model.neighbor_embedding.embedding.weight",
    "representation_model.tensor_embedding.emb.weight",
)

#: Weights and biases whose rows are (width, 3) in checkpoints of TensorNet from 2.x, and (3, width) today.
FORMER_LAYOUT = re.compile(
    r"representation_model\.(tensor_embedding\.linears_scalar\.1|layers\.\d+\.linears_scalar\.2)\.(weight|bias)"
)

#: The map of the antisymmetric part of the embedding. Its sign is all that a mirror image changes.
ANTISYMMETRIC = "representation_model.tensor_embedding.linears_tensor.1.weight"

REFERENCES = ("Atomref", "LearnableAtomref")

#: Data sets whose atoms have types that need not be atomic numbers.
OWN_TYPES = ("CG", "Custom", "HDF5")


class TorchMDNetCheckpoint(NamedTuple):
    """What a Lightning checkpoint of torchmd-net holds.

    Parameters
    ----------
    arguments : dict
        Of the training, ``hyper_parameters``.
    weights : dict of str to Tensor
        By today's names, without Lightning's prefix.
    """

    arguments: dict[str, Any]
    weights: dict[str, Tensor]


def read_torchmdnet(file: Path, options: TorchMDNetImport, trust: bool) -> UpstreamModel:
    r"""The model of a checkpoint, with energies that are torchmd-net's.

    .. math:: E = \sum_i \left( \sigma \, c_i + \mathrm{atomref}_{Z_i} \right) + \mu

    with its ``std`` σ and ``mean`` μ.

    Parameters
    ----------
    file : Path
    options : TorchMDNetImport
    trust : bool
        Whether code in the file may run, where it holds more than tensors and plain values.

    Raises
    ------
    ModelError, ConfigError
        If it is no such checkpoint, or holds what cannot be represented here.
    """
    checkpoint, source = _read(file, trust), str(file)
    length_A, energy_eV = length_unit(options.length_unit), energy_unit(options.energy_unit)
    name, hyperparameters = architecture_options(checkpoint.arguments, options.ignore, length_A, source)
    references, notes = _references(checkpoint, source)
    potential = {
        key: tensor
        for key, tensor in checkpoint.weights.items()
        if key.startswith(("representation_model.", "output_model."))
        and not key.startswith("representation_model.distance.")  # the box of its neighbor search
    }
    return UpstreamModel(
        architecture=name,
        hyperparameters=hyperparameters,
        weights=_converted(potential, checkpoint.arguments, hyperparameters, options, source),
        scale=torch.full((N_ELEMENTS,), energy_eV * _number(checkpoint, "std", 1.0), dtype=torch.float64),
        shift=energy_eV * references,
        constant_eV=energy_eV * _number(checkpoint, "mean", 0.0),
        fitted=_fitted(checkpoint.arguments),
        notes=[*notes, *_remarks(checkpoint.arguments)],
    )


def _read(file: Path, trust: bool) -> TorchMDNetCheckpoint:
    if file.suffix == ".zip":
        raise ModelError(
            f"{file} is an ensemble",
            name=str(file),
            remedy="unpack it, import each of its checkpoints, and make a committee of them",
        )
    found = load_torch(file, trust)
    entries = set(found) if isinstance(found, Mapping) else set()
    missing = {"state_dict", "hyper_parameters"} - entries
    if missing:
        raise ModelError(
            f"{file} holds no {' and no '.join(sorted(missing))}, so it is no checkpoint of a torchmd-net "
            "training",
            name=str(file),
            value=sorted(map(str, entries)),
            remedy="give the .ckpt file that `torchmd-train` wrote",
        )
    arguments = found["hyper_parameters"]
    arguments = dict(arguments if isinstance(arguments, Mapping) else vars(arguments))
    weights = {_today(name.removeprefix("model.")): tensor for name, tensor in found["state_dict"].items()}
    return TorchMDNetCheckpoint(arguments, weights)


def _today(name: str) -> str:
    for former, today in RENAMED.items():
        name = re.sub(former, today, name)
    return name


def _number(checkpoint: TorchMDNetCheckpoint, name: str, default: float) -> float:
    return float(checkpoint.weights.get(name, torch.tensor(default)).double().reshape(()))


# ------------------------------------------------------------------------------------------------- weights


def _converted(
    weights: dict[str, Tensor],
    arguments: Mapping[str, Any],
    hyperparameters: TorchMDNetOptions,
    options: TorchMDNetImport,
    source: str,
) -> dict[str, Tensor]:
    """Weights as ours: rows of known elements, lengths in Å, today's layout, our sign of SO(3)."""
    n_rows = hyperparameters.max_atomic_number + 1
    weights = {name: tensor[:n_rows] if name in BY_ELEMENT else tensor for name, tensor in weights.items()}
    weights = _in_angstrom(weights, length_unit(options.length_unit))
    if arguments["model"] == "tensornet":
        weights = _today_layout(weights, arguments, source)
        weights = _our_sign(weights, arguments, options, source)
    return weights


def _in_angstrom(weights: dict[str, Tensor], length_A: float) -> dict[str, Tensor]:
    """Gaussians have centres and widths with a unit; everything else is a function of r over the cutoff."""
    prefix = "representation_model.distance_expansion."
    factors = {f"{prefix}offset": length_A, f"{prefix}coeff": length_A**-2}
    return {name: tensor * factors[name] if name in factors else tensor for name, tensor in weights.items()}


def _today_layout(weights: dict[str, Tensor], arguments: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Up to 2.x the three coefficients of a channel lay side by side.

    Checkpoints of that time have ``check_errors``; those before it did not have ``vector_cutoff`` either,
    and torchmd-net itself would read them wrongly.
    """
    if "check_errors" not in arguments:
        if "vector_cutoff" not in arguments:
            raise ModelError(
                f"{source} has neither hyper-parameter check_errors nor vector_cutoff: it was written by a "
                "TensorNet from before torchmd-net 2.0, whose weights are ordered in another way.",
                name="vector_cutoff",
                remedy="Load it with load_model(..., compatibility_load=True) of torchmd-net 3.1, and save "
                "it anew",
            )
        return weights
    return {
        name: tensor.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
        if FORMER_LAYOUT.fullmatch(name)
        else tensor
        for name, tensor in weights.items()
    }


def _our_sign(
    weights: dict[str, Tensor], arguments: Mapping[str, Any], options: TorchMDNetImport, source: str
) -> dict[str, Tensor]:
    """torchmd-net's Warp kernels build the antisymmetric part with the other sign than its Python.

    The embedding is I + A + S, where inversion changes the sign of A alone and norms do not see it. O(3)
    does not care; for SO(3) the sign of one linear map makes up for it.
    """
    if arguments["equivariance_invariance_group"] != "SO(3)":
        return weights
    if options.trained_with is None:
        raise ModelError(
            f"{source} is a TensorNet of group SO(3), which tells mirror images apart, and torchmd-net's "
            "Warp kernels and its Python see mirror images of each other.",
            name="--trained-with",
            allowed=["warp", "python"],
            remedy="Say which it was trained with: --trained-with warp (torchmd-net 3 where NVIDIA Warp is "
            "installed) or --trained-with python",
        )
    sign = -1 if options.trained_with == "warp" else 1
    return {name: sign * tensor if name == ANTISYMMETRIC else tensor for name, tensor in weights.items()}


# ------------------------------------------------------------------------------ references, what to know


def _references(checkpoint: TorchMDNetCheckpoint, source: str) -> tuple[Tensor, list[str]]:
    """Energy of each element's atom (119,), in the checkpoint's unit, and what to say of it."""
    total, notes = torch.zeros(N_ELEMENTS, dtype=torch.float64), []
    for index, (name, given) in enumerate(prior_arguments(checkpoint.arguments)):
        if name not in REFERENCES:
            raise ModelError(
                f"{source}: prior_model {name!r} adds an energy that cannot be represented here; only "
                f"energies of atoms can ({', '.join(REFERENCES)}).",
                name="prior_model",
                value=name,
                allowed=REFERENCES,
                remedy="Use torchmd-net itself",
            )
        if not given.get("enable", True):
            notes.append(
                "its atomic reference energies were taken off the data in training (remove_ref_energy), and "
                "it predicts what is left, here as in torchmd-net"
            )
            continue
        total += _table(checkpoint, f"prior_model.{index}.atomref.weight", source)
    return total, notes


def _table(checkpoint: TorchMDNetCheckpoint, key: str, source: str) -> Tensor:
    if key not in checkpoint.weights:
        raise ModelError(
            f"{source}: hyper_parameters name reference energies of atoms, and the weights have no {key}: "
            "the checkpoint is damaged or of an unknown version",
            name=key,
        )
    values = checkpoint.weights[key].double().flatten()[:N_ELEMENTS]
    return torch.nn.functional.pad(values, (0, N_ELEMENTS - len(values)))


def _fitted(arguments: Mapping[str, Any]) -> list[str]:
    """Labels with a weight in the loss. Where nothing is said of weights, both had one."""
    fitted = {
        "energy": arguments.get("y_weight", arguments.get("energy_weight")) != 0,
        "forces": arguments.get("neg_dy_weight", arguments.get("force_weight")) != 0
        and arguments.get("derivative") is not False,
    }
    return [label for label, holds in fitted.items() if holds]


def _remarks(arguments: Mapping[str, Any]) -> list[str]:
    """What hyper-parameters say that a user should know."""
    remarks = {
        "it was trained without forces (derivative: false); look at those it gives before you rely on them": (
            arguments.get("derivative") is False
        ),
        "its default box (box_vecs) is not taken over: the cell of each structure counts": (
            arguments.get("box_vecs") is not None
        ),
        f"its data set {arguments.get('dataset')} has atom types of its own, which must be atomic numbers": (
            arguments.get("dataset") in OWN_TYPES
        ),
    }
    return [remark for remark, holds in remarks.items() if holds]


__getattr__ = renamed(__name__, {"Checkpoint": "TorchMDNetCheckpoint"})
