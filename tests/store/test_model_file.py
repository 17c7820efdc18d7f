"""Model files that are damaged, foreign or altered are refused, with a remedy; golden values are checked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from raising import told
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from asecalc_ml import MLCalculator, plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError, ModelError, PluginError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.store import golden, model_file
from asecalc_ml.store.build_card import build_card
from asecalc_ml.store.model_file import (
    CHECKSUMS,
    SHIPPED,
    SUFFIX,
    file_hash,
    read_card,
    read_model,
    save_model,
    untrained_model,
)
from asecalc_ml.store.registry import Registry
from asecalc_ml.structure.loading import load_structure


def rewritten(source, target, tensors=None, **card):
    """A copy of a model file with other tensors, or other entries of its card."""
    with safe_open(source, framework="numpy") as file:
        data = json.loads(file.metadata()["card"])
    save_file(
        load_file(source) if tensors is None else tensors, target, {"card": json.dumps({**data, **card})}
    )
    return target


def altered_weights(source, by):
    tensors = load_file(source)
    name = next(name for name in tensors if name.endswith("embedding.weight"))
    return {**tensors, name: tensors[name] + by}


# --------------------------------------------------------------------------------------- files that are bad


@pytest.mark.smoke
@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"energy forces\n" * 40,
        lambda content: content[:-7],
        lambda content: content[: len(content) // 2],
        lambda content: content[:20],
        lambda content: content[:8] + b"[" + content[9:],
        lambda content: b"\xff" * 8 + content[8:],
    ],
)
@pytest.mark.parametrize("reader", [read_card, read_model, MLCalculator])
def test_damaged_files(tiny_model_file, tmp_path, spoil, reader):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(spoil(tiny_model_file.read_bytes()))
    with pytest.raises(ModelError, check=told(name=str(path), remedy="copy it again")):
        reader(path)


def test_every_truncation_is_noticed(tiny_model_file, tmp_path):
    content, path = tiny_model_file.read_bytes(), tmp_path / "short.safetensors"
    for length in np.random.default_rng(0).integers(0, len(content), 25):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, check=told(name=str(path), remedy="copy it again")):
            read_model(path)


def test_a_model_like_that_of_a_file_with_random_weights(tiny_model_file):
    """The same weights for a seed, others for another; scales and references are those of the file."""
    trained, _ = read_model(tiny_model_file)
    state = torch.random.get_rng_state()
    first, again, other = (untrained_model(tiny_model_file, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.scale, trained.scale)
    assert torch.equal(first.shift, trained.shift)
    assert first.dtype == trained.dtype
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in (first, again, other, trained)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_missing_file(tmp_path):
    path = tmp_path / "gone.safetensors"
    with pytest.raises(ModelError, check=told(name=str(path))):
        read_model(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ModelError, check=told(name=str(tmp_path), remedy=SUFFIX)):
        read_card(tmp_path)


def test_somebody_elses_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, check=told(name=str(path), remedy="asecalc-ml train")):
        read_card(path)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"schema_version": 2}, {"value": 2, "remedy": "pip install --upgrade"}),
        ({"schema_version": "new"}, {"problem": "card", "remedy": "copy it again"}),
        ({"cutoff_A": "far"}, {"problem": "cutoff_A", "remedy": "copy it again"}),
        ({"golden": None}, {"problem": "golden", "remedy": "copy it again"}),
    ],
)
def test_cards_that_cannot_be_read(tiny_model_file, tmp_path, card, expected):
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", **card)
    with pytest.raises(ModelError, check=told(name=str(path), **expected)):
        read_card(path)


@pytest.mark.parametrize("text", ["{", "[]", "null", "3"])
def test_a_card_that_is_no_card(tmp_path, text):
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(3)}, path, {"card": text})
    with pytest.raises(ModelError, check=told(name=str(path), problem="card", remedy="copy it again")):
        read_card(path)


def test_an_architecture_that_is_not_installed(tiny_model_file, tmp_path):
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", architecture="equivariant-transformr")
    with pytest.raises(
        PluginError, check=told(name="equivariant-transformr", remedy="'equivariant-transformer'")
    ):
        read_model(path)


def test_hyperparameters_that_are_unknown(tiny_model_file, tmp_path):
    hyperparameters = {**read_card(tiny_model_file).hyperparameters, "n_layer": 3}
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", hyperparameters=hyperparameters)
    with pytest.raises(ConfigError, check=told(name="n_layer", remedy="'n_layers'")):
        read_model(path)


@pytest.mark.parametrize("change", ["missing", "superfluous", "shape"])
def test_weights_that_do_not_fit(tiny_model_file, tmp_path, change):
    tensors = load_file(tiny_model_file)
    name = next(iter(tensors))
    if change == "missing":
        del tensors[name]
    elif change == "superfluous":
        tensors["another.weight"] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(2, 2, 2)
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", tensors)
    with pytest.raises(ModelError, check=told(name=str(path), problem="weights", remedy="copy it again")):
        read_model(path)


# ------------------------------------------------------------------------------------------ written whole


def test_saving_twice_gives_the_same_bytes(tiny_model_file, tmp_path):
    model, card = read_model(tiny_model_file)
    save_model(tmp_path / "new" / "again.safetensors", model, card)
    assert file_hash(tmp_path / "new" / "again.safetensors") == file_hash(tiny_model_file)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reading_leaves_the_random_state_alone(tiny_model_file):
    before = torch.get_rng_state()
    read_model(tiny_model_file)
    assert torch.equal(before, torch.get_rng_state())


# ------------------------------------------------------------------------------------------ golden values


def test_golden_values_are_the_models_own(tiny_model_file):
    model, card = read_model(tiny_model_file)
    atoms = load_structure("ethanol")
    assert golden.golden_atoms(card.golden) == atoms
    calculator = MLCalculator(tiny_model_file, dtype="float64")
    assert calculator.get_potential_energy(atoms) == pytest.approx(card.golden.energy_eV, abs=1e-9)
    assert calculator.get_forces(atoms) == pytest.approx(np.array(card.golden.forces_eV_A), abs=1e-9)
    assert golden.make_golden(model, atoms) == card.golden
    assert model.dtype == torch.float32


@pytest.mark.smoke
def test_altered_weights_are_refused(tiny_model_file, tmp_path):
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", altered_weights(tiny_model_file, 1e-3))
    with pytest.raises(ModelError, check=told(name="tiny", value=True, remedy="asecalc-ml models show tiny")):
        MLCalculator(path)


def test_every_shipped_model_is_listed_with_its_checksum():
    lines = (SHIPPED / CHECKSUMS).read_text().splitlines()
    files = sorted(SHIPPED.glob(f"*{SUFFIX}"))
    assert lines == [f"{file_hash(path)}  {path.name}" for path in files]


def test_one_changed_bit_of_a_shipped_model_is_noticed(tmp_path, monkeypatch):
    """Its golden values are too coarse to show it."""
    monkeypatch.setattr(model_file, "SHIPPED", tmp_path)
    shutil.copy(SHIPPED / CHECKSUMS, tmp_path)
    path = Path(shutil.copy(SHIPPED / "schnet-ethanol.safetensors", tmp_path))
    assert read_card(path).name == "schnet-ethanol"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1  # the last bit of the last number
    path.write_bytes(content)
    with pytest.raises(ModelError, check=told(name=str(path), problem="checksum", remedy="copy it again")):
        read_card(path)
    with pytest.raises(ModelError, check=told(name=str(path), problem="checksum", remedy="copy it again")):
        MLCalculator(path)


def test_weights_that_are_not_numbers_are_refused(tiny_model_file, tmp_path):
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", altered_weights(tiny_model_file, np.nan))
    with pytest.raises(ModelError, check=told(name="tiny", value=True, remedy=True)):
        MLCalculator(path)


def test_single_precision_is_given_more_room(tiny_model_file, tmp_path):
    """A deviation of 1e-6 eV that float32 may have, and float64 may not."""
    model, card = read_model(tiny_model_file)
    shifted = card.golden.model_copy(update={"energy_eV": card.golden.energy_eV + 1e-6})
    path = tmp_path / "m.safetensors"
    save_model(path, model, card.model_copy(update={"golden": shifted}))
    MLCalculator(path, dtype="float32")
    with pytest.raises(ModelError, check=told(name="tiny")) as caught:
        MLCalculator(path, dtype="float64")
    assert caught.value.value.energy == pytest.approx(1e-6, rel=0.05)


def test_the_check_is_made_once(tiny_model, monkeypatch):
    calls, evaluate = [], golden._evaluate
    monkeypatch.setattr(golden, "_evaluate", lambda *args: calls.append(args) or evaluate(*args))
    for dtype, expected in (("float32", 1), ("float32", 1), ("float64", 2), ("float64", 2)):
        MLCalculator(tiny_model, dtype=dtype)
        assert len(calls) == expected


def test_another_version_is_checked_anew(tiny_model, monkeypatch):
    MLCalculator(tiny_model)
    calls, evaluate = [], golden._evaluate
    monkeypatch.setattr(golden, "_evaluate", lambda *args: calls.append(args) or evaluate(*args))
    monkeypatch.setattr("asecalc_ml.sources.installed_versions", lambda packages: {"torch": "99"})
    MLCalculator(tiny_model)
    assert len(calls) == 1


def test_a_failed_check_leaves_no_stamp(tiny_model_file, tmp_path):
    path = rewritten(tiny_model_file, tmp_path / "m.safetensors", altered_weights(tiny_model_file, 1e-3))
    for _ in range(2):
        with pytest.raises(ModelError, check=told(name="tiny", value=True)):
            MLCalculator(path)


def test_a_cache_that_cannot_be_written_is_no_hindrance(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way of a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    MLCalculator(tiny_model)


@pytest.mark.parametrize("name", ["dimenet-ethanol", "physnet-ethanol", "neuralil-ean"])
def test_a_card_says_what_follows_from_its_model(name):
    """With triplets, with partial charges, with a list of elements: as the training wrote it."""
    model, card = model_file.read_model(Registry().find(name).path)
    hyperparameters = parse_options(card.hyperparameters, plugins.get("architectures", card.architecture))
    maker_knows = {"elements": card.elements, "energies_degenerate": card.energies_degenerate}
    structure = golden.golden_atoms(card.golden)
    built = build_card(model, name, card.architecture, hyperparameters, structure, **maker_knows)
    derived = {"architecture_source", "pooling", "cutoff_A", "triplet_cutoff_A", "continuous", "n_parameters"}
    derived |= {"architecture", "hyperparameters", "partial_charges", "dtype", *maker_knows}
    assert built.model_dump(include=derived) == card.model_dump(include=derived)
    assert built.golden.energy_eV == pytest.approx(card.golden.energy_eV, abs=1e-8)
    assert np.asarray(built.golden.forces_eV_A) == pytest.approx(
        np.asarray(card.golden.forces_eV_A), abs=1e-8
    )
    assert built.versions.keys() >= {"asecalc-ml", "ase", "numpy", "torch"}


def test_a_field_that_is_given_to_a_card_takes_the_place_of_the_derived_one(tiny_model_file):
    model, card = model_file.read_model(tiny_model_file)
    hyperparameters = parse_options(card.hyperparameters, plugins.get("architectures", card.architecture))
    known = {"elements": card.elements, "energies_degenerate": False, "versions": {}, "created": ""}
    atoms = load_structure("ethanol")
    assert build_card(model, card.name, card.architecture, hyperparameters, atoms, **known) == card
