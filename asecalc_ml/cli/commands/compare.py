"""`asecalc-md compare`: distributions of several runs on one page."""

from pathlib import Path
from typing import Annotated

import typer

from asecalc_ml.cli.arguments import Quiet, check_folder

Directories = Annotated[list[Path], typer.Argument(help="Run directories; the first is the reference.")]
Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern",
        "-p",
        help="A bond (C-O, CH3-CH2, 0-1), angle (C-C-O) or dihedral (C-C-C-O); may be repeated. By default "
        "bonds and angles without hydrogen.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the page, JSON and CSV.")]


def compare(
    directories: Directories,
    pattern: Patterns = None,
    output: Output = Path("comparison"),
    quiet: Quiet = False,
) -> None:
    """Compare the distributions of several runs with the first one and with the training data.

    Writes a page with a figure for each pattern, radial distributions and vibrational densities of states as
    far as the runs have them, and tables of distances with 95 % intervals.
    """
    check_folder(output)
    from asecalc_ml.analysis.comparing.compare import compare as compared
    from asecalc_ml.analysis.comparing.page import write_page

    page = write_page(compared(directories, pattern or None), output)
    if not quiet:
        typer.echo(f"Comparison: {page}")
