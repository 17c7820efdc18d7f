"""The stage that brings a system to a temperature; its frames are not kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from asecalc_ml.md_protocols.stages.time_steps import TimeSteps, settled
from asecalc_ml.md_protocols.watch.watches import HeatWatch
from asecalc_ml.runs import EQUILIBRATION, EventKind

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine, Observers

N_ROWS = 100  # at least, of a table from which means are taken


@dataclass(frozen=True)
class Equilibrate(TimeSteps):
    """Dynamics in contact with a thermostat.

    Parameters
    ----------
    until_average : bool
        Whether it goes on until the potential energy is not above its mean: from there a production at
        constant energy can have the mean total energy, whatever the size of the molecule.
    """

    until_average: bool = False
    name: ClassVar[str] = "equilibration"
    writes: ClassVar[tuple[str, ...]] = (EQUILIBRATION,)

    def observers(self, engine: Engine) -> Observers:
        """A row of the table, and a watch on the kinetic energy."""

        def row() -> None:
            engine.write_row(EQUILIBRATION, self.timestep_fs)

        every = min(engine.options.thermo_every, 1 + self.n_steps // N_ROWS)
        watch = HeatWatch(engine, self.ramp)
        return [(every, row), (every, watch), (engine.options.checkpoint_every, watch)]

    def conclude(self, engine: Engine) -> None:
        """Note the mean temperature."""
        if self.until_average:
            potential = settled(engine, "potential_eV")
            while engine.energy() > potential and engine.state.step < 2 * self.n_steps:
                engine.integrate(engine.state.step + 1, [])
        mean = settled(engine, "temperature_K")
        text = f"equilibration: mean temperature {mean:.1f} K"
        engine.note(EventKind.EQUILIBRATED, text, mean_temperature_K=mean)
