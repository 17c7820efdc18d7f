"""Base of readers of large sets with properties: frames stay arrays until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from asecalc_ml.errors import DatasetError
from asecalc_ml.potentials.datasets.options import DatasetOptions, places_of
from asecalc_ml.structure.charge_and_spin import warn_of_multiplicities
from asecalc_ml.structure.files.lazy_frames import selected_numbers

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.potentials.datasets.packed.frames import PackedFrames

#: Ends of the names of archives that :mod:`tarfile` opens.
ARCHIVES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz")


class PropertyData(DatasetOptions):
    """Base of readers whose frames have properties, and are too many to be Atoms objects all at once.

    A reader implements ``_read``, which returns the :class:`PackedFrames
    <asecalc_ml.potentials.datasets.packed.frames.PackedFrames>` of one file or folder.
    """

    max_atoms: int | None = Field(None, ge=1, description="leave out structures with more atoms")

    def read(self) -> PackedFrames:
        """Frames as arrays; ``[i]`` makes an Atoms object with the properties in its ``info``.

        Raises
        ------
        DatasetError
            If a file is missing, damaged or incomplete.
        """
        return self._located().frames

    def structures(self) -> PackedFrames:
        """Frames of :meth:`read`."""
        return self.read()

    def read_free(self, labels: Sequence[str] = ()) -> LocatedFrames:
        """Frames of :meth:`read` by file and number in it, as messages name them."""
        return self._located()

    def read_located(self, labels: Sequence[str] = ()) -> LocatedFrames:
        """Frames of :meth:`read` by file and number in it; each has its properties in ``info``."""
        return self._located()

    def _located(self) -> LocatedFrames:
        import dataclasses

        from asecalc_ml.potentials.datasets.packed.frames import concatenated

        parts: Mapping = self._parts()
        places, frames = places_of(parts), concatenated(list(parts.values()))
        self._check_names(frames)
        numbers = list(selected_numbers(self.frames, len(frames), self.place))
        if self.max_atoms is not None:
            n_atoms = frames.n_atoms
            numbers = [number for number in numbers if n_atoms[number] <= self.max_atoms]
        if not numbers:
            raise self._nothing_selected(len(frames))
        if numbers != list(range(len(frames))):
            frames, places = frames.take(numbers), [places[number] for number in numbers]
        frames = dataclasses.replace(frames, charge=self.charge or 0, spin=self.spin or 0)
        if self.spin:
            warn_of_multiplicities(frames, f"{self.place}{self._selection}")
        return LocatedFrames(places, frames)

    @property
    def _selection(self) -> str:
        size = "" if self.max_atoms is None else f" of at most {self.max_atoms} atoms"
        return f"{super()._selection}{size}"

    def _check_names(self, frames: PackedFrames) -> None:
        """Refuse a property whose place in ``info`` is taken."""
        others = {"charge", "spin", *frames.texts, *frames.whole_numbers, *frames.lists}
        if taken := sorted(frames.properties.keys() & others):
            raise DatasetError(
                f"{self.place} has a property {taken[0]!r}, and {taken[0]} is something else in each frame;",
                name=taken[0],
                value=taken,
                remedy="give it another name, or choose others, with the option `properties`",
            )

    def _read(self) -> PackedFrames:
        raise NotImplementedError


class LocatedFrames(Mapping[str, "Atoms"]):
    """Frames by file and number in it; an Atoms object is made when it is asked for.

    Parameters
    ----------
    places : sequence of str
        What messages call each frame.
    frames : PackedFrames
    """

    def __init__(self, places: Sequence[str], frames: PackedFrames):
        self.frames = frames
        self._numbers = {place: number for number, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __getitem__(self, place: str) -> Atoms:
        return self.frames[self._numbers[place]]
