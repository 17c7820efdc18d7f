"""What a calculator may offer, and that one which offers nothing is taken everywhere."""

import ast
import inspect
import json
import pickle
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import (
    BaseCalculator,
    Calculator,
    PropertyNotImplementedError,
    get_calculator_class,
)
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import read, write
from places import ROOT
from raising import told

from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.composite import Composite
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.calculators.factory import describe_calculator, identity, make_calculator
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.calculators.protocol import MEMBERS, ExtendedCalculator, model_cards, offered, offers
from asecalc_ml.conformance import Effort
from asecalc_ml.errors import ConfigError, ModelError, PluginError, StructureError
from asecalc_ml.md_protocols.npt import NPT
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.vibrations import Vibrations
from asecalc_ml.testing import check_calculator

#: In the wells of no minimum, so that every property has a value that is not zero.
WATER = molecule("H2O")
WATER.rattle(0.05, seed=1)


def by_hand(atoms):
    """Energy and forces of E = ½ Σ x²."""
    return {"energy": 0.5 * float((atoms.positions**2).sum()), "forces": -atoms.positions}


class Bare(BaseCalculator):
    """ASE's interface, and none of the members that this package asks for."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms, properties, system_changes):
        self.results = by_hand(atoms)


class Unrelated(Bare):
    """Members of the same names with another meaning."""

    card = "of a graphics card"
    members = parts = packages = corrections = None

    def continuous(self):
        raise AssertionError("never asked")

    model_hash = None
    spec = "a specification"
    expect = 3


class Alone:
    """A class of no base at all, with what ``Atoms`` itself calls."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        return by_hand(atoms)[name]

    def get_potential_energy(self, atoms=None, force_consistent=False):
        return by_hand(atoms)["energy"]

    def get_forces(self, atoms=None):
        return by_hand(atoms)["forces"]


BARE = [Bare, Unrelated, Alone]


# ---------------------------------------------------------------------------------------- one place asks

CALCULATORS = {"calc", "calculator", "part", "member", "base", "made", "kind", "first", "term"}


def questions(source: str) -> list[str]:
    """Calls of getattr and hasattr that ask a calculator for an optional member."""
    asked = []
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if not is_call or node.func.id not in ("getattr", "hasattr"):
            continue
        receiver = ast.unparse(node.args[0]).rpartition(".")[2]
        member = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        if member in MEMBERS and receiver in CALCULATORS:
            asked.append(ast.unparse(node))
    return asked


def test_only_the_protocol_asks_a_calculator_for_optional_members():
    files = [
        file
        for top in ("asecalc_ml", "md_protocols", "analysis", "potentials")
        for file in (ROOT / top).rglob("*.py")
    ]
    assert len(files) > 200
    asked = {file.name: questions(file.read_text(encoding="utf-8")) for file in files}
    assert not {name: calls for name, calls in asked.items() if calls and name != "protocol.py"}


@pytest.mark.parametrize(
    "source",
    ['getattr(atoms.calc, "members", ())', 'hasattr(part, "expect")', 'getattr(self.base, "card", None)'],
)
def test_the_search_finds_such_a_call(source):
    assert questions(source) == [source.replace('"', "'")]


# ------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("kind", [*BARE, EMT, type(None)])
def test_every_member_has_a_default(kind):
    offer = offered(kind())
    assert isinstance(offer, ExtendedCalculator)
    assert (offer.card, offer.model_hash, offer.spec(), offer.checkpoint_state()) == (None,) * 4
    assert list(offer.parts) == list(offer.members) == list(offer.corrections) == list(offer.packages) == []
    assert offer.continuous is True
    assert offer.expect(WATER, 5) is offer.reset() is offer.restore_state({}) is None
    with pytest.raises(PropertyNotImplementedError, match="finite differences"):
        offer.get_hessian(WATER)
    with pytest.raises(PropertyNotImplementedError, match="gives no pair forces"):
        offer.pair_forces(WATER)
    assert model_cards(kind()) == []


def test_names_without_a_name_are_those_of_the_class():
    assert [offered(kind()).name for kind in (Bare, Alone, EMT)] == ["bare", "Alone", "emt"]


def test_a_member_that_is_none_counts_as_absent():
    calculator = Bare()
    calculator.continuous = None
    assert offered(calculator).continuous is True
    calculator.continuous = np.False_
    assert not offered(calculator).continuous


