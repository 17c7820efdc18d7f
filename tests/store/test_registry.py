"""Names of models, the search path, and what may be changed in it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from raising import told
from safetensors.torch import load_file, save_file

from asecalc_ml.errors import ModelError
from asecalc_ml.store import registry
from asecalc_ml.store.model_file import file_hash, read_card, read_model, save_model
from asecalc_ml.store.registry import Registry


@pytest.fixture
def other_file(tiny_model_file, tmp_path) -> Path:
    """Another model of the same name: one weight differs."""
    model, card = read_model(tiny_model_file)
    model.shift[0] += 1  # of ASE's dummy atom
    path = tmp_path / "source" / "tiny.safetensors"
    save_model(path, model, card)
    return path


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A group's folder and one's own, in this order on the search path."""
    group, own = tmp_path / "group", tmp_path / "own"
    group.mkdir()
    monkeypatch.setenv("ASECALC_ML_HOME", f"{group}{os.pathsep}{own}")
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    return group, own


@pytest.fixture
def read_only(monkeypatch):
    """Makes folders read-only, for root as well, whom permissions do not stop."""

    def make(*folders):
        for folder in folders:
            folder.mkdir(exist_ok=True)
        access, unlink = os.access, Path.unlink

        def refused(path, *args, **kwargs):
            if path.parent in folders:
                raise PermissionError(13, "Permission denied", str(path))
            return unlink(path, *args, **kwargs)

        monkeypatch.setattr(os, "access", lambda path, mode: path not in folders and access(path, mode))
        monkeypatch.setattr(Path, "unlink", refused)

    return make


@pytest.mark.smoke
def test_add_find_list_export_remove(tiny_model_file, folders, tmp_path):
    models = Registry()
    assert models.list() == []
    entry = models.add(tiny_model_file)
    assert entry.path == folders[1] / "tiny.safetensors"
    assert [entry.name for entry in models.list()] == ["tiny"]
    assert models.find("tiny").card == read_card(tiny_model_file)
    exported = models.export("tiny", tmp_path)
    assert file_hash(exported) == entry.hash == file_hash(tiny_model_file)
    assert models.remove("tiny") == entry.path
    assert models.list() == []
    assert models.add(exported, "again").name == "again"


def test_folders_are_read_from_the_environment_as_a_list(folders):
    assert Registry().folders == list(folders)


def test_without_the_variable_it_is_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ASECALC_ML_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert [folder.name for folder in Registry().folders] == ["models"]


def test_the_first_folder_wins(tiny_model_file, other_file, folders):
    group, own = folders
    own.mkdir()
    shutil.copy(tiny_model_file, own)
    assert Registry().find("tiny").path.parent == own
    shutil.copy(other_file, group)
    assert Registry().find("tiny").path.parent == group
    assert [entry.path.parent for entry in Registry().list()] == [group]


def test_a_hash_says_which(tiny_model_file, other_file, folders):
    group, own = folders
    own.mkdir()
    shutil.copy(other_file, group)
    shutil.copy(tiny_model_file, own)
    wanted = file_hash(tiny_model_file)
    assert Registry().find(f"tiny@{wanted[:10]}").path.parent == own
    assert Registry().find(f"tiny@{wanted}").path.parent == own
    with pytest.raises(
        ModelError,
        check=told(
            name="tiny",
            value="abc",
            allowed=[file_hash(other_file), wanted],
            remedy=f"{file_hash(other_file)[:12]} in {group}, {wanted[:12]} in {own}",
        ),
    ):
        Registry().find("tiny@abc")


def test_unknown_names_are_answered_with_the_nearest(tiny_model_file, folders):
    Registry().add(tiny_model_file, "torchmdnet-ethanol")
    with pytest.raises(
        ModelError, match="'torchmdnet-ethanol'", check=told(name="tochmdnet-etanol", remedy=True)
    ):
        Registry().find("tochmdnet-etanol")
    with pytest.raises(
        ModelError,
        check=told(
            name="q", allowed=["torchmdnet-ethanol"], remedy="torchmdnet-ethanol (asecalc-ml models list)"
        ),
    ):
        Registry().find("q")


def test_nothing_known(folders):
    with pytest.raises(ModelError, check=told(name="anything", remedy="none (asecalc-ml models list)")):
        Registry().find("anything")


def test_paths(tiny_model_file, tmp_path, monkeypatch):
    shutil.copy(tiny_model_file, tmp_path / "here.safetensors")
    monkeypatch.chdir(tmp_path)
    for spec in (tmp_path / "here.safetensors", "here.safetensors", "./here.safetensors"):
        assert Registry().find(spec).name == "tiny"
    with pytest.raises(ModelError, check=told(name="gone.safetensors", problem=str(tmp_path))):
        Registry().find("gone.safetensors")


# ------------------------------------------------------------------------------------------------ adding


