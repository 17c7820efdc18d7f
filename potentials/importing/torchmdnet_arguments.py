"""Hyper-parameters of a torchmd-net checkpoint in our options' names; what has no place here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ModelError
from asecalc_ml.model.model import N_ELEMENTS
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, GraphNetwork, TensorNet
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions

ARCHITECTURES = {
    "equivariant-transformer": EquivariantTransformer,
    "tensornet": TensorNet,
    "graph-network": GraphNetwork,
}

#: torchmd-net's name of a hyper-parameter, and ours.
SHARED = {
    "embedding_dimension": "hidden_channels",
    "num_layers": "n_layers",
    "num_rbf": "n_rbf",
    "rbf_type": "rbf",
    "trainable_rbf": "trainable_rbf",
    "activation": "activation",
}
OWN = {
    "equivariant-transformer": {
        "num_heads": "n_heads",
        "neighbor_embedding": "neighbor_embedding",
        "distance_influence": "distance_influence",
        "attn_activation": "attention_activation",
        "vector_cutoff": "envelope",
    },
    "tensornet": {"equivariance_invariance_group": "group"},
    "graph-network": {"neighbor_embedding": "neighbor_embedding"},
}

SUMS = ("add", "sum")  # of reduce_op


class Fixed(NamedTuple):
    """A hyper-parameter with a single value here, which is also that of a checkpoint without it."""

    value: Any
    meaning: str
    architectures: tuple[str, ...] = tuple(ARCHITECTURES)


FIXED = {
    "cutoff_lower": Fixed(0, "messages from atoms beyond a lower cutoff only"),
    "atom_filter": Fixed(-1, "energies of heavy atoms only"),
    "dipole": Fixed(False, "a dipole moment"),
    "aggr": Fixed("add", "means or maxima over neighbors", ("graph-network",)),
}

#: What decides about the energy; the last two show in the shapes of the weights.
READ = {
    *SHARED,
    *FIXED,
    *(name for names in OWN.values() for name in names),
    *("model", "cutoff_upper", "max_z", "output_model", "reduce_op", "prior_model", "prior_args"),
    *("remove_ref_energy", "check_errors", "box_vecs", "derivative", "dataset"),
    *("num_filters", "output_mlp_num_layers"),
}

_OF_TRAINING = """
accelerator batch_size charge checkpoint_monitor conf coord_files dataset_arg dataset_preload_limit
dataset_root distributed_backend early_stopping_monitor early_stopping_patience ema_alpha ema_alpha_dy
ema_alpha_neg_dy ema_alpha_y embed_files energy_files energy_weight force_files force_weight
gradient_clipping inference_batch_size load_model load_weights log_dir lr lr_factor lr_metric lr_min
lr_patience lr_warmup_steps max_num_neighbors neg_dy_weight ngpus num_epochs num_nodes num_workers
precision redirect reset_trainer save_interval seed spin splits standardize static_shapes tensorboard_use
test_interval test_ratio test_size train_loss train_loss_arg train_size val_ratio val_size wandb_name
wandb_project wandb_resume_from_id wandb_use weight_decay y_weight
"""

#: How a model was trained, and how it is run, in torchmd-net 0.1 to 3.1: nothing that changes its energy.
WITHOUT_EFFECT = frozenset(_OF_TRAINING.split())


def architecture_options(
    arguments: Mapping[str, Any], ignore: list[str], length_A: float, source: str
) -> tuple[str, TorchMDNetOptions]:
    """Name and options of the architecture.

    Parameters
    ----------
    arguments : mapping
        The checkpoint's ``hyper_parameters``.
    ignore : list of str
        Unknown ones that the user answers for.
    length_A : float
        The checkpoint's unit of length, Å.
    source : str
        What messages call the checkpoint.

    Raises
    ------
    ModelError, ConfigError
        If one is missing, unknown, or has a value that we do not have.
    """
    name = _architecture(arguments, source)
    _check_known(arguments, ignore, source)
    _check_fixed(arguments, name, source)
    _check_sum(arguments, source)
    translated = {
        ours: _required(arguments, theirs, source)
        for theirs, ours in {**SHARED, **OWN[name]}.items()
        if theirs != "vector_cutoff"
    }
    if name == "equivariant-transformer":
        translated["envelope"] = arguments.get("vector_cutoff", False)  # as it was before there was one
    return name, parse_options(
        {
            **translated,
            "cutoff_A": length_A * float(_required(arguments, "cutoff_upper", source)),
            "max_atomic_number": min(_required(arguments, "max_z", source), N_ELEMENTS) - 1,
        },
        ARCHITECTURES[name],
        f"{source}, hyper_parameters",
    )


def prior_arguments(arguments: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and arguments of each prior, in order, from the several ways in which torchmd-net writes them."""
    named = arguments.get("prior_model") or []
    named = named if isinstance(named, list) else [named]
    priors = [item for one in named for item in (one.items() if isinstance(one, Mapping) else [(one, {})])]
    given = arguments.get("prior_args") or [given for _, given in priors]
    given = given if isinstance(given, list) else [given]
    return [(name, options or {}) for (name, _), options in zip(priors, given, strict=False)]


