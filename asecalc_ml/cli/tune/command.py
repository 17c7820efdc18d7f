"""`asecalc-ml tune`: a hyperparameter search from one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli import choices, kinds
from asecalc_ml.cli.arguments import Quiet, read_options
from asecalc_ml.cli.process import set_threads, show_messages
from asecalc_ml.errors import AsecalcError, ConfigError, TuningError, continued_by, refuse_both

if TYPE_CHECKING:
    from asecalc_ml.potentials.training.run import Start
    from asecalc_ml.potentials.tuning.options import TuneOptions
    from asecalc_ml.potentials.tuning.results import SearchResults
    from asecalc_ml.potentials.tuning.trials import Trial


def tune(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML file; `asecalc-ml template tune` prints one.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue a search that has begun.")] = False,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="Continue the search that is there, or start it.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how far it is, and run nothing.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the report page from what is there, and run nothing.")
    ] = False,
    quiet: Quiet = False,
    allow_different: Annotated[
        bool,
        typer.Option("--allow-different", help="Resume although another version of the package began it."),
    ] = False,
) -> None:
    """Search for the options of a training with which it does best.

    Options of the file can be given here too: `--search.trials 50`, `--max_epochs 20`.
    """
    refuse_both(resume_or_start=resume_or_start, resume=resume)
    data = read_options(file, context.args)
    show_messages(quiet)
    if status or report:
        show_search(data, str(file), status, report)
        return
    from asecalc_ml.potentials.tuning.folder import has_begun

    resume = resume or (resume_or_start and has_begun(check_tuning(data, str(file)).search_directory))
    options, _ = check_search_start(data, file, resume, allow_different)
    from asecalc_ml.cli.tune.report import try_report
    from asecalc_ml.cli.tune.table import SearchLines, show_results
    from asecalc_ml.potentials.tuning.scheduler import run_search

    def make_display(results: SearchResults, workers: int) -> Callable[[Trial | None], None]:
        return (lambda trial: None) if quiet else SearchLines(results, workers).show

    with continued_by(lambda: f"Nothing is lost: `asecalc-ml tune {file} --resume` continues."):
        results = run_search(options, resume, allow_different, make_display)
    page = try_report(results, f"asecalc-ml tune {file} --report")
    if not quiet:
        show_results(results)
        typer.echo(f"Results: {results.directory / 'results.csv'}")
        if page is not None:
            typer.echo(f"Report: {page}")
    if not results.best:
        raise TuningError(
            f"no trial of {results.directory} has a result{_last_reason(results)}",
            name=str(results.directory),
            remedy="results.csv has the reason of each; change the options, and start another search",
        )


def _last_reason(results: SearchResults) -> str:
    reasons = [trial.reason for trial in results.trials if trial.reason]
    return f" ({reasons[-1]});" if reasons else ";"


def show_search(data: Mapping, source: str, status: bool, report: bool) -> None:
    """Print how far a search is, write its report page, or both."""
    from asecalc_ml.cli.tune.report import write_report
    from asecalc_ml.cli.tune.table import show_results
    from asecalc_ml.potentials.tuning.results import read_search

    results = read_search(check_tuning(data, source).search_directory)
    if status:
        show_results(results)
    if report:
        typer.echo(f"Report: {write_report(results)}")


def check_tuning(data: Mapping, source: str) -> TuneOptions:
    """Options of a search, with those of its data, its architecture and its objectives checked too."""
    from asecalc_ml.potentials.tuning.options import TuneOptions

    kinds.check_kind(data, (kinds.TUNING,), source)
    options = config.parse_file(data, TuneOptions, source)
    choices.check_training_plugins(data, source)
    choices.check_objectives(data, source)
    return options


def check_search_start(
    data: Mapping, file: Path, resume: bool = False, allow_different: bool = False
) -> tuple[TuneOptions, Start]:
    """Do everything that a search does before its first trial; nothing is written.

    Returns
    -------
    options : TuneOptions
    start : Start
        Data and model of a training without values of the search.
    """
    options = check_tuning(data, str(file))
    set_threads(options.threads)
    from asecalc_ml.potentials.tuning.checks import check_search, check_training
    from asecalc_ml.potentials.tuning.folder import check_folder

    check_folder(options, resume, allow_different)
    try:
        check_search(options)
    except AsecalcError as error:
        raise error.as_kind(ConfigError).at(str(file)) from error
    return options, check_training(options)
