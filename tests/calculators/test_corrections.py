"""A repulsive core and D3 dispersion: values of the libraries, finite differences, and who is told."""

import json
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import SumCalculator
from ase.collections import g2
from raising import told
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.corrections import Corrected, correction_calculators, explicit, with_terms
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.cli import ml
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.store.card import DatasetCard
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

PBE_D3 = {"d3": {"functional": "PBE"}}
BOTH = ["zbl", PBE_D3]
MORSE = Morse(depth_eV=0.5, r0_A=1.6, cutoff_A=4.0)


@pytest.fixture
def dftd3():
    return pytest.importorskip("dftd3.ase", reason="needs dftd3: pip install 'asecalc-ml[dispersion]'")


@pytest.fixture
def crystal() -> Atoms:
    """Silicon and carbon, triclinic, without symmetry.

    No pair lies at a cutoff of simple-dftd3, where its energy jumps by 1e-7 eV: finite differences show it.
    """
    atoms = Atoms("SiCSi", [[0, 0, 0], [1.7, 0.3, 0.1], [0.5, 2.0, 1.9]], pbc=True)
    atoms.set_cell([[4.13, 0, 0], [0.9, 3.9, 0], [-0.6, 0.7, 4.3]])
    return atoms


@pytest.fixture
def morse(crystal) -> str:
    """A registered model for silicon and carbon, in float64."""
    return register_untrained("morse", MORSE, crystal, dtype=torch.float64).name


def term(correction) -> object:
    """The ASE calculator of one correction alone."""
    return correction_calculators([correction])[0]


# --------------------------------------------------------------------------------------------- dispersion


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "C6H6"])
@pytest.mark.parametrize(("damping", "key"), [("bj", "d3bj"), ("zero", "d3zero")])
@pytest.mark.parametrize("three_body", [False, True])
def test_a_molecule_has_the_librarys_values(dftd3, name, damping, key, three_body):
    atoms = molecule(name)
    tweaks = {"method": "PBE", "atm": three_body}
    library = dftd3.DFTD3(method="PBE", damping=key, params_tweaks=tweaks)
    ours = term({"d3": {"functional": "PBE", "damping": damping, "three_body": three_body}})
    assert ours.get_potential_energy(atoms) == pytest.approx(library.get_potential_energy(atoms), abs=1e-12)
    assert ours.get_forces(atoms) == pytest.approx(library.get_forces(atoms), abs=1e-12)
    assert ours.get_potential_energies(atoms).sum() == pytest.approx(
        ours.get_potential_energy(atoms), abs=1e-12
    )


def test_values_that_simple_dftd3_publishes(dftd3):
    """In its manual for water with PBE, in its test suite for methylenecyclopropane with SCAN."""
    water, ring = term(PBE_D3), term({"d3": {"functional": "SCAN", "three_body": True}})
    assert water.get_potential_energy(molecule("H2O")) == pytest.approx(-0.009781920198843976, abs=1e-8)
    atoms = molecule("methylenecyclopropane")
    assert ring.get_potential_energy(atoms) == pytest.approx(-0.03880921894019244, abs=1e-6)
    assert ring.get_forces(atoms)[5] == pytest.approx([-3.2160e-4, 5.5495e-4, 6.8611e-4], abs=1e-6)


@pytest.mark.parametrize("correction", [PBE_D3, {"zbl": {"reach": 1.5}}])
def test_forces_and_stress_of_a_crystal_are_slopes(dftd3, crystal, correction):
    crystal.calc = term(correction)
    forces, stress = crystal.get_forces(), crystal.get_stress()
    assert np.abs(forces).max() > 1e-3
    assert np.abs(stress).max() > 1e-4
    assert calculate_numerical_forces(crystal, 1e-4) == pytest.approx(forces, abs=1e-6)
    assert calculate_numerical_stress(crystal, 1e-5) == pytest.approx(stress, abs=1e-7)
    assert crystal.get_potential_energies().sum() == pytest.approx(crystal.get_potential_energy(), abs=1e-10)


def test_a_crystal_has_the_librarys_values(dftd3, crystal):
    library, ours = dftd3.DFTD3(method="PBE", damping="d3bj"), term(PBE_D3)
    for name in ("energy", "forces", "stress"):
        expected = library.get_property(name, crystal)
        assert ours.get_property(name, crystal) == pytest.approx(expected, abs=1e-12)


