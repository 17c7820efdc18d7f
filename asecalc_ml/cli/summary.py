"""Summaries that `validate` prints for a valid run, training or sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml import plugins
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions
    from asecalc_ml.potentials.training.options import TrainOptions
    from asecalc_ml.potentials.training.run import Start
    from asecalc_ml.potentials.tuning.options import TuneOptions
    from asecalc_ml.runs import RunPlan

Lines = Iterator[tuple[str, str]]  # name and text; those without a text are left out


def of_run(options: ProtocolOptions, atoms: Atoms, directory: Path) -> str:
    """Describe what a run will compute.

    Parameters
    ----------
    options : ProtocolOptions
    atoms : Atoms
        As :meth:`ProtocolOptions.check` returns it.
    directory : Path
    """
    return _text(f"{options.protocol} in {directory}", _of_run(options, atoms))


def of_training(options: TrainOptions, start: Start) -> str:
    """Describe what a training will fit, from its prepared start."""
    return _text(f"a training in {options.training_directory}", _of_training(options, start))


def of_search(options: TuneOptions, start: Start) -> str:
    """Describe what a search will try, from the prepared start of a training without its values."""
    return _text(f"a hyperparameter search in {options.search_directory}", _of_search(options, start))


def of_generation(options: GenerateOptions, atoms: Atoms) -> str:
    """Describe what `data generate` will sample, from the structure with its calculator."""
    return _text(f"frames for {options.output}", _of_generation(options, atoms))


def _text(title: str, lines: Lines) -> str:
    shown = [(name, text) for name, text in lines if text]
    width = 2 + max(len(name) for name, _ in shown)
    return "\n".join([title, *(f"  {name + ':':{width}}{text}" for name, text in shown)])


def _of_training(options: TrainOptions, start: Start) -> Lines:
    data, n_weights = start.data, sum(weights.numel() for weights in start.model.potential.parameters())
    elements = sorted({symbol for atoms in data.train for symbol in atoms.symbols})
    yield "model", f"{options.name}: {options.model['architecture']}, {n_weights:,} parameters"
    yield "weights", f"from {data.lineage}" if data.lineage.ancestors else ""
    yield "data", f"{data.source.label}, with {', '.join(elements)}"
    parts = {"train": data.train, "validate": data.validation, "test": data.test}
    yield "frames", ", ".join(f"{len(frames):,} to {name}" for name, frames in parts.items())
    yield "labels", f"{', '.join(options.loss.fitted)} are fitted"
    n_batches = -(-len(data.train) // options.batch_size)
    yield "epochs", f"at most {options.max_epochs:,}, batches in each: {n_batches:,}"


def _of_search(options: TuneOptions, start: Start) -> Lines:
    yield from _of_training(options, start)
    search = options.search
    yield "space", ", ".join(f"{name} ({parameter.kind})" for name, parameter in search.space.items())
    yield "objectives", ", ".join(search.objectives)
    limits = [
        f"{search.trials:,} trials" if search.trials is not None else "",
        f"{search.hours:g} h" if search.hours is not None else "",
    ]
    yield "budget", ", ".join(filter(None, limits))


def _of_generation(options: GenerateOptions, atoms: Atoms) -> Lines:
    yield "structure", f"{options.structure}, {_structure(atoms)}"
    yield "calculator", _calculator(atoms)
    kelvin = ", ".join(f"{temperature:g}" for temperature in options.temperatures_K)
    yield "frames", f"{options.n_frames:,}, one every {options.interval_fs:g} fs, at {kelvin} K"
    n_temperatures = len(options.temperatures_K)
    n_steps = options.n_frames * options.steps_between_frames + n_temperatures * options.equilibration_steps
    yield "dynamics", f"{n_steps:,} steps of {options.timestep_fs:g} fs"


def _of_run(options: ProtocolOptions, atoms: Atoms) -> Lines:
    yield "structure", f"{options.structure}, {_structure(atoms)}"
    yield "calculator", _calculator(atoms)
    for stage in options.checked_stages():
        yield stage.name, stage.summary()
    yield "thermostat", _thermostat(options)
    plan = options.plan()
    yield "pressure", _pressure(plan)
    if plan.n_frames is not None:
        yield "frames", f"{plan.n_frames:,}, one every {plan.frame_interval_fs:g} fs"
    yield "analyses", ", ".join(_analyses(options, atoms))


def _analyses(options: ProtocolOptions, atoms: Atoms) -> list[str]:
    """Names as given; of the default ones those that will find something to measure."""
    if options.analyses is not None:
        return list(options.analyses)
    names, plan, registered = [], options.plan(), plugins.names("analyses")
    for name in (name for name in options.default_analyses if name in registered):
        analysis = plugins.get("analyses", name)()
        with contextlib.suppress(AnalysisError):
            analysis.check_start(atoms)
            analysis.check_plan(plan)
            names.append(name)
    return names


def _structure(atoms: Atoms) -> str:
    from asecalc_ml.structure.loading import charge_and_spin

    charge, spin = charge_and_spin(atoms)
    periodic = "".join(axis for axis, is_periodic in zip("abc", atoms.pbc, strict=True) if is_periodic)
    parts = [
        f"{atoms.get_chemical_formula()}, {len(atoms)} atoms",
        f"periodic along {periodic}" if periodic else "",
        f"charge {charge:+d}" if charge else "",
        f"{spin} unpaired electrons" if spin else "",
        ", ".join(type(constraint).__name__ for constraint in atoms.constraints),
    ]
    return ", ".join(filter(None, parts))


def _calculator(atoms: Atoms) -> str:
    from asecalc_ml.calculators.factory import describe_calculator

    name, forces = describe_calculator(atoms.calc)["name"], atoms.get_forces()
    largest = (forces**2).sum(axis=1).max() ** 0.5
    return f"{name}, {atoms.get_potential_energy():.4f} eV, largest force {largest:.3g} eV/Å"


def _thermostat(options: ProtocolOptions) -> str:
    """That of each ensemble that has a choice."""
    parts = [options, *getattr(options, "parts", ())]
    return ", ".join(part.thermostat for part in parts if hasattr(part, "thermostat"))


def _pressure(plan: RunPlan) -> str:
    """In bar, too, which shows a wrong unit."""
    segments = plan.production.segments
    pressures = dict.fromkeys(value for segment in segments for _, value in segment.pressure_GPa)
    return ", ".join(f"{value:g} GPa ({1e4 * value:g} bar)" for value in pressures)
