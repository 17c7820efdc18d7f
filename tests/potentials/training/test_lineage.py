"""Frames that trained a model, or one that it started from, are never what it is tested on."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.report.report import _error_rows
from asecalc_ml.cli import ml
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import ModelError, TrainingError
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.training import TrainingRequest, TrainOptions, train
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.potentials.training.frames.lineage import Lineage
from asecalc_ml.potentials.training.frames.split import Split
from asecalc_ml.potentials.training.frames.training_data import read_data
from asecalc_ml.potentials.training.options import SplitOptions
from asecalc_ml.potentials.training.run import check
from asecalc_ml.store.card import Ancestor
from asecalc_ml.store.model_file import SHIPPED, read_card, read_model, read_seen, save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.testing import register_untrained

pytestmark = pytest.mark.filterwarnings("ignore:The model has learned nothing")

CYCLES = {  # more epochs may follow
    "schedule": "one-cycle", "cycle_epochs": 1, "ema_decay": 0.5,
    "learning_rate": 3e-3, "minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6,
}  # fmt: skip
SMALL = {"architecture": "painn", "n_atom_basis": 8, "n_interactions": 1, "n_rbf": 8}


def frames_of(n_frames: int, seed: int) -> list[Atoms]:
    random = np.random.default_rng(seed)
    frames = [molecule("H2O") for _ in range(n_frames)]
    for atoms in frames:
        atoms.positions += random.normal(scale=0.05, size=(3, 3))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(
            atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
    return frames


OLD, NEW = frames_of(20, 1), frames_of(20, 2)


def turned(frames: list[Atoms]) -> list[Atoms]:
    """The same frames as another program may write them: moved, turned, hydrogens exchanged, with labels."""
    found = []
    for atoms in frames:
        other = atoms[[2, 0, 1]]
        other.rotate(50, (1, 2, 3))
        other.positions += 3
        other.calc = EMT()
        results = {"energy": other.get_potential_energy(), "forces": other.get_forces()}
        other.calc = SinglePointCalculator(other, **results)
        found.append(other)
    return found


def lineage(trained: list[Atoms], validated: list[Atoms] = ()) -> Lineage:
    return Lineage((Ancestor(name="old", knows_frames=True),), SeenFrames.of(trained, validated))


def options(tmp_path, **changes) -> TrainOptions:
    given = {
        "name": "old",
        "data": {"format": "ase", "path": str(tmp_path / "old.xyz"), "level_of_theory": "EMT"},
        "split": {"n_train": 12, "n_validation": 4, "n_test": 4},
        "model": SMALL,
        "optimizer": {"warmup_steps": 2, "ema_decay": 0.5},
        "max_epochs": 1,
        "directory": tmp_path / changes.get("name", "old"),
    }
    return TrainOptions(**(given | changes))


@pytest.fixture
def files(tmp_path):
    """20 old frames; these, written by another program, with 20 new ones."""
    write(tmp_path / "old.xyz", OLD, format="extxyz")
    write(tmp_path / "pool.xyz", [*turned(OLD), *NEW], format="extxyz")
    return tmp_path


# ------------------------------------------------------------------------------------------------ drawing


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.integers(0, 6), st.booleans())
def test_what_an_ancestor_has_seen_only_trains(seed, n_trained, n_validated, is_stratified):
    frames = [*OLD, *NEW]
    for k, atoms in enumerate(frames):
        atoms.info["kind"] = "ab"[k % 2]
    trained, validated = frames[:n_trained], frames[20 : 20 + n_validated]
    sizes = SplitOptions(n_train=14, n_validation=6, n_test=12, stratify_by="kind" if is_stratified else None)
    split = Split.draw(frames, sizes, seed, lineage=lineage(trained, validated))
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [14, 6, 12]
    assert len({number for part in parts for number in part}) == 32
    assert not set(range(n_trained)) & {*split.validation, *split.test}
    assert not set(range(20, 20 + n_validated)) & set(split.test)


@pytest.mark.parametrize("stratify_by", [None, "kind"])
def test_without_ancestors_splits_are_those_of_before(stratify_by):
    """Numbers that the version before fingerprints drew; cards are measured again with them."""
    frames = [Atoms(info={"kind": "ab"[k % 2]}) for k in range(40)]
    sizes = SplitOptions(n_train=20, n_validation=4, n_test=6, stratify_by=stratify_by)
    split = Split.draw(frames, sizes, seed=3)
    if stratify_by is None:
        order = np.random.default_rng(3).permutation(40)
        expected = [sorted(part.tolist()) for part in (order[:20], order[20:24], order[24:30])]
        assert [split.train, split.validation, split.test] == expected
    else:
        assert (split.validation, split.test) == ([7, 8, 13, 16], [5, 9, 10, 14, 18, 31])


def test_a_group_with_a_frame_that_was_trained_on_only_trains():
    near = OLD[0].copy()
    near.positions[0] += 0.01  # no copy, and nearer than the distance of the groups
    frames = [near, *OLD[:8], *NEW[:8]]
    sizes = SplitOptions(n_train=9, n_validation=4, n_test=4, group_distance_A=0.02)
    for seed in range(5):
        split = Split.draw(frames, sizes, seed, lineage=lineage(OLD[:1]))
        assert {0, 1} <= set(split.train)


def test_too_few_new_frames_are_told():
    sizes = SplitOptions(n_train=20, n_validation=8, n_test=8)
    check = told(
        name="split", value=(8, 8), allowed="up to 20 frames in both, 4 of them to test", remedy="`test_data`"
    )
    with pytest.raises(TrainingError, match=r"24 .*'old'", check=check):
        Split.draw(
            [*OLD[:4], *NEW],
            sizes.model_copy(update={"n_train": 4}),
            0,
            lineage=lineage(OLD, NEW[4:]),
        )


def test_a_split_file_with_such_frames_is_refused(files):
    pool = {"format": "ase", "path": str(files / "pool.xyz")}
    parts = {"train": [0, 1], "validation": [20, 21], "test": [2, 22]}
    (files / "split.json").write_text(json.dumps(parts))
    given = options(files, data=pool, split={"file": files / "split.json"})
    check = told(name="split.json", value=[2], remedy="train")
    with pytest.raises(TrainingError, match=r"1 of the 2 frames of test .*'old'", check=check):
        read_data(given, None, lineage(OLD))
    assert len(read_data(given, None, lineage(OLD[5:])).test) == 2


def test_such_frames_are_left_out_of_test_data(files):
    given = options(
        files,
        data={"format": "ase", "path": str(files / "old.xyz")},
        test_data={"format": "ase", "path": str(files / "pool.xyz")},
        split={"n_train": 12, "n_validation": 4},
    )
    data = read_data(given, None, lineage(OLD[:5], OLD[5:8]))
    assert (len(data.test), data.n_left_out) == (32, 8)
    assert len(data.places["test"]) == 32
    assert "8 frames of `test_data` are left out of the test: 'old'" in data.notes()[-1]
    write(files / "others.xyz", frames_of(20, 3), format="extxyz")
    others = {"format": "ase", "path": str(files / "others.xyz")}
    with pytest.raises(TrainingError, match="40", check=told(name="test_data", value="'old'", remedy=True)):
        read_data(given.model_copy(update={"data": others}), None, lineage([*OLD, *NEW]))


# ------------------------------------------------------------------------------------------- a whole lineage


def test_three_generations(files):
    """Each model file holds the frames of all before it, and each is measured again as its card says."""
    train(options(files), quiet=True)
    old = read_seen(Registry().find("old").path)
    assert (len(old.trained), len(old.validated)) == (12, 4)
    pool = {"format": "ase", "path": str(files / "pool.xyz"), "level_of_theory": "EMT"}
    sizes = {"n_train": 16, "n_validation": 4, "n_test": 8}
    with pytest.warns(UserWarning, match="learned nothing|energies"):
        entry = train(options(files, name="new", init_from="old", data=pool, split=sizes), quiet=True)
    split = json.loads((files / "new" / "split.json").read_text())
    trained = json.loads((files / "old" / "split.json").read_text())
    assert not set(trained["train"]) & {*split["validation"], *split["test"]}
    assert not set(trained["validation"]) & set(split["test"])
    assert [one.name for one in entry.card.ancestors] == ["old"]
    assert entry.card.unknown_ancestors() == []
    seen = read_seen(entry.path)
    assert (len(seen.trained), len(seen.validated)) == (16 + 12, 4 + 4)
    again = evaluate_model("new")
    assert_close(again.metrics, entry.card.metrics)
    assert (again.n_trained, again.n_validated, again.unknown) == (0, 0, ())
    # of all 40 frames, the 12 and 4 of the parent, and the 16 and 4 of its own
    known = evaluate_model("new", dataset(pool))
    assert known.n_trained == len({*trained["train"], *split["train"]})
    others = {*trained["validation"], *split["validation"]} - {*trained["train"], *split["train"]}
    assert known.n_validated == len(others)
    assert f"{known.n_trained} of the 40 frames trained new or a model that it started from" in str(known)
    counts = f"{known.n_trained} training frames, {known.n_validated} more that chose an epoch"
    assert str(Lineage.of_parent("new")) == f"'new', 'old' ({counts})"  # frames of both count once
    (files / "pool.xyz").rename(files / "moved.xyz")  # the training's own data are not at hand any more
    with pytest.warns(UserWarning, match="frames of moved trained new or a model"):
        assert evaluate_model("new", dataset(pool | {"path": str(files / "moved.xyz")})).n_trained > 0
    moved = pool | {"path": str(files / "moved.xyz")}
    third = options(files, name="third", init_from="new", data=moved, split=sizes | {"n_test": 20})
    with pytest.raises(
        TrainingError, check=told(name="split", value=(4, 20), problem="'new', 'old'", remedy="split.n_test")
    ):
        check(TrainingRequest(third, quiet=True))


def assert_close(metrics, others):
    """Batches of another size, or compiled ones, round differently."""
    ours, theirs = (one.model_dump(exclude_none=True, exclude={"quantities"}) for one in (metrics, others))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_resumed_training_keeps_its_split(files):
    train(options(files), quiet=True)
    pool = {"format": "ase", "path": str(files / "pool.xyz"), "level_of_theory": "EMT"}
    given = options(files, name="new", init_from="old", data=pool, optimizer=CYCLES)
    train(given, quiet=True)
    split = (files / "new" / "split.json").read_text()
    entry = train(given.model_copy(update={"max_epochs": 2}), resume=True, replace=True, quiet=True)
    assert (files / "new" / "split.json").read_text() == split
    assert_close(evaluate_model("new").metrics, entry.card.metrics)


def test_a_training_is_not_resumed_with_another_parent(files):
    """Frames of the model that it began with would be forgotten."""
    train(options(files), quiet=True)
    former = Registry().export("old", files / "former.safetensors")
    pool = {"format": "ase", "path": str(files / "pool.xyz"), "level_of_theory": "EMT"}
    given = options(files, name="new", init_from="old", data=pool, optimizer=CYCLES)
    train(given, quiet=True)
    more = given.model_copy(update={"max_epochs": 2})
    Registry().note("old", "Stable for 1 ps.")  # the same weights and frames
    train(more, resume=True, replace=True, quiet=True)
    train(options(files, seed=1), replace=True, quiet=True)
    with pytest.raises(TrainingError, check=told(name="old", remedy="models add")):
        train(more, resume=True, replace=True, allow_different=True, quiet=True)
    Registry().add(former, "old", replace=True)
    train(more, resume=True, replace=True, quiet=True)


def test_the_command_line_prints_test_errors(files):
    (files / "old.yaml").write_text(dump_yaml(options(files)))
    result = CliRunner().invoke(ml.app, ["train", str(files / "old.yaml")])
    assert result.exit_code == 0, result.output
    card = Registry().find("old").card
    assert "old on its test data, 4 frames" in result.output
    (line,) = [line for line in result.output.splitlines() if "mean absolute error of a force" in line]
    assert line.split()[-1] == f"{card.metrics.forces_mae_meV_A:.2f}"
    assert "Registered old (" in result.output


def test_the_command_line_says_where_weights_come_from(files):
    train(options(files), quiet=True)
    pool = {"format": "ase", "path": str(files / "pool.xyz"), "level_of_theory": "PBE"}
    new = options(files, name="new", init_from="old", data=pool)
    (files / "new.yaml").write_text(dump_yaml(new))
    result = CliRunner().invoke(ml.app, ["validate", str(files / "new.yaml")])
    assert result.exit_code == 0, result.output
    assert "weights: " in result.output
    assert "from 'old' (12 training frames, 4 more that chose an epoch)" in result.output
    small = new.model_copy(update={"split": SplitOptions(n_train=2, n_validation=10, n_test=28)})
    (files / "new.yaml").write_text(dump_yaml(small))
    result = CliRunner().invoke(ml.app, ["train", str(files / "new.yaml")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_another_level_of_theory_is_named(files):
    train(options(files), quiet=True)
    pool = {"format": "ase", "path": str(files / "pool.xyz"), "level_of_theory": "PBE"}
    said = "the weights come from 'old', trained on labels of EMT; the labels here are of PBE"
    given = options(files, name="new", init_from="old", data=pool)
    with pytest.warns(UserWarning, match=said):
        card = train(given, quiet=True).card
    assert said in card.notes
    assert card.ancestors[0].level_of_theory == "EMT"
    unstated = given.model_copy(update={"name": "newer", "data": pool | {"level_of_theory": None}})
    with pytest.warns(UserWarning, match="of an unknown one"):
        check(TrainingRequest(unstated, quiet=True))


def test_an_ancestor_without_fingerprints_is_unknown(files, caplog):
    """A model that was imported, or trained by an older version."""
    train(options(files), quiet=True)
    entry = Registry().find("old")
    save_model(entry.path, *read_model(entry.path))
    assert read_seen(entry.path) is None
    given = options(files, name="new", init_from="old")
    with (
        pytest.warns(UserWarning, match="weights come from 'old', and which frames trained it is not known"),
        caplog.at_level("INFO"),
    ):
        card = train(given, quiet=True).card
    assert "The weights start from 'old' (training frames of 'old' unknown)." in caplog.messages
    assert card.unknown_ancestors() == ["old"]
    assert any("not known" in note for note in card.notes)
    result = evaluate_model("new")
    assert result.unknown == ("old",)
    assert "Which frames trained old is not known" in str(result)


def test_older_cards_name_their_ancestor():
    card = read_card(SHIPPED / "jat-ean.safetensors")
    assert [one.name for one in card.ancestors] == ["jat-ethanol"]
    assert card.unknown_ancestors() == ["jat-ethanol"]
    assert read_card(SHIPPED / "jat-ethanol.safetensors").ancestors == []
    assert Lineage.of_parent("jat-ean").names == "'jat-ean', 'jat-ethanol'"


def test_copies_within_the_data_are_noted_in_the_card(tmp_path):
    """Two atoms are never drawn as copies: a series of one distance has many that are nearly equal."""
    pairs = [atoms[:2] for atoms in OLD[:12]]
    for atoms in pairs:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    write(tmp_path / "old.xyz", [*pairs, *pairs[:8]], format="extxyz")
    with pytest.warns(UserWarning, match="copies of"):
        card = train(options(tmp_path), quiet=True).card
    split = json.loads((tmp_path / "old" / "split.json").read_text())
    used = {number % 12 for part in ("train", "validation") for number in split[part]}
    n_copies = sum(number % 12 in used for number in split["test"])
    assert n_copies > 0
    assert card.metrics.n_copies == n_copies
    stated = next(_error_rows(card.model_dump())).value
    assert stated.endswith(f"({n_copies} of all 4 test frames trained the model or chose its epoch)")
    assert any(
        note.startswith(f"{n_copies} of the 4 test frames are copies of frames") for note in card.notes
    )


# ------------------------------------------------------------------------------------------------- the file


def test_a_note_keeps_the_frames(files):
    train(options(files), quiet=True)
    before = read_seen(Registry().find("old").path)
    after = read_seen(Registry().note("old", "Stable for 1 ps.").path)
    assert all(np.array_equal(before.arrays()[name], after.arrays()[name]) for name in before.arrays())


def test_the_file_grows_by_sixteen_bytes_a_frame(tiny_model_file, tmp_path):
    model, card = read_model(tiny_model_file)
    sizes = []
    for n_frames in (10, 20):
        save_model(tmp_path / "m.safetensors", model, card, SeenFrames.of(OLD[:n_frames], []))
        sizes.append((tmp_path / "m.safetensors").stat().st_size)
    assert sizes[1] - sizes[0] == pytest.approx(160, abs=16)
    again, _ = read_model(tmp_path / "m.safetensors")
    assert all((again.state_dict()[name] == tensor).all() for name, tensor in model.state_dict().items())


def test_damaged_frames_are_refused(tiny_model_file, tmp_path):
    model, card = read_model(tiny_model_file)
    bad = SeenFrames(np.zeros((3, 8), dtype=np.int32), np.zeros((0, 8), dtype=np.int16))
    save_model(tmp_path / "m.safetensors", model, card, bad)
    with pytest.raises(ModelError, check=told(problem="int16", remedy="copy it again")):
        read_seen(tmp_path / "m.safetensors")


def test_a_model_without_training_is_unknown():
    register_untrained("morse", Morse(depth_eV=2.0, r0_A=1.1, cutoff_A=4.0), OLD[0])
    assert Lineage.of_parent("morse").ancestors[0].knows_frames is False
