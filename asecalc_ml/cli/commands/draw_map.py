"""`asecalc-ml map`: structures where a model's last layer puts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.cli.arguments import Quiet, check_folder, override
from asecalc_ml.cli.process import show_messages
from asecalc_ml.cli.structures import read_structures, select_frames, split_off_reader
from asecalc_ml.errors import ConfigError

if TYPE_CHECKING:
    from asecalc_ml.analysis.maps import RepresentationMap


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
    for line in (*_roughness(result), *_neighbors(result)):
        typer.echo(line)
    for path in result.write(Path(f"map-{result.model}") if directory is None else directory):
        typer.echo(f"Wrote {path}")


def _roughness(result: RepresentationMap) -> Iterator[str]:
    if result.roughness:
        yield f"Roughness, {result.points}"
    for rough in result.roughness:
        rogi, xd = _with_error(rough.rogi, rough.error), _with_error(rough.rogi_xd, rough.error_xd)
        place = f"{rough.representation:<14} {rough.metric:<10} {rough.quantity:<14}"
        yield f"  {place} ROGI {rogi}, ROGI-XD {xd}"


def _neighbors(result: RepresentationMap) -> Iterator[str]:
    if result.neighbor_similarity:
        yield f"Values of {result.neighbor_similarity[0].n_neighbors} neighbors (Moran's I, shuffled)"
    for similar in result.neighbor_similarity:
        space = similar.representation if similar.projection == "none" else similar.projection
        shuffled = _with_error(similar.shuffled_mean, similar.shuffled_std)
        yield f"  {space:<14} {similar.quantity:<14} {similar.morans_i:.3f} ({shuffled})"


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


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
