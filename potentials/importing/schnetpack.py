"""schnetpack's models: pickled modules, read by looking at the modules themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options, read_yaml
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.model.model import N_ELEMENTS
from asecalc_ml.potentials.importing.pickles import load_torch
from asecalc_ml.potentials.importing.schnetpack_modules import architecture_options, kind
from asecalc_ml.potentials.importing.upstream_model import UpstreamModel
from asecalc_ml.potentials.schnetpack.upstream import whole_package
from asecalc_ml.units import ENERGY_UNITS, LENGTH_UNITS, energy_unit, length_unit

if TYPE_CHECKING:
    from asecalc_ml.potentials.importing.options import SchNetPackImport

#: schnetpack's name of a representation, and our architecture.
ARCHITECTURES = {"SchNet": "schnet", "PaiNN": "painn", "SO3net": "so3net"}

#: Modules that change no energy: derivatives of it, and other properties beside it.
BESIDE_ENERGY = {"Forces", "Response", "DipoleMoment", "Polarizability"}
INPUT_MODULES = {"PairwiseDistances", "Strain"}
CASTS = {"CastTo64", "CastTo32", "CastMap"}
POOLING = {"sum": "sum", "avg": "mean"}

#: How schnetpack may spell the units of its config.yaml.
SPELLINGS = {"A": "Angstrom", "Ang": "Angstrom", "Angs": "Angstrom", "a0": "Bohr", "Ha": "Hartree"}


def best_model(directory: Path) -> Path:
    """The file of the best model in a training directory; a file is taken as it is.

    Raises
    ------
    ModelError
        If there is none.
    """
    if directory.is_file():
        return directory
    if not directory.is_dir():
        raise ModelError(
            f"no training directory {directory} (looked in {Path.cwd()})",
            name=str(directory),
            remedy="correct its name",
        )
    file = directory / "best_model"
    if not file.is_file():
        raise ModelError(
            f"{directory} holds no file best_model, which schnetpack writes after the first validation",
            name=str(directory),
            remedy="give the directory that holds it, or a model file itself",
        )
    return file


def read_schnetpack(file: Path, options: SchNetPackImport, trust: bool) -> UpstreamModel:
    r"""The model of a file, with energies that are schnetpack's.

    .. math:: E = \sum_i \left( c_i + \mathrm{atomref}_{Z_i} + \mathrm{mean} \right)

    with the offsets of its postprocessor; with ``aggregation_mode: avg`` the sum is a mean.

    Parameters
    ----------
    file : Path
    options : SchNetPackImport
    trust : bool
        Whether code in the file may run. It is a pickle of modules, so that it has to.

    Raises
    ------
    ModelError, ConfigError
        If it is no such model, holds what cannot be represented here, or was trained in other units than
        those stated.
    """
    model, source = _read(file, trust), str(file)
    energy, readout = _readout(model, options.output, source)
    _check_stated_units(file.parent / "config.yaml", energy, options)
    _check_input_modules(model, source)
    pooling = POOLING.get(str(readout.aggregation_mode))
    if pooling is None:
        raise ModelError(
            f"{source}: aggregation_mode of {energy!r} is {readout.aggregation_mode!r}, not "
            f"{' or '.join(POOLING)}",
            name="aggregation_mode",
            value=readout.aggregation_mode,
            allowed=list(POOLING),
        )
    name = ARCHITECTURES[kind(model.representation)]
    length_A, energy_eV = length_unit(options.length_unit), energy_unit(options.energy_unit)
    return UpstreamModel(
        architecture=name,
        hyperparameters=parse_options(
            architecture_options(model.representation, readout, length_A, source),
            plugins.get("architectures", name),
            source,
        ),
        weights=_weights(model, readout, length_A, source),
        scale=torch.full((N_ELEMENTS,), energy_eV, dtype=torch.float64),
        shift=energy_eV * _offsets(model, energy, pooling, source),
        pooling=pooling,
        notes=[] if model.do_postprocessing else ["its postprocessors are switched off (do_postprocessing)"],
    )


def _read(file: Path, trust: bool) -> nn.Module:
    if trust:
        whole_package()  # where the pickle looks its classes up; before it, so that it can be imported
    found = load_torch(file, trust)
    model = found.model if kind(found) == "AtomisticTask" else found
    if kind(model) != "NeuralNetworkPotential":
        raise ModelError(
            f"{file} holds a {kind(found)} and no NeuralNetworkPotential of schnetpack",
            name=str(file),
            value=kind(found),
            allowed=["NeuralNetworkPotential"],
            remedy="give the file best_model of a training with schnetpack 2.x",
        )
    representation = kind(model.representation)
    if representation not in ARCHITECTURES:
        raise ModelError(
            f"{file}: its representation is {representation}; what can be imported are "
            f"{', '.join(ARCHITECTURES)}",
            name="representation",
            value=representation,
            allowed=list(ARCHITECTURES),
        )
    return model


# ------------------------------------------------------------------------------------------------- outputs


def _readout(model: nn.Module, wanted: str | None, source: str) -> tuple[str, nn.Module]:
    """Name of the energy, and the module that predicts it."""
    atomwise = {module.output_key: module for module in model.output_modules if kind(module) == "Atomwise"}
    others = [module for module in model.output_modules if kind(module) not in {"Atomwise", *BESIDE_ENERGY}]
    if others:
        raise ModelError(
            f"{source}: the output module {kind(others[0])} adds to the energy what cannot be represented "
            "here; what can be imported are energies of Atomwise alone",
            name="output module",
            value=kind(others[0]),
            allowed=["Atomwise"],
        )
    energy = wanted or _only_energy(model, list(atomwise), source)
    if energy not in atomwise:
        raise ModelError(
            f"{source} predicts no {energy!r} by Atomwise, only {', '.join(atomwise) or 'other properties'}",
            name=source,
            value=energy,
            allowed=list(atomwise),
            remedy="name its energy with --output",
        )
    return energy, atomwise[energy]


def _only_energy(model: nn.Module, names: list[str], source: str) -> str:
    """The energy that forces are derived from, or the only output."""
    derived = [module.energy_key for module in model.output_modules if kind(module) in {"Forces", "Response"}]
    candidates = dict.fromkeys(derived or names)
    if len(candidates) != 1:
        raise ModelError(
            f"{source} predicts {', '.join(names) or 'no energy'}",
            name=source,
            allowed=names,
            remedy="name its energy with --output NAME",
        )
    return next(iter(candidates))


def _check_input_modules(model: nn.Module, source: str) -> None:
    strange = [kind(module) for module in model.input_modules if kind(module) not in INPUT_MODULES]
    if strange:
        raise ModelError(
            f"{source}: the input module {strange[0]} changes what the network sees, and cannot be "
            "represented here",
            name="input module",
            value=strange[0],
            allowed=sorted(INPUT_MODULES),
        )


def _offsets(model: nn.Module, energy: str, pooling: str, source: str) -> Tensor:
    """What postprocessors add to each element's atom (119,), in the model's unit."""
    total = torch.zeros(N_ELEMENTS, dtype=torch.float64)
    for module in model.postprocessors if model.do_postprocessing else ():
        changed = getattr(module, "_property", getattr(module, "output_key", energy))
        if kind(module) in CASTS or changed != energy:
            continue
        if kind(module) != "AddOffsets":
            raise ModelError(
                f"{source}: the postprocessor {kind(module)} cannot be represented here; only AddOffsets can",
                name="postprocessor",
                value=kind(module),
                allowed=["AddOffsets"],
            )
        if module.is_extensive != (pooling == "sum"):
            raise ModelError(
                f"{source}: AddOffsets has is_extensive {module.is_extensive} for energies that are a "
                f"{pooling} over atoms, which cannot be represented here",
                name="is_extensive",
                value=module.is_extensive,
                allowed=[not module.is_extensive],
            )
        if module.add_mean:
            total += module.mean.double()
        if module.add_atomrefs:
            table = module.atomref.double().flatten()[:N_ELEMENTS]
            total[: len(table)] += table
    return total


# ------------------------------------------------------------------------------------------------- weights


def _weights(model: nn.Module, readout: nn.Module, length_A: float, source: str) -> dict[str, Tensor]:
    """By our names, which are schnetpack's with the energy's readout in the first place, and lengths in Å."""
    basis = model.representation.radial_basis
    if kind(basis) == "BesselRBF" and length_A != 1.0:
        raise ModelError(
            f"{source}: its BesselRBF has a unit, 1/length, and can be imported for lengths in Angstrom only",
            name="BesselRBF",
            allowed=["Angstrom"],
        )
    weights = {f"representation.{name}": tensor for name, tensor in model.representation.state_dict().items()}
    weights |= {
        f"output_modules.0.outnet.{name}": tensor for name, tensor in readout.outnet.state_dict().items()
    }
    lengths = ("cutoff_fn.cutoff", "radial_basis.offsets", "radial_basis.widths")
    for name in (f"representation.{length}" for length in lengths):
        if name in weights:
            weights[name] = weights[name] * length_A
    table = "representation.embedding.weight"
    return {**weights, table: weights[table][:N_ELEMENTS]}


# --------------------------------------------------------------------------------------------------- units


def _check_stated_units(config: Path, energy: str, options: SchNetPackImport) -> None:
    """What the user states against what the training was told, where it is written down."""
    data = _data_section(config)
    units = data.get("property_units")
    energy_written = units.get(energy) if isinstance(units, Mapping) else None
    for option, written, stated in (
        ("--energy-unit", energy_written, options.energy_unit),
        ("--length-unit", data.get("distance_unit"), options.length_unit),
    ):
        unit = SPELLINGS.get(str(written), str(written).replace(" ", ""))
        if unit in (*ENERGY_UNITS, *LENGTH_UNITS) and unit != stated:
            raise ConfigError(
                f"{config} says that the model was trained in {written}, and {option} is {stated}",
                name=option,
                value=stated,
                allowed=[unit],
                remedy="correct the one that is wrong",
            )


def _data_section(config: Path) -> Mapping[str, Any]:
    if not config.is_file():
        return {}
    data = read_yaml(config).get("data")
    return data if isinstance(data, Mapping) else {}
