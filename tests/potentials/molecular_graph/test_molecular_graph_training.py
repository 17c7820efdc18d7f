"""Trainings of networks on molecular graphs: what is learned, left out and refused, and predictions."""

import csv
import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.collections import g2
from ase.io import write
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import StructureError, TrainingError
from asecalc_ml.plugins import get
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.store.golden import golden_atoms, make_golden
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.molecular_graph import molecular_graph
from asecalc_ml.testing.models import untrained_model

pytest.importorskip("rdkit")

CONVOLUTIONS = {"architecture": "graph-convolutions", "atom_channels": 16, "pair_channels": 12}
GATED = {"architecture": "gated-graph", "hidden_channels": 16, "edge_channels": 8}
FAST = {"warmup_steps": 20, "learning_rate": 5e-3, "ema_decay": 0.9, "gradient_clip": 1000.0}
DONOR = 18  # column of the features of atoms


def usable():
    """Molecules of ASE's g2 set that have a molecular graph, without their data."""
    molecules = []
    for name in g2.names:
        atoms = g2[name]
        try:
            molecular_graph(atoms)
        except StructureError:
            continue
        molecules.append(atoms[range(len(atoms))])
    return molecules


def with_alpha(atoms):
    """A molecule whose alpha is 5 a0³ for each donor of hydrogen bonds."""
    atoms.info = {"alpha": 5.0 * molecular_graph(atoms).atoms[:, DONOR].sum(), "charge": 0, "spin": 0}
    return atoms


def labelled():
    """Some 70 molecules."""
    return [with_alpha(atoms) for atoms in usable()]


def many_labelled():
    """Some 140 molecules with none to three donors, and isomers that differ in them."""
    ends = ("", "C", "CC", "C(C)C", "C=C", "CF", "CO", "C(N)C")
    groups = ("O", "N", "C(=O)", "C(=O)O", "C(=O)N", "CC")
    smiles = {f"{first}{group}{last}" for group in groups for first in ("C", "CC", "FC") for last in ends}
    return [with_alpha(load_structure(f"smiles:{one}")) for one in sorted(smiles)]


def options(tmp_path, frames=None, **changes):
    frames = labelled() if frames is None else frames
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    n_held_out = len(frames) // 6
    given = {
        "name": "small",
        "data": {
            "format": "ase",
            "path": str(tmp_path / "frames.xyz"),
            "properties": {"alpha": {"unit": "Bohr^3"}},
        },
        "target": "alpha",
        "split": {
            "n_train": len(frames) - 2 * n_held_out,
            "n_validation": n_held_out,
            "n_test": n_held_out,
        },
        "model": CONVOLUTIONS,
        "batch_size": 8,
        "optimizer": {"warmup_steps": 5, "learning_rate": 3e-3},
        "max_epochs": 2,
        "directory": tmp_path / "training",
    }
    return TrainOptions(**{**given, **changes})


def error_of_composition(frames):
    """Mean absolute error of the best sum of a value for each element."""
    counts = np.array(
        [[list(atoms.symbols).count(symbol) for symbol in "HCNOF"] for atoms in frames], dtype=float
    )
    labels = np.array([atoms.info["alpha"] for atoms in frames])
    return np.abs(counts @ np.linalg.lstsq(counts, labels, rcond=None)[0] - labels).mean()


@pytest.mark.parametrize("model", [CONVOLUTIONS, pytest.param(GATED, marks=pytest.mark.slow)])
def test_a_target_that_is_a_known_function_of_one_feature_is_learned(tmp_path, model):
    frames = many_labelled()
    entry = train(options(tmp_path, frames, model=model, max_epochs=100, optimizer=FAST), quiet=True)
    errors = entry.card.metrics.quantities["alpha"]
    assert errors.mae < 0.25 * error_of_composition(frames)
    # acetaldehyde has no donor, ethanol one, methylamine's nitrogen one
    calculator = MLCalculator("small")
    for name, expected in (("CH3CHO", 0), ("CH3CH2OH", 5), ("CH3CH2NH2", 5)):
        assert calculator.get_property("alpha", molecule(name)) == pytest.approx(expected, abs=1.0)