def _architecture(arguments: Mapping[str, Any], source: str) -> str:
    name = _required(arguments, "model", source)
    if name not in ARCHITECTURES:
        raise ModelError(
            f"{source}: model is {name!r}, which is not offered here; what can be imported are "
            f"{', '.join(ARCHITECTURES)}",
            name="model",
            value=name,
            allowed=list(ARCHITECTURES),
        )
    output = _required(arguments, "output_model", source)
    if output != "Scalar":
        raise ModelError(
            f"{source}: output_model is {output!r}; what can be imported are energies that are sums over "
            "atoms, output_model 'Scalar'",
            name="output_model",
            value=output,
            allowed=["Scalar"],
        )
    return name


def _check_known(arguments: Mapping[str, Any], ignore: list[str], source: str) -> None:
    unknown = sorted(arguments.keys() - READ - WITHOUT_EFFECT - set(ignore))
    if unknown:
        raise ModelError(
            f"{source} was written by another version of torchmd-net: the hyper-parameter "
            f"{', '.join(unknown)} is not known here, and may change the network.",
            name=", ".join(unknown),
            remedy=f"Where you know that it does not, add --ignore {' '.join(unknown)}",
        )


def _check_fixed(arguments: Mapping[str, Any], name: str, source: str) -> None:
    for entry, fixed in FIXED.items():
        if name in fixed.architectures and arguments.get(entry, fixed.value) != fixed.value:
            raise ModelError(
                f"{source}: {entry} is {arguments[entry]!r} ({fixed.meaning}); only {entry} {fixed.value!r} "
                "can be represented here, so that this model cannot be imported",
                name=entry,
                value=arguments[entry],
                allowed=[fixed.value],
            )


def _check_sum(arguments: Mapping[str, Any], source: str) -> None:
    """A mean over n atoms is the sum over n in early versions, and over n + 1 in 3.1, which counts a zero."""
    operation = _required(arguments, "reduce_op", source)
    if operation not in SUMS:
        raise ModelError(
            f"{source}: reduce_op is {operation!r}; only energies that are sums over atoms "
            f"({' or '.join(SUMS)}) can be imported. Means are taken differently by versions of torchmd-net",
            name="reduce_op",
            value=operation,
            allowed=SUMS,
        )


def _required(arguments: Mapping[str, Any], entry: str, source: str) -> Any:
    if arguments.get(entry) is None:
        raise ModelError(
            f"{source} has no hyper-parameter {entry!r}, so that it was written by a version of torchmd-net "
            "whose checkpoints cannot be read",
            name=entry,
            remedy="load it with that version, and save it with torchmd-net 3.1",
        )
    return arguments[entry]
