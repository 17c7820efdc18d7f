"""Calculators by name; GFN2-xTB takes charge and spin from the structure."""

import importlib
import inspect
import json
import pkgutil
from importlib.metadata import version

import ase.calculators
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import BaseCalculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from places import HELPERS
from raising import told

import asecalc_ml
from asecalc_ml.calculators.arguments import check_arguments
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.errors import AsecalcError, ConfigError, StructureError
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import check_calculator


@pytest.fixture
def tblite():
    return pytest.importorskip("tblite.ase", reason="needs tblite: pip install 'asecalc-ml[reference]'")


def test_module_and_class():
    assert isinstance(make_calculator("ase.calculators.emt:EMT"), EMT)


def test_arguments_in_a_mapping_and_beside_it():
    calculator = make_calculator({"ase.calculators.lj:LennardJones": {"epsilon": 0.5, "sigma": 2}}, sigma=3)
    assert isinstance(calculator, LennardJones)
    assert (calculator.parameters.epsilon, calculator.parameters.sigma) == (0.5, 3)


def test_a_calculator_is_a_calculator():
    calculator = EMT()
    assert make_calculator(calculator) is calculator


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module:EMT", {"problem": "'no_such_module'", "remedy": "installed"}),
        ("ase.calculators.emt:EMTT", {"value": "EMTT"}),
        (":EMT", {"value": "EMT"}),
        ("ase.units:kB", {"value": {}}),
        ("builtins:dict", {"problem": "ASE calculator"}),
        ("ase.calculators.singlepoint:SinglePointCalculator", {"value": {}, "problem": "'atoms'"}),
    ],
)
def test_what_is_no_calculator(name, expected):
    with pytest.raises(ConfigError, check=told(name=name, **expected)):
        make_calculator(name)


@pytest.mark.parametrize("spec", [{"a:B": {}, "c:D": {}}, {"a:B": 3}, 7])
def test_what_names_no_calculator(spec):
    with pytest.raises(ConfigError, check=told(name="calculator", value=spec, remedy="module:Class")):
        make_calculator(spec)


def test_an_unknown_model_is_the_registrys_word():
    with pytest.raises(AsecalcError, check=told(name="no-such-model")):
        make_calculator("no-such-model")


@pytest.mark.parametrize("arguments", [{"model": "x"}, {"no_such_option": 1}])
def test_arguments_that_a_model_does_not_take(arguments, tiny_model):
    with pytest.raises(ConfigError, check=told(problem=next(iter(arguments)))):
        make_calculator({tiny_model: arguments})


def test_the_description_of_a_model_names_what_it_rests_on(tiny_model):
    calculator = make_calculator(tiny_model)
    calculator.card = calculator.card.model_copy(update={"versions": {"torch": "1.0", "asecalc-ml": "0"}})
    versions = describe_calculator(calculator)["versions"]
    assert versions["torch"] == version("torch")
    assert versions["asecalc-ml"] == asecalc_ml.__version__


def test_description_is_plain_json():
    calculator = make_calculator({"ase.calculators.lj:LennardJones": {"epsilon": 0.5}})
    description = json.loads(json.dumps(describe_calculator(calculator)))
    assert description["class"] == "ase.calculators.lj:LennardJones"
    assert description["parameters"]["epsilon"] == 0.5
    assert description["model_hash"] is None
    assert set(description["versions"]) == {"ase", "asecalc-ml"}


# ---------------------------------------------------------------- arguments of other packages' calculators


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


def test_a_misspelled_argument_is_refused_and_not_ignored():
    """Argon's cohesive energy per cell is -0.29 eV; with the default well of 1 eV it would be -28 eV."""
    name, argon = "ase.calculators.lj:LennardJones", bulk("Ar", "fcc", 5.26, cubic=True)
    with pytest.raises(ConfigError, match="'epsilon'", check=told(name="epsilom", problem=name, remedy=True)):
        make_calculator({name: {"sigma": 3.4, "epsilom": 0.0103, "rc": 10}})
    argon.calc = make_calculator({name: {"sigma": 3.4, "epsilon": 0.0103, "rc": 10}})
    assert argon.get_potential_energy() == pytest.approx(-0.29, abs=0.05)