def with_unusable():
    """Molecules, of which two have no molecular graph and one another SMILES."""
    frames = labelled()
    for name in ("CH3Cl", "CH3"):
        atoms = molecule(name)
        atoms.info = {"alpha": 1.0, "charge": 0, "spin": 0}
        frames.append(atoms)
    frames[7].info["smiles"] = "CCCCCC"
    return frames


def test_frames_without_a_molecular_graph_are_left_out_and_counted(tmp_path):
    frames = with_unusable()
    with pytest.warns(UserWarning, match="3 frames have no molecular graph") as caught:
        entry = train(options(tmp_path, frames), quiet=True)
    (text,) = [str(one.message) for one in caught if "molecular graph" in str(one.message)]
    assert "1: geometry and SMILES disagree" in text
    assert "1: it contains Cl" in text
    assert "1: its bonds cannot be determined" in text
    with (tmp_path / "training" / "left_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["structure"].rpartition(" ")[2]) for row in rows) == [
        7,
        len(frames) - 2,
        len(frames) - 1,
    ]
    assert text in entry.card.notes
    assert "Cl" not in entry.card.elements
    assert entry.card.molecular_graph
    assert not entry.card.continuous
    # what was held out is found again
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = evaluate_model("small")
    assert evaluation.predictions[0].errors().mae == pytest.approx(entry.card.metrics.quantities["alpha"].mae)


def test_a_training_is_resumed_with_the_same_frames(tmp_path):
    frames = with_unusable()
    schedule = {
        "schedule": "one-cycle",
        "cycle_epochs": 4,
        "learning_rate": 3e-3,
        "minimum_learning_rate": 5e-4,
        "final_learning_rate": 5e-6,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = train(
            options(
                tmp_path, frames, directory=tmp_path / "whole", name="whole", max_epochs=3, optimizer=schedule
            ),
            quiet=True,
        )
        train(options(tmp_path, frames, optimizer=schedule), quiet=True)
        changed = options(tmp_path, frames, max_epochs=3, optimizer=schedule)
        resumed = train(changed, resume=True, replace=True, quiet=True)
    assert resumed.card.metrics == whole.card.metrics
    assert resumed.card.notes == whole.card.notes


def test_a_part_without_molecular_graphs_is_refused(tmp_path):
    frames = labelled()
    for atoms in frames:
        atoms.info["smiles"] = "C1CCCCC1CCCC"
    with pytest.raises(
        TrainingError, match=r"none of the .* frames of train has a molecular graph"
    ) as caught:
        train(options(tmp_path, frames), quiet=True)
    assert "correct the SMILES" in str(caught.value)


def test_energies_are_refused(tmp_path):
    frames = labelled()
    from ase.calculators.singlepoint import SinglePointCalculator

    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * len(atoms))
    given = options(tmp_path, frames, target="energy", loss={"forces_weight": 0.0})
    with pytest.raises(TrainingError, match="energies would have no forces") as caught:
        train(given, quiet=True)
    assert caught.value.name == "target"


@pytest.fixture
def trained(tmp_path):
    return train(options(tmp_path, labelled()), quiet=True)


def test_predictions_from_a_file_and_a_smiles(tmp_path, trained):
    atoms = load_structure("smiles:CCO")
    write(tmp_path / "molecule.xyz", atoms[range(len(atoms))], format="xyz")
    runner, table = CliRunner(), tmp_path / "out.csv"
    given = ["predict", "small", str(tmp_path / "molecule.xyz"), "smiles:CCO", "--output", str(table)]
    outcome = runner.invoke(app, given)
    assert outcome.exit_code == 0, outcome.output
    with table.open(newline="") as file:
        first, second = [float(row["alpha (Bohr^3)"]) for row in csv.DictReader(file)]
    assert first == pytest.approx(second, abs=1e-5)  # a file has 8 decimals
    assert second == pytest.approx(float(MLCalculator("small").get_property("alpha", atoms)), abs=1e-6)


