"""Images of a path, such as those of a nudged elastic band, computed together.

ASE's NEB and every other method that moves several structures asks each structure for its forces in turn.
Here the first one that is asked has the forces of all that have moved computed in one batch, and the others
answer from it. Nothing of ASE is replaced: climbing images, interpolation, constraints, preconditioners and
trajectories are as with a calculator for each image.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator, all_changes, compare_atoms

from asecalc_ml.calculators.batches.many import computes_together, results_of_each
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.structure.charge_and_spin import is_same_state

#: With ``NEB(parallel=True)`` ASE asks each image in a thread of its own.
_ONE_BATCH_AT_A_TIME = threading.RLock()


def attach_to_images(images: Sequence[Atoms], calculator: BaseCalculator) -> None:
    """Give several structures one calculator, which computes them together when one of them is asked.

    Parameters
    ----------
    images : sequence of Atoms
        Such as those of :class:`ase.mep.NEB`, in any number. Each gets a calculator of its own, so that ASE's
        ``allow_shared_calculator`` is not needed.
    calculator : ase Calculator
        One that has no ``calculate_many`` computes one image after the other, each when it is asked.

    Notes
    -----
    :class:`ase.mep.DyNEB` moves one image after the other and asks for forces in between, so that there each
    batch is one image. Of several processes (MPI) each would compute all images.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ase.calculators.emt import EMT
    >>> from ase.mep import NEB
    >>> images = [molecule("NH3") for _ in range(5)]
    >>> images[-1].positions[:, 2] *= -1
    >>> attach_to_images(images, EMT())
    >>> band = NEB(images, method="improvedtangent")
    >>> band.interpolate("idpp")
    >>> band.get_forces().shape  # of the three inner images
    (12, 3)
    """
    batch = _ImageBatch(calculator)
    for image in images:
        image.calc = ImageCalculator(batch)
        batch.images.append((image, image.calc))


class ImageCalculator(BaseCalculator):
    """Calculator of one image, made by :func:`attach_to_images`."""

    def __init__(self, batch: _ImageBatch):
        super().__init__()
        self._batch = batch
        self.implemented_properties = list(offered(batch.calculator).implemented_properties)

    def _get_name(self) -> str:
        """Name of the calculator that computes the images, for files."""
        return offered(self._batch.calculator).name

    def todict(self) -> dict[str, Any]:
        """Parameters of the calculator that computes the images, for files."""
        return self._batch.calculator.todict()

    @property
    def parts(self) -> tuple[BaseCalculator, ...]:
        """The calculator that computes the images."""
        return (self._batch.calculator,)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last call, charge and spin in ``info`` included."""
        ignored = set(offered(self._batch.calculator).ignored_changes)
        changes = compare_atoms(self.atoms, atoms, tol=tol, excluded_properties=ignored)
        if self.atoms is not None and not is_same_state(atoms, self.atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        self._batch.compute(self, atoms, properties)


class _ImageBatch:
    """The images that are computed together."""

    def __init__(self, calculator: BaseCalculator):
        self.calculator = calculator
        self.images: list[tuple[Atoms, ImageCalculator]] = []

    def compute(self, asked: ImageCalculator, atoms: Atoms, properties: Sequence[str]) -> None:
        """Compute an image, and with it all others that have moved since they were computed.

        Another image that cannot be computed says so when it is asked itself.
        """
        with _ONE_BATCH_AT_A_TIME:
            if all(name in asked.results for name in properties):  # computed with another image meanwhile
                return
            moved = [(atoms if own is asked else image, own) for image, own in self._due(asked)]
            usual = [name for name in ("forces", "energy") if name in asked.implemented_properties]
            wanted = list(dict.fromkeys([*usual, *properties]))
            computed = results_of_each(self.calculator, [image for image, _ in moved], wanted)
            for (image, own), results in zip(moved, computed, strict=True):
                if not isinstance(results, Exception):
                    own.atoms, own.results = image.copy(), results
                elif own is asked:
                    raise results

    def _due(self, asked: ImageCalculator) -> list[tuple[Atoms, ImageCalculator]]:
        """The image that was asked and, where they are computed together, all others without results."""
        is_alone = bool(asked.results) or not computes_together(self.calculator)
        return [
            (image, own)
            for image, own in self.images
            if own is asked or not (is_alone or _is_known(image, own))
        ]


def _is_known(image: Atoms, own: ImageCalculator) -> bool:
    """Return True if an image has results, or another calculator now, as while it is interpolated."""
    return image.calc is not own or bool(own.results and not own.check_state(image))
