"""What users do wrong, and what goes wrong around them: a clear word, exit status 2, and nothing lost."""

import json
import re
import zipfile

import pytest
from ase.calculators import emt
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from raising import told
from safetensors import safe_open
from typer.testing import CliRunner

from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.errors import DatasetError, RunError, StructureError, TrainingError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.evaluate import _training_test_data
from asecalc_ml.potentials.training.task import EnergyForcesTask
from asecalc_ml.runs import RunReader
from asecalc_ml.store.model_file import read_card
from asecalc_ml.store.registry import Registry
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.terminal.progress import LineProgress

EMT = {"structure": "ethanol", "calculator": "ase.calculators.emt:EMT", "relax": False}


def says(app, *arguments) -> str:
    """The complaint of a command that must fail as it should."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


# ---------------------------------------------------------------------- runs that blow up


@pytest.mark.parametrize("every", [{"checkpoint_every": 1000}, {"checkpoint_every": 3, "thermo_every": 500}])
def test_a_time_step_far_too_long_stops_the_run_at_a_good_state(tmp_path, every):
    run = NVE(**EMT, equilibration_ps=0.01, timestep_fs=15, steps=2000, write_every=1, **every)
    with pytest.raises(RunError, check=told(value="total energy", remedy="timestep")):
        run.run(directory=tmp_path / "run", quiet=True)
    reader = RunReader(tmp_path / "run")
    assert reader.read_events()[-1]["kind"] == "stopped"
    assert not reader.finished
    # the checkpoint is from before, so it comes back to it
    with pytest.raises(RunError, check=told(value="energy", remedy="timestep")):
        resume_run(tmp_path / "run", quiet=True)


def test_an_equilibration_that_blows_up_stops(tmp_path):
    run = NVE(**EMT, equilibration_ps=10, equilibration_timestep_fs=15, steps=10)
    with pytest.raises(RunError, check=told(value="kinetic energy", remedy=True)):
        run.run(directory=tmp_path / "run", quiet=True)


def test_hot_runs_are_not_taken_for_blown_up(tmp_path):
    run = NVE(**EMT, temperature_K=5000, equilibration_ps=0.05, steps=200, seed=1)
    assert run.run(directory=tmp_path / "run", quiet=True).finished


def test_a_blown_up_run_ends_with_status_2(tmp_path):
    options = tmp_path / "nve.yaml"
    options.write_text(
        "protocol: nve\nstructure: ethanol\ncalculator: ase.calculators.emt:EMT\nrelax: false\n"
    )
    arguments = ("--timestep-fs", 15, "--steps", 2000, "--equilibration-ps", 0.01)
    assert "blown up" in says(md, "run", options, "--directory", tmp_path / "run", *arguments)


# ---------------------------------------------------------------------- YAML and the command line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("protocol: nve\n\tstructure: ethanol\n", "line 2: this is not valid YAML: .*; indent with spaces"),
        ("protocol: nve\nstructure: a: b\n", "line 2: .*; a text that holds ': ' needs quotes"),
        ("protocol: nve\n---\nprotocol: nve\n", "one file holds one set of options"),
        ("protocol:\n", "line 1: 'protocol' should be one of .*nve"),
        ("protocol: [nve]\n", "line 1: 'protocol' should be one of .*nve"),
        (
            "protocol: nve\nanalyses: [angles]\n",
            r"line 2: .*should be keys and values, such as \{name: value\}",
        ),
        ("protocol: nve\nrelax: maybe\n", "line 2: 'relax' is 'maybe', but should be true or false"),
        ("", "key 'protocol' is missing; add `protocol: NAME`"),
    ],
)
def test_wrong_yaml_is_explained_to_who_never_saw_yaml(tmp_path, text, said):
    (tmp_path / "nve.yaml").write_text(text)
    assert re.search(said, says(md, "validate", tmp_path / "nve.yaml"))


@pytest.fixture
def nve(tmp_path):
    """A file whose values are all right."""
    (tmp_path / "nve.yaml").write_text("protocol: nve\nstructure: ethanol\ncalculator: gfn2-xtb\nsteps: 5\n")
    return tmp_path / "nve.yaml"


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_a_line_of_the_file(nve):
    said = says(md, "run", nve, "--steps", "abc")
    assert "nve.yaml: 'steps' is 'abc', but should be a valid integer" in said
    assert "line" not in said


def test_texts_with_colons_on_the_command_line_stay_texts(nve):
    assert "is not a SMILES" in says(md, "run", nve, "--structure", "smiles:")


# ---------------------------------------------------------------------- structures


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.xyz", b"", {"remedy": "complete"}),
        ("cut.xyz", b"3\n\nO 0 0 0\n", {"problem": "line 1", "value": 1, "allowed": "3 rows"}),
        ("commas.xyz", b"1\n\nO 0,0 0,0 0,0\n", {"problem": "line 3: frame 0"}),
        ("noise.xyz", bytes(range(256)), {"problem": "line 2", "remedy": "UTF-8"}),
    ],
)
def test_a_damaged_structure_file(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StructureError, check=told(name=name, **expected)):
        load_structure(tmp_path / name)


def test_a_structure_that_is_not_there(tmp_path):
    with pytest.raises(StructureError, check=told(name="start.xyz", problem="looked in", remedy=True)):
        load_structure(tmp_path / "start.xyz")
    with pytest.raises(StructureError, check=told(name=str(tmp_path), remedy="name a file")):
        load_structure(tmp_path)


def test_a_smiles_of_two_molecules_asks_for_a_file():
    pytest.importorskip("rdkit")
    with pytest.raises(StructureError, check=told(name="SMILES", value="C.C", remedy=True)):
        load_structure("smiles:C.C")


def test_a_charge_beyond_the_valence_electrons():
    pytest.importorskip("tblite")
    atoms = load_structure("ethanol")
    atoms.info["charge"] = 22
    atoms.calc = make_calculator("gfn2-xtb")
    with pytest.raises(StructureError, check=told(name="charge", value=22, allowed="+20", remedy=True)):
        atoms.get_potential_energy()


# ---------------------------------------------------------------------- models


def flipped(source, target):
    """A copy whose last weight's exponent is another."""
    content = bytearray(source.read_bytes())
    content[-1] ^= 0x40
    target.write_bytes(content)
    return target


