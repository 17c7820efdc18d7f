"""`asecalc-ml predict`: tables of what models, committees and other calculators say of structures."""

import csv
import io

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.calculators import make_calculator
from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import ModelError, StructureError
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.schnetpack import PaiNN
from asecalc_ml.store.registry import Registry
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing.models import untrained_card

OPTIONS = PaiNN(n_atom_basis=8, n_interactions=1, n_rbf=8)
NAMES = ("CH3OH", "H2O", "CO2")


def registered(name, targets, seed=0):
    torch.manual_seed(seed)
    potential = OPTIONS.build()
    model = Model(
        potential, heads=build_heads([target.as_quantity() for target in parse_targets(targets)], potential)
    )
    return Registry().add_model(model, untrained_card(name, OPTIONS, model, molecule("CH3OH")))


def rows(text):
    header, *lines = csv.reader(io.StringIO(text))
    return header, lines


def run(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def test_a_table_has_a_column_for_each_component_once(tmp_path):
    registered("p", ["homo", "dipole", "polarizability"])
    structures = [molecule(name) for name in NAMES]
    write(tmp_path / "some.xyz", structures)
    assert run("p", tmp_path / "some.xyz", "--output", tmp_path / "out.csv").exit_code == 0
    header, lines = rows((tmp_path / "out.csv").read_text())
    axes = ["xx", "xy", "xz", "yy", "yz", "zz"]
    assert header == [
        "structure",
        "formula",
        "homo (eV)",
        *(f"dipole {axis} (e Angstrom)" for axis in "xyz"),
        *(f"polarizability {pair} (Bohr^3)" for pair in axes),
    ]
    assert [line[1] for line in lines] == ["CH4O", "H2O", "CO2"]
    calculator = MLCalculator("p")
    for atoms, line in zip(structures, lines, strict=True):
        alpha = calculator.get_property("polarizability", atoms)
        expected = [calculator.get_property("homo", atoms), *calculator.get_property("dipole", atoms)]
        expected += alpha[np.triu_indices(3)].tolist()
        assert np.array(line[2:], float) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_committee_adds_standard_deviations():
    for seed in range(3):
        registered(f"p{seed}", "homo", seed)
    spec = {"committee": {"members": ["p0", "p1", "p2"]}}
    columns = predict(make_calculator(spec), {"a": molecule("CH3OH"), "b": molecule("H2O")}).columns
    assert list(columns) == ["homo (eV)", "homo std (eV)"]
    members = [MLCalculator(f"p{seed}").get_property("homo", molecule("CH3OH")) for seed in range(3)]
    assert columns["homo (eV)"][0] == pytest.approx(np.mean(members), rel=1e-5)
    assert columns["homo std (eV)"][0] == pytest.approx(np.std(members, ddof=1), rel=1e-3)
    assert make_calculator(spec).get_property("homo", molecule("H2O")) == pytest.approx(
        columns["homo (eV)"][1], rel=1e-5
    )


def test_a_committee_of_different_quantities_is_refused():
    registered("first", "homo")
    registered("second", "lumo")
    with pytest.raises(ModelError, match="predict different quantities"):
        make_calculator({"committee": {"members": ["first", "second"]}})


def test_energies_and_other_calculators_are_predicted_too():
    result = run("torchmdnet-ethanol", "ethanol")
    header, lines = rows(result.stdout)
    assert header == ["structure", "formula", "energy (eV)"]
    atoms = molecule("CH3CH2OH")
    assert float(lines[0][2]) == pytest.approx(-4210.18, abs=0.02)
    found = predict(EMT(), {"here": atoms, "there": molecule("CH4")})
    atoms.calc = EMT()
    assert found.columns["energy (eV)"][0] == pytest.approx(atoms.get_potential_energy())


def test_what_cannot_be_predicted_is_one_paragraph_and_leaves_no_file(tmp_path):
    registered("p", "homo")
    write(tmp_path / "some.xyz", [molecule("CH3OH"), molecule("CH3Cl")])
    (tmp_path / "bad.xyz").write_text("3\n\nO 0 0 0\n")
    (tmp_path / "there.csv").write_text("mine\n")
    for arguments, problem in (
        (("p", tmp_path / "some.xyz"), "some.xyz@1: model 'p' was not trained on Cl"),
        (("p", tmp_path / "bad.xyz"), "bad.xyz"),
        (("p", "smiles:C1CC"), "not a SMILES"),
        (("p", tmp_path / "no.xyz"), "no structure file"),
        (("q", "ethanol"), "no model named 'q'"),
        (("p", "ethanol", "ethanol"), "named twice"),
    ):
        result = run(*arguments, "--output", tmp_path / "out.csv")
        assert result.exit_code == 2, arguments
        assert problem in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) <= 2
        assert not (tmp_path / "out.csv").exists()
    for output, problem in (("there.csv", "exists"), ("out.txt", "ends in .csv")):
        result = run("p", "ethanol", "--output", tmp_path / output)
        assert result.exit_code == 2
        assert problem in result.stderr
    assert (tmp_path / "there.csv").read_text() == "mine\n"
    overlapping = molecule("H2O")
    overlapping.positions[1] = overlapping.positions[0]
    with pytest.raises(StructureError, match="there: "):
        predict(MLCalculator("p"), {"here": molecule("H2O"), "there": overlapping})


