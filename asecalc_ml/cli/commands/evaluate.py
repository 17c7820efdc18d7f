"""`asecalc-ml eval`: errors of a model or a committee on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli.arguments import Strict
from asecalc_ml.cli.process import show_messages
from asecalc_ml.cli.structures import reader, refuse_reader_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.writing import obstacle, write_whole

if TYPE_CHECKING:
    from asecalc_ml.calculators.protocol import Spec
    from asecalc_ml.potentials.datasets.options import DatasetOptions
    from asecalc_ml.potentials.training.evaluate import ModelEvaluation

#: Formats of figures by the end of their names.
SUFFIXES = (".png", ".pdf", ".svg")


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
    figure: Annotated[
        Path | None,
        typer.Option(help="Where to draw the calibration of standard deviations: .png, .pdf or .svg."),
    ] = None,
    strict: Strict = False,
) -> None:
    """Measure a model's errors on labelled structures; by default on the test data its card names.

    Where frames are of several groups, errors of each are shown beside those of zero forces and of the
    training labels' means.
    Standard deviations, of a committee or from last-layer features, are compared with the errors.

    Options of the dataset reader may follow: `--energy-unit Hartree --forces-unit Hartree/Bohr`.
    """
    show_messages(quiet=False)
    _check_figure(figure)
    if data is None:
        refuse_reader_options(context.args)
    dataset = None if data is None else reader(data, context.args)
    evaluation = _evaluated(config.parse_value(name), dataset, by, strict)
    typer.echo(f"\n{evaluation}")
    if figure is not None:
        _draw(evaluation, figure)
        typer.echo(f"Wrote {figure}")


def _evaluated(spec: Spec, dataset: DatasetOptions | None, by: str | None, strict: bool) -> ModelEvaluation:
    if not isinstance(spec, dict):
        from asecalc_ml.potentials.training.evaluate import evaluate_model

        return evaluate_model(str(spec), dataset, by, strict, quiet=False)
    if by is not None:
        problem = "errors by group are those of a single model"
        raise ConfigError(problem, name="by", value=by, remedy="leave out --by")
    from asecalc_ml.potentials.training.calibration.committee import evaluate_committee

    return evaluate_committee(spec, dataset, strict, quiet=False)


def _check_figure(figure: Path | None) -> None:
    """Refuse a file that cannot be written, or of an unknown format, before computing."""
    if figure is None:
        return
    if figure.suffix not in SUFFIXES:
        raise ConfigError(
            f"{figure} has no format of a figure",
            name="figure",
            value=str(figure),
            allowed=SUFFIXES,
            remedy=f"give a name that ends in {', '.join(SUFFIXES)}",
        )
    if why := obstacle(figure.parent):
        raise ConfigError(
            f"cannot write {figure} ({why})", name="figure", value=str(figure), remedy="choose another folder"
        )


def _draw(evaluation: ModelEvaluation, figure: Path) -> None:
    if not evaluation.calibrations:
        raise ConfigError(
            f"{evaluation.model} has no standard deviations of what {evaluation.data} has labels of: there "
            "is nothing to draw",
            name="figure",
            value=str(figure),
            remedy="give the model an uncertainty (asecalc-ml calibrate NAME), or evaluate a committee",
        )
    from asecalc_ml.analysis.calibration_figure import calibration_figure

    factors = {name: scale.factor for name, scale in evaluation.scales.items()}
    write_whole(figure, calibration_figure(evaluation.calibrations, factors, figure.suffix[1:]))
