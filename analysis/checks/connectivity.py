"""Whether the bonds of the starting structure were kept, and none formed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import AliasChoices, Field

from asecalc_ml.analysis.base import Analysis, Measurement, Record, Result, Table, Verdict

if TYPE_CHECKING:
    from asecalc_ml.runs import RunReader

BOUND = "the molecule stayed bound"
SHOWN = 5


class BondChange(Record):
    """A bond that broke or formed."""

    atoms: list[int] = Field(description="indices from 0, as in ASE")
    pattern: str
    change: Literal["broke", "formed"]
    time_fs: float = Field(description="of the first frame that shows it, from the start of production")

    def __str__(self) -> str:
        i, j = self.atoms
        return f"{self.pattern} {i}–{j} {self.change} at {self.time_fs / 1000:.4g} ps"


class ConnectivityResult(Result):
    """Bonds of the starting structure that broke, and pairs that became bonded."""

    analysis: Literal["connectivity"] = "connectivity"
    n_frames: int
    n_bonds: int
    n_frames_checked: int = Field(
        validation_alias=AliasChoices("n_frames_checked", "n_frames_formed"),
        description="frames that were checked for new bonds",
    )
    largest_stretch: float | None = Field(description="longest bond over the sum of its covalent radii")
    changes: list[BondChange]

    def verdicts(self) -> list[Verdict]:
        """Whether the molecule stayed as it was."""
        status, text = ("failed", self._changes_text()) if self.changes else ("passed", self._kept_text())
        return [Verdict(check=BOUND, status=status, text=text)]

    def _changes_text(self) -> str:
        more = len(self.changes) - SHOWN
        return "; ".join(map(str, self.changes[:SHOWN])) + (f"; {more} more" if more > 0 else "")

    def _kept_text(self) -> str:
        everywhere = self.n_frames_checked == self.n_frames
        looked = "" if everywhere else f" (new bonds were looked for in {self.n_frames_checked:,} of them)"
        if not self.n_bonds:
            return f"no bonds at the start, none formed in {self.n_frames:,} frames{looked}"
        return (
            f"{self.n_bonds} bonds kept and none formed in {self.n_frames:,} frames{looked}; the longest "
            f"reached {self.largest_stretch:.2f} times the sum of its covalent radii (broken: 1.6)"
        )

    def tables(self) -> list[Table]:
        """The changes, where there are any."""
        if not self.changes:
            return []
        rows = [
            [one.pattern, "–".join(map(str, one.atoms)), one.change, one.time_fs / 1000]
            for one in self.changes
        ]
        columns = ["bond", "atoms", "change", "time (ps)"]
        return [Table(key="changes", title="Bonds broken and formed", columns=columns, rows=rows)]


class Connectivity(Analysis):
    """Bonds of the starting structure that broke or formed.

    See :func:`asecalc_ml.structure.topology.bonds.bond_changes`.
    """

    result: ClassVar = ConnectivityResult
    needs_times: ClassVar = True

    periodic_frames: int = Field(
        200, gt=0, description="frames of each thousand of a periodic run in which new bonds are looked for"
    )

    def prepare(self, run: RunReader) -> Measurement:
        """Find the bonds of the start."""
        from asecalc_ml.analysis.checks.connectivity_measurement import ConnectivityMeasurement

        return ConnectivityMeasurement(run, self.periodic_frames)
