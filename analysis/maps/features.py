"""The last hidden layer of a trained network, for other uses. Light to import, as ``draw_map.py`` is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from asecalc_ml.model.model import Model


def features(
    model: str | Path | Model,
    structures: Atoms | Iterable[Atoms],
    target: str | None = None,
    quiet: bool = False,
) -> list[np.ndarray]:
    """Features of the atoms of structures in the last hidden layer of a network.

    The contributions of the atoms are linear in them, so that means over atoms describe intensive properties
    and sums extensive ones.

    Parameters
    ----------
    model : str, Path or Model
        Registered name, ``name@hash``, a model file, or a model in memory. It runs in float64.
    structures : Atoms or iterable of Atoms
    target : str, optional
        Quantity whose last hidden layer is meant, of a model of several.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of array, shape (n_atoms, n_features)
        One for each structure.

    Raises
    ------
    ModelError
        If the model is unknown or damaged, or does not predict the target.
    StructureError
        If a structure cannot be evaluated, or is not what the model was trained on.
    AnalysisError
        If there is no structure.

    Examples
    --------
    >>> from asecalc_ml.structure.loading import load_structure
    >>> (of_ethanol,) = features("torchmdnet-ethanol", load_structure("ethanol"), quiet=True)
    >>> len(of_ethanol)
    9
    """
    from asecalc_ml.analysis.maps.predictions import predict
    from asecalc_ml.analysis.relevance.source import Source

    source = Source.of(model).of_quantity(target)
    return [prediction.features for prediction in predict(source, source.checked(structures), quiet)]