def without_checksum(path):
    """As older versions wrote it."""
    from safetensors.numpy import load_file, save

    with safe_open(path, framework="numpy") as file:
        path.write_bytes(save(load_file(path), metadata={"card": file.metadata()["card"]}))


@pytest.mark.parametrize("is_old", [False, True])
def test_a_model_with_damaged_weights_is_neither_added_nor_evaluated(tmp_path, tiny_model_file, is_old):
    bad = flipped(tiny_model_file, tmp_path / "bad.safetensors")
    if is_old:
        without_checksum(bad)
    said = "does not reproduce its card" if is_old else "has changed since it was written"
    assert said in says(ml, "models", "add", bad)
    assert Registry([tmp_path / "models"]).folders[0].exists() is False
    assert said in says(ml, "eval", bad, "frames.xyz")


@pytest.mark.parametrize("is_old", [False, True])
def test_a_card_with_another_cutoff_than_its_network(tmp_path, tiny_model_file, is_old):
    """Its golden values are right; pairs beyond that cutoff would be missed."""
    bad = tmp_path / "bad.safetensors"
    content = tiny_model_file.read_bytes()
    assert content.count(b'cutoff_A\\":5.0') == 2
    place = content.rindex(b'cutoff_A\\":5.0')
    bad.write_bytes(content[:place] + content[place:].replace(b":5.0", b":4.0", 1))
    if is_old:
        without_checksum(bad)
    said = "has cutoff_A 4.0, its architecture 5.0" if is_old else "has changed since it was written"
    assert said in says(ml, "models", "add", bad)


def test_a_card_without_a_field_is_one_sentence(tmp_path, tiny_model_file):
    from safetensors.numpy import load_file, save

    with safe_open(tiny_model_file, framework="numpy") as file:
        card = json.loads(file.metadata()["card"])
    del card["elements"]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(save(load_file(tiny_model_file), metadata={"card": json.dumps(card)}))
    said = says(ml, "models", "show", path)
    assert "cannot be read (elements: Field required); the file is damaged" in said
    assert "pydantic" not in said


def test_a_folder_is_no_model(tmp_path):
    assert "is a folder; a model is one file" in says(ml, "models", "add", tmp_path)


def test_test_data_that_are_elsewhere(tmp_path, monkeypatch, tiny_model_file):
    monkeypatch.chdir(tmp_path)
    card = read_card(tiny_model_file)
    options = {"test_data": {"format": "ase", "path": "data/test.xyz"}}
    with pytest.raises(
        DatasetError, match=r"test data of 'tiny', data/test\.xyz, are not in .*asecalc-ml eval tiny DATA"
    ):
        _training_test_data(card.model_copy(update={"options": options}))


def test_evaluating_on_ions_a_model_never_saw(tmp_path, tiny_model):
    atoms = load_structure("ethanol")
    atoms.info["charge"] = 1
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=atoms.positions)
    write(tmp_path / "ion.xyz", atoms, format="extxyz")
    assert "was trained on charge 0 only" in says(ml, "eval", tiny_model, tmp_path / "ion.xyz")


# ---------------------------------------------------------------------- data


