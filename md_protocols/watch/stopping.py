"""When a run stops before its end, and which of its frames are kept for labelling."""

from __future__ import annotations

from pydantic import Field

from asecalc_ml.config.options import Options


class Suspicion(Options):
    """What says that a model may not know where a run has come to."""

    outside_training_domain: bool = Field(
        False, description="a distance farther than domain_margin_A from all of its kind in the training data"
    )
    domain_margin_A: float = Field(
        0.1, ge=0, le=10, description="how far beyond training distances is still inside"
    )
    committee_deviation_eV_A: float | None = Field(
        None,
        gt=0,
        le=100,
        description="largest deviation of a force among the members of a committee; empty for none",
    )
    energy_std_eV: float | None = Field(
        None,
        gt=0,
        le=1e4,
        description="standard deviation of the energy that the model (from last-layer features) or the "
        "committee states; empty for none",
    )

    @property
    def is_on(self) -> bool:
        """Whether there is anything to look at."""
        limits = (self.committee_deviation_eV_A, self.energy_std_eV)
        return self.outside_training_domain or any(limit is not None for limit in limits)


class StopOptions(Suspicion):
    """Conditions that end a run, its last state and the reason kept. Blowing up always does."""

    bond_change: bool = Field(False, description="a bond of the start breaks, or a new one forms")
    temperature_above_K: float | None = Field(
        None, gt=0, le=1e6, description="instantaneous temperature; empty for no bound"
    )
    energy_change_eV_atom: float | None = Field(
        None,
        gt=0,
        le=100,
        description="change of the conserved energy per atom since the start: the total one, or with a "
        "thermostat what it and the thermostat have together; empty for no bound",
    )
    wall_time_h: float | None = Field(
        None, gt=0, le=8760, description="hours after which the run pauses, to be resumed; empty for no bound"
    )


class FlagOptions(Suspicion):
    """Frames that are written to flagged.extxyz, for `asecalc-ml data label`."""

    interval_fs: float = Field(50.0, gt=0, le=1e9, description="time between two flagged frames, at least")
    at_most: int = Field(200, ge=1, description="number of flagged frames, at most")
