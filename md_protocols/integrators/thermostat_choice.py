"""Which thermostat ``thermostat: auto`` stands for.

A thermostat that scales all velocities by one factor controls the total kinetic energy and leaves the share
of each vibration as it is. Few atoms hardly exchange energy among themselves, so that a run of picoseconds
keeps the shares with which it began. Langevin dynamics exchange energy with every vibration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.options import ProtocolOptions

    Some = TypeVar("Some", bound=ProtocolOptions)

AUTO: Final = "auto"
FEW_ATOMS = 50
OF_FEW_ATOMS, OF_MANY_ATOMS = "langevin", "bussi"
CHOICES = (OF_FEW_ATOMS, OF_MANY_ATOMS)


def for_structure(options: Some, atoms: Atoms) -> Some:
    """Options of a new run, with the thermostat that suits the number of atoms in place of ``auto``."""
    return options.with_thermostat(OF_FEW_ATOMS if len(atoms) < FEW_ATOMS else OF_MANY_ATOMS)


def of_begun_run(options: Some) -> Some:
    """Options of a run that has begun: those that name no thermostat date from when there was one default."""
    return options.with_thermostat(OF_MANY_ATOMS)