def test_no_sampling_begins_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    said = says(ml, "data", "generate", "ethanol", "--output", tmp_path / "file" / "x.xyz")
    assert "cannot write" in said
    assert "choose another folder" in said


def test_an_output_that_exists_names_the_option(tmp_path):
    (tmp_path / "x.xyz").touch()
    assert "--overwrite" in says(ml, "data", "generate", "ethanol", "--output", tmp_path / "x.xyz")


# ---------------------------------------------------------------------- run directories


@pytest.fixture
def finished(tmp_path):
    """Directory of a short run."""
    NVE(**EMT, equilibration_ps=0, steps=50, write_every=1).run(directory=tmp_path / "run", quiet=True)
    return tmp_path / "run"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_cut_trajectory_is_told(finished):
    """What is readable is analysed, and the rest is said: on the terminal and in the report."""
    cut(finished / "trajectory.traj")
    with pytest.warns(UserWarning, match="of its 51 frames cannot be read"):
        result = CliRunner().invoke(md, ["report", str(finished)])
    assert result.exit_code == 0, result.output
    assert "frames cannot be read" in (finished / "report.html").read_text(encoding="utf-8")
    with pytest.raises(RunError, check=told(name="trajectory.traj", remedy="copy it again")):
        list(RunReader(finished).frames())


def test_cut_checkpoints_are_told_without_advice_to_unpickle(finished):
    provenance = json.loads((finished / "provenance.json").read_text())
    (finished / "provenance.json").write_text(json.dumps(provenance | {"finished": None}))
    for path in finished.glob("checkpoint*.npz"):
        path.write_text("junk")
    is_said = told(name="checkpoint.npz", value="not a whole npz file", remedy="--overwrite")
    with pytest.raises(RunError, check=is_said) as error:
        resume_run(finished, quiet=True)
    assert "pickle" not in str(error.value)


class Unread:
    """A stream whose reader has left, or whose disk is full."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    flush = isatty = fileno = lambda self: None


def test_a_run_does_not_end_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", Unread())
    monkeypatch.setattr("sys.stdout", Unread())
    run = NVE(**EMT, equilibration_ps=0, steps=50)
    monkeypatch.setattr("asecalc_ml.md_protocols.engine.launch.make_progress", lambda quiet: LineProgress())
    assert run.run(directory=tmp_path / "run").finished


# ---------------------------------------------------------------------- training


@pytest.fixture
def training(tmp_path):
    """Options of a small training; frames are labelled with EMT."""
    frames = []
    for seed in range(12):
        atoms = load_structure("water")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = emt.EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    small = {"hidden_channels": 8, "n_layers": 1, "n_rbf": 4, "n_heads": 2}
    return TrainOptions(
        name="small",
        data={"format": "ase", "path": str(tmp_path / "frames.xyz")},
        split={"n_train": 8, "n_validation": 2, "n_test": 2},
        model={"architecture": "equivariant-transformer", **small},
        directory=tmp_path / "training",
        max_epochs=2,
    )


def test_an_element_that_is_none_among_reference_energies(training):
    options = training.model_copy(update={"reference_energies_eV": {"H": 1.0, "O": 1.0, "Q": 1.0}})
    with pytest.raises(TrainingError, check=told(name="reference_energies_eV", value=["Q"])):
        train(options, quiet=True)


def test_a_cut_training_checkpoint_is_told(training):
    train(training, quiet=True)
    cut(training.directory / "last.ckpt")
    with pytest.raises(TrainingError, check=told(name="last.ckpt", remedy="copy best.ckpt")):
        train(training, resume=True, replace=True, quiet=True)


def test_one_changed_bit_of_a_training_checkpoint(training):
    """Torch reads it without a word, and the training would go on with other weights."""
    train(training, quiet=True)
    path = training.directory / "last.ckpt"
    content = bytearray(path.read_bytes())
    largest = max(zipfile.ZipFile(path).infolist(), key=lambda one: one.file_size)
    begin = largest.header_offset + 30 + sum(content[largest.header_offset + k] for k in (26, 27, 28, 29))
    content[begin + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, check=told(name="last.ckpt", remedy="best.ckpt")):
        train(training, resume=True, replace=True, quiet=True)


def test_ctrl_c_stays_ctrl_c_in_a_training(training, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(EnergyForcesTask, "validation_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(training, quiet=True)


def test_fewer_epochs_than_are_done(training):
    rates = {"minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6, "cycle_epochs": 1}
    given = training.model_dump() | {"optimizer": {"schedule": "one-cycle", **rates}}
    training = TrainOptions(**given)
    train(training, quiet=True)
    fewer = training.model_copy(update={"max_epochs": 1})
    with pytest.raises(
        TrainingError, check=told(name="max_epochs", value=1, allowed="at least 2", remedy=True)
    ):
        train(fewer, resume=True, replace=True, quiet=True)
