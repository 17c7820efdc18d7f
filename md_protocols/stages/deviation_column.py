"""Columns of thermo.csv that show how uncertain energies and forces are."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.md_protocols.watch.suspicions import energy_std, force_deviations
from asecalc_ml.runs import COMMITTEE_DEVIATION, ENERGY_STD, RunReader

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.engine.engine import Engine


def _largest_force_deviation(atoms: Atoms) -> float:
    return float(force_deviations(atoms).max())


#: What each column holds, eV/Å and eV.
VALUES = {COMMITTEE_DEVIATION: _largest_force_deviation, ENERGY_STD: energy_std}


class DeviationColumns:
    """Deviations of the present structure for a row of thermo.csv, by the name of the column.

    The largest force deviation of an atom, of committees, costs nothing: the step has computed it. The
    standard deviation of the energy is there if `stop` or `flag` has a limit of it. When a run is resumed,
    its table keeps the columns that it began with.
    """

    def __init__(self, engine: Engine):
        options, rows = engine.options, RunReader(engine.directory).read_thermo()
        has_limit = any(one.energy_std_eV is not None for one in (options.stop, options.flag))
        are_known = {COMMITTEE_DEVIATION: bool(offered(engine.atoms.calc).members), ENERGY_STD: has_limit}
        names = rows if len(rows["step"]) else [name for name, is_known in are_known.items() if is_known]
        self._atoms = engine.atoms
        self._are_known = {name: is_known for name, is_known in are_known.items() if name in names}

    def __call__(self) -> dict[str, float]:
        return {
            name: VALUES[name](self._atoms) if is_known else nan for name, is_known in self._are_known.items()
        }


__getattr__ = renamed(__name__, {"DeviationColumn": "DeviationColumns"})
