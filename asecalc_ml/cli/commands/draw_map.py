"""`asecalc-ml map`: structures where a model's last layer puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asecalc_ml import config
from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.cli.arguments import Quiet, check_folder, override
from asecalc_ml.cli.process import show_messages
from asecalc_ml.cli.structures import read_structures, select_frames, split_off_reader
from asecalc_ml.errors import ConfigError


def draw_map(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")],
    sources: Annotated[
        str,
        typer.Argument(
            help="Structures (a file; all its frames), data sets (.npz, .json, .h5) or run directories; "
            "several with commas between them."
        ),
    ],
    frames: Annotated[str, typer.Option(help="Frames of each, as in Python: 0:500:10.")] = ":",
    directory: Annotated[
        Path | None, typer.Option(help="Where to write JSON, CSV and PNG; map-NAME by default.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw structures where a model's last layer, or a fingerprint, puts them, and measure roughness.

    Further options: --representations features,soap --projections pca,umap --level atoms --info KEY
    --metrics euclidean --neighbors 30 --seed 1, and those of the data sets' reader, such as
    --energy-key REF_energy --energy-unit kcal/mol. docs/maps.md says how to read the result.
    """
    show_messages(quiet)
    named = _several(sources)
    own, further = split_off_reader(context.args, MapOptions, named)
    options = config.parse_options(override({}, own), MapOptions)
    check_folder(directory or Path())
    structures = {source: select_frames(read_structures(source, further), frames) for source in named}
    from asecalc_ml.analysis.maps import draw_map as draw

    result = draw(name, structures, options, quiet=quiet)
    for table in result.tables():
        typer.echo(f"{table.title}, {result.points}")
        for row in table.rows:
            representation, metric, quantity, rogi, error, _ = row
            known = "" if error is None else f" ± {error:.3f}"
            typer.echo(f"  {representation:<14} {metric:<10} {quantity:<14} {rogi:.3f}{known}")
    for path in result.write(Path(f"map-{result.model}") if directory is None else directory):
        typer.echo(f"Wrote {path}")


def _several(sources: str) -> list[str]:
    named = [source.strip() for source in sources.split(",") if source.strip()]
    if len(set(named)) < len(named) or not named:
        raise ConfigError(
            f"sources are {sources!r}",
            name="sources",
            value=sources,
            remedy="name each file, data set or run once",
        )
    return named