def test_a_crystal_is_its_supercell(dftd3, crystal):
    small, large = (term(PBE_D3).get_potential_energy(atoms) for atoms in (crystal, crystal * (2, 1, 2)))
    assert large == pytest.approx(4 * small, rel=1e-6)  # coordination numbers end at the library's cutoff


@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False), (False, True, True)])
def test_vacuum_is_vacuum(dftd3, pbc):
    """Partly periodic: what a wide cell gives that is periodic in all directions, atoms inside or outside."""
    cell = np.where(pbc, 7.0, 0.0)
    atoms = molecule("CH3CH2OH", cell=cell, pbc=pbc)
    wide = molecule("CH3CH2OH", cell=np.where(pbc, 7.0, 150.0), pbc=True)
    expected = term(PBE_D3).get_potential_energy(wide)
    assert term(PBE_D3).get_potential_energy(atoms) == pytest.approx(expected, abs=1e-10)
    atoms.set_cell(np.where(pbc, 7.0, 20.0))
    atoms.translate([-3.0, 55.0, -8.0])
    assert term(PBE_D3).get_potential_energy(atoms) == pytest.approx(expected, abs=1e-10)
    assert term(PBE_D3).get_forces(atoms) == pytest.approx(term(PBE_D3).get_forces(wide), abs=1e-10)


def test_a_bare_slab_has_no_stress(dftd3):
    slab = fcc111("Al", (1, 1, 3))
    slab.calc = term(PBE_D3)
    assert slab.get_potential_energy() < 0
    with pytest.raises(PropertyNotImplementedError, match="rank 3"):
        slab.get_stress()


def test_a_functional_that_is_not_known(dftd3):
    with pytest.raises(ConfigError, check=told(name="functional", value="PBEE", problem="bj", remedy=True)):
        term({"d3": {"functional": "PBEE"}})


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "dftd3.interface", None)
    with pytest.raises(ModelError, check=told(name="d3", remedy="asecalc-ml[dispersion]")):
        term(PBE_D3)


# ------------------------------------------------------------------------------------------ repulsive core


def test_molecules_do_not_feel_the_core():
    """Not one of ASE's g2 set, triple bonds included, and none that the package ships."""
    core = term("zbl")
    for name in g2.names:
        assert core.get_potential_energy(g2[name]) == 0, name


def test_atoms_that_are_pushed_together_feel_it():
    core, last = term("zbl"), 0.0
    for distance in (0.9, 0.7, 0.5, 0.3):
        pair = Atoms("CO", [[0, 0, 0], [0, 0, distance]])
        assert core.get_potential_energy(pair) > last
        assert core.get_forces(pair)[1, 2] > 0
        last = core.get_potential_energy(pair)
    assert last > 100


# ------------------------------------------------------------------------------------------------ the sum


def test_a_sum_has_the_values_of_ases_sum(dftd3, morse, crystal):
    corrections = [{"zbl": {"reach": 1.5}}, PBE_D3]
    ours = Corrected(morse, corrections)
    ases = SumCalculator([MLCalculator(morse), *correction_calculators(corrections)])
    for name in ("energy", "forces", "stress", "energies"):
        assert ours.get_property(name, crystal) == pytest.approx(ases.get_property(name, crystal), abs=1e-12)
    crystal.calc = ours
    assert calculate_numerical_stress(crystal, 1e-5) == pytest.approx(crystal.get_stress(), abs=1e-7)
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()


def test_any_calculator_can_be_corrected(dftd3):
    copper = bulk("Cu") * (2, 1, 1)
    copper.calc = make_calculator({"ase.calculators.emt:EMT": {"corrections": [PBE_D3]}})
    parts = [EMT().get_potential_energy(copper), term(PBE_D3).get_potential_energy(copper)]
    assert copper.get_potential_energy() == pytest.approx(sum(parts), abs=1e-12)
    assert describe_calculator(copper.calc)["versions"].keys() >= {"ase", "dftd3"}


def test_everything_is_computed_once(dftd3, morse, crystal, monkeypatch):
    calculator, calls = Corrected(morse, BOTH), []
    for part in calculator.parts:
        plain = part.calculate
        monkeypatch.setattr(part, "calculate", lambda *a, plain=plain, **k: calls.append(1) or plain(*a, **k))
    crystal.calc = calculator
    crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress()
    crystal.info["note"], crystal.arrays["tags"] = "anything", np.arange(3)
    crystal.set_initial_charges([0.1, 0.2, -0.3])
    crystal.get_forces()
    assert len(calls) == 3
    crystal.rattle(0.01)
    crystal.get_forces(), crystal.get_stress()
    assert len(calls) == 6