@pytest.mark.parametrize(
    "make",
    [check_calculator, lambda spec: Corrected(spec, ["zbl"]), lambda spec: Committee([EMT(), spec])],
    ids=["check", "corrections", "committee"],
)
def test_it_is_refused_wherever_a_calculator_is_named(make):
    with pytest.raises(ConfigError, match="'epsilon'", check=told(name="epsilom", remedy=True)):
        make({"ase.calculators.lj:LennardJones": {"epsilom": 0.01}})


@pytest.mark.parametrize(
    ("kind", "key", "near"),
    [
        ("toy_calculators:Stored", "devise", "device"),
        ("ase.calculators.emt:EMT", "asap_cutof", "asap_cutoff"),
        ("ase.calculators.tip3p:TIP3P", "wdth", "width"),
        ("ase.calculators.lj:LennardJones", "cutoff", None),
        ("toy_calculators:short_ranged", "sigm", "sigma"),
        ("toy_calculators:Filled", "alpha", None),
    ],
)
def test_arguments_that_are_nowhere_read(kind, key, near, toys):
    with pytest.raises(ConfigError, match=repr(near or key), check=told(name=key, remedy=True)):
        make_calculator({kind: {key: 1}})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("toy_calculators:Stored", {"shift": 1.0, "scale": 2.0, "device": "cpu", "label": "x"}),
        ("toy_calculators:PassedOn", {"anything": 1}),
        ("toy_calculators:Iterated", {"anything": 1}),
        ("toy_calculators:from_name", {"device": "cpu"}),
        ("toy_calculators:Subscripted", {"alpha": 1}),
        ("toy_calculators:Gotten", {"alpha": 1}),
        ("toy_calculators:Popped", {"alpha": 1}),
        ("toy_calculators:Tested", {"alpha": 1}),
        ("toy_calculators:short_ranged", {"sigma": 3.0, "rc": 6}),
    ],
)
def test_arguments_that_may_be_read_are_taken(kind, arguments, toys, recwarn):
    assert make_calculator({kind: arguments})
    assert not recwarn.list


def test_where_any_argument_is_taken_a_misspelled_one_gives_a_warning(toys):
    with pytest.warns(UserWarning, match="declares no argument 'metod'.*did you mean 'method'"):
        make_calculator({"toy_calculators:Iterated": {"metod": "PM3"}})


def ase_calculators():
    for module in pkgutil.walk_packages(ase.calculators.__path__, "ase.calculators."):
        for kind in vars(importlib.import_module(module.name)).values():
            own = inspect.isclass(kind) and kind.__module__ == module.name
            if own and issubclass(kind, BaseCalculator):
                yield kind


#: What manuals and sources of ASE name, and neither signatures nor default_parameters do.
DOCUMENTED = {
    "Abinit": ["ecut", "xc", "kpts", "toldfe"],
    "Aims": ["xc", "sc_accuracy_rho"],
    "CP2K": ["basis_set", "inp"],
    "DFTD3": ["xc", "damping", "abc"],
    "Dftb": ["Hamiltonian_SCC", "kpts"],
    "EAM": ["elements", "mass", "potential"],
    "Espresso": ["input_data", "pseudopotentials", "kpts", "tstress"],
    "GULP": ["keywords", "options"],
    "LAMMPS": ["pair_style", "pair_coeff", "model_init", "neighbor", "group"],
    "LAMMPSlib": ["lmpcmds", "log_file", "atom_types"],
    "NWChem": ["dft", "basis", "theory"],
    "ORCA": ["orcasimpleinput", "orcablocks", "charge", "mult"],
    "Psi4": ["memory", "num_threads", "reference", "charge", "multiplicity"],
    "Vasp": ["encut", "xc", "kpts", "ismear", "setups"],
}


