"""Dynamics at constant pressure and temperature."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols import integrators
from asecalc_ml.md_protocols.nvt import ThermostatOptions

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.integrators import Ramp
    from asecalc_ml.md_protocols.stages import MakeIntegrator


class NPT(ThermostatOptions):
    """Relax the atoms, equilibrate at constant pressure, then run at constant pressure and temperature.

    Langevin dynamics of atoms and cell, which sample the volumes of stiff crystals and of liquids alike.
    """

    protocol: Literal["npt"] = Field("npt", description="dynamics at constant pressure and temperature")
    default_analyses: ClassVar[tuple[str, ...]] = (
        "connectivity",
        "temperature",
        "pressure",
        "committee-deviation",
        "bond-lengths",
        "angles",
    )
    pressure_GPa: float = Field(0.0, ge=-100, le=1000, description="external pressure; 1 bar is 0.0001")
    cell: Literal["isotropic", "full"] = Field(
        "isotropic", description="isotropic: the cell keeps its shape; full: lengths and angles change"
    )
    barostat_time_fs: float = Field(
        1000.0,
        ge=10,
        le=1e8,
        description="time after which the cell's velocity is forgotten; averages do not know it",
    )

    def check_start(self, atoms: Atoms) -> None:
        """A volume that may change, and a calculator that knows its stress."""
        from asecalc_ml.calculators.protocol import offered

        super().check_start(atoms)
        if atoms.constraints:
            names = ", ".join(sorted({type(constraint).__name__ for constraint in atoms.constraints}))
            raise StructureError(
                f"a cell that changes moves every atom, {names} or not",
                name=names,
                value=names,
                remedy="remove constraints",
            )
        if not atoms.pbc.all() or atoms.cell.rank < 3:
            raise StructureError(
                "constant pressure needs a cell that is periodic in three directions, since a molecule or a "
                "slab has no volume",
                name="structure",
                value=atoms.pbc.tolist(),
                remedy="use protocol nvt, or give a periodic structure",
            )
        if "stress" not in offered(atoms.calc).implemented_properties:
            raise StructureError(
                "constant pressure needs the stress, and the calculator does not offer it",
                name="stress",
                remedy="use protocol nvt, or another calculator",
            )

    def integrator(self) -> MakeIntegrator:
        """Langevin dynamics of atoms and cell."""
        return self._langevin(self.ramp, self.friction_per_ps)

    def equilibration_integrator(self) -> MakeIntegrator:
        """The same at the first temperature."""
        return self._langevin(self.first_temperature, self.equilibration_friction_per_ps)

    def _langevin(self, ramp: Ramp, friction_per_ps: float) -> MakeIntegrator:
        return partial(
            integrators.LangevinNPT,
            ramp=ramp,
            friction_per_ps=friction_per_ps,
            pressure_GPa=self.pressure_GPa,
            barostat_time_fs=self.barostat_time_fs,
            isotropic=self.cell == "isotropic",
        )