def test_what_was_found_for_another_structure_is_not_told_again(dftd3, morse, crystal):
    """Although the model itself was asked in between by somebody else."""
    calculator, other = Corrected(morse, BOTH), crystal * (2, 1, 1)
    first, second = (
        calculator.get_potential_energy(crystal),
        Corrected(morse, BOTH).get_potential_energy(other),
    )
    calculator.parts[0].get_potential_energy(other)
    assert calculator.get_potential_energy(other) == second
    assert calculator.get_potential_energy(crystal) == first


@pytest.mark.parametrize("correction", [PBE_D3, {"zbl": {"reach": 1.5}}])
def test_the_hessian_is_the_slope_of_the_forces(dftd3, morse, crystal, correction):
    calculator = Corrected(morse, [correction])
    numerical = np.zeros((9, 9))
    for row, (atom, axis) in enumerate(np.ndindex(3, 3)):
        forces = []
        for step in (1e-4, -1e-4):
            moved = crystal.copy()
            moved.positions[atom, axis] += step
            forces.append(calculator.get_forces(moved))
        numerical[row] = -(forces[0] - forces[1]).ravel() / 2e-4
    model = MLCalculator(morse)
    assert np.abs(calculator.get_hessian(crystal) - model.get_hessian(crystal)).max() > 1e-2
    assert calculator.get_hessian(crystal) == pytest.approx(numerical, abs=1e-4)


def test_terms_of_the_card_are_added_as_those_of_yaml(dftd3, morse, crystal):
    register_untrained("complete", MORSE, crystal, dtype=torch.float64, corrections=explicit(BOTH))
    by_card, by_yaml = MLCalculator("complete"), Corrected(morse, BOTH)
    batch = by_card.calculate_many([crystal])[0]
    for name in ("energy", "free_energy", "energies", "forces", "stress"):
        expected = by_yaml.get_property(name, crystal)
        assert by_card.get_property(name, crystal) == pytest.approx(expected, abs=1e-12)
        assert batch[name] == pytest.approx(expected, abs=1e-12)
    assert by_card.get_hessian(crystal) == pytest.approx(by_yaml.get_hessian(crystal), abs=1e-12)
    description = describe_calculator(by_card)
    assert description["corrections"] == explicit(BOTH)
    assert "dftd3" in description["versions"]


def test_a_card_without_terms_changes_no_bit(morse, crystal):
    results = MLCalculator(morse).calculate_many([crystal])[0]
    again = with_terms(results, [], crystal)
    assert all(np.array_equal(again[name], results[name]) for name in results)


def test_many_at_once(dftd3, morse, crystal):
    structures = [crystal, crystal * (2, 1, 1), crystal[:2]]
    found = Corrected(morse, BOTH).calculate_many(structures)
    for atoms, results in zip(structures, found, strict=True):
        alone = Corrected(morse, BOTH)
        assert results["energy"] == pytest.approx(alone.get_potential_energy(atoms), abs=1e-10)
        assert results["forces"] == pytest.approx(alone.get_forces(atoms), abs=1e-10)


# ------------------------------------------------------------------------------------------ where it is told


def test_the_description_names_terms_and_model(dftd3, morse):
    calculator = make_calculator({morse: {"corrections": BOTH, "dtype": "float64"}})
    description = json.loads(json.dumps(describe_calculator(calculator)))
    assert description["name"] == "morse"
    assert description["model_hash"] == MLCalculator(morse).model_hash
    assert description["parameters"]["dtype"] == "float64"
    assert description["corrections"] == [
        {"zbl": {"reach": 0.7}},
        {"d3": {"functional": "PBE", "damping": "bj", "three_body": False}},
    ]
    assert calculator.card.corrections == description["corrections"]
    assert MLCalculator(morse).card.corrections == []


