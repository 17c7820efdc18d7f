"""`asecalc-ml train`: a model from one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli import choices, kinds
from asecalc_ml.cli.arguments import Quiet, ResumeOrStart, Strict, read_options
from asecalc_ml.cli.process import set_threads, show_messages

if TYPE_CHECKING:
    from asecalc_ml.potentials.training.options import TrainOptions
    from asecalc_ml.store.registry import Entry

Resume = Annotated[bool, typer.Option("--resume", help="Continue after the last finished epoch.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a model of the same name.")]
AllowDifferent = Annotated[
    bool, typer.Option("--allow-different", help="Resume although the code of a plugin has changed.")
]


def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML file; `asecalc-ml template train` prints one.")],
    resume: Resume = False,
    replace: Replace = False,
    resume_or_start: ResumeOrStart = False,
    quiet: Quiet = False,
    strict: Strict = False,
    allow_different: AllowDifferent = False,
) -> None:
    """Fit a model and register it under its name.

    Options of the file can be given here too: `--seed 1` wins over `seed:`, `--split.n_train 100` over
    `n_train` in `split:`.
    `asecalc-ml template train` lists them all.
    """
    options = check_training(read_options(file, context.args), str(file))
    set_threads(options.threads)
    show_messages(quiet)
    from asecalc_ml.potentials.training import train as fit

    entry = fit(
        options,
        resume=resume,
        replace=replace,
        quiet=quiet,
        strict=strict,
        allow_different=allow_different,
        resume_or_start=resume_or_start,
    )
    if not quiet:
        show_registered(entry)


def check_training(data: Mapping, source: str) -> TrainOptions:
    """Options of a training, with those of its data and its architecture checked too."""
    from asecalc_ml.potentials.training.options import TrainOptions

    kinds.check_kind(data, (kinds.TRAINING,), source)
    choices.check_trackers(data, source)
    options = config.parse_file(data, TrainOptions, source)
    choices.check_training_plugins(data, source)
    return options


def show_registered(entry: Entry | None) -> None:
    """Print the errors of a model that has been trained, and where it is."""
    from asecalc_ml.potentials.training.evaluate import ModelEvaluation

    if entry is None:  # of several processes that srun has started, the first has the model
        return
    assert entry.card.metrics is not None  # a training that ends measures them
    typer.echo(f"\n{ModelEvaluation(entry.name, 'its test data', entry.card.metrics, None)}")
    typer.echo(f"\nRegistered {entry.name} ({entry.hash[:12]}) in {entry.path.parent}")
