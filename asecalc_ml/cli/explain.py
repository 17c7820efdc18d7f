"""`asecalc-ml explain`: which atoms a model's prediction rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config, plugins
from asecalc_ml.analysis.relevance.options import RelevanceOptions
from asecalc_ml.cli.arguments import Quiet, override
from asecalc_ml.errors import ConfigError, StructureError

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.relevance import RelevanceResult

DATASETS = {".npz": "rmd17", ".json": "mlearn", ".h5": "ani1"}  # readers by suffix; ASE reads all others
MOST_ROWS = 40


def _meaning(option: str) -> str:
    text = RelevanceOptions.model_fields[option].description
    return f"{text[0].upper()}{text[1:]}."


def explain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")],
    atoms: Annotated[
        str,
        typer.Argument(
            help="Structure (a name or a file; all its frames), data set (.npz, .json, .h5) or run directory."
        ),
    ],
    method: Annotated[str | None, typer.Option(help=_meaning("method"))] = None,
    target: Annotated[str | None, typer.Option(help=_meaning("target"))] = None,
    frames: Annotated[str, typer.Option(help="Frames, as in Python: 0:500:10, or -1 for the last.")] = ":",
    directory: Annotated[
        Path | None,
        typer.Option(help="Where to write JSON, CSV and extended XYZ; relevance-NAME by default."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say which atoms and pairs a model's prediction rests on, and write the numbers.

    Further options: --pairs all, --integration-points 64, --walk-length 2, --top-walks 50,
    --compared-frames 0. docs/relevance.md has the methods' equations.
    """
    given = {"method": method, "target": target}
    data = override({key: value for key, value in given.items() if value is not None}, context.args)
    options = config.parse_options(data, RelevanceOptions)
    from asecalc_ml.analysis.relevance import explain as find_relevance

    result = find_relevance(name, _selected(_structures(atoms), frames), options, quiet=quiet)
    _show(result)
    folder = Path(f"relevance-{result.model}") if directory is None else directory
    for path in result.write(folder):
        typer.echo(f"Wrote {path}")


def _structures(spec: str) -> list[Atoms]:
    """All frames of what a command names."""
    from asecalc_ml.structures import load_structure, shipped_names

    path = Path(spec)
    if path.is_dir():
        return _of_run(path)
    if path.is_file() and spec not in shipped_names():
        return _of_data(path) if path.suffix in DATASETS else _of_file(path)
    return [load_structure(spec)]


def _of_run(directory: Path) -> list[Atoms]:
    from asecalc_ml.rundir import TRAJECTORY, RunReader

    charged = RunReader(directory).atoms.info  # refuses a folder that holds no run
    frames = _of_file(directory / TRAJECTORY)
    for atoms in frames:
        atoms.info.update({key: charged[key] for key in ("charge", "spin") if key in charged})
    return frames


def _of_data(path: Path) -> list[Atoms]:
    name = DATASETS[path.suffix]
    return config.parse_options({"format": name, "path": str(path)}, plugins.get("datasets", name)).read()


def _of_file(path: Path) -> list[Atoms]:
    from ase.io import read

    file_format = "extxyz" if path.suffix in (".xyz", ".extxyz") else None
    try:
        return read(path, index=":", format=file_format)
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        raise StructureError(
            f"cannot read structures from {path} ({error!r}): look whether it is whole, and in a format that "
            "ASE knows by its name (.xyz, .traj, .cif, POSCAR ...)"
        ) from error


def _selected(structures: list[Atoms], frames: str) -> list[Atoms]:
    try:
        parts = [int(part) if part else None for part in frames.split(":")]
        wanted = slice(*parts) if len(parts) > 1 else slice(parts[0], parts[0] + 1 or None)
        chosen = structures[wanted]
    except (TypeError, ValueError):
        raise ConfigError(f"frames is {frames!r}; give a slice such as 0:500:10, or one number") from None
    if not chosen:
        raise ConfigError(f"frames {frames!r} selects none of the {len(structures)} there are")
    return chosen


def _show(result: RelevanceResult) -> None:
    """Relevance of the first structure's atoms, and how methods agree with occlusion."""
    from rich.console import Console
    from rich.table import Table

    one = result.structures[0]
    console = Console()
    console.width = console.width if console.is_terminal else 1000  # whole lines for grep
    headed = [f"{method.method} ({method.unit})" for method in result.methods]
    table = Table("atom", *headed, box=None, title=f"{result.target}: {one.value:.6g} {result.target_unit}")
    for atom, symbol in enumerate(one.symbols[:MOST_ROWS]):
        values = [method.frames[0].atoms[atom] for method in result.methods]
        table.add_row(f"{symbol}{atom}", *(f"{value:.4f}" for value in values))
    console.print(table)
    for found in result.correlations:
        mean = "all ranks are tied" if found.mean is None else f"{found.mean:.2f}"
        typer.echo(f"Rank correlation with occlusion, {found.method}: {mean} ({found.n_frames} structures)")
