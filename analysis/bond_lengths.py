"""Distribution of bond lengths along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Measurement
from asecalc_ml.analysis.distribution import DistributionResult
from asecalc_ml.analysis.patterns import BondPattern

if TYPE_CHECKING:
    from asecalc_ml.rundir import RunReader


class BondLengthsResult(DistributionResult):
    """Distributions of bond lengths in Å, with the training data's where a card tells."""

    analysis: Literal["bond-lengths"] = "bond-lengths"
    quantity: ClassVar[str] = "bond length"
    group: ClassVar[str] = "bond"
    unit: ClassVar[str] = "Å"
    digits: ClassVar[int] = 4


class BondLengths(Analysis):
    """Distribution of bond lengths by element pattern.

    Bonds are those of the starting structure, see :func:`asecalc_ml.topology.find_bonds`. A bond across a
    periodic boundary is followed through the images.

    Examples
    --------
    >>> BondLengths(patterns=["C-C", "O-C"]).patterns
    ['C-C', 'C-O']
    """

    result: ClassVar = BondLengthsResult

    patterns: list[BondPattern] | None = Field(
        None, min_length=1, description="element patterns, such as [C-C, C-O]; empty for all without hydrogen"
    )
    bin_A: float = Field(0.01, gt=0, description="width of a histogram's bin, Å")

    def prepare(self, run: RunReader) -> Measurement:
        """Find the bonds of each pattern; AnalysisError where a pattern matches none."""
        import numpy as np

        from asecalc_ml.analysis.distribution_measurement import DistributionMeasurement, select
        from asecalc_ml.analysis.internal_coordinates import Lengths
        from asecalc_ml.analysis.training_domain import TrainingDomain
        from asecalc_ml.topology import find_bonds_and_shifts

        bonds, shifts = find_bonds_and_shifts(run.atoms)
        rows = select(run.atoms, bonds, self.patterns, "bond")
        order, domain = np.concatenate(list(rows.values())), TrainingDomain(run.model_card)
        return DistributionMeasurement(
            result=BondLengthsResult,
            groups={pattern: bonds[which] for pattern, which in rows.items()},
            coordinate=Lengths(run, bonds[order], shifts[order]),
            width=self.bin_A,
            domain=domain,
            reference=domain.bonds,
            frame_interval_fs=run.frame_interval_fs,
        )
