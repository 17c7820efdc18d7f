"""Structures of one or several sources, and the points that a representation makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from ase import Atoms

from asecalc_ml.analysis.maps.fingerprints import fingerprints
from asecalc_ml.analysis.maps.predictions import predict
from asecalc_ml.analysis.maps.quantities import Data
from asecalc_ml.analysis.relevance.source import Source


def collect(source: Source, structures: Iterable[Atoms] | Mapping[str, Iterable[Atoms]], quiet: bool) -> Data:
    """Structures that the model can evaluate, and what it says of them."""
    named = structures if isinstance(structures, Mapping) else {"structures": structures}
    by_source = {str(name): source.checked(frames, f"{name}@") for name, frames in named.items()}
    frames = [atoms for own in by_source.values() for atoms in own]
    return Data(
        frames=frames,
        sources=[name for name, own in by_source.items() for _ in own],
        numbers=[number for own in by_source.values() for number in range(len(own))],
        predictions=predict(source, frames, quiet),
        card=source.card,
        quantity=source.model.quantities[0],
    )


def points_of(name: str, data: Data, level: str) -> np.ndarray:
    """A row for each structure, or for each atom of all structures one after the other."""
    if name != "features":
        return fingerprints(name, data.frames, level == "atoms")
    if level == "atoms":
        return np.concatenate([prediction.features for prediction in data.predictions])
    return np.stack([prediction.features.mean(axis=0) for prediction in data.predictions])
