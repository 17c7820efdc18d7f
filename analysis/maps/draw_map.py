"""Draws a map. Light to import: what does the work lies in ``representation.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.analysis.maps.options import MapOptions
from asecalc_ml.config.options import parse_options

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.analysis.maps.results import RepresentationMap
    from asecalc_ml.model.model import Model


def draw_map(
    model: str | Path | Model,
    structures: Iterable[Atoms] | Mapping[str, Iterable[Atoms]],
    options: MapOptions | None = None,
    quiet: bool = False,
    **changes: Any,
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
    from asecalc_ml.analysis.maps.representation import represent

    base = {} if options is None else options.model_dump()
    return represent(model, structures, parse_options({**base, **changes}, MapOptions), quiet)