def test_values_without_a_zero_are_named():
    """Sums over atoms of a composition that the training data cannot tell apart."""
    with pytest.warns(
        UserWarning, match="values of CH4O have no zero, since the data of 'torchmdnet-ethanol'"
    ):
        predict(MLCalculator("torchmdnet-ethanol"), {"here": molecule("CH3OH")})


def test_models_are_listed_by_what_they_predict():
    registered("p", ["homo", "gap"])
    listed = CliRunner().invoke(app, ["models", "list", "--property", "gap"]).stdout
    assert "homo, gap" in listed
    assert "torchmdnet-ethanol" not in listed
    wrong = CliRunner().invoke(app, ["models", "list", "--property", "gpa"])
    assert wrong.exit_code == 2
    assert "did you mean 'gap'" in wrong.stderr
    assert "torchmdnet-ethanol" in CliRunner().invoke(app, ["models", "list", "--property", "energy"]).stdout


def test_rows_of_a_pattern_have_the_names_of_its_files(tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.xyz", molecule("CH3CH2OH"))
    header, lines = rows(run("torchmdnet-ethanol", tmp_path / "*.xyz").stdout)
    assert header[0] == "structure"
    assert [line[0] for line in lines] == [str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz")]
    result = run("torchmdnet-ethanol", tmp_path / "*.xyz", tmp_path / "a.xyz")
    assert result.exit_code == 2
    assert "named twice" in result.output


def test_brackets_of_smiles_are_no_pattern_of_files():
    pytest.importorskip("rdkit")
    result = CliRunner().invoke(app, ["predict", "torchmdnet-ethanol", "smiles:[H]OCC"])
    assert result.exit_code == 0, result.output
    assert "smiles:[H]OCC,C2H6O," in result.output


def test_all_structures_that_a_model_refuses_are_counted(tmp_path):
    registered("p", ["homo", "dipole"])
    frames = [molecule("CH3OH") for _ in range(5)]
    for atoms in frames[2:]:
        atoms.center(vacuum=4)
        atoms.pbc = True
    write(tmp_path / "some.xyz", frames)
    result = run("p", tmp_path / "some.xyz", "--output", tmp_path / "out.csv")
    assert result.exit_code == 2
    text = " ".join(result.stderr.split())
    assert "some.xyz@2 (and 2 more of 5 structures): model 'p' predicts dipole, which a periodic" in text
    assert "set pbc to false" in text
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("{committee: {}}", "a committee has no members: name at least two registered models"),
        ("committee", "a committee has no members: name at least two registered models"),
        ("{committee: {members: }}", "a committee has no members: name at least two registered models"),
        ("{committee: {members: 3}}", "members of a committee is 3: name at least two registered models"),
        ("{committee: {membrs: [a, b]}}", "a committee has no 'membrs'; did you mean 'members'?"),
    ],
)
def test_a_committee_without_members_is_one_paragraph(spec, problem):
    result = run(spec, "ethanol")
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


def test_a_quantity_without_a_unit_has_no_empty_brackets(tmp_path):
    for seed in range(2):
        registered(f"p{seed}", {"scalar": {"name": "count"}}, seed)
    located = {"a": molecule("CH3OH")}
    columns = predict(make_calculator({"committee": {"members": ["p0", "p1"]}}), located).columns
    assert list(columns) == ["count", "count std"]
    write(tmp_path / "m.xyz", molecule("CH3OH"))
    command = ["explain", "p0", str(tmp_path / "m.xyz"), "--method", "saliency,occlusion"]
    result = CliRunner().invoke(app, [*command, "--directory", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    texts = [result.output, *(path.read_text() for path in (tmp_path / "out").glob("*.[chj]*"))]
    for text in texts:
        assert "()" not in text.split("<script")[0]
    assert "saliency (1/Å)" in result.output


@pytest.mark.parametrize("command", [["eval"], ["map", "--target", "homo"], ["predict"]])
def test_elements_that_a_model_does_not_know_are_named_with_their_frames(command, tmp_path):
    registered("p", "homo")
    frames = [molecule(name) for name in ("CH3OH", "H2O", "CH3Cl", "HCl")]
    for atoms in frames:
        atoms.info["homo"] = -8.0
    write(tmp_path / "some.xyz", frames)
    name, *options = command
    unit = ["--properties", "{homo: {unit: eV}}"] if name == "eval" else []
    result = CliRunner().invoke(app, [name, "p", str(tmp_path / "some.xyz"), *options, *unit])
    assert result.exit_code == 2, result.output
    place = "some.xyz, frame 2" if name == "eval" else "some.xyz@2"
    text = " ".join(result.stderr.split())
    assert f"{place} (and 1 more of 4 structures): model 'p' was not trained on Cl" in text
