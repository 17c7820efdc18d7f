"""`asecalc-md`: molecular dynamics from one YAML file, with its analyses and report."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli import choices, kinds, summary, templates
from asecalc_ml.cli.analyse import analyse
from asecalc_ml.cli.app import App
from asecalc_ml.cli.arguments import (
    OPEN,
    Quiet,
    ResumeOrStart,
    Version,
    check_folder,
    given_options,
    read_options,
)
from asecalc_ml.cli.campaign.command import campaign, validate_campaign
from asecalc_ml.cli.commands.compare import Output, compare
from asecalc_ml.cli.errors import FriendlyGroup
from asecalc_ml.cli.process import prepare_process, set_threads, show_messages
from asecalc_ml.errors import AnalysisError, AsecalcError, continued_by, together
from asecalc_ml.md_protocols.integrators import thermostat_choice

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions

app = App(
    cls=FriendlyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Option models of files that are no protocol, each loaded where it is asked for.
FILES = {"campaign": "asecalc_ml.md_protocols.campaign.options:Campaign"}

File = Annotated[Path, typer.Argument(help="YAML file with `protocol: NAME` and that protocol's options.")]
Directory = Annotated[Path, typer.Argument(help="Run directory.")]
Name = Annotated[
    str,
    typer.Argument(help="campaign, or the name of a protocol, an analysis or another plugin, such as nve."),
]


def main() -> None:
    """Entry point of `asecalc-md`."""
    app()


@app.callback()
def _common(version: Version = False) -> None:
    """Molecular dynamics from one YAML file, with any ASE calculator."""
    prepare_process()


@app.command(context_settings=OPEN)
def run(
    context: typer.Context,
    file: File,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run directory.")
    ] = False,
    resume_or_start: ResumeOrStart = False,
    quiet: Quiet = False,
) -> None:
    """Run a protocol, analyse what it wrote, and write the report.

    Options of the file can be given here too: `--steps 100` wins over `steps:`, `--stop.wall_time_h 2` over
    `wall_time_h` in `stop:`.
    `asecalc-md template PROTOCOL` lists them all.
    """
    options = _check(read_options(file, context.args), str(file))
    set_threads(getattr(options, "threads", None))
    show_messages(quiet)
    directory = _directory(options, file)
    options.run(directory=directory, overwrite=overwrite, quiet=quiet, resume_or_start=resume_or_start)
    _analyse(directory, quiet)


@app.command(context_settings=OPEN)
def resume(
    context: typer.Context,
    directory: Directory,
    allow_different: Annotated[
        bool,
        typer.Option("--allow-different", help="Continue although model, versions, code or options changed."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Continue a run that was interrupted from its last checkpoint, then analyse it.

    `--steps 40000` makes a run longer, finished or not. Other options that do not change its trajectory can
    be given too, such as `--stop.wall_time_h 2`.
    """
    changes = given_options(context.args)
    set_threads(changes.get("threads", _stored(directory).get("threads")))
    show_messages(quiet)
    from asecalc_ml.md_protocols.engine.resume import resume_run

    resume_run(directory, allow_different, quiet, changes=changes)
    _analyse(directory, quiet)


@app.command(context_settings=OPEN)
def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML file of a protocol or a campaign.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="As for `run`: the run directory may hold a run.")
    ] = False,
) -> None:
    """Do everything that `run` does before its first step, and write nothing.

    It reads structure and model, computes energy and forces once, and checks that analyses, run directory and
    options fit. Options of the file can be given here too, as for `run`: `--steps 100 --stop.wall_time_h 2`.
    """
    data = read_options(file, context.args)
    if kinds.kind_of(data) is kinds.CAMPAIGN:
        typer.echo(validate_campaign(data, file))
        return
    options = _check(data, str(file))
    set_threads(getattr(options, "threads", None))
    show_messages(quiet=False)
    directory = _directory(options, file)
    atoms = options.check(directory=directory, overwrite=overwrite)
    options = thermostat_choice.for_structure(options, atoms)
    typer.echo(f"{file} is valid: {summary.of_run(options, atoms, directory)}")


@app.command()
def schema(name: Name, group: templates.Group = None) -> None:
    """Print the JSON schema of a protocol's YAML, for editors that complete and check it."""
    typer.echo(json.dumps(config.schema(templates.option_model(name, FILES, group)), indent=2))


@app.command()
def template(name: Name, group: templates.Group = None) -> None:
    """Print the YAML of a protocol, or of any plugin, with every option at its default and its meaning."""
    typer.echo(templates.template(name, FILES, group), nl=False)


@app.command()
def report(
    directories: Annotated[list[Path], typer.Argument(help="Run directories.")],
    output: Output = Path("comparison"),
    quiet: Quiet = False,
) -> None:
    """Analyse run directories (again) and write their reports; of several, a comparison too."""
    for directory in directories:
        _stored(directory)
        check_folder(directory)
    if len(directories) > 1:
        check_folder(output)
    show_messages(quiet)
    problems = []
    for directory in directories:
        try:
            _analyse(directory, quiet)
        except AsecalcError as error:  # the other runs have their reports all the same
            problems.append(error)
    if problems:
        raise _together(problems)
    if len(directories) > 1:
        try:
            compare(directories, None, output, quiet)
        except AnalysisError as error:
            warnings.warn(f"no comparison: {error}", stacklevel=2)


app.command()(compare)
app.command(context_settings=OPEN)(campaign)


def _check(data: Mapping, source: str) -> ProtocolOptions:
    """Options of the protocol that the data name, with the options of its analyses checked too."""
    kinds.check_kind(data, (kinds.PROTOCOL,), source)
    protocol = choices.load_chosen("protocols", data, "protocol", source, source)
    choices.check_trackers(data, source)
    options = config.parse_file(data, protocol, source)
    choices.check_analyses(data, source)
    return options


def _directory(options: ProtocolOptions, file: Path) -> Path:
    """Run directory: that of the options, else one called like the file."""
    return Path(options.directory or Path("runs") / file.stem)


def _stored(directory: Path) -> Mapping:
    """Options that a run directory was made with."""
    from asecalc_ml.runs import RunReader

    return RunReader(directory).read_options()


def _together(problems: list[AsecalcError]) -> AsecalcError:
    """One error of several runs."""
    return problems[0] if len(problems) == 1 else together(AnalysisError, problems)


def _analyse(directory: Path, quiet: bool) -> None:
    with continued_by(lambda: f"The run is kept: `asecalc-md report {directory}` analyses it."):
        page = analyse(directory)
    if not quiet:
        typer.echo(f"Report: {page}")