@pytest.mark.parametrize("kind", list(ase_calculators()), ids=lambda kind: kind.__name__)
def test_no_argument_of_ases_calculators_is_refused(kind, recwarn):
    defaults = getattr(kind, "default_parameters", None)
    declared = [*inspect.signature(kind).parameters, *(defaults if isinstance(defaults, dict) else ())]
    known = set(declared) - {"self", "args", "kwargs", "results"}
    check_arguments(kind, kind.__name__, [*known, *DOCUMENTED.get(kind.__name__, [])])
    assert not [one for one in recwarn.list if "declares no argument" in str(one.message)]


def test_no_argument_of_tblites_own_calculator_is_refused(tblite, recwarn):
    known = [*tblite.TBLite.default_parameters, "alpb_solvation"]
    check_arguments(tblite.TBLite, "tblite", known)
    assert not recwarn.list


# --------------------------------------------------------------------------------------------- GFN2-xTB


def gfn2_energy(atoms, **info) -> float:
    atoms.info.update(info)
    atoms.calc = make_calculator("gfn2-xtb")
    return atoms.get_potential_energy()


def test_charge_comes_from_the_structure(tblite):
    nitrate = load_structure("nitrate")
    nitrate.calc = make_calculator("gfn2-xtb")
    assert nitrate.calc.get_charges(nitrate).sum() == pytest.approx(-1, abs=1e-6)
    reference = nitrate.copy()
    reference.calc = tblite.TBLite(method="GFN2-xTB", charge=-1, verbosity=0)
    assert nitrate.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-6)


def test_a_changed_charge_or_spin_is_noticed(tblite):
    water = molecule("H2O")
    neutral = gfn2_energy(water)
    water.info["charge"], water.info["spin"] = 1, 1
    cation = water.get_potential_energy()
    assert cation == pytest.approx(gfn2_energy(molecule("H2O"), charge=1, spin=1), abs=1e-6)
    assert cation - neutral > 5  # ionisation costs electronvolts
    water.info["charge"], water.info["spin"] = 0, 0
    assert water.get_potential_energy() == pytest.approx(neutral, abs=1e-6)


def test_spin_counts_unpaired_electrons(tblite):
    triplet, singlet = (gfn2_energy(molecule("O2"), spin=spin) for spin in (2, 0))
    reference = molecule("O2")
    reference.set_initial_magnetic_moments(None)
    reference.calc = tblite.TBLite(method="GFN2-xTB", multiplicity=3, verbosity=0)
    assert triplet == pytest.approx(reference.get_potential_energy(), abs=1e-6)
    assert triplet != singlet


def test_electrons_that_cannot_be_paired(tblite):
    with pytest.raises(StructureError, check=told(problem="H2O with charge +1 has 9 electrons, of which 0")):
        gfn2_energy(molecule("H2O"), charge=1)


def test_forces_are_the_gradient(tblite):
    atoms = load_structure("ethylammonium")
    atoms.rattle(0.05, seed=2)
    atoms.calc = make_calculator("gfn2-xtb", accuracy=0.01)
    force, step, energies = atoms.get_forces()[2, 1], 1e-3, []
    for move in (step, -2 * step):
        atoms.positions[2, 1] += move
        energies.append(atoms.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-4)


def test_the_description_names_the_program(tblite):
    description = describe_calculator(make_calculator("gfn2-xtb"))
    assert description["name"] == "gfn2-xtb"
    assert "tblite" in description["versions"]
    json.dumps(description)


@pytest.mark.parametrize("spec", ["gfn2-xtb", {"gfn2-xtb": {"corrections": ["zbl"]}}])
def test_the_description_is_that_of_the_calculator_and_not_of_the_molecule_it_computed(spec, tblite):
    nitrate = load_structure("nitrate")
    nitrate.calc = make_calculator(spec)
    nitrate.get_potential_energy()
    assert describe_calculator(nitrate.calc) == describe_calculator(make_calculator(spec))


