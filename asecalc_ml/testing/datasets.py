"""What every dataset reader obeys, as a class to inherit."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import ArrayLike

from asecalc_ml.errors import AsecalcError, DatasetError
from asecalc_ml.potentials.datasets.options import DatasetOptions, dataset_hash
from asecalc_ml.testing.options import OptionChecks
from asecalc_ml.units import energy_unit, length_unit


class DatasetChecks(OptionChecks):
    """Inherit, give ``options`` and write a file, and pytest runs the checks.

    Attributes
    ----------
    options : DatasetOptions
        Its ``path`` need not exist: its name is that of the file that is written.
    unbounded : sequence of str
        As in :class:`OptionChecks`; files hold numbers of their own, so that options of readers are.
    """

    options: ClassVar[DatasetOptions]
    group: ClassVar[str] = "datasets"
    unbounded: ClassVar[Sequence[str]] = ("temperature_K", "max_energy_eV")

    def write(self, path: Path) -> Sequence[Atoms]:
        """Write a file of three frames or more, and return these with their labels in eV and Å.

        Labels are attached with ``asecalc_ml.potentials.datasets.options.make_frame``. The numbers are
        computed by hand from those in the file, and not by the reader.
        """
        raise NotImplementedError("write the file that is read")

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """A file, whose frames are in ``self.expected``."""
        named = self.options.path
        assert isinstance(named, Path), "give options with one path"
        path = tmp_path / named.name
        self.expected = self.write(path)
        assert len(self.expected) >= 3
        return path

    def reader(self, path: Path | list[Path], **changes: Any) -> DatasetOptions:
        """The reader of a file, with changed options."""
        return type(self.options)(**{**self.options.model_dump(exclude_unset=True), "path": path, **changes})

    # ------------------------------------------------------------------------------------------- frames

    def test_frames_have_the_positions_and_labels_of_the_file(self, file: Path) -> None:
        assert_same(self.reader(file).read(), self.expected)

    def test_read_twice_is_the_same(self, file: Path) -> None:
        first, second = (self.reader(file).read() for _ in range(2))
        assert dataset_hash(first) == dataset_hash(second)

    def test_every_frame_has_charge_and_spin(self, file: Path) -> None:
        for atoms in self.reader(file).read():
            assert {"charge", "spin"} <= set(atoms.info)

    @pytest.mark.parametrize("frames", ["1:", ":2", "::2", "-1:", "1:2", "::-1"])
    def test_selected_frames_are_those_of_all(self, file: Path, frames: str) -> None:
        parts = [None if part == "" else int(part) for part in frames.split(":")]
        assert_same(self.reader(file, frames=frames).read(), self.expected[slice(*parts)])

    def test_a_frame_that_is_read_alone_is_the_same(self, file: Path) -> None:
        for number, atoms in enumerate(self.expected):
            assert_same(self.reader(file, frames=f"{number}:{number + 1}").read(), [atoms])

    def test_several_files_are_one_data_set(self, file: Path) -> None:
        copy = file.with_name(f"copy-{file.name}")
        copy.write_bytes(file.read_bytes())
        both = [file, copy]
        assert_same(self.reader(both).read(), [*self.expected, *self.expected])
        n = len(self.expected)
        at_the_joint = [self.expected[-1], self.expected[0]]
        assert_same(self.reader(both, frames=f"{n - 1}:{n + 1}").read(), at_the_joint)
        assert_same(self.reader(file.with_name(f"*{file.name}")).read(), [*self.expected, *self.expected])

    # -------------------------------------------------------------------------------------------- units

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_energies_and_lengths_are_in_the_units_that_are_named(self, file: Path) -> None:
        """As far as the reader lets them be named."""
        model = type(self.options)
        for name, factor in (("energy_unit", energy_unit), ("length_unit", length_unit)):
            here = getattr(self.options, name)
            for other in typing.get_args(model.model_fields[name].annotation):
                atoms = self.reader(file, **{name: other}).read()[0]
                ratio = factor(other) / factor(here)
                self._compare(name, atoms, ratio)

    def _compare(self, name: str, atoms: Atoms, ratio: float) -> None:
        first = self.expected[0]
        if name == "length_unit":
            _assert_close(atoms.positions / ratio, first.positions)
        elif "energy" in first.calc.results:
            expected = first.calc.results["energy"]
            _assert_close(atoms.calc.results["energy"] / ratio, expected)

    # ----------------------------------------------------------------------------------------- bad input

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        for path in (tmp_path / "no such file", tmp_path):
            with pytest.raises(DatasetError, match=str(path)):
                self.reader(path).read()

    @pytest.mark.filterwarnings("ignore")
    def test_a_file_that_was_cut_short_ends_in_words(self, file: Path) -> None:
        """Or gives frames of the whole, where the format cannot know; never another exception."""
        content = file.read_bytes()
        for part in (0.0, 0.3, 0.6, 0.95):
            file.write_bytes(content[: int(part * len(content))])
            try:
                frames = self.reader(file).read()
            except AsecalcError as error:
                frames, message = [], str(error)
            assert frames or file.name in message
            assert_same(frames, self.expected[: len(frames)])

    def test_frames_that_do_not_exist_are_an_error(self, file: Path) -> None:
        with pytest.raises(DatasetError, match="no frames"):
            self.reader(file, frames="1000:").read()


def assert_same(frames: Sequence[Atoms], expected: Sequence[Atoms]) -> None:
    """Atoms, cells and labels of two lists of frames agree."""
    assert len(frames) == len(expected)
    for atoms, other in zip(frames, expected, strict=True):
        assert atoms.get_chemical_symbols() == other.get_chemical_symbols()
        assert atoms.pbc.tolist() == other.pbc.tolist()
        _assert_close(atoms.positions, other.positions)
        _assert_close(atoms.cell.array, other.cell.array)
        assert atoms.calc.results.keys() == other.calc.results.keys()
        for label, value in other.calc.results.items():
            _assert_close(atoms.calc.results[label], value, label)


def _assert_close(values: ArrayLike, expected: ArrayLike, label: str = "") -> None:
    """Equal up to a text of eight decimals."""
    np.testing.assert_allclose(np.asarray(values), np.asarray(expected), rtol=1e-7, atol=2e-8, err_msg=label)