def test_a_run_tells_it_everywhere(dftd3, tmp_path):
    register_untrained("bonds", Morse(depth_eV=2.0, r0_A=1.1), load_structure("water"))
    options = NVE(
        structure="water",
        calculator={"bonds": {"corrections": BOTH}},
        relax=False,
        equilibration_ps=0,
        steps=2,
        write_every=1,
    )
    run = options.run(directory=tmp_path / "run", quiet=True)
    assert [list(one) for one in run.read_provenance()["calculator"]["corrections"]] == [["zbl"], ["d3"]]
    assert run.read_provenance()["versions"]["dftd3"]
    assert [list(one) for one in run.read_model_card()["corrections"]] == [["zbl"], ["d3"]]
    from asecalc_ml.analysis.report.report import write_report

    page = write_report(run.directory).read_text(encoding="utf-8")
    assert "functional: PBE" in page
    assert "reach: 0.7" in page


@pytest.mark.parametrize("way", ["pickle", "todict", "spec"])
def test_it_can_be_made_again(dftd3, morse, crystal, way):
    calculator = make_calculator({morse: {"corrections": BOTH, "dtype": "float64"}})
    if way == "pickle":
        again = pickle.loads(pickle.dumps(calculator))
    elif way == "todict":
        again = get_calculator_class(calculator.name)(**json.loads(json.dumps(calculator.todict())))
    else:
        again = make_calculator(json.loads(json.dumps(calculator.spec())))
    assert again.get_potential_energy(crystal) == calculator.get_potential_energy(crystal)
    assert again.todict() == calculator.todict()
    assert calculator.model_hash[:16] in json.dumps(calculator.todict())


def test_what_to_cite_for_a_model_with_terms(crystal):
    register_untrained("complete", MORSE, crystal, corrections=explicit(["zbl"]))
    shown = CliRunner().invoke(ml.app, ["models", "cite", "complete"]).output
    assert "Added to it: zbl: J. F. Ziegler" in shown
    assert "reach: 0.7" in CliRunner().invoke(ml.app, ["models", "show", "complete"]).output


def test_as_a_card_holds_them():
    assert explicit(explicit(BOTH)) == explicit(BOTH)


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("corrections", "expected"),
    [
        (["zlb"], {"name": "zlb", "allowed": ["zbl", "d3"], "remedy": True}),
        ([{"zbl": {}, "d3": {}}], {"name": "correction", "value": {"zbl": {}, "d3": {}}, "remedy": True}),
        ("zbl", {"name": "corrections", "value": "zbl", "remedy": "list"}),
        (["zbl", {"zbl": {"reach": 1}}], {"name": "zbl", "problem": "twice", "remedy": True}),
    ],
)
def test_corrections_that_make_no_sense(morse, corrections, expected):
    with pytest.raises(ConfigError, check=told(**expected)):
        make_calculator({morse: {"corrections": corrections}})


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("zlb", {"name": "zlb", "remedy": "'zbl'"}),
        ("d3", {"name": "functional"}),
        ({"zbl": {"reech": 1}}, {"name": "reech", "remedy": "'reach'"}),
    ],
)
def test_the_right_names_are_suggested(morse, correction, expected):
    with pytest.raises(ConfigError, check=told(**expected)):
        make_calculator({morse: {"corrections": [correction]}})


def test_a_term_of_the_card_is_not_added_again(crystal):
    register_untrained("short", MORSE, crystal, corrections=explicit(["zbl"]))
    with pytest.raises(ConfigError, check=told(name="short", value=["zbl"], remedy=True)):
        make_calculator({"short": {"corrections": ["zbl"]}})


@pytest.mark.parametrize("level", ["PBE-D3(BJ)/def2-TZVP", "GFN2-xTB (tblite)", "ωB97X-D/6-31G*", "PBE+MBD"])
def test_dispersion_that_counts_twice_is_told(dftd3, crystal, level):
    register_untrained("dispersed", MORSE, crystal, dataset=_dataset(level))
    with pytest.warns(UserWarning, match="counts twice with d3"):
        make_calculator({"dispersed": {"corrections": [PBE_D3]}})


@pytest.mark.parametrize("level", ["PBE/def2-SVP", "B3LYP/6-31G(2d,2p)", "CCSD(T)/cc-pVDZ", None])
def test_no_warning_without_reason(dftd3, crystal, level):
    register_untrained("plain", MORSE, crystal, dataset=_dataset(level))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_calculator({"plain": {"corrections": [PBE_D3]}})


def _dataset(level: str | None) -> DatasetCard:
    return DatasetCard(name="frames", level_of_theory=level, hash="0" * 64, n_train=1, n_validation=1)
