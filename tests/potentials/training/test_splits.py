"""Splits that keep near-duplicates together and strata in proportion, and splits from a file."""

import json
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st
from places import EXAMPLES
from raising import told

from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets import NeuralILJson
from asecalc_ml.potentials.training import TrainingRequest, TrainOptions
from asecalc_ml.potentials.training.frames.groups import draw_grouped, find_groups
from asecalc_ml.potentials.training.frames.lineage import Lineage
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.frames.training_data import read_data
from asecalc_ml.potentials.training.options import SplitOptions
from asecalc_ml.potentials.training.run import check

EXAMPLE = EXAMPLES / "split_ean.json"


def parts_of(split: Split) -> list[list[int]]:
    return [split.train, split.validation, split.test]


# ------------------------------------------------------------------------------------------------ groups


def test_frames_closer_than_the_distance_are_one_group():
    """Four waters: two nearly the same, a chain to the third, and one apart."""
    frames = [molecule("H2O") for _ in range(4)]
    for atoms, shift in zip(frames, (0.0, 0.08, 0.16, 1.0), strict=True):
        atoms.positions[:, 0] += shift
    assert find_groups(frames, None, 0.1).tolist() == [0, 0, 0, 1]
    assert len(set(find_groups(frames, None, 0.05).tolist())) == 4


def test_other_atoms_or_another_cell_are_never_near():
    water, cell = molecule("H2O"), bulk("Cu", cubic=True)
    strained = cell.copy()
    strained.set_cell(1.1 * cell.cell)
    assert len(set(find_groups([water, molecule("H2O"), cell, strained], None, 0.3).tolist())) == 3


def test_an_atom_put_back_into_the_cell_has_not_moved():
    first = bulk("Si", cubic=True)
    moved = first.copy()
    moved.positions += 0.99 * first.cell[0]
    assert len(set(find_groups([first, moved], None, 0.1).tolist())) == 1
    first.pbc = moved.pbc = False
    assert len(set(find_groups([first, moved], None, 0.1).tolist())) == 2


def test_frames_of_one_value_are_one_group():
    frames = [Atoms(info={"run": name}) for name in "abac"]
    assert find_groups(frames, "run", None).tolist() == [0, 1, 0, 2]
    with pytest.raises(TrainingError, match="4 of 4", check=told(name="walk", value="walk", allowed=["run"])):
        find_groups(frames, "walk", None)


# ------------------------------------------------------------------------------------------------ drawing


