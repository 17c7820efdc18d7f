"""`asecalc-ml retrain`: a registered model from a trial of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asecalc_ml.cli.arguments import Quiet, ResumeOrStart, given_options
from asecalc_ml.cli.commands.train import Replace, Resume, show_registered
from asecalc_ml.cli.process import set_threads, show_messages


def retrain(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Folder of the search, such as tuning/NAME.")],
    trial: Annotated[
        int | None, typer.Option(help="Number of the trial; the best by default, of one objective.")
    ] = None,
    resume: Resume = False,
    replace: Replace = False,
    resume_or_start: ResumeOrStart = False,
    quiet: Quiet = False,
) -> None:
    """Train the best trial of a search anew, and register its model with the search in the card.

    Options of the training can be given too: `--name my-model`, `--max_epochs 500`.
    Its name is that of the search by default.
    """
    from asecalc_ml.potentials.tuning.results import read_search
    from asecalc_ml.potentials.tuning.retraining import request_retraining

    flags = {"resume": resume, "replace": replace, "quiet": quiet, "resume_or_start": resume_or_start}
    request = request_retraining(read_search(directory), trial, given_options(context.args), **flags)
    set_threads(request.options.threads)
    show_messages(quiet)
    from asecalc_ml.potentials.training.run import run

    entry = run(request)
    if not quiet:
        show_registered(entry)
