"""Frames that a model's weights rest on, as fingerprints in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from asecalc_ml.structure.fingerprints import N_NUMBERS, are_among, fingerprints, n_different

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class SeenFrames:
    """Fingerprints of the frames of a model and of the models that it started from.

    Parameters
    ----------
    trained : ndarray of int16, shape (n, 8)
        Frames that were trained on: the model's own, in their order, then those of its ancestors. See
        :mod:`asecalc_ml.structure.fingerprints`.
    validated : ndarray of int16, shape (n, 8)
        Frames that an epoch was chosen by, likewise.
    """

    trained: np.ndarray
    validated: np.ndarray

    @classmethod
    def none(cls) -> SeenFrames:
        """No frames."""
        return cls(*[np.empty((0, N_NUMBERS), dtype=np.int16)] * 2)

    @classmethod
    def of(cls, trained: Sequence[Atoms], validated: Sequence[Atoms]) -> SeenFrames:
        """Fingerprints of frames."""
        return cls(fingerprints(trained), fingerprints(validated))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> SeenFrames | None:
        """Reverse of :meth:`arrays`; None if there are none.

        Raises
        ------
        ValueError
            If they are not two arrays of fingerprints.
        """
        if not arrays:
            return None
        names = [field.name for field in fields(cls)]
        is_good = [array.dtype == np.int16 and array.shape[1:] == (N_NUMBERS,) for array in arrays.values()]
        if sorted(arrays) != sorted(names) or not all(is_good):
            raise ValueError(f"{' and '.join(names)} should be int16 of shape (n, {N_NUMBERS})")
        return cls(**arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Both arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def and_of(self, ancestors: SeenFrames) -> SeenFrames:
        """These frames, followed by those of ancestors."""
        return SeenFrames(
            np.concatenate([self.trained, ancestors.trained]),
            np.concatenate([self.validated, ancestors.validated]),
        )

    def after(self, n_trained: int, n_validated: int) -> SeenFrames:
        """Without the first ones, the model's own."""
        return SeenFrames(self.trained[n_trained:], self.validated[n_validated:])

    def __len__(self) -> int:
        return len(self.trained) + len(self.validated)

    def n_different(self) -> tuple[int, int]:
        """Numbers of different frames that were trained on, and of others that an epoch was chosen by."""
        n_trained = n_different(self.trained)
        return n_trained, n_different(np.concatenate([self.trained, self.validated])) - n_trained

    def has_trained(self, prints: np.ndarray) -> np.ndarray:
        """Whether each frame was trained on, boolean of shape (n,), from fingerprints."""
        return are_among(prints, self.trained)

    def has_seen(self, prints: np.ndarray) -> np.ndarray:
        """Whether each frame was trained on or an epoch was chosen by it, boolean of shape (n,)."""
        return self.has_trained(prints) | are_among(prints, self.validated)
