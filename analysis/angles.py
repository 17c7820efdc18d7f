"""Distribution of bond angles along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Measurement
from asecalc_ml.analysis.distribution import DistributionResult
from asecalc_ml.analysis.patterns import AnglePattern

if TYPE_CHECKING:
    from asecalc_ml.rundir import RunReader


class AnglesResult(DistributionResult):
    """Distributions of angles in degrees, with the training data's where a card tells."""

    analysis: Literal["angles"] = "angles"
    quantity: ClassVar[str] = "angle"
    group: ClassVar[str] = "angle"
    unit: ClassVar[str] = "°"
    digits: ClassVar[int] = 2


class Angles(Analysis):
    """Distribution of the angles between two bonds of an atom, by element pattern.

    Bonds are those of the starting structure, see :func:`asecalc_ml.topology.find_bonds`. Bonds across a
    periodic boundary are followed through the images.

    Examples
    --------
    >>> Angles(patterns=["O-C-C"]).patterns
    ['C-C-O']
    """

    result: ClassVar = AnglesResult

    patterns: list[AnglePattern] | None = Field(
        None, min_length=1, description="element patterns, such as [C-C-O]; empty for all without hydrogen"
    )
    bin_deg: float = Field(1.0, gt=0, description="width of a histogram's bin, degrees")

    def prepare(self, run: RunReader) -> Measurement:
        """Find the angles of each pattern; AnalysisError where a pattern matches none."""
        import numpy as np

        from asecalc_ml.analysis.distribution_measurement import DistributionMeasurement, select
        from asecalc_ml.analysis.internal_coordinates import BondAngles
        from asecalc_ml.analysis.training_domain import TrainingDomain
        from asecalc_ml.topology import angle_triples_and_shifts, find_bonds_and_shifts

        triples, shifts = angle_triples_and_shifts(*find_bonds_and_shifts(run.atoms))
        rows = select(run.atoms, triples, self.patterns, "angle")
        order, domain = np.concatenate(list(rows.values())), TrainingDomain(run.model_card)
        return DistributionMeasurement(
            result=AnglesResult,
            groups={pattern: triples[which] for pattern, which in rows.items()},
            coordinate=BondAngles(run, triples[order], shifts[order]),
            width=self.bin_deg,
            domain=domain,
            reference=domain.angles,
            frame_interval_fs=run.frame_interval_fs,
        )
