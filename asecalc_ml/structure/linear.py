"""Whether a molecule is linear, so that it turns around two axes and not three."""

import numpy as np
from ase import Atoms

OFF_AXIS_A = 0.1  # atoms of a linear molecule lie this near to a line


def is_linear(atoms: Atoms) -> bool:
    """Whether all atoms lie within 0.1 Å of one line; asked of a structure at rest."""
    return len(atoms) > 1 and _off_axis(atoms) < OFF_AXIS_A


def _off_axis(atoms: Atoms) -> float:
    """Largest distance of an atom from the axis of least inertia through the centre of mass, Å."""
    centred = atoms.positions - atoms.get_center_of_mass()
    axis = np.linalg.svd(np.sqrt(atoms.get_masses())[:, None] * centred)[2][0]
    return float(np.linalg.norm(centred - np.outer(centred @ axis, axis), axis=1).max())
