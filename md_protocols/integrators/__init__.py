"""Time steps: ASE's integrators and thermostats, with the degrees of freedom that move."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.integrators.bussi import Bussi
    from asecalc_ml.md_protocols.integrators.integrator import Integrator
    from asecalc_ml.md_protocols.integrators.langevin import CentreAtRest, Langevin
    from asecalc_ml.md_protocols.integrators.langevin_npt import PRESSURE, VOLUME, LangevinNPT
    from asecalc_ml.md_protocols.integrators.nose_hoover_chain import NoseHooverChain
    from asecalc_ml.md_protocols.integrators.ramp import MOST_POINTS, Ramp
    from asecalc_ml.md_protocols.integrators.velocity_verlet import VelocityVerlet

__all__ = [
    "MOST_POINTS",
    "PRESSURE",
    "VOLUME",
    "Bussi",
    "CentreAtRest",
    "Integrator",
    "Langevin",
    "LangevinNPT",
    "NoseHooverChain",
    "Ramp",
    "VelocityVerlet",
]

__getattr__ = lazily(
    __name__,
    {
        "MOST_POINTS": f"{__name__}.ramp",
        "PRESSURE": f"{__name__}.langevin_npt",
        "VOLUME": f"{__name__}.langevin_npt",
        "Bussi": f"{__name__}.bussi",
        "CentreAtRest": f"{__name__}.langevin",
        "Integrator": f"{__name__}.integrator",
        "Langevin": f"{__name__}.langevin",
        "LangevinNPT": f"{__name__}.langevin_npt",
        "NoseHooverChain": f"{__name__}.nose_hoover_chain",
        "Ramp": f"{__name__}.ramp",
        "VelocityVerlet": f"{__name__}.velocity_verlet",
    },
)
