"""`asecalc-ml check`: whether a calculator keeps the laws."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from asecalc_ml.cli.arguments import Quiet, override, several
from asecalc_ml.terminal.console import make_console

FAILED = 1


def check(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A registered model, gfn2-xtb, or module:Class.")],
    atoms: Annotated[
        str | None,
        typer.Option(help="Structure to ask about: a name or a file (default: what the calculator takes)"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the results (default: check-TARGET.json)")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a check; several with commas, or repeated.")
    ] = None,
    memory_calls: Annotated[int, typer.Option(min=1000, help="Calls over which memory is watched.")] = 3000,
    quiet: Quiet = False,
) -> None:
    """Measure whether an ASE calculator keeps the laws: forces, stress, symmetries, state, dynamics.

    Arguments of the calculator follow: ase.calculators.lj:LennardJones --sigma 3.4 --epsilon 0.0103.
    The exit status is 1 if a check fails or stays undecided.
    """
    from asecalc_ml.conformance import Effort, check_calculator
    from asecalc_ml.conformance.table import WIDTH, print_report
    from asecalc_ml.files.writing import check_output, write_whole
    from asecalc_ml.structure.loading import load_structure

    spec = {target: override({}, context.args)}
    json_file = json_file or Path(f"check-{_short(target)}.json")
    check_output(json_file, overwrite=True)
    structure = None if atoms is None else load_structure(atoms)
    effort = Effort(memory_calls=memory_calls)
    report = check_calculator(spec, structure, only=several(only), effort=effort, quiet=quiet)
    print_report(report, make_console(width=WIDTH))
    write_whole(json_file, json.dumps(report.to_dict(), indent=2) + "\n")
    typer.echo(f"Wrote {json_file}")
    if not report.passed:
        raise typer.Exit(FAILED)


def _short(target: str) -> str:
    """A file's name from a calculator's: the class, or the model without its folder."""
    return re.sub(r"[^\w.+-]", "-", Path(target.rpartition(":")[2]).stem)
