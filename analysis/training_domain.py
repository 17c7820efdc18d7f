"""What the run's model was trained on, for drawing behind what the run did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asecalc_ml.analysis.base import Record
from asecalc_ml.analysis.distances import histogram_distance
from asecalc_ml.histogram import Histogram, SlicedCounts

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

    def dihedrals(self, pattern: str) -> Histogram | None:
        """Dihedrals of a canonical pattern such as "C-C-O-H", degrees from -180."""
        return self._histogram("dihedrals", pattern)

    def of(self, n_atoms: int, pattern: str) -> Histogram | None:
        """Bonds (2 atoms), angles (3) or dihedrals (4) of a canonical pattern; None where unknown."""
        return {2: self.bonds, 3: self.angles, 4: self.dihedrals}[n_atoms](pattern)

    def _histogram(self, kind: str, key: str) -> Histogram | None:
        found = (self._domain.get(kind) or {}).get(key)
        return Histogram.model_validate(found) if found is not None else None


def temperature_text(temperature_K: float | Sequence[float] | None) -> str:
    """A card's temperature in words.

    Examples
    --------
    >>> temperature_text([300, 500.0])
    '300 and 500 K'
    >>> temperature_text([300, 843, 3374])
    '300 to 3374 K'
    >>> temperature_text(None)
    'unknown temperature'
    """
    several = temperature_K if isinstance(temperature_K, list | tuple) else [temperature_K]
    known = [f"{value:g}" for value in several if value is not None]
    if len(known) > 2:
        known = [f"{min(several):g} to {max(several):g}"]
    return f"{' and '.join(known)} K" if known else "unknown temperature"


class TrainingComparison:
    """Holds a run's values against a distribution of the training data.

    Parameters
    ----------
    domain : TrainingDomain
    seen : Histogram
        Of the training data.
    """

    def __init__(self, domain: TrainingDomain, seen: Histogram):
        self._domain, self._seen = domain, seen
        self._counts = SlicedCounts(seen.width, seen.period)  # the same bins, which make no difference then
        self._n_values = self._n_frames = self._values_outside = self._frames_outside = 0

    def add(self, values: np.ndarray) -> None:
        """Take the values of the next frames, shape (n_frames, n_members)."""
        outside = ~self._seen.covers(values)
        self._counts.add(values)
        self._n_values += outside.size
        self._n_frames += len(outside)
        self._values_outside += int(outside.sum())
        self._frames_outside += int(outside.any(axis=1).sum())

    def conclude(self) -> TrainingDistribution:
        """How far the run went beyond."""
        ours, seen = self._counts.histogram(0.0, 0.0), self._seen
        return TrainingDistribution(
            dataset=self._domain.dataset,
            temperature=self._domain.temperature,
            histogram=seen,
            values_outside=self._values_outside / self._n_values,
            frames_outside=self._frames_outside / self._n_frames,
            distance=histogram_distance([ours], [seen]),
        )