OTHER_TYPES = {
    "name": [7, b"water"], "implemented_properties": ["energy forces", 3], "parameters": [[], "none"],
    "default_parameters": [3], "ignored_changes": ["cell", 0], "results": ["none", [1.0]], "reset": [0],
    "card": [{"name": "a dict"}], "model_hash": [b"12", 12], "parts": [("a", "b"), 3, {"a": 1}],
    "members": [("a", "b"), 3, {"a": 1}, [np.ones(3)]], "corrections": ["d3", ["d3"], 1],
    "packages": ["numpy", 1], "of_the_structure": ["charge"], "continuous": ["no", np.array([True, False])],
    "spec": ["a specification"], "calculate_many": [True], "get_hessian": [np.eye(3)], "pair_forces": [[]],
    "expect": [3],
    "checkpoint_state": [{}], "restore_state": [{}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("member", "value"), [(name, value) for name in MEMBERS for value in OTHER_TYPES[name]]
)
def test_a_member_of_another_type_counts_as_absent(member, value):
    kind = type("Other", (Alone,), {member: value})
    calculator, without = kind(), type("Other", (Alone,), {})()
    assert not offers(calculator, member)
    own, default = getattr(offered(calculator), member), getattr(offered(without), member)
    assert own.__func__ is default.__func__ if callable(default) else own == default
    described = describe_calculator(calculator)
    assert described == describe_calculator(without) | {"class": described["class"]}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_raises_is_named(member):
    """AttributeError means that there is none, as everywhere in Python."""

    def fails(self):
        raise RuntimeError("not connected")

    calculator = type("Unconnected", (Alone,), {member: property(fails)})()
    with pytest.raises(
        PluginError, match=rf"Unconnected\.{member} raised RuntimeError: not connected .*line"
    ):
        getattr(offered(calculator), member)


def test_an_announcement_that_fails_is_named(tmp_path):
    kind = type("Announced", (Bare,), {"expect": lambda self: None})
    atoms = WATER.copy()
    atoms.calc = kind()
    with pytest.raises(PluginError, match=r"Announced\.expect\(\) raised TypeError"):
        NVE(timestep_fs=0.1, steps=4, relax=False).run(atoms, directory=tmp_path / "run", quiet=True)


def test_a_name_that_is_no_member_is_refused():
    with pytest.raises(AttributeError, match="modelhash"):
        offered(Bare()).modelhash  # noqa: B018


def test_many_structures_one_by_one():
    structures = [WATER, molecule("CO")]
    results = offered(Bare()).calculate_many(iter(structures))
    for atoms, of_atoms in zip(structures, results, strict=True):
        assert of_atoms["energy"] == by_hand(atoms)["energy"]
        np.testing.assert_array_equal(of_atoms["forces"], by_hand(atoms)["forces"])


def our_classes():
    kinds = [MLCalculator, Committee, Corrected, Composite]
    for module, name in (("asecalc_ml.calculators.xtb", "GFN2"), ("asecalc_ml.calculators.dft", "DFT")):
        found = pytest.importorskip(module, reason=f"needs the package of {name}")
        kinds.append(getattr(found, name))
    return kinds


def test_our_calculators_keep_the_contract():
    """mypy compares the types, see ``asecalc_ml/calculators/static_checks.py``."""
    for kind in our_classes():
        for member in MEMBERS:
            own, contract = getattr(kind, member, None), getattr(ExtendedCalculator, member)
            if own is None:
                continue
            assert callable(own) is callable(contract), (kind, member)
            if callable(contract):
                names = [list(inspect.signature(one).parameters) for one in (own, contract)]
                assert names[0] == names[1], (kind, member)
    assert {"spec", "checkpoint_state", "restore_state"} <= set(vars(our_classes()[-1]))


def test_our_calculators_offer_what_they_have(tiny_model):
    model, committee_like = MLCalculator(tiny_model), Corrected(MLCalculator(tiny_model), ["zbl"])
    for member in (
        "card",
        "model_hash",
        "calculate_many",
        "get_hessian",
        "expect",
        "checkpoint_state",
        "spec",
    ):
        assert offers(model, member), member
        assert offers(committee_like, member), member
    assert not offers(model, "members")
    assert not offers(Corrected(EMT(), ["zbl"]), "get_hessian")  # of which one part has none


def test_docs_list_every_member():
    page = (ROOT / "docs" / "calculators.md").read_text(encoding="utf-8")
    section = page.split("## What a calculator may offer")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert listed == set(MEMBERS)


# ------------------------------------------------------------------------- a calculator that offers nothing


@pytest.mark.parametrize("kind", BARE)
def test_it_is_described(kind):
    described = describe_calculator(kind())
    assert described["name"] == offered(kind()).name
    assert described["model_hash"] is None
    assert not described.keys() & {"members", "corrections"}
    assert identity(kind()) == {}
    json.dumps(described)


@pytest.mark.parametrize("kind", BARE)
def test_it_is_run(kind, tmp_path):
    atoms = WATER.copy()
    atoms.calc = kind()
    options = NVE(timestep_fs=0.1, steps=4, write_every=2, relax=False)
    run = options.run(atoms, directory=tmp_path / "run", quiet=True)
    frames = list(run.frames())
    assert [frame.get_potential_energy() for frame in frames] == pytest.approx(
        [by_hand(frame)["energy"] for frame in frames], abs=1e-12
    )
    assert len(frames) == 3
    assert run.model_card is None


@pytest.mark.parametrize("kind", [Bare, Unrelated])
def test_its_vibrations_are_those_of_finite_differences(kind, tmp_path):
    atoms = WATER.copy()
    atoms.calc = kind()
    run = Vibrations(relax=False).run(atoms, directory=tmp_path / "run", quiet=True)
    np.testing.assert_allclose(run.hessian["hessian"], np.eye(9), atol=1e-6)  # of ½ Σ x²
    with pytest.raises(
        ConfigError,
        check=told(
            name="hessian", value="autograd", allowed=["finite-differences"], remedy="finite-differences"
        ),
    ):
        Vibrations(hessian="autograd").run(atoms, directory=tmp_path / "other", quiet=True)


def test_second_derivatives_of_a_sum_are_refused_before_the_run_where_a_part_has_none(tmp_path):
    copper = bulk("Cu", cubic=True)
    copper.calc = Corrected(EMT(), ["zbl"])
    with pytest.raises(
        ConfigError,
        check=told(
            name="hessian", value="autograd", allowed=["finite-differences"], remedy="finite-differences"
        ),
    ):
        Vibrations(hessian="autograd").run(copper, directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_it_has_no_stress_for_constant_pressure(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Bare()
    with pytest.raises(StructureError, check=told(name="stress", remedy="nvt")):
        NPT(steps=2, temperature_K=300, pressure_GPa=0).run(atoms, directory=tmp_path / "run", quiet=True)


@pytest.mark.parametrize("kind", [Bare, Unrelated])
def test_it_is_corrected_and_no_member_of_a_committee(kind):
    corrected = Corrected(kind(), ["zbl"])
    close = Atoms("H2", [[0, 0, 0], [0, 0, 0.2]])
    alone = Corrected(EMT(), ["zbl"]).parts[1].get_property("energy", close)
    assert corrected.get_potential_energy(close) == pytest.approx(by_hand(close)["energy"] + alone, abs=1e-12)
    assert alone > 1  # eV
    assert corrected.checkpoint_state()["parts"][0] is None
    corrected.restore_state(corrected.checkpoint_state())
    corrected.expect(close, 10)
    with pytest.raises(ModelError, check=told(name=kind.__name__, remedy="asecalc-ml models list")):
        Committee([kind(), kind()])


@pytest.mark.parametrize("kind", [Bare, Unrelated])
def test_it_is_checked(kind):
    report = check_calculator(kind(), WATER, only=["forces", "hessian", "batch"], effort=Effort(10, 10))
    assert report["forces"].verdict == report["hessian"].verdict == "passed"
    assert report["batch"].verdict == "not applicable"


def test_the_hessian_of_a_sum_of_which_a_part_has_none_is_still_checked():
    report = check_calculator(Corrected(EMT(), ["zbl"]), bulk("Cu", cubic=True), only=["hessian"])
    assert report["hessian"].verdict == "passed"


# ----------------------------------------------------------------------------- made again from what is stored


def made_again(calculator):
    """The calculator that ASE makes from what a file stores."""
    stored = json.loads(json.dumps(calculator.todict()))
    return get_calculator_class(calculator.name)(**stored)


REFERENCES = [
    ({"gfn2-xtb": {}}, "tblite"),
    ({"gfn2-xtb": {"accuracy": 1.0, "electronic_temperature": 3000.0}}, "tblite"),
    ({"pyscf-dft": {"basis": "sto-3g", "grid_level": 0, "functional": "LDA,VWN"}}, "pyscf"),
    ({"ase.calculators.lj:LennardJones": {"epsilon": 0.02, "sigma": 1.1, "rc": 5.0}}, "ase"),
    ({"ase.calculators.tip3p:TIP3P": {"rc": 4.0}}, "ase"),  # whose parameters hold no argument
    ({"ase.calculators.morse:MorsePotential": {"epsilon": 0.7, "r0": 1.1}}, "ase"),
]


@pytest.mark.parametrize(("spec", "package"), REFERENCES, ids=str)
@pytest.mark.parametrize("way", ["by name", "object"])
def test_corrected_calculators_are_made_again(spec, package, way):
    pytest.importorskip(package, reason=f"needs {package}")
    atoms = molecule({"tblite": "OH", "pyscf": "H2"}.get(package, "N2"))
    if way == "object" and package == "ase":
        calculator = Corrected(make_calculator(spec), ["zbl"])
        assert calculator.spec() is None  # its arguments are not known, and no others are made up
        assert calculator.todict().keys() == {"corrections"}
        with pytest.raises(TypeError, match="calculator"):
            made_again(calculator)
        return
    base = spec if way == "by name" else make_calculator(spec)
    calculator = Corrected(base, ["zbl"])
    if way == "by name":
        name, arguments = next(iter(spec.items()))
        calculator = make_calculator({name: {**arguments, "corrections": ["zbl"]}})
    energy = None if "tip3p" in str(spec) else calculator.get_potential_energy(atoms)
    assert identity(calculator) == calculator.todict()
    for again in (made_again(calculator), make_calculator(calculator.spec())):
        assert again.todict() == calculator.todict()
        before, after = (dict(one.base.parameters) for one in (calculator, again))
        of_structure = set(offered(calculator).of_the_structure)
        assert {k: before[k] for k in before.keys() - of_structure} == {
            k: after[k] for k in after.keys() - of_structure
        }
        if energy is not None:
            assert again.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)
        else:
            assert again.base.rc == 4.0


def test_arguments_that_are_set_later_are_stored():
    pytest.importorskip("tblite", reason="needs tblite")
    calculator = make_calculator({"gfn2-xtb": {"corrections": ["zbl"]}})
    calculator.base.set(electronic_temperature=4000.0)
    assert made_again(calculator).base.parameters.electronic_temperature == 4000.0


def test_a_pickled_one_knows_what_it_was_made_from():
    spec = {"ase.calculators.morse:MorsePotential": {"epsilon": 0.7, "corrections": ["zbl"]}}
    calculator = make_calculator(spec)
    again = pickle.loads(pickle.dumps(calculator))
    assert again.spec() == calculator.spec()
    assert again.spec()["ase.calculators.morse:MorsePotential"]["epsilon"] == 0.7


@pytest.mark.parametrize("accuracy", [0.01, 0.1, 1.0])
def test_accuracy_of_gfn2_is_stored(accuracy):
    """ASE leaves out values that equal the class's default, and that of tblite is not ours."""
    pytest.importorskip("tblite", reason="needs tblite")
    calculator = make_calculator({"gfn2-xtb": {"accuracy": accuracy}})
    ion = molecule("OH")
    ion.info = {"charge": -1, "spin": 0}
    energy = calculator.get_potential_energy(ion)
    again = make_calculator(json.loads(json.dumps(calculator.spec())))
    assert again.parameters.accuracy == accuracy
    assert type(again)(**again.todict()).parameters.accuracy == accuracy
    assert again.get_potential_energy(ion) == pytest.approx(energy, abs=1e-9)


def test_a_frame_of_a_corrected_reference_names_its_calculator(tmp_path):
    pytest.importorskip("tblite", reason="needs tblite")
    atoms = molecule("CH3")
    atoms.calc = make_calculator({"gfn2-xtb": {"corrections": ["zbl"]}})
    energy = atoms.get_potential_energy()
    write(tmp_path / "frame.traj", atoms)
    frame = read(tmp_path / "frame.traj")
    again = get_calculator_class(frame.calc.name)(**frame.calc.parameters)
    assert again.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)


def test_corrections_of_corrections_are_made_again():
    pytest.importorskip("dftd3", reason="needs dftd3: pip install 'asecalc-ml[dispersion]'")
    calculator = Corrected(
        {"ase.calculators.emt:EMT": {"corrections": ["zbl"]}}, [{"d3": {"functional": "PBE"}}]
    )
    assert [next(iter(term)) for term in calculator.spec()["ase.calculators.emt:EMT"]["corrections"]] == [
        "zbl",
        "d3",
    ]
    copper = bulk("Cu", cubic=True)
    energy = calculator.get_potential_energy(copper)
    for again in (made_again(calculator), make_calculator(calculator.spec())):
        assert again.get_potential_energy(copper) == pytest.approx(energy, abs=1e-9)


def test_arguments_that_are_objects_are_not_stored():
    parts = [EMT(), LennardJones()]
    calculator = Corrected({"ase.calculators.mixing:SumCalculator": {"calcs": parts}}, ["zbl"])
    assert isinstance(calculator.base, SumCalculator)
    assert calculator.spec() is None
    json.dumps(calculator.todict())


def test_a_spec_that_holds_objects_is_not_stored():
    kind = type("Holding", (Bare,), {"spec": lambda self: {"somewhere:Holding": {"network": object()}}})
    calculator = Corrected(kind(), ["zbl"])
    assert calculator.spec() is None
    json.dumps(calculator.todict())


def test_a_third_party_may_offer_its_spec():
    class Named(Calculator):
        implemented_properties = ["energy"]  # noqa: RUF012

        def spec(self):
            return {"somewhere:Named": {"strength": 2.0}}

    assert Corrected(Named(), ["zbl"]).todict()["calculator"] == {"somewhere:Named": {"strength": 2.0}}