def unusable_structures(folder):
    """Arguments of predict, and what the message says."""
    two_molecules, apart, disagreeing = molecule("H2O"), molecule("C2H6"), molecule("CH3CH2OH")
    other = molecule("H2O")
    other.translate([0, 0, 5])
    two_molecules += other
    apart.positions *= 3
    disagreeing.info["smiles"] = "COC"
    files = {
        "crystal": (bulk("C"), "it is periodic"),
        "two": (two_molecules, "not one molecule"),
        "apart": (apart, "it has no bonds"),
        "radical": (molecule("CH3"), "trained on spin 0"),
        "chlorine": (molecule("CH3Cl"), "was not trained on Cl"),
        "disagreeing": (disagreeing, "geometry and SMILES disagree: 'COC'"),
    }
    for name, (atoms, message) in files.items():
        atoms.info.setdefault("spin", 1 if name == "radical" else 0)
        write(folder / f"{name}.xyz", atoms, format="extxyz")
        yield str(folder / f"{name}.xyz"), message
    yield "smiles:CC.O", "holds several molecules"
    yield "smiles:C[NH3+]", "trained on charge 0"
    yield "smiles:C[C@](N)(O)(F)F", "not a SMILES that RDKit can read"


def test_bad_input_at_the_command_line_is_one_paragraph(tmp_path, trained):
    for given, message in unusable_structures(tmp_path):
        outcome = CliRunner().invoke(app, ["predict", "small", given])
        assert outcome.exit_code == 2, given
        assert message in " ".join(outcome.output.split()), (given, outcome.output)
        assert "Traceback" not in outcome.output


def test_one_unusable_structure_among_many_is_named_and_counted(tmp_path, trained):
    frames = [molecule("H2O"), molecule("CH3CH2OH"), molecule("CO")]
    frames[1].info["smiles"], frames[2].info["smiles"] = "COC", "CCC"
    with pytest.raises(StructureError, match="structure 1, counted from 0"):
        MLCalculator("small").calculate_many(frames, ["alpha"])
    write(tmp_path / "many.xyz", frames, format="extxyz")
    outcome = CliRunner().invoke(app, ["predict", "small", str(tmp_path / "many.xyz")])
    assert outcome.exit_code == 2
    assert "many.xyz@1 (and 1 more of 3 structures)" in " ".join(outcome.output.split())


def test_it_has_no_energy_and_dynamics_refuses_it(tmp_path, trained):
    calculator = MLCalculator("small")
    with pytest.raises(PropertyNotImplementedError, match="predicts alpha, not energies"):
        calculator.get_property("energy", molecule("H2O"))
    assert not calculator.continuous


def test_golden_values_keep_the_smiles_that_the_bonds_come_from():
    """The structure of a card has the same molecular graph; of other architectures it has no SMILES."""
    atoms = load_structure("smiles:[CH3]")  # whose bonds do not follow from the geometry
    for architecture, smiles in (("gated-graph", "[CH3]"), ("schnet", "")):
        golden = make_golden(untrained_model(get("architectures", architecture)()), atoms)
        assert golden.smiles == smiles
        assert golden_atoms(golden).info.get("smiles", "") == smiles


@pytest.mark.slow
def test_a_compiled_training_is_the_eager_one(tmp_path):
    """The compiled step is compared with the eager one before it is used; here without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = train(options(tmp_path, labelled(), compile=True), quiet=True)
    eager = train(options(tmp_path, labelled(), name="eager", directory=tmp_path / "eager"), quiet=True)
    first, second = (entry.card.metrics.quantities["alpha"].mae for entry in (compiled, eager))
    assert first == pytest.approx(second, rel=1e-3)
