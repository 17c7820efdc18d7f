"""`asecalc-md campaign`: many runs from one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli import choices, kinds
from asecalc_ml.cli.arguments import Quiet, ResumeOrStart, read_options
from asecalc_ml.errors import AsecalcError, ConfigError, RunError, RunPausedError, continued_by, together
from asecalc_ml.local_modules import search_also

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import Campaign, GridPoint
    from asecalc_ml.md_protocols.campaign.scheduler import Status

BEGUN_AGAIN = "The same command continues the runs from their last checkpoints"


def campaign(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML file with `base: FILE` and `grid: {option: [values]}`.")],
    status: Annotated[bool, typer.Option("--status", help="Show how far it is, and run nothing.")] = False,
    resume_or_start: ResumeOrStart = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of protocols, each in a directory of its own, and collect one table of results.

    Begun again, it skips what is done, goes on with what was interrupted, and takes up what failed, with or
    without --resume-or-start. Options of the file can be given here too: `--workers 4`.
    `asecalc-md template campaign` lists them all.
    """
    from asecalc_ml.cli.campaign.progress import make_display, show_status
    from asecalc_ml.cli.campaign.table import track_table, write_tables
    from asecalc_ml.jobs.executors import make_executor
    from asecalc_ml.md_protocols.campaign.scheduler import Scheduler
    from asecalc_ml.md_protocols.campaign.state import CampaignFolder

    options, points = check_campaign(read_options(file, context.args), file)
    folder = CampaignFolder(Path(options.directory or Path("runs") / file.stem), writes=not status)
    try:
        scheduler = Scheduler(points, folder, options)
        if status:
            show_status(scheduler.statuses)
            return
        with make_display(scheduler.statuses, quiet) as display, continued_by(lambda: BEGUN_AGAIN):
            cpus = max(point.options.threads for point in points)
            scheduler.run(
                lambda: make_executor(options.executor, options.workers, options.ray_address, cpus), display
            )
        paths = write_tables(folder.directory, scheduler.statuses)
        track_table(folder.directory, scheduler.statuses)
    finally:
        folder.close()
    if not quiet:
        typer.echo(f"Results: {paths[0]}")
    _conclude(scheduler.statuses, folder.directory)


def validate_campaign(data: Mapping, file: Path) -> str:
    """Do what each run of a campaign does before its first step, once for runs that differ in the seed alone.

    Returns
    -------
    str
        What the campaign consists of.

    Raises
    ------
    ConfigError
        With every run that could not begin.
    """
    from asecalc_ml.md_protocols.campaign.state import WAITING, state_of

    options, points = check_campaign(data, file)
    folder = Path(options.directory or Path("runs") / file.stem)
    states = {point.name: state_of(folder / point.name, point.options) for point in points}
    waiting = [point for point in points if states[point.name] == WAITING]
    different = {point.options.model_copy(update={"seed": 0}).model_dump_json(): point for point in waiting}
    problems = {}
    for point in different.values():
        try:
            point.options.check(directory=folder / point.name)
        except AsecalcError as error:
            problems[point.name] = error
    if problems:
        raise together(ConfigError, [error.at(f"{file}, run {name}") for name, error in problems.items()])
    n_begun = len(points) - len(waiting)
    begun = f", {n_begun} of which have begun" if n_begun else ""
    return f"{file} is valid: a campaign of {len(points)} runs{begun} in {folder}"


def check_campaign(data: Mapping, file: Path) -> tuple[Campaign, list[GridPoint]]:
    """Options of a campaign and all its runs, with the options of their analyses checked too."""
    from asecalc_ml.md_protocols.campaign.options import Campaign, expand

    kinds.check_kind(data, (kinds.CAMPAIGN,), str(file))
    options = config.parse_file(data, Campaign, str(file))
    if isinstance(options.base, str):
        search_also((file.parent / options.base).parent)
    points = expand(options, file)
    for point in points:
        choices.check_analyses(point.options.model_dump(mode="json"), f"{file}, run {point.name}")
    return options, points


def _conclude(statuses: list[Status], directory: Path) -> None:
    """End with an error where runs failed, and with that of a pause where some are to be gone on with."""
    failed = [status for status in statuses if status.state == "failed"]
    if failed:
        first = failed[0]
        raise RunError(
            f"{directory}: {len(failed)} of {len(statuses)} runs failed, {first.point.name} for one: "
            f"{first.text}",
            name=str(directory),
            value=[status.point.name for status in failed],
            remedy="Begun again, the campaign takes up those that have failed no more than `retries` times",
        )
    paused = [status for status in statuses if status.state not in ("done", "stopped")]
    if paused:
        raise RunPausedError(
            f"{directory}: {len(paused)} of {len(statuses)} runs are not done ({paused[0].point.name}: "
            f"{paused[0].text or paused[0].state}).",
            name=str(directory),
            value=[status.point.name for status in paused],
            remedy=BEGUN_AGAIN,
        )
