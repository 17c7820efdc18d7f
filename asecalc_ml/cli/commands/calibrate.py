"""`asecalc-ml calibrate`: the uncertainty of a model that exists."""

from __future__ import annotations

from typing import Annotated

import typer

from asecalc_ml.cli.arguments import Quiet
from asecalc_ml.cli.process import set_threads, show_messages
from asecalc_ml.cli.structures import reader, refuse_reader_options


def calibrate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")],
    training: Annotated[
        str | None,
        typer.Option(help="Structures that trained it (default: those of its training, by its card)."),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Labelled structures that did not train it (default: likewise).")
    ] = None,
    new_name: Annotated[
        str | None,
        typer.Option("--as", help="Register the result under this name, and leave the model as it is."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of the name given by --as.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Give a model an uncertainty, from its last-layer features of training structures.

    Trainings do this at their end; older, imported and shipped models need it once.
    `predict`, `eval` and dynamics then know `energy_std`, `homo_std`, ...

    Options of the dataset reader may follow, for both files: `--energy-unit Hartree`.
    """
    set_threads(threads)
    show_messages(quiet)
    if training is None and validation is None:
        refuse_reader_options(context.args)
    train, held_out = (
        None if source is None else reader(source, context.args) for source in (training, validation)
    )
    from asecalc_ml.potentials.training.calibration.calibrate import calibrate as fit

    entry = fit(name, train, held_out, new_name=new_name, replace=replace)
    if not quiet:
        typer.echo(f"{entry.name} ({entry.hash[:12]}) in {entry.path.parent} has an uncertainty:")
        for quantity, stated in entry.card.uncertainty.items():
            typer.echo(f"  {quantity}_std: {stated}")
