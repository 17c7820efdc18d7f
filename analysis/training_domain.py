"""What the run's model was trained on, for drawing behind what the run did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asecalc_ml.analysis.base import Record
from asecalc_ml.histogram import Histogram

if TYPE_CHECKING:
    import numpy as np


class TrainingDistribution(Record):
    """One distribution in the training data, and how far a run went beyond it."""

    dataset: str = Field(description="name of the training data")
    temperature: str = Field(description="temperature of its sampling, with unit; 'unknown temperature'")
    histogram: Histogram = Field(description="training data, in the unit of the run's distribution")
    values_outside: float = Field(description="fraction of the run's values in bins without a training value")
    frames_outside: float = Field(description="fraction of the run's frames with at least one such value")
    distance: float = Field(description="Wasserstein distance to the run's distribution, in its unit")


class TrainingDomain:
    """The distributions in a model card.

    Parameters
    ----------
    card : mapping or None
        A run's ``model_card``; with ``None``, or a card without a domain, nothing is known.
    """

    def __init__(self, card: Mapping | None):
        card = card or {}
        self._domain: Mapping[str, Any] = card.get("domain") or {}
        dataset: Mapping[str, Any] = card.get("dataset") or {}
        self.dataset = str(dataset.get("name", "training data"))
        self.temperature = temperature_text(dataset.get("temperature_K"))

    def bonds(self, pattern: str) -> Histogram | None:
        """Lengths of the bonds of a canonical pattern such as "C-O", Å."""
        return self._histogram("distances", f"{pattern} bonded")

    def angles(self, pattern: str) -> Histogram | None:
        """Angles of a canonical pattern such as "C-C-O", degrees."""
        return self._histogram("angles", pattern)

    def compare(self, histogram: Histogram | None, values: np.ndarray) -> TrainingDistribution | None:
        """Hold a run's values, shape (n_frames, n_groups), against a distribution of the training data."""
        if histogram is None:
            return None
        outside = ~histogram.covers(values)
        return TrainingDistribution(
            dataset=self.dataset,
            temperature=self.temperature,
            histogram=histogram,
            values_outside=float(outside.mean()),
            frames_outside=float(outside.any(axis=1).mean()),
            distance=_distance(histogram, values),
        )

    def _histogram(self, kind: str, key: str) -> Histogram | None:
        found = (self._domain.get(kind) or {}).get(key)
        return Histogram.model_validate(found) if found is not None else None


def temperature_text(temperature_K: float | Sequence[float] | None) -> str:
    """A card's temperature in words.

    Examples
    --------
    >>> temperature_text([300, 500.0])
    '300 and 500 K'
    >>> temperature_text(None)
    'unknown temperature'
    """
    several = temperature_K if isinstance(temperature_K, list | tuple) else [temperature_K]
    known = [f"{value:g}" for value in several if value is not None]
    return f"{' and '.join(known)} K" if known else "unknown temperature"


def _distance(histogram: Histogram, values: np.ndarray) -> float:
    """Between the bins of the training data and the run's values put in bins of the same width."""
    from asecalc_ml.statistics import wasserstein

    binned = Histogram.from_samples(values, histogram.width)
    return wasserstein(binned.centers, histogram.centers, binned.counts, histogram.counts)
