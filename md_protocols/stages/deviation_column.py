"""The column of thermo.csv that shows how far the members of a committee disagree."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from asecalc_ml.calculators.protocol import offered
from asecalc_ml.md_protocols.watch.suspicions import force_deviations
from asecalc_ml.runs import COMMITTEE_DEVIATION, RunReader

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine


class DeviationColumn:
    """Largest force deviation of an atom of the present structure, eV/Å; no column without a committee.

    The step has computed it. When a run is resumed, its table keeps the columns that it began with.
    """

    def __init__(self, engine: Engine):
        rows = RunReader(engine.directory).read_thermo()
        self._atoms, self._disagrees = engine.atoms, bool(offered(engine.atoms.calc).members)
        self._is_wanted = COMMITTEE_DEVIATION in rows if len(rows["step"]) else self._disagrees

    def __call__(self) -> dict[str, float]:
        if not self._is_wanted:
            return {}
        return {COMMITTEE_DEVIATION: float(force_deviations(self._atoms).max()) if self._disagrees else nan}