def test_a_taken_name_is_refused_unless_replaced(tiny_model_file, other_file, folders):
    models = Registry()
    path = models.add(tiny_model_file).path
    with pytest.raises(ModelError, check=told(name="tiny", value=str(path), remedy="--replace")):
        models.add(other_file)
    assert models.find("tiny").hash == file_hash(tiny_model_file)
    models.add(other_file, replace=True)
    assert models.find("tiny").hash == file_hash(other_file)


def test_what_replaces_is_what_is_found(tiny_model_file, other_file, folders):
    """Also where the old model lies in an earlier folder than a new one would."""
    shutil.copy(tiny_model_file, folders[0])
    Registry().add(other_file, replace=True)
    assert Registry().find("tiny").hash == file_hash(other_file)


def test_a_read_only_folder_hides_no_replacement(tiny_model_file, other_file, folders, read_only):
    shutil.copy(tiny_model_file, folders[0])
    read_only(folders[0])
    with pytest.raises(ModelError, check=told(name="tiny", value=str(folders[0]), remedy=True)):
        Registry().add(other_file, replace=True)
    assert Registry().add(other_file, "mine").path.parent == folders[1]


def test_ones_own_folder_may_stand_before_a_read_only_one(tiny_model_file, folders, read_only):
    read_only(folders[1])
    assert Registry().add(tiny_model_file).path.parent == folders[0]


def test_nowhere_to_write(tiny_model_file, folders, read_only):
    read_only(*folders)
    with pytest.raises(ModelError, check=told(value=str(folders[1]), remedy="ASECALC_ML_HOME")):
        Registry().add(tiny_model_file)
    with pytest.raises(ModelError, check=told(name="ASECALC_ML_HOME")):
        Registry().check_free("new")  # as a training asks before it begins


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a@b", "-x", ".hidden", "a b", "x.safetensors", "a\n"])
def test_names_that_no_file_can_have(tiny_model_file, folders, name):
    with pytest.raises(ModelError, check=told(value=name, allowed="letters", remedy=True)):
        Registry().add(tiny_model_file, name)


def test_what_is_no_model_is_not_added(folders, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({}, path)
    with pytest.raises(ModelError, check=told(name=str(path), remedy="asecalc-ml train")):
        Registry().add(path, "other")
    gone = tmp_path / "gone.safetensors"
    with pytest.raises(ModelError, check=told(name=str(gone))):
        Registry().add(gone, "other")
    assert Registry().list() == []


def test_a_damaged_file_keeps_the_others_usable(tiny_model_file, folders):
    Registry().add(tiny_model_file)
    (folders[0] / "broken.safetensors").write_bytes(b"broken")
    assert [entry.name for entry in Registry().list()] == ["broken", "tiny"]
    assert Registry().find("tiny").card.name == "tiny"


# ------------------------------------------------------------------------------------- exporting, removing


def test_export_overwrites_nothing(tiny_model_file, folders, tmp_path):
    Registry().add(tiny_model_file)
    target = tmp_path / "mine.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(ModelError, check=told(name=str(target), remedy="another file")):
        Registry().export("tiny", target)
    assert target.read_bytes() == b"precious"
    assert load_file(Registry().export("tiny", tmp_path / "new" / "m.safetensors"))


def test_shipped_models_are_found_last_and_stay(tiny_model_file, other_file, folders, tmp_path):
    shutil.copy(tiny_model_file, tmp_path / "shipped")
    with pytest.raises(ModelError, check=told(name="tiny", problem="changed", remedy=True)):
        Registry().note("tiny", "text")
    with pytest.raises(ModelError, check=told(name="tiny", problem="removed", remedy=True)):
        Registry().remove("tiny")
    Registry().add(other_file, replace=True)  # one's own version comes before it
    assert Registry().find("tiny").hash == file_hash(other_file)
    Registry().remove("tiny")
    assert Registry().find("tiny").hash == file_hash(tiny_model_file)


def test_a_note_joins_the_card_and_leaves_the_weights(tiny_model_file, folders):
    models = Registry()
    path = models.add(tiny_model_file).path
    weights, card = read_model(path)[0].state_dict(), read_card(path)
    models.note("tiny", "Stable for 10 ps at 300 K.")
    entry = models.note("tiny", "Not at 600 K.")
    assert entry.card.notes == ["Stable for 10 ps at 300 K.", "Not at 600 K."]
    assert entry.card.model_copy(update={"notes": []}) == card
    after = read_model(entry.path)[0].state_dict()
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_only_registered_files_are_removed(tiny_model_file, folders, tmp_path):
    path = shutil.copy(tiny_model_file, tmp_path / "backup.safetensors")
    with pytest.raises(ModelError, check=told(name=str(path), remedy=True)):
        Registry().remove(str(path))
    assert path.exists()


def test_a_read_only_model_is_not_removed(tiny_model_file, folders, read_only):
    path = shutil.copy(tiny_model_file, folders[0])
    read_only(folders[0])
    with pytest.raises(ModelError, check=told(name=str(path), problem="removed", remedy="owner")):
        Registry().remove("tiny")
