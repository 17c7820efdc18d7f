"""From a model and structures to a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.maps.neighbors import compare_neighbors
from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.analysis.maps.points import collect, points_of
from asecalc_ml.analysis.maps.projections import project
from asecalc_ml.analysis.maps.quantities import of_atoms, of_structures
from asecalc_ml.analysis.maps.results import RepresentationMap
from asecalc_ml.analysis.maps.roughness import measure
from asecalc_ml.analysis.relevance.source import Source
from asecalc_ml.errors import AnalysisError
from asecalc_ml.model.model import Model

FEWEST_POINTS = 3  # two lie on a line whatever they are


def represent(
    model: str | Path | Model,
    structures: Iterable[Atoms] | Mapping[str, Iterable[Atoms]],
    options: MapOptions,
    quiet: bool,
) -> RepresentationMap:
    """Project structures, or their atoms; see :func:`asecalc_ml.analysis.maps.draw_map.draw_map`."""
    source = Source.of(model).of_quantity(options.target)
    data = collect(source, structures, quiet)
    points: dict[str, np.ndarray] = {
        name: points_of(name, data, options.level) for name in options.representations
    }
    n_points = len(next(iter(points.values())))
    if n_points < FEWEST_POINTS:
        raise AnalysisError(
            f"a map of fewer than {FEWEST_POINTS} points shows nothing",
            name="points",
            value=n_points,
            allowed=f"{FEWEST_POINTS} or more",
            remedy="give more structures",
        )
    quantities = (of_structures if options.level == "structures" else of_atoms)(data, options.info)
    projections = [
        project(name, rows, method, options)
        for name, rows in points.items()
        for method in options.projections
    ]
    return RepresentationMap(
        model=source.name,
        model_hash=source.hash,
        architecture=source.architecture,
        level=options.level,
        n_structures=len(data.frames),
        quantities=quantities,
        projections=projections,
        roughness=measure(points, quantities, options),
        neighbor_similarity=compare_neighbors(points, projections, quantities, options),
    )