@given(st.lists(st.integers(0, 30), min_size=12, max_size=60), st.integers(0, 5), st.data())
def test_no_group_is_torn_and_sizes_are_met(groups, seed, data):
    strata = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(groups), max_size=len(groups)))
    sizes = [len(groups) // 2, len(groups) // 4]
    try:
        parts = draw_grouped(np.array(groups), strata, sizes, np.random.default_rng(seed))
    except TrainingError:
        assert max(Counter(groups).values()) > 1
        return
    assert [len(part) for part in parts] == sizes
    numbers = [frame for part in parts for frame in part]
    assert len(set(numbers)) == len(numbers)
    held = [{groups[frame] for frame in part} for part in parts]
    assert not held[0] & held[1]


@given(st.lists(st.sampled_from("xxxy"), min_size=20, max_size=60), st.integers(0, 5))
def test_every_part_has_its_share_of_each_stratum(strata, seed):
    """Within one frame where no groups bind."""
    n = len(strata)
    sizes = [n // 2, n // 4, n - n // 2 - n // 4]
    parts = draw_grouped(np.arange(n), strata, sizes, np.random.default_rng(seed))
    for part, size in zip(parts, sizes, strict=True):
        for name in "xy":
            share = size * strata.count(name) / n
            assert abs(sum(strata[frame] == name for frame in part) - share) <= 1.001


def test_a_group_that_fits_nowhere_is_told():
    with pytest.raises(
        TrainingError, match="3, 2", check=told(value=5, allowed="up to 3", remedy="split.group_distance_A")
    ):
        draw_grouped(np.zeros(5, int), [""] * 5, [3, 2], np.random.default_rng(0))


def test_the_seed_draws_another_split():
    frames = [Atoms(info={"kind": "ab"[k % 2]}) for k in range(40)]
    sizes = SplitOptions(n_train=20, n_validation=10, n_test=10, stratify_by="kind")
    first, same, other = (Split.draw(frames, sizes, seed) for seed in (0, 0, 1))
    assert parts_of(first) == parts_of(same) != parts_of(other)


# ------------------------------------------------------------------------------------------------- copies


def shaken(n_frames: int, seed: int = 0) -> list[Atoms]:
    """Different waters, labelled with their numbers."""
    random = np.random.default_rng(seed)
    frames = [molecule("H2O") for _ in range(n_frames)]
    for k, atoms in enumerate(frames):
        atoms.positions += random.normal(scale=0.05, size=(3, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=float(k), forces=np.zeros((3, 3)))
    return frames


WATERS = shaken(30)


def moved(atoms: Atoms) -> Atoms:
    """A copy that no comparison of positions finds."""
    copy = atoms[[1, 0, 2]]
    copy.rotate(77, (1, 2, 3))
    copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=np.zeros((3, 3)))
    return copy


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 29), min_size=12, max_size=40),
    st.integers(0, 3),
    st.integers(0, 5),
    st.sampled_from([None, "kind"]),
)
def test_all_copies_of_a_structure_are_drawn_for_one_part(structures, n_spare, seed, stratify_by):
    frames = [moved(WATERS[k]) if number % 2 else WATERS[k] for number, k in enumerate(structures)]
    for number, atoms in enumerate(frames):
        atoms.info["kind"] = "ab"[number % 2]
    n_drawn = len(frames) - n_spare
    sizes = [n_drawn - 2 * (n_drawn // 4), n_drawn // 4, n_drawn // 4]
    given_sizes = SplitOptions(
        n_train=sizes[0], n_validation=sizes[1], n_test=sizes[2], stratify_by=stratify_by
    )
    try:
        parts = parts_of(Split.draw(frames, given_sizes, seed))
    except TrainingError:
        assert max(Counter(structures).values()) > 1
        return
    assert [len(part) for part in parts] == sizes
    assert len({number for part in parts for number in part}) == n_drawn
    held = [{structures[number] for number in part} for part in parts]
    assert sum(map(len, held)) == len(set.union(*held))


def test_copies_change_no_more_of_a_split_than_they_have_to():
    """The frames that train stay those drawn without copies, while others can take the place of a copy."""
    frames, sizes = shaken(40), SplitOptions(n_train=20, n_validation=5, n_test=5)
    before = Split.draw(frames, sizes, seed=1)
    for copy, original in ((before.test[0], before.train[0]), (before.validation[0], before.train[1])):
        frames[copy] = moved(frames[original])
    after = Split.draw(frames, sizes, seed=1)
    assert after.train == before.train
    assert set(before.test) - set(after.test) == {before.test[0]}
    assert set(before.validation) - set(after.validation) == {before.validation[0]}


def written(path, frames) -> dict[str, str]:
    write(path, frames, format="extxyz")
    return {"format": "ase", "path": str(path)}


def test_copies_in_a_given_split_are_refused(tmp_path):
    frames = shaken(8)
    frames[6] = moved(frames[1])
    (tmp_path / "split.json").write_text(json.dumps({"train": [0, 1, 2], "validation": [4], "test": [5, 6]}))
    given_split = TrainOptions(
        name="water",
        data=written(tmp_path / "water.xyz", frames),
        split={"file": tmp_path / "split.json"},
        model={"architecture": "painn"},
        directory=tmp_path / "water",
    )
    expected = told(name="split.file", value=[f"{tmp_path / 'water.xyz'}, frame 6"], remedy="drawn")
    with pytest.raises(TrainingError, match=r"1 of its 3 frames .*water.xyz, frame 1:", check=expected):
        check(TrainingRequest(given_split, quiet=True))


def test_copies_in_test_data_are_refused(tmp_path):
    frames = shaken(8)
    given_test = TrainOptions(
        name="water",
        data=written(tmp_path / "water.xyz", frames),
        test_data=written(tmp_path / "test.xyz", [*shaken(2, seed=1), *map(moved, frames)]),
        split={"n_train": 5, "n_validation": 3},
        model={"architecture": "painn"},
        directory=tmp_path / "water",
    )
    expected = told(name="test_data", remedy="n_test")
    with pytest.raises(TrainingError, match=r"5 of its 10 frames .*water.xyz, frame \d:", check=expected):
        check(TrainingRequest(given_test, quiet=True))


# ---------------------------------------------------------------------------------------------- from a file


@pytest.fixture
def options(tmp_path):
    frames = [molecule("H2O") for _ in range(10)]
    for k, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=float(k), forces=np.zeros((3, 3)))
    write(tmp_path / "frames.traj", frames)
    return TrainOptions(
        name="water",
        data={"format": "ase", "path": str(tmp_path / "frames.traj")},
        split={"file": tmp_path / "split.json"},
    )


def test_frame_numbers_from_a_file_are_used(options):
    options.split.file.write_text(json.dumps({"train": [1, 3], "validation": [0], "test": [9, 8]}))
    data = read_data(options, None)
    assert [atoms.get_potential_energy() for atoms in data.train] == [1, 3]
    assert [atoms.get_potential_energy() for atoms in data.test] == [9, 8]
    assert len(data.split.data_hash) == 64


@pytest.mark.parametrize(
    ("content", "text", "expected"),
    [
        ({"train": [1, 2], "validation": [2], "test": [3]}, "", {"name": "split.json", "allowed": "0 to 9"}),
        ({"train": [1, 2], "validation": [3], "test": [10]}, "", {"name": "split.json", "allowed": "0 to 9"}),
        ({"train": [1], "validation": [], "test": [3]}, "", {"name": "split.json", "remedy": "both"}),
        ({"train": [1], "validation": [2]}, "is damaged .*test", {}),
        (
            {"train": [1], "validation": [2], "test": [3], "data_hash": "5" * 64},
            "",
            {"name": "split.json", "allowed": ["5" * 64], "remedy": "data"},
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(options, content, text, expected):
    options.split.file.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=text, check=told(**expected)):
        read_data(options, None)


def test_a_file_that_is_not_there_is_told(options):
    expected = told(name="split.json", remedy="it should hold train, validation and test")
    with pytest.raises(TrainingError, check=expected):
        read_data(options, None)


def test_the_stored_split_of_the_ionic_liquid(shared_data):
    """No near-duplicate on two sides, both populations everywhere; what its options draw again."""
    frames = NeuralILJson(path=shared_data / "ean/validation_original.json", max_energy_eV=-1255).read()
    sizes = SplitOptions(n_train=48, n_validation=8, n_test=15, stratify_by="group", group_distance_A=0.5)
    split = Split.read(EXAMPLE)
    assert parts_of(split) == parts_of(Split.draw(frames, sizes, seed=0))
    split.check(EXAMPLE, frames, split.data_hash, Lineage())
    groups = find_groups(frames, None, 0.5)
    held = [set(groups[part].tolist()) for part in parts_of(split)]
    assert len(set.union(*held)) == sum(len(part) for part in held)
    hot = [sum(frames[k].info["group"] == "thermal" for k in part) for part in parts_of(split)]
    assert hot == [18, 3, 6]
