"""Vectors and tensors that are not in the frame of the positions, such as those of a standard orientation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.errors import DatasetError

if TYPE_CHECKING:
    from ase import Atoms

#: Largest distance of an atom from the plane of a planar molecule, Å.
PLANAR_A = 0.01
#: Change of a tensor by the reflection, in units of the tensor, that is no rounding and no slight bending.
CHANGED = 0.01
#: Size of a tensor that may be nothing but rounding, as of a molecule without dipole, in units of the median.
SMALL = 0.05
#: Share of the planar molecules that may be changed: labels of a few may be wrong otherwise.
FEW = 0.1


def check_tensor_frame(located: Mapping[str, Atoms], name: str) -> None:
    """Refuse vectors and tensors that are in another frame than the positions.

    A planar molecule is its own mirror image, so that its tensors are not changed by the reflection
    R = 1 - 2 n nᵀ, where n is the normal of its plane: μ = R μ, α = R α Rᵀ, and so on. The part of a matrix
    that is a multiple of the unit matrix, which no rotation changes, is left out.

    Parameters
    ----------
    located : mapping of str to Atoms
        Frames by the names that messages call them by.
    name : str
        Label of a calculator or in ``info``, with values of shape (3,), (3, 3) or (3, 3, 3).

    Raises
    ------
    DatasetError
        If more than a tenth of the planar molecules contradict it.

    Warns
    -----
    UserWarning
        If no molecule is planar, so that nothing can be said.
    """
    measured = {where: _change(atoms, name) for where, atoms in located.items()}
    planar = {where: change for where, change in measured.items() if change is not None}
    smallest = SMALL * np.median([size for _, size in planar.values()]) if planar else 0.0
    changes = {where: change / size for where, (change, size) in planar.items() if size > smallest}
    if not changes:
        warnings.warn(
            f"whether {name} is in the frame of the positions cannot be checked, since no molecule with it "
            "is planar: make sure that the calculation did not turn the molecule (Gaussian: nosymmetry)",
            stacklevel=2,
        )
        return
    changed = [where for where, change in changes.items() if change > CHANGED]
    if len(changed) > FEW * len(changes):
        raise DatasetError(
            f"{name} is not in the frame of the positions: it contradicts the mirror plane of {len(changed)} "
            f"of the {len(changes)} planar molecules, such as {changed[0]}.",
            name=name,
            value=changes[changed[0]],
            remedy="The calculation has turned the molecules, as Gaussian's standard orientation does. Turn "
            "the values back, label the frames anew, or take what no rotation changes: the mean or the norm",
        )


def _change(atoms: Atoms, name: str) -> tuple[float, float] | None:
    """Change of a label by the mirror plane, and its size; None without a plane or a label."""
    value = atoms.info.get(name) if atoms.calc is None else atoms.calc.results.get(name, atoms.info.get(name))
    normal = _normal(atoms)
    if value is None or normal is None:
        return None
    tensor = np.asarray(value, dtype=np.float64)
    if tensor.ndim == 2:
        tensor = tensor - np.trace(tensor) / 3 * np.eye(3)
    # reflect each index of the tensor in turn
    reflection, reflected = np.eye(3) - 2 * np.outer(normal, normal), tensor
    for _ in range(tensor.ndim):
        reflected = np.tensordot(reflected, reflection, axes=(0, 0))
    return float(np.linalg.norm(reflected - tensor) / 2), float(np.linalg.norm(tensor))


def _normal(atoms: Atoms) -> np.ndarray | None:
    """Normal of the plane of a molecule, shape (3,); of a linear one any normal of its axis."""
    if (atoms.pbc & atoms.cell.any(1)).any() or len(atoms) < 2:
        return None
    centred = atoms.positions - atoms.positions.mean(axis=0)
    normal = np.linalg.svd(centred)[2][-1]
    return normal if np.abs(centred @ normal).max() < PLANAR_A else None
