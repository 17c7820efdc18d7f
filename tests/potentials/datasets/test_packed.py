"""Frames as arrays: the same as lists of Atoms, and the same again from the user's cache."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from raising import told

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.user_cache import cache_folder
from asecalc_ml.potentials.datasets import dataset_hash
from asecalc_ml.potentials.datasets.packed import cache
from asecalc_ml.potentials.datasets.packed.cache import kept
from asecalc_ml.potentials.datasets.packed.frames import (
    Lists,
    PackedFrames,
    concatenated,
    from_arrays,
    offsets_of,
    pack,
    to_arrays,
)

SIZES = (3, 1, 4, 2)


def made(sizes=SIZES, seed: int = 0, periodic: bool = False, **changes) -> PackedFrames:
    """Random frames with a property of each kind; the second lacks `homo`."""
    random, n_atoms, n = np.random.default_rng(seed), sum(sizes), len(sizes)
    homo = random.normal(size=n)
    homo[1:2] = np.nan
    parts = {
        "numbers": random.integers(1, 10, n_atoms).astype(np.uint8),
        "positions": random.normal(size=(n_atoms, 3)),
        "offsets": offsets_of(sizes),
        "properties": {"homo": homo, "u0": random.normal(size=n), "tensor": random.normal(size=(n, 3, 3))},
        "units": {"homo": "eV", "u0": "eV"},
        "cells": random.normal(size=(n, 3, 3)) + 10 * np.eye(3) if periodic else None,
        "texts": {"smiles": np.array([f"C{k}" for k in range(n)])},
        "whole_numbers": {"index": np.arange(n) + 1},
        "of_atoms": {"charges": random.normal(size=n_atoms)},
        "lists": {"frequencies": pack([random.normal(size=k + 1) for k in range(n)])},
        "energy": "u0",
        "absent": {"dipole": "only its norm is known"},
    }
    return PackedFrames(**{**parts, **changes})


def assert_equal(frames, others) -> None:
    """Two sequences of frames agree in everything that an Atoms object holds."""
    assert len(frames) == len(others)
    for atoms, other in zip(frames, others, strict=True):
        assert atoms == other
        assert atoms.info.keys() == other.info.keys()
        for name, value in other.info.items():
            np.testing.assert_array_equal(atoms.info[name], value)
        assert atoms.arrays.keys() == other.arrays.keys()
        for name, values in other.arrays.items():
            np.testing.assert_array_equal(atoms.arrays[name], values)
        assert atoms.calc.results == other.calc.results


def test_a_frame_has_its_own_values_and_no_others():
    frames = made()
    atoms = frames[2]
    assert atoms.numbers.tolist() == frames.numbers[4:8].tolist()
    assert atoms.positions.tolist() == frames.positions[4:8].tolist()
    assert atoms.get_array("charges").tolist() == frames.of_atoms["charges"][4:8].tolist()
    assert (atoms.info["smiles"], atoms.info["index"], len(atoms.info["frequencies"])) == ("C2", 3, 3)
    assert atoms.info["homo"] == frames.values("homo")[2]
    assert atoms.info["tensor"].tolist() == frames.values("tensor")[2].tolist()
    assert atoms.get_potential_energy() == frames.values("u0")[2]
    assert (atoms.info["charge"], atoms.info["spin"]) == (0, 0)
    assert not atoms.pbc.any()


def test_a_missing_value_is_left_out():
    assert "homo" not in made()[1].info
    assert made().counts() == {"homo": 3, "u0": 4, "tensor": 4}


def test_crystals_are_periodic():
    frames = made(periodic=True)
    assert frames[3].pbc.all()
    assert frames[3].cell.array.tolist() == frames.cells[3].tolist()


def test_changing_a_frame_changes_no_other():
    frames = made()
    atoms = frames[0]
    atoms.positions += 1.0
    atoms.arrays["charges"] += 1.0
    for name in ("tensor", "frequencies"):
        atoms.info[name] += 1.0
    assert frames.hash == made().hash
    assert_equal(list(frames), list(made()))


@given(st.lists(st.integers(0, 3), max_size=6), st.booleans())
def test_taking_frames_is_taking_atoms(numbers, periodic):
    frames = made(periodic=periodic)
    assert_equal(list(frames.take(numbers)), [frames[k] for k in numbers])


@given(st.slices(4))
def test_slices_are_those_of_a_list(part):
    assert_equal(list(made()[part]), list(made())[part])


def test_numbers_beyond_the_end_are_refused():
    with pytest.raises(IndexError):
        made()[4]
    assert_equal([made()[-1]], [made()[3]])


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4), st.lists(st.integers(1, 5), min_size=1, max_size=4)
)
def test_sets_are_joined_in_their_order(first, second):
    parts = [made(first), made(second, seed=1)]
    assert_equal(list(concatenated(parts)), [*parts[0], *parts[1]])


def test_a_set_without_a_property_lacks_it():
    without = made(properties={"u0": np.zeros(4)}, lists={}, texts={}, of_atoms={}, whole_numbers={})
    joint = concatenated([without, made()])
    assert joint.counts() == {"homo": 3, "u0": 8, "tensor": 4}
    assert "homo" not in joint[0].info
    assert joint[4].info["homo"] == made()[0].info["homo"]
    assert joint[0].info["smiles"] == ""


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(DatasetError, check=told(name="homo", value="meV")):
        concatenated([made(), made(units={"homo": "meV"})])
    with pytest.raises(DatasetError, match="crystals"):
        concatenated([made(), made(periodic=True)])


def test_a_property_that_is_absent():
    with pytest.raises(DatasetError, match="only its norm", check=told(name="dipole", allowed=["homo"])):
        made().values("dipole")
    with pytest.raises(DatasetError, match="'homo'", check=told(name="hmo")):
        made().values("hmo")


def test_the_hash_sees_values_and_order():
    frames = made()
    others = [frames[::-1], made(seed=1), made(periodic=True), made(charge=1)]
    assert len({frames.hash, *(other.hash for other in others)}) == 5
    assert dataset_hash(frames) == dataset_hash(made())


@pytest.mark.parametrize("periodic", [True, False])
def test_arrays_hold_everything(periodic):
    frames = made(periodic=periodic, left_out={"C9": "partial occupancy"})
    again = from_arrays(to_arrays(frames))
    assert_equal(list(again), list(frames))
    assert (again.left_out, again.absent, again.units) == (frames.left_out, frames.absent, frames.units)
    assert again.hash == frames.hash


def test_lists_of_frames():
    lists = Lists(np.arange(6), offsets_of([1, 0, 3, 2]))
    assert [lists.take(np.array([3, 1, 2])).of(k).tolist() for k in range(3)] == [[4, 5], [], [1, 2, 3]]


# ------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.csv"
    path.write_text("first")
    return path


def counted(frames: PackedFrames):
    """A function that returns frames, and the list of its calls."""
    calls = []

    def build() -> PackedFrames:
        calls.append(1)
        return frames

    return build, calls


def test_a_set_is_read_once(source):
    build, calls = counted(made())
    first, second = (kept("test", [source], build, "data") for _ in range(2))
    assert len(calls) == 1
    assert_equal(list(second), list(first))


def test_other_contents_are_read_anew_and_other_places_and_times_are_not(source, tmp_path):
    build, calls = counted(made())
    kept("test", [source], build, "data")
    copy = tmp_path / "elsewhere" / source.name
    copy.parent.mkdir()
    copy.write_text("first")
    os.utime(copy, (0, 0))
    kept("test", [copy], build, "data")
    assert len(calls) == 1
    times = source.stat()
    source.write_text("other")  # of the same size
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    kept("test", [source], build, "data")
    assert len(calls) == 2


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"", lambda data: data.replace(b"homo", b"hOmO")]
)
def test_a_damaged_copy_is_read_anew(source, damage):
    build, calls = counted(made())
    kept("test", [source], build, "data")
    (path,) = cache_folder("datasets").glob("*.npz")
    path.write_bytes(damage(path.read_bytes()))
    assert_equal(list(kept("test", [source], build, "data")), list(made()))
    assert len(calls) == 2


def test_without_a_cache_the_data_are_read_all_the_same(source, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="XDG_CACHE_HOME"):
        frames = kept("test", [source], counted(made())[0], "data")
    assert len(frames) == 4


def test_what_is_left_out_is_counted_and_listed_once_in_each_process(source, capsys):
    left_out = {"A": "partial occupancy", "B": "unreadable: no cell", "C": "unreadable: no symbols"}
    for _ in range(2):
        cache._print_once.cache_clear()  # as in a new process
        for _ in range(2):
            kept("test", [source], counted(made(left_out=left_out))[0], "mofs")
        printed = capsys.readouterr().err
        line = "mofs: 4 structures are read, 3 are left out: 2 unreadable, 1 partial occupancy"
        assert printed.count(line) == 1
    (path,) = cache_folder("datasets").glob("*.csv")
    assert str(path) in printed
    assert path.read_text().splitlines()[1:] == [f"{name},{why}" for name, why in left_out.items()]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"positions": np.full((10, 3), np.nan)}, "positions"),
        ({"positions": np.full((10, 3), 1e16)}, "positions"),
        ({"numbers": np.zeros(10, dtype=np.uint8)}, "atomic number"),
        ({"numbers": np.full(10, 119, dtype=np.uint8)}, "atomic number"),
        ({"offsets": offsets_of([0, 4, 4, 2])}, "no atoms"),
        ({"properties": {"homo": np.array([1, 2, 3, np.inf])}, "energy": None}, "'homo'"),
        ({"cells": np.full((4, 3, 3), np.inf)}, "cell"),
    ],
)
def test_numbers_that_would_poison_a_training_are_refused(source, changes, problem):
    check = told(name="mofs", value=3 if problem == "'homo'" else 0, remedy="damaged")
    with pytest.raises(DatasetError, match=f"{problem}.* frames in all", check=check):
        kept("test", [source], counted(made(**changes))[0], "mofs")
    assert not list(cache_folder("datasets").glob("*"))


def test_frames_are_a_sequence_of_atoms():
    frames = made()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(isinstance(atoms, Atoms) for atoms in frames)
        assert_equal(list(reversed(frames)), list(frames)[::-1])


def source_of(tmp_path, number: int):
    path = tmp_path / f"source{number}.csv"
    path.write_text(str(number))
    return path


def copy_of(number: int, tmp_path, builds: list | None = None) -> None:
    """Read a set whose copy is in the cache, or make it."""

    def build() -> PackedFrames:
        if builds is not None:
            builds.append(number)
        return made(seed=number, left_out={"a": "reason"})

    kept("test", [source_of(tmp_path, number)], build, f"set {number}")


def test_copies_that_were_used_longest_ago_make_room(tmp_path, monkeypatch):
    folder = cache_folder("datasets")
    copies = []
    for number in range(4):
        before = set(folder.glob("*.npz"))
        copy_of(number, tmp_path)
        copies += set(folder.glob("*.npz")) - before
    size = max(path.stat().st_size for path in copies)
    for age, path in enumerate(copies):
        os.utime(path, (1e9 - age, 1e9 - age))  # the later, the longer ago
    copy_of(3, tmp_path)  # read once more: the last one to go
    monkeypatch.setattr(cache, "LARGEST", int(3.5 * size))
    copy_of(4, tmp_path)
    assert {path for path in copies if path.exists()} == {copies[0], copies[3]}
    assert len(list(folder.glob("*.npz"))) == 3
    assert len(list(folder.glob("*.left_out.csv"))) == 3
    builds: list[int] = []
    for number in (0, 3, 4, 1):
        copy_of(number, tmp_path, builds)
    assert builds == [1]
    # a set larger than all room is kept alone
    monkeypatch.setattr(cache, "LARGEST", 1)
    copy_of(5, tmp_path)
    assert len(list(folder.glob("*.npz"))) == 1


def test_what_a_killed_process_has_left_in_the_cache_goes_after_a_day(tmp_path):
    folder = cache_folder("datasets")
    folder.mkdir(parents=True)
    old, new = folder / ".test-a.npz.17.part", folder / ".test-b.npz.18.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (1e9, 1e9))
    copy_of(0, tmp_path)
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def test_processes_that_make_room_at_once_do_not_disturb_each_other(tmp_path, monkeypatch):
    """Copies vanish while they are listed and while they are read: all sets are read all the same."""
    monkeypatch.setattr(cache, "LARGEST", 1)

    def twice(number):
        copy_of(number, tmp_path)
        copy_of(number, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(twice, range(30)))
    assert list(cache_folder("datasets").glob("*.npz"))
