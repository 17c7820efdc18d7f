"""What a transfer test found of one molecule, and how it is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import Field

from asecalc_ml._lazy import renamed
from asecalc_ml.analysis.base import Cell, Record, Status
from asecalc_ml.analysis.number_text import number_text
from asecalc_ml.outcome import gravest
from asecalc_ml.runs import FEWEST_REFERENCE_RUNS, FEWEST_RUNS
from asecalc_ml.statistics.histogram import Histogram

DRIFT, DRIFT_UNIT = "largest energy drift", "meV/atom/ps"
TOO_SHORT = "a run is too short to tell"
LOOSE = "converge the reference more tightly, or shorten the time step"
NO_RUN = "no complete run of the model that kept its bonds"


class TransferCheck(NamedTuple):
    """One thing that is judged."""

    what: str
    found: Cell
    bound: str
    unit: str
    status: Status
    why: str = ""  # where it is undecided, or more should be known

    @property
    def text(self) -> str:
        """In words, such as "C-O bond length: W1 0.021 Å (at most 0.0016 Å)"."""
        found = number_text(self.found) if isinstance(self.found, float) else self.found
        value = "" if found is None else f" {found} {self.unit}".rstrip()
        notes = "; ".join(note for note in (self.bound, self.why) if note)
        return f"{self.what}{value} ({notes})"


class TransferRun(Record):
    """One run of the test."""

    name: str = Field(description="its directory below that of the test")
    state: Literal["complete", "ended early", "unfinished", "not started"]
    reason: str = Field("", description="why it ended early")
    duration_ps: float = 0.0
    changes: list[str] = Field([], description="bonds that broke or formed")
    drift_meV_atom_ps: float | None = None
    drift_status: Status | None = None
    distances: dict[str, float] = Field(
        {}, description="W1 from the reference's runs with other starts, by distribution"
    )

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end with all bonds as they were."""
        return self.state == "complete" and not self.changes


class TransferDistribution(Record):
    """A distribution in all runs of the reference, and in those of the model that kept their bonds."""

    key: str = Field(description="molecule and pattern")
    pattern: str
    quantity: str
    unit: str
    period: float | None
    reference: Histogram
    model: Histogram | None
    band_start: int = Field(description="first bin of the band")
    band: list[tuple[float, float]] = Field(description="lowest and highest density of any reference run")
    distance: float | None = Field(description="W1 of all runs of the model from all of the reference")
    bound: float | None = Field(description="largest that passes")
    n_reference: int
    n_model: int
    reference_drifts: bool = Field(False, description="so that nothing can be judged by it")

    @property
    def check(self) -> TransferCheck:
        """Whether the distance is one that chance explains."""
        what, value = f"{self.pattern} {self.quantity}: W1", self.distance
        if value is None:
            return TransferCheck(what, None, "", self.unit, "undecided", NO_RUN)
        bound = "" if self.bound is None else f"at most {self.bound:.3g} {self.unit}"
        if self.bound is None or self.n_reference < FEWEST_REFERENCE_RUNS:
            why = f"{self.n_reference} reference runs of {FEWEST_REFERENCE_RUNS} needed"
            return TransferCheck(what, value, bound, self.unit, "undecided", why)
        if self.reference_drifts:
            return TransferCheck(
                what, value, bound, self.unit, "undecided", "the energy of the reference drifts"
            )
        return TransferCheck(what, value, bound, self.unit, "passed" if value <= self.bound else "failed")


