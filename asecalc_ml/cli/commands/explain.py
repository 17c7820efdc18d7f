"""`asecalc-ml explain`: which atoms a model's prediction rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.cli.arguments import Quiet, check_folder, override, several
from asecalc_ml.cli.process import show_messages
from asecalc_ml.cli.structures import read_structures, select_frames, split_off_reader
from asecalc_ml.terminal.console import make_console, make_table
from asecalc_ml.units import number_with_unit

if TYPE_CHECKING:
    from asecalc_ml.analysis.relevance import RelevanceResult

MOST_ROWS = 40


def _meaning(option: str) -> str:
    text = RelevanceOptions.model_fields[option].description or option
    return f"{text[0].upper()}{text[1:]}."


def explain(  # noqa: PLR0913, PLR0917 - a command's options
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")],
    atoms: Annotated[
        str,
        typer.Argument(
            help="Structure (a name or a file; all its frames), data set (.npz, .json, .h5) or run directory."
        ),
    ],
    method: Annotated[
        list[str] | None, typer.Option(help=f"{_meaning('method')} Several with commas, or repeated.")
    ] = None,
    target: Annotated[str | None, typer.Option(help=_meaning("target"))] = None,
    frames: Annotated[str, typer.Option(help="Frames, as in Python: 0:500:10, or -1 for the last.")] = ":",
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where to write JSON, CSV, extended XYZ and a page; by default the results of the run "
            "directory, whose report shows them then, or else relevance-NAME."
        ),
    ] = None,
    chemiscope: Annotated[
        Path | None, typer.Option(help="Write a file for https://chemiscope.org too: .json or .json.gz.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say which atoms and pairs a model's prediction rests on, and write the numbers.

    Further options: --pairs all, --integration-points 64, --walk-length 2, --top-walks 50,
    --compared-frames 0, and those of a data set's reader. docs/relevance.md has the methods' equations.
    """
    given = {"method": several(method), "target": target}
    own, further = split_off_reader(context.args, RelevanceOptions, [atoms])
    data = override({key: value for key, value in given.items() if value is not None}, own)
    options = config.parse_options(data, RelevanceOptions)
    source = Path(atoms)
    check_folder(directory or (_results_of(source) if source.is_dir() else Path()))
    show_messages(quiet)
    from asecalc_ml.analysis.relevance import explain as find_relevance
    from asecalc_ml.analysis.relevance.output import chemiscope_file

    if chemiscope is not None:
        chemiscope_file.check(chemiscope)
    structures = select_frames(read_structures(atoms, further), frames)
    result = find_relevance(name, structures, options, quiet=quiet)
    _show(result)
    for path in _written(result, directory, source):
        typer.echo(f"Wrote {path}")
    if chemiscope is not None:
        typer.echo(f"Wrote {chemiscope_file.write(result, chemiscope)}")


def _written(result: RelevanceResult, directory: Path | None, source: Path) -> list[Path]:
    """Files of a result, with the report of the run it belongs to, or a page of its own."""
    from asecalc_ml.analysis.relevance.output.page import write_page
    from asecalc_ml.analysis.report.report import write_report

    if directory is None and source.is_dir():
        return [*result.write(_results_of(source)), write_report(source)]
    folder = Path(f"relevance-{result.model}") if directory is None else directory
    return [*result.write(folder), write_page(result, folder)]


def _results_of(run: Path) -> Path:
    """Folder of the results of a run directory."""
    from asecalc_ml.runs import RESULTS

    return run / RESULTS


def _show(result: RelevanceResult) -> None:
    """Relevance of the first structure's atoms, and how methods agree with occlusion."""
    structure = result.structures[0]
    columns = ["atom", *(method.heading for method in result.methods)]
    rows = [
        (f"{symbol}{atom}", *(f"{method.frames[0].atoms[atom]:.4f}" for method in result.methods))
        for atom, symbol in enumerate(structure.symbols[:MOST_ROWS])
    ]
    title = f"{result.target}: {number_with_unit(f'{structure.value:.6g}', result.target_unit)}"
    make_console().print(make_table(columns, rows, title))
    for correlation in result.correlations:
        mean = "all ranks are tied" if correlation.mean is None else f"{correlation.mean:.2f}"
        n_frames = correlation.n_frames
        typer.echo(f"Rank correlation with occlusion, {correlation.method}: {mean} ({n_frames} structures)")