@pytest.mark.parametrize("key", ["acuracy", "charge", "multiplicity", "method"])
def test_arguments_that_tblite_would_ignore_or_that_the_structure_decides(tblite, key):
    with pytest.raises(ConfigError, check=told(name=key, allowed=["accuracy"], remedy="accuracy")):
        make_calculator({"gfn2-xtb": {key: 1}})


def test_a_crystal_has_stress(tblite):
    silicon = bulk("Si")
    silicon.calc = make_calculator("gfn2-xtb")
    assert silicon.get_stress().shape == (6,)


@pytest.mark.parametrize(
    "arguments", [{}, {"solvation": ["alpb", "water"], "electronic_temperature": 3000.0}], ids=str
)
def test_polarizability_is_the_curvature_of_the_energy_in_a_field(arguments, tblite):
    """By another route: second differences of energies, and the dipole as their slope."""
    import numpy as np
    from ase.units import Bohr, Hartree, kB
    from tblite.interface import Calculator

    water, calculator, step = molecule("H2O"), make_calculator({"gfn2-xtb": arguments}), 2e-3
    water.rotate(35, (1, 2, 3))
    alpha = calculator.get_property("polarizability", water)

    def energy(field):
        direct = Calculator("GFN2-xTB", water.numbers, water.positions / Bohr)
        direct.set("accuracy", 0.001)
        direct.set("verbosity", 0)
        if arguments:
            direct.set("temperature", 3000 * kB / Hartree)
            direct.add("alpb-solvation", "water")
        direct.add("electric-field", field.tolist())
        return direct.singlepoint()["energy"]

    for axis in np.eye(3):
        plus, zero, minus = (energy(factor * step * axis) for factor in (1, 0, -1))
        assert alpha @ axis @ axis == pytest.approx(-(plus - 2 * zero + minus) / step**2, abs=2e-3)
        slope = -(plus - minus) / (2 * step)
        assert calculator.get_property("dipole", water) @ axis / Bohr == pytest.approx(slope, abs=1e-4)
    assert np.abs(alpha - alpha.T).max() == 0
    assert np.linalg.eigvalsh(alpha).min() > 0
    turned = water.copy()
    turned.rotate(90, "z")
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    expected = quarter @ alpha @ quarter.T
    assert calculator.get_property("polarizability", turned) == pytest.approx(expected, abs=1e-4)


def test_orbital_energies_bracket_the_gap(tblite):
    calculator = make_calculator("gfn2-xtb")
    water, radical = molecule("H2O"), molecule("CH3")
    homo, lumo, gap = (calculator.get_property(name, water) for name in ("homo", "lumo", "gap"))
    assert homo == pytest.approx(-12.166, abs=0.01)  # of tblite's own output
    assert gap == pytest.approx(lumo - homo)
    assert gap > 5
    radical.info["spin"] = 1
    assert calculator.get_property("homo", radical) > homo  # the orbital of the unpaired electron
    assert "homo" not in make_calculator("gfn2-xtb").results


def test_a_crystal_has_no_polarizability(tblite):
    from ase.calculators.calculator import PropertyNotImplementedError

    with pytest.raises(PropertyNotImplementedError, match="pbc"):
        make_calculator("gfn2-xtb").get_property("polarizability", bulk("C"))


@pytest.mark.parametrize(
    "spec",
    [
        "torchmdnet-ethanol",
        {"committee": {"members": ["torchmdnet-ethanol", "torchmdnet-ethanol-1"]}},
        {"torchmdnet-ethanol": {"corrections": ["zbl"]}},
        "gfn2-xtb",
    ],
    ids=str,
)
def test_a_calculator_without_a_structure_says_so(spec, tblite):
    calculator = make_calculator(spec)
    for ask in (lambda: calculator.get_property("energy"), calculator.get_forces, calculator.calculate):
        with pytest.raises(StructureError, match=r"was given no structure: give one, as in .*get_property"):
            ask()
    energy = calculator.get_property("energy", molecule("CH3CH2OH"))
    assert calculator.get_property("energy") == energy  # that of the last structure
