"""`asecalc-ml eval`: errors of a model or a committee on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli.arguments import Device, Processes, Strict, check_folder
from asecalc_ml.cli.process import show_messages
from asecalc_ml.cli.structures import reader, refuse_reader_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.writing import write_whole

if TYPE_CHECKING:
    from asecalc_ml.analysis.comparing.parity import Parity
    from asecalc_ml.calculators.protocol import Spec
    from asecalc_ml.potentials.datasets.options import DatasetOptions
    from asecalc_ml.potentials.training.evaluate import ModelEvaluation


def evaluate(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a registered model, name@hash, a model file, or a committee as in YAML, "
            '"{committee: {members: [first, second]}}".'
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            help="rMD17's .npz, mlearn's .json, ANI-1's .h5, or a file ASE reads; several by a pattern in "
            "quotes (default: the test data)"
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Errors by this key of the frames' info (default: group, where frames have it)."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where to write figures (PNG) and numbers (CSV, JSON): predicted against labelled values of "
            "a property model, and the calibration of standard deviations."
        ),
    ] = None,
    device: Device = "cpu",
    processes: Processes = 1,
    strict: Strict = False,
) -> None:
    """Measure a model's errors on labelled structures; by default on the test data its card names.

    Where frames are of several groups, errors of each are shown beside those of zero forces and of the
    training labels' means.
    Standard deviations, of a committee or from last-layer features, are compared with the errors.

    Options of the dataset reader may follow: `--energy-unit Hartree --forces-unit Hartree/Bohr`.
    """
    show_messages(quiet=False)
    spec = config.parse_value(name)
    if directory is not None:
        check_folder(directory)
        _check_drawn(spec, directory)
    if data is None:
        refuse_reader_options(context.args)
    dataset = None if data is None else reader(data, context.args)
    evaluation = _evaluated(spec, dataset, by, strict, device, processes)
    typer.echo(f"\n{evaluation}")
    if directory is not None:
        for path in _write(evaluation, directory):
            typer.echo(f"Wrote {path}")


def _evaluated(
    spec: Spec, dataset: DatasetOptions | None, by: str | None, strict: bool, device: str, processes: int
) -> ModelEvaluation:
    if not isinstance(spec, dict):
        from asecalc_ml.potentials.training.evaluate import evaluate_model

        return evaluate_model(str(spec), dataset, by, strict, quiet=False, device=device, processes=processes)
    if by is not None:
        problem = "errors by group are those of a single model"
        raise ConfigError(problem, name="by", value=by, remedy="leave out --by")
    from asecalc_ml.potentials.training.calibration.committee import evaluate_committee

    return evaluate_committee(spec, dataset, strict, quiet=False, processes=processes)


def _check_drawn(spec: Spec, directory: Path) -> None:
    """Refuse a folder for figures of a model that has none: of energies, without standard deviations."""
    if isinstance(spec, dict):
        return
    from asecalc_ml.store.stored_model import StoredModel

    card = StoredModel.find(str(spec)).card
    if card.predicts_energy and not card.uncertainty:
        raise ConfigError(
            f"{card.name} predicts energies without standard deviations: there is nothing to draw",
            name="directory",
            value=str(directory),
            remedy=f"give it an uncertainty (asecalc-ml calibrate {card.name}), or evaluate a committee",
        )


def _write(evaluation: ModelEvaluation, directory: Path) -> list[Path]:
    """Write figures and numbers of what was evaluated."""
    paths = []
    if evaluation.predictions:
        paths += _parity(evaluation).write(directory)
    if evaluation.calibrations:
        from asecalc_ml.analysis.calibration_figure import calibration_figure

        factors = {name: scale.factor for name, scale in evaluation.scales.items()}
        paths.append(directory / "calibration.png")
        write_whole(paths[-1], calibration_figure(evaluation.calibrations, factors))
    return paths


def _parity(evaluation: ModelEvaluation) -> Parity:
    from asecalc_ml.analysis.comparing.parity import Parity, ParityQuantity

    quantities = [
        ParityQuantity.of(
            values.quantity, [evaluation.places[k] for k in values.rows], values.labelled, values.predicted
        )
        for values in evaluation.predictions
    ]
    return Parity(model=evaluation.model, on=evaluation.data, quantities=quantities)
