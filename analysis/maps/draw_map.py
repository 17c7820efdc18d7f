"""From a model and structures to a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.analysis.maps.results import RepresentationMap
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import AnalysisError

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.model.model import Model

FEWEST_POINTS = 3  # two lie on a line whatever they are


def draw_map(
    model: str | Path | Model,
    structures: Iterable[Atoms] | Mapping[str, Iterable[Atoms]],
    options: MapOptions | None = None,
    quiet: bool = False,
    **changes,
) -> RepresentationMap:
    """Put structures, or their atoms, where a model's last layer or a fingerprint puts them.

    Parameters
    ----------
    model : str, Path or Model
        Registered name, ``name@hash``, a model file, or a model in memory. It runs in float64.
    structures : iterable of Atoms, or mapping of names to iterables
        A data set, a trajectory, or several by name, which the map tells apart.
    options : MapOptions, optional
    quiet : bool
        Show no progress.
    **changes
        Options by name, such as ``projections="pca,umap"``.

    Returns
    -------
    RepresentationMap, frozen. Drawing again gives the same.

    Raises
    ------
    ConfigError
        If an option is wrong.
    ModelError
        If the model is unknown or damaged.
    StructureError
        If a structure cannot be evaluated, or is not what the model was trained on.
    AnalysisError
        If there are too few points, a representation does not exist for a structure, or a package is missing.
    """
    from asecalc_ml.analysis.maps.points import collect, points_of
    from asecalc_ml.analysis.maps.projections import project
    from asecalc_ml.analysis.maps.quantities import of_atoms, of_structures
    from asecalc_ml.analysis.maps.roughness import measure
    from asecalc_ml.analysis.relevance.source import Source

    base = {} if options is None else options.model_dump()
    chosen = parse_options({**base, **changes}, MapOptions)
    source = Source.of(model)
    data = collect(source, structures, quiet)
    points = {name: points_of(name, data, chosen.level) for name in chosen.representations}
    if len(next(iter(points.values()))) < FEWEST_POINTS:
        raise AnalysisError(f"a map of fewer than {FEWEST_POINTS} points shows nothing: give more structures")
    quantities = (of_structures if chosen.level == "structures" else of_atoms)(data, chosen.info)
    return RepresentationMap(
        model=source.name,
        model_hash=source.hash,
        architecture=source.architecture,
        level=chosen.level,
        n_structures=len(data.frames),
        quantities=quantities,
        projections=[
            project(name, rows, method, chosen)
            for name, rows in points.items()
            for method in chosen.projections
        ],
        roughness=measure(points, quantities, chosen),
    )
