"""`asecalc-ml doctor`: whether this installation and this machine are in order."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml.cli.arguments import Device
from asecalc_ml.cli.process import set_threads, show_messages
from asecalc_ml.errors import ConfigError
from asecalc_ml.outcome import COLOURS, OUTCOMES
from asecalc_ml.terminal.console import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from asecalc_ml.doctor.finding import Finding

FAILED = 1
WIDTHS = (1, 14, 26)  # of the indentation, the outcome and the name


def doctor(
    model: Annotated[
        str | None, typer.Option(help="Registered model of energies to compute a step with.")
    ] = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the step.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results to this file, too.")
    ] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Examine nothing: list files that can be made again, and remove them if you agree.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: do not ask.")] = False,
) -> None:
    """Examine packages, compiler, devices, threads, caches, models and a compiled step.

    The exit status is 1 if something is wrong; the line below it says what to do.
    docs/doctor.md explains each line.
    """
    if clean and json_file is not None:
        raise ConfigError("--clean writes no results,", name="--clean", remedy="leave out --json")
    if yes and not clean:
        raise ConfigError("--yes agrees to nothing here,", name="--yes", remedy="add --clean")
    if clean:
        _clean(yes)
        return
    environment = dict(os.environ)
    set_threads(threads)
    show_messages(quiet=False)
    from asecalc_ml.doctor.compiled_step import MODEL
    from asecalc_ml.doctor.examination import examine
    from asecalc_ml.files.writing import check_output, write_whole
    from asecalc_ml.store.registry import Registry

    if json_file is not None:
        check_output(json_file, overwrite=True)
    if model is not None:
        Registry().find(model)  # a misspelled name is no fault of the installation
    console = make_console()
    findings: list[Finding] = []
    for finding in examine(environment, model or MODEL, device):
        if not findings or findings[-1].topic != finding.topic:
            console.print(finding.topic, style="bold")
        _print(finding, console)
        findings.append(finding)
    if json_file is not None:
        write_whole(json_file, json.dumps(_as_dict(findings), indent=2) + "\n")
        typer.echo(f"Wrote {json_file}")
    failed = [finding.name for finding in findings if finding.outcome == "failed"]
    typer.echo(f"{len(failed)} failed: {', '.join(failed)}" if failed else "Nothing is wrong.")
    if failed:
        raise typer.Exit(FAILED)


def _print(finding: Finding, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for width in WIDTHS:
        table.add_column(width=width)
    table.add_column(overflow="fold")
    table.add_row("", Text(finding.outcome, COLOURS[finding.outcome]), finding.name, finding.text)
    if finding.remedy:
        table.add_row("", "", "", f"→ {finding.remedy}")
    console.print(table)


def _as_dict(findings: list[Finding]) -> dict:
    counts = {outcome: sum(one.outcome == outcome for one in findings) for outcome in OUTCOMES}
    return {"schema_version": 1, "counts": counts, "findings": [asdict(finding) for finding in findings]}


def _clean(yes: bool) -> None:
    from asecalc_ml.doctor.cleaning import removable, remove
    from asecalc_ml.files.full_disk import size_text
    from asecalc_ml.terminal.console import make_table

    groups = removable()
    columns = ("files", "can be removed", "stay (in use or new)", "removing costs", "where")
    rows = [
        (
            group.name,
            f"{len(group.entries)}, {size_text(group.n_bytes)}",
            str(group.n_kept),
            group.cost,
            str(group.place),
        )
        for group in groups
    ]
    make_console().print(make_table(columns, rows))
    total, n_entries = sum(group.n_bytes for group in groups), sum(len(group.entries) for group in groups)
    if not n_entries:
        typer.echo("Nothing can be removed.")
        return
    if not yes and not typer.confirm(f"Remove {n_entries} entries, {size_text(total)}?"):
        typer.echo("Nothing was removed.")
        return
    n_removed, problems = remove(groups)
    for problem in problems:
        typer.echo(f"Not removed: {problem}", err=True)
    typer.echo(f"Removed {n_removed} of {n_entries} entries.")
    if problems:
        raise typer.Exit(FAILED)
