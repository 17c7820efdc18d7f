"""ASE's integrators, one step at a time, with the degrees of freedom that move."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.integrators.integrators import (
        Integrator,
        Langevin,
        LangevinNPT,
        Ramp,
        VelocityVerlet,
    )

__all__ = ["Integrator", "Langevin", "LangevinNPT", "Ramp", "VelocityVerlet"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.md_protocols.integrators.integrators"))