class MoleculeResult(Record):
    """Everything about one molecule."""

    name: str
    formula: str
    is_trained: bool = Field(description="whether it is the one that the model was trained on")
    duration_ps: float = Field(description="how long a run has to keep its bonds")
    limit_meV_atom_ps: float = Field(description="largest drift that passes")
    reference_runs: list[TransferRun]
    model_runs: list[TransferRun]
    distributions: list[TransferDistribution]

    @property
    def checks(self) -> list[TransferCheck]:
        """Bonds, drift, then every distribution."""
        drifts = [self._drift(), *self._drift_of_reference()]
        return [self._bonds(), *drifts, *(distribution.check for distribution in self.distributions)]

    @property
    def status(self) -> Status:
        """Outcome of all checks together."""
        return gravest(check.status for check in self.checks)

    def _bonds(self) -> TransferCheck:
        """Whether at least four of five runs kept their bonds."""
        n_runs = len(self.model_runs)
        needed = -(-4 * n_runs // 5)
        whole = [run for run in self.model_runs if run.is_whole]
        lost = [run for run in self.model_runs if run.changes or run.state == "ended early"]
        shortest = min((run.duration_ps for run in whole), default=0.0)
        value, bound = f"{len(whole)} of {n_runs} runs", f"at least {needed}"
        why = "; ".join([*map(_loss, lost), *self._of_reference()])
        if len(lost) > n_runs - needed:
            return TransferCheck("bonds kept in", value, bound, "", "failed", why)
        missing = self._missing(len(whole), needed, shortest)
        status: Status = "undecided" if missing else "passed"
        return TransferCheck(
            "bonds kept in", value, bound, "", status, "; ".join(filter(None, [why, missing]))
        )

    def _of_reference(self) -> list[str]:
        """What is to be said where the reference does not keep its bonds either."""
        n_lost = sum(bool(run.changes) for run in self.reference_runs)
        return [f"the reference lost its own in {n_lost} of {len(self.reference_runs)}"] if n_lost else []

    def _missing(self, n_whole: int, needed: int, shortest: float) -> str:
        """What keeps the bonds from being judged."""
        if n_whole < needed:
            return "the other runs are not complete"
        if shortest < self.duration_ps * (1 - 1e-6):
            return f"{number_text(shortest)} ps of {self.duration_ps:g} ps needed"
        if len(self.model_runs) < FEWEST_RUNS:
            return f"{FEWEST_RUNS} runs needed"
        return ""

    def _drift(self) -> TransferCheck:
        """Whether no whole run of the model drifted."""
        runs = [run for run in self.model_runs if run.is_whole]
        if not _drifts(runs):
            return TransferCheck(
                DRIFT, None, self._drift_bound, DRIFT_UNIT, "undecided", "no whole run of the model"
            )
        status = worst_drift(runs)
        why = TOO_SHORT if status == "undecided" else ""
        return TransferCheck(DRIFT, max(_drifts(runs)), self._drift_bound, DRIFT_UNIT, status, why)

    def _drift_of_reference(self) -> list[TransferCheck]:
        """Whether its runs are at constant energy, too: nothing can be judged by them otherwise."""
        runs = self.reference_runs
        if not _drifts(runs):
            return []
        what, status = f"{DRIFT} of the reference", worst_drift(runs)
        if status == "passed":
            return [TransferCheck(what, max(_drifts(runs)), self._drift_bound, DRIFT_UNIT, "passed")]
        why = TOO_SHORT if status == "undecided" else LOOSE
        return [TransferCheck(what, max(_drifts(runs)), self._drift_bound, DRIFT_UNIT, "undecided", why)]

    @property
    def _drift_bound(self) -> str:
        return f"at most {self.limit_meV_atom_ps:g} {DRIFT_UNIT}"


def _drifts(runs: Iterable[TransferRun]) -> list[float]:
    """How much the energy of each drifts, where that was measured."""
    return [abs(run.drift_meV_atom_ps) for run in runs if run.drift_meV_atom_ps is not None]


def worst_drift(runs: Iterable[TransferRun]) -> Status:
    """Outcome of the energy drifts of several runs together, where they were measured."""
    return gravest(run.drift_status for run in runs if run.drift_status is not None)


def _loss(run: TransferRun) -> str:
    return f"{run.name}: {', '.join(run.changes) or run.reason}"


__getattr__ = renamed(__name__, {"Check": "TransferCheck", "TransferMolecule": "MoleculeResult"})
