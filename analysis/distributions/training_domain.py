"""Distributions of the training data of a run's model, and how far a run went beyond them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from asecalc_ml.analysis.base import Record, Status
from asecalc_ml.analysis.comparing.wasserstein import histogram_distance
from asecalc_ml.statistics.histogram import Histogram, SlicedCounts

OUTSIDE_LIMIT = 0.01  # of the values may be outside: the tails of a long run
#: A part p of a distribution holds none of N values of it with probability exp(-pN): 0.1 % at 7/N.
CHANCE = 7.0
MOST_ALLOWED = 0.1  # of the values; training data that leave more than this to chance decide nothing
#: Where a card has values of so many atoms: in which of its fields, under which key.
PLACES = {2: ("distances", "{} bonded"), 3: ("angles", "{}"), 4: ("dihedrals", "{}")}


class TrainingDistribution(Record):
    """One distribution in the training data, and how far a run went beyond it."""

    dataset: str = Field(description="name of the training data")
    temperature: str = Field(description="temperature of its sampling, with unit; 'unknown temperature'")
    histogram: Histogram = Field(description="training data, in the unit of the run's distribution")
    values_outside: float = Field(
        description="fraction of the run's values that the training data do not cover"
    )
    frames_outside: float = Field(description="fraction of the run's frames with at least one such value")
    distance: float = Field(description="Wasserstein distance to the run's distribution, in its unit")
    n_fewest: int | None = Field(
        None, description="training values of the member of a committee that has the fewest"
    )

    @property
    def n_values(self) -> int:
        """Training values that decide what the training data cover."""
        return self.n_fewest or self.histogram.total

    @property
    def allowed_outside(self) -> float:
        """Largest fraction of values outside that a run of the training data's own distribution has."""
        return OUTSIDE_LIMIT + CHANCE / self.n_values

    @property
    def status(self) -> Status:
        """Whether the run stayed inside; undecided where the training values are too few to tell."""
        if self.values_outside > self.allowed_outside:
            return "failed"
        return "passed" if self.values_outside <= MOST_ALLOWED else "undecided"


class TrainingDomain:
    """The distributions in a model card, or those that the cards of a committee's members share.

    A committee's mean rests on every member: a value is inside its training data if it is inside those of
    every member.

    Parameters
    ----------
    *cards : mapping or None
        A run's ``model_cards``; without a card, or where one has no domain, nothing is known.
    """

    def __init__(self, *cards: Mapping | None):
        known = [card or {} for card in cards]
        self._domains: list[Mapping[str, Any]] = [card.get("domain") or {} for card in known]
        datasets: list[Mapping[str, Any]] = [card.get("dataset") or {} for card in known] or [{}]
        self.dataset = _listed(str(dataset.get("name", "training data")) for dataset in datasets)
        self.temperature = _listed(temperature_text(dataset.get("temperature_K")) for dataset in datasets)

    def of(self, n_atoms: int, pattern: str) -> Histogram | None:
        """Bonds (2 atoms), angles (3) or dihedrals (4) of a canonical pattern; None where unknown.

        Lengths are in Å, angles in degrees, dihedrals in degrees from -180.
        """
        return _shared(self._histograms(n_atoms, pattern))

    def n_fewest(self, n_atoms: int, pattern: str) -> int:
        """Number of these values in the training data of the member that has the fewest."""
        return min(histogram.total for histogram in self._histograms(n_atoms, pattern))

    def _histograms(self, n_atoms: int, pattern: str) -> list[Histogram]:
        """Histograms of a pattern, one of each card; none where a card lacks it."""
        kind, key = PLACES[n_atoms]
        stored = [(domain.get(kind) or {}).get(key.format(pattern)) for domain in self._domains]
        return [] if None in stored else [Histogram.model_validate(histogram) for histogram in stored]


def _listed(texts: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(texts))


def _shared(histograms: list[Histogram]) -> Histogram | None:
    """Samples of all in the bins that all cover; None where there is none, or bins differ in width.

    Mean and standard deviation are those of all samples.
    """
    if not histograms:
        return None
    # members that were trained on the same data count once
    first, *others = [histogram for k, histogram in enumerate(histograms) if histogram not in histograms[:k]]
    if not others:
        return first
    if any((other.width, other.period) != (first.width, first.period) for other in others):
        return None
    # counts of all, zero outside the bins that every histogram covers
    together = sum(others, start=first)
    inside = np.all([histogram.covers(together.centers) for histogram in (first, *others)], axis=0)
    counts = np.where(inside, together.counts, 0)
    occupied = np.flatnonzero(counts)
    if len(occupied) == 0:
        return None
    low, high = int(occupied[0]), int(occupied[-1])
    limits = {"start": together.start + low, "counts": counts[low : high + 1].tolist()}
    return together.model_copy(update=limits)


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
    """Compares a run's values with a distribution of the training data.

    Parameters
    ----------
    domain : TrainingDomain
    training : Histogram
        Values in the training data.
    n_fewest : int
        Values in the training data of the member that has the fewest.
    """

    def __init__(self, domain: TrainingDomain, training: Histogram, n_fewest: int):
        self._domain, self._training, self._n_fewest = domain, training, n_fewest
        self._counts = SlicedCounts(training.width, training.period)  # in equal bins
        self._n_values = self._n_frames = self._values_outside = self._frames_outside = 0

    def add(self, values: np.ndarray) -> None:
        """Take the values of the next frames, shape (n_frames, n_members)."""
        outside = ~self._training.covers(values)
        self._counts.add(values)
        self._n_values += outside.size
        self._n_frames += len(outside)
        self._values_outside += int(outside.sum())
        self._frames_outside += int(outside.any(axis=1).sum())

    def conclude(self) -> TrainingDistribution:
        """Compare all values taken with the training data."""
        run, training = self._counts.histogram(0.0, 0.0), self._training
        return TrainingDistribution(
            dataset=self._domain.dataset,
            temperature=self._domain.temperature,
            histogram=training,
            values_outside=self._values_outside / self._n_values,
            frames_outside=self._frames_outside / self._n_frames,
            distance=histogram_distance([run], [training]),
            n_fewest=self._n_fewest,
        )
