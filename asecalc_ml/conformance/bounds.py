"""The largest deviations that pass, by precision, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Deviations that arithmetic of one precision explains.

    Parameters
    ----------
    energy_eV_atom : float
        Between two ways of asking for the same energy, per atom.
    forces, stress : float
        The same for forces and stress, as a part of the largest component (of 1 eV/Å and 1 eV/Å³ at least).
    noise_eV_atom : float
        Rounding of the energy, per atom.
    step_A, strain, hessian_step_A : float
        First steps of finite differences, which are halved until they converge or drown in rounding.
    """

    energy_eV_atom: float
    forces: float
    stress: float
    noise_eV_atom: float
    step_A: float
    strain: float
    hessian_step_A: float


BOUNDS = {
    # Sums of some thousand terms of 10 eV round at 1e-12 eV, forces at 1e-11 eV/Å: these leave room for
    # 1e-3 of conditioning, and no physics hides below them.
    "float64": Bounds(1e-9, 1e-7, 1e-8, noise_eV_atom=1e-10, step_A=0.01, strain=0.004, hessian_step_A=6e-4),
    # A float32 holds 1 eV to 6e-8; ten of them, added, stay within 1e-6 eV, and the slope over an atom's
    # own length scale, 0.01 Å, within 1e-4 eV/Å.
    "float32": Bounds(1e-6, 1e-4, 1e-5, noise_eV_atom=1e-6, step_A=0.02, strain=0.01, hessian_step_A=2e-3),
}

#: Forces and stress against finite differences, relative to the largest component; the uncertainty of the
#: differences comes on top. No defect worth the name is smaller.
SLOPE = 1e-4

#: Largest uncertainty of the differences, in the same unit, that decides: a rounded constant is off by more.
RESOLVED = 1e-3

#: What the rounding of an energy may add to a difference of two energies, in standard deviations; to a finite
#: difference, in units of these over the step.
NOISE_FACTOR = 5.0

#: At 1 meV an atom and ps a structure warms by some 4 K in a ps, which ends every run worth its name.
DRIFT_meV_ATOM_PS = 1.0

#: Most that the total energy may wander at 300 K: a third of kT. Stiff bonds at 0.5 fs take a tenth of it.
SPREAD_meV_ATOM = 10.0

#: Part of that which float32 may add to what float64 drifts.
DRIFT_OF_PRECISION = 0.1

#: Bytes that the process may grow over so many calls.
MEMORY_BYTES, MEMORY_CALLS = 1e6, 10_000
