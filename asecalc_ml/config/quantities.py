"""Types of options that are physical quantities, with bounds that only a number in another unit exceeds.

The bounds are wide: no sensible calculation lies outside. Messages name the unit and the value that may have
been meant (:mod:`asecalc_ml.config.unit_hints`). Options of a single model have their bounds in that model.
"""

from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field

from asecalc_ml.config.unit_hints import unit_hint

#: Time step of dynamics. 5e-4 was meant in ps, 5e-16 in s; no integrator is stable beyond the upper bound.
Timestep_fs = Annotated[float, Field(ge=0.001, le=20)]

Temperature_K = Annotated[float, Field(ge=0, le=100_000)]

#: Length of a part of a run. 1e6 was meant in fs.
LONGEST_PS = 100_000.0
Duration_ps = Annotated[float, Field(ge=0, le=LONGEST_PS)]


def _some_friction(given: Any) -> Any:
    if given == 0 and not isinstance(given, bool):
        raise ValueError("should be above 0: dynamics without friction are those of protocol nve")
    return given


#: Friction of Langevin dynamics. 1e13 was meant in 1/s.
Friction_per_ps = Annotated[float, Field(ge=1e-6, le=1e4), BeforeValidator(_some_friction)]

#: Largest force of a relaxed structure. 20 was meant in meV/Å; below the lower bound rounding decides.
Fmax_eV_A = Annotated[float, Field(ge=1e-8, le=5)]

#: Cutoff of a potential. 500 was meant in pm, 0.35 in nm.
Cutoff_A = Annotated[float, Field(ge=0.5, le=100)]

#: A distance, such as the center of a Gaussian, or the end of a pair potential: 1000 is practically no end.
Length_A = Annotated[float, Field(ge=0, le=10_000)]

#: Characteristic scale of errors of energies (eV/atom), forces (eV/Å) or dipoles (e Å). 20 was meant in meV.
ErrorScale = Annotated[float, Field(gt=0, le=10)]

#: Learning rate of Adam, which diverges beyond.
LearningRate = Annotated[float, Field(gt=0, le=10)]


def check_has_steps(name: str, duration_ps: float, timestep_fs: float) -> None:
    """Refuse a duration that is neither zero nor as long as a time step.

    Raises
    ------
    ValueError
        With the name of the option, for pydantic.
    """
    if 0 < 1000 * duration_ps < timestep_fs:
        raise ValueError(
            f"{name} is {duration_ps:g}, shorter than one time step of {timestep_fs:g} fs; 0 for none: "
            f"{unit_hint(name, duration_ps, [Ge(timestep_fs / 1000), Le(LONGEST_PS)])}"
        )
