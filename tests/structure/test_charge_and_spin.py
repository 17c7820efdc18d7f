"""One electronic state for a structure, whichever way it enters the package."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write
from hypothesis import given
from hypothesis import strategies as st
from raising import told
from typer.testing import CliRunner

from asecalc_ml._checkout import ROOMS, ROOT, is_checkout
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.cli import ml
from asecalc_ml.cli.structures import read_structures
from asecalc_ml.conformance.structures import make_structures
from asecalc_ml.errors import ConfigError, DatasetError, StructureError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.model.pair_potentials import LennardJones
from asecalc_ml.potentials.datasets import AseFile, dataset_hash
from asecalc_ml.potentials.datasets.extxyz import convert
from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions
from asecalc_ml.potentials.datasets.generation.label import label_file
from asecalc_ml.potentials.datasets.generation.sampling import starting_structure
from asecalc_ml.potentials.torchmdnet import TensorNet
from asecalc_ml.runs import RunReader
from asecalc_ml.store.golden import make_golden
from asecalc_ml.structure.charge_and_spin import charge_and_spin, is_same_state, whole_number
from asecalc_ml.structure.files.structure_file import open_structures
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

GFN2 = "gfn2-xtb"
TRIPLET = (0, 2)
READ_FIRST = {"charge": "charge", "total_charge": "charge", "spin": "spin", "multiplicity": "spin"}


@pytest.fixture
def tblite():
    return pytest.importorskip("tblite.ase", reason="needs tblite: pip install 'asecalc-ml[reference]'")


def oxygen() -> Atoms:
    """ASE's O2, which states its two unpaired electrons by magnetic moments alone."""
    return molecule("O2")


def frame_with(comment: str) -> str:
    """A file of two frames, of which the second has something to say about its state."""
    frames = [
        f"2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=0 {words}\nO 0 0 0 0 0 0\nO 0 0 1.2 0 0 0\n"
        for words in ("", comment)
    ]
    return "".join(frames)


# -------------------------------------------------------------------------------------------- one decision


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (oxygen(), TRIPLET),
        (molecule("NO"), (0, 1)),  # 0.6 and 0.4
        (Atoms("O2", magmoms=[-1, -1]), TRIPLET),
        (Atoms("O2", magmoms=[1, -1]), (0, 0)),
        (Atoms("O2", magmoms=[[0, 0.6, 0], [0, 0, 0.8]]), (0, 1)),  # not collinear
        (Atoms("OH", charges=[-0.9, -0.1000001]), (-1, 0)),
        (Atoms("OH", charges=[-0.9, -0.1], info={"charge": 0}), (0, 0)),
        (Atoms("O2", magmoms=[1, 1], info={"spin": 0}), (0, 0)),
        (Atoms("O2", info={"multiplicity": 3, "total_charge": 0}), TRIPLET),
        (Atoms("O2", info={"multiplicity": 3, "spin": 0}), (0, 0)),
        (Atoms("O2", info={"charge": 1, "total_charge": 0, "spin": 1}), (1, 1)),
        (Atoms("O2", magmoms=[1, 1], info={"multiplicity": 1}), (0, 0)),
        (Atoms("O2", info={"note": "says nothing"}), (0, 0)),
        (bulk("Fe"), (0, 0)),  # 2.3 for each atom, however many there are
    ],
)
def test_precedence(atoms, expected):
    before = atoms.copy()
    assert charge_and_spin(atoms) == expected
    assert all(type(value) is int for value in charge_and_spin(atoms))
    assert atoms.info == before.info


@given(st.integers(-50, 50), st.floats(-0.009, 0.009))
def test_rounding_of_a_whole_number_is_not_truncation(number, rounding):
    assert whole_number(number + rounding) == number
    assert whole_number(np.float64(number + rounding)) == number


@given(st.floats(0.011, 0.989), st.integers(-50, 50))
def test_what_lies_between_whole_numbers_is_none(rest, number):
    assert whole_number(number + rest) is None


@given(
    st.one_of(st.text(), st.binary(), st.none(), st.booleans(), st.complex_numbers(), st.lists(st.integers()))
)
def test_anything_is_a_whole_number_or_none(value):
    found = whole_number(value)
    assert found is None or found == float(value)


RIGHT = [
    -1,
    np.int64(-1),
    np.int8(-1),
    -1.0,
    np.float32(-0.9999999),
    np.array(-1),
    np.array(-1.0),
    "-1",
    "-1.0",
]


@pytest.mark.parametrize("value", RIGHT, ids=repr)
def test_numbers_however_they_are_stored(value):
    assert charge_and_spin(Atoms("OH", info={"charge": value})) == (-1, 0)


WRONG = [0.4, True, np.True_, "none", "singlet", "T", None, [0, 1], [1], np.array([1]), [[1], [2, 3]], {}]
WRONG += [float("nan"), float("inf"), 1e300, 10**30, 1j, b"1", object]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("key", READ_FIRST)
def test_anything_else_is_refused_with_its_value(key, value):
    expected = told(name=f"atoms.info['{key}']", allowed="a whole number", remedy=READ_FIRST[key])
    with pytest.raises(StructureError, check=expected):
        charge_and_spin(Atoms("OH", info={key: value}))


def test_sums_that_are_no_whole_number():
    with pytest.raises(StructureError, check=told(name="initial charges", value=pytest.approx(0.4))):
        charge_and_spin(Atoms("O2", charges=[0.2, 0.2]))
    with pytest.raises(StructureError, check=told(name="initial charges", remedy=True)):
        charge_and_spin(Atoms("O2", charges=[0.2, np.nan]))
    with pytest.raises(StructureError, check=told(name="initial magnetic moments", value=4.6)):
        charge_and_spin(Atoms("Fe2", magmoms=[2.3, 2.3]))


@pytest.mark.parametrize(("key", "value"), [("spin", -1), ("multiplicity", 0)])
def test_numbers_that_count_nothing(key, value):
    expected = told(name=f"'{key}'", value=value, allowed="a whole number of at least")
    with pytest.raises(StructureError, check=expected):
        charge_and_spin(Atoms("O2", info={key: value}))


# ---------------------------------------------------------------------------------------------- all ways in


@pytest.mark.skipif(not is_checkout(), reason="reads the sources in the checkout")
def test_no_other_module_decides():
    own = re.compile(r"""info\.get\(["'](charge|spin)["']|get_initial_(charges|magnetic_moments)\(""")
    sources = [file for room in ("asecalc_ml", *ROOMS) for file in (ROOT / room).rglob("*.py")]
    assert len(sources) > 100
    deciding = [file.name for file in sources if own.search(file.read_text(encoding="utf-8"))]
    assert deciding == ["charge_and_spin.py"]


@pytest.mark.parametrize("suffix", ["xyz", "traj", "json"])
def test_files_are_one_state_for_every_reader(suffix, tmp_path):
    path, atoms = tmp_path / f"o2.{suffix}", oxygen()
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    write(path, atoms, **({"format": "extxyz"} if suffix == "xyz" else {}))
    data = AseFile(path=path).read()
    assert charge_and_spin(load_structure(path)) == TRIPLET
    assert charge_and_spin(data[0]) == TRIPLET
    if suffix != "json":  # which commands read as a data set
        assert charge_and_spin(read_structures(str(path))[0]) == TRIPLET
    singlet = AseFile(path=path, spin=0).read()
    assert singlet[0].info["spin"] == 0
    assert dataset_hash(data) != dataset_hash(singlet)
    convert(AseFile(path=path), tmp_path / "converted.extxyz")
    assert AseFile(path=tmp_path / "converted.extxyz").read()[0].info["spin"] == 2


def test_graphs_golden_values_and_checks_know_the_state():
    graph = AtomGraph.from_atoms(oxygen(), 5.0)
    assert (graph.charge.item(), graph.spin.item()) == TRIPLET
    given = make_structures(oxygen())
    assert all(
        charge_and_spin(one) == TRIPLET for one in (given.given, given.molecule, given.bulk, given.slab)
    )
    from asecalc_ml.model.model import Model

    golden = make_golden(Model(LennardJones(cutoff_A=5.0).build()), oxygen())
    assert (golden.charge, golden.spin) == TRIPLET


def test_sampling_starts_in_the_state_of_the_structure_or_of_the_options():
    options = {"structure": "O2", "output": "unused.xyz"}
    assert charge_and_spin(starting_structure(GenerateOptions(**options))) == TRIPLET
    assert charge_and_spin(starting_structure(GenerateOptions(**options, charge=1, spin=1))) == (1, 1)


def test_gfn2_computes_the_same_triplet_everywhere(tblite, tmp_path):
    reference = tblite.TBLite(method="GFN2-xTB", multiplicity=3, charge=0, verbosity=0, accuracy=0.1)
    energy = reference.get_potential_energy(oxygen())
    assert make_calculator(GFN2).get_potential_energy(oxygen()) == pytest.approx(energy, abs=1e-7)
    write(tmp_path / "o2.extxyz", oxygen())
    label_file(tmp_path / "o2.extxyz", GFN2, tmp_path / "labelled.extxyz", quiet=True)
    labelled = read(tmp_path / "labelled.extxyz")
    assert labelled.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    assert (labelled.info["charge"], labelled.info["spin"]) == TRIPLET
    run = nve(tmp_path / "o2.extxyz").run(directory=tmp_path / "run", quiet=True)
    assert run.read_thermo()["potential_eV"][0] == pytest.approx(energy, abs=1e-6)
    assert charge_and_spin(run.atoms) == TRIPLET


def nve(structure=None, **options) -> NVE:
    plain = {"relax": False, "equilibration_ps": 0, "steps": 2, "write_every": 1, "thermo_every": 1}
    return NVE(structure=structure and str(structure), calculator=GFN2, **plain | options)


def test_density_functional_theory_computes_the_triplet():
    pytest.importorskip("pyscf")
    calculator = {"pyscf-dft": {"basis": "sto-3g", "grid_level": 1}}
    stated = oxygen()
    stated.set_initial_magnetic_moments(None)
    stated.info["spin"] = 2
    by_moments, by_info = (
        make_calculator(calculator).get_potential_energy(one) for one in (oxygen(), stated)
    )
    assert by_moments == pytest.approx(by_info, abs=1e-7)
    singlet = make_calculator(calculator, spin=0).get_potential_energy(oxygen())
    assert singlet > by_info + 0.5
    for key, value in (("charge", 0.4), ("spin", "singlet"), ("charge", True)):
        with pytest.raises(ConfigError, check=told(name=key, value=value, problem="pyscf-dft")):
            make_calculator(calculator, **{key: value})


@pytest.mark.parametrize("trajectory_format", ["traj", "extxyz"])
def test_frames_of_a_run_from_python_keep_the_state(trajectory_format, tblite, tmp_path):
    run = nve(trajectory_format=trajectory_format).run(atoms=oxygen(), directory=tmp_path, quiet=True)
    assert charge_and_spin(RunReader(tmp_path).atoms) == TRIPLET
    (path,) = tmp_path.glob("trajectory.*")
    assert charge_and_spin(load_structure(path)) == TRIPLET
    assert charge_and_spin(read_structures(str(tmp_path))[0]) == TRIPLET
    assert run.n_frames > 0


def test_a_model_takes_the_sum_of_charges(ethanol):
    register_untrained(
        "charged",
        TensorNet(hidden_channels=16, n_layers=1, n_rbf=8, max_atomic_number=20),
        ethanol,
        charges=[0, -1],
    )
    stated, summed = ethanol.copy(), ethanol.copy()
    stated.info["charge"] = -1
    del summed.info["charge"]
    summed.set_initial_charges([-1.0, *[0.0] * 8])
    calculator = MLCalculator("charged")
    neutral, *charged = (calculator.get_potential_energy(one) for one in (ethanol, stated, summed))
    assert charged[0] == charged[1] != neutral
    del ethanol.info["spin"]
    ethanol.set_initial_magnetic_moments([2.0, *[0.0] * 8])
    with pytest.raises(
        StructureError, check=told(name="spin", value=2, allowed=[0], problem="'charged'", remedy=True)
    ):
        calculator.get_potential_energy(ethanol)


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


def test_another_packages_calculator_may_take_what_is_no_whole_number():
    """ASE's initial charges are parameters of force fields, too."""
    copper = bulk("Cu", cubic=True)
    copper.set_initial_charges([0.1, 0.1, 0.1, 0.1])
    corrected = Corrected(EMT(), ["zbl"])
    energy = corrected.get_potential_energy(copper)
    assert energy == pytest.approx(EMT().get_potential_energy(copper), abs=1e-9)
    assert corrected.check_state(copper) == []
    changed = copper.copy()
    changed.info["charge"] = [0.5]
    assert not is_same_state(copper, changed)


def test_moments_of_a_crystal_state_no_spin(tblite, tmp_path):
    box = oxygen()
    box.set_cell([8, 8, 8])
    box.pbc = True
    for atoms in (box, load_structure(box)):
        with pytest.raises(StructureError, check=told(name="spin", remedy="unpaired electrons")):
            make_calculator(GFN2).get_potential_energy(atoms)
    write(tmp_path / "box.extxyz", box)
    options = {"structure": str(tmp_path / "box.extxyz"), "output": "unused.xyz"}
    with pytest.raises(StructureError, check=told(name="spin", remedy=True)):
        starting_structure(GenerateOptions(**options))
    assert charge_and_spin(starting_structure(GenerateOptions(**options, spin=2))) == TRIPLET
    box.info["spin"] = 2
    alone = make_calculator(GFN2).get_potential_energy(oxygen())
    assert make_calculator(GFN2).get_potential_energy(box) == pytest.approx(alone, abs=0.1)


# -------------------------------------------------------------------------------------------- bad input

BAD = {
    "charge=T": "'charge'] is True",
    "charge=none": "'charge'] is 'none'",
    "charge=[0,1]": "'charge'] is [0, 1]",
    "charge=0.4": "'charge'] is 0.4",
    "charge=nan": "'charge'] is nan",
    "spin=singlet": "'spin'] is 'singlet'",
    "spin=-1": "'spin'] is -1",
}


@pytest.mark.parametrize("comment", list(BAD))
def test_bad_values_of_a_file_name_the_frame(comment, tmp_path):
    path = tmp_path / "frames.xyz"
    path.write_text(frame_with(comment))
    said = re.escape(BAD[comment])
    with pytest.raises(DatasetError, match=f"frames.xyz, frame 1: .*{said}.*options `charge` and `spin`"):
        AseFile(path=path).read()
    with pytest.raises(StructureError, match=r"frames\.xyz: ", check=told(remedy=True)) as error:
        load_structure(path)
    assert BAD[comment] in f"{error.value.name} is {error.value.value!r}"
    for command in (
        ["data", "label", path, "--reference", "ase.calculators.lj:LennardJones"],
        ["explain", "torchmdnet-ethanol", path],
    ):
        result = CliRunner().invoke(ml.app, [str(part) for part in command])
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        plain = " ".join(result.output.split())
        assert BAD[comment] in plain
        assert "frame 1" in plain
    assert AseFile(path=path, charge=0, spin=0).read()[1].info["charge"] == 0


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        (
            "Charge=-1 Multiplicity=2",
            r"`Charge` \(-1\) is not read as charge: rename it charge or total_charge",
        ),
        ("charge=-1 Multiplicity=2", r"`Multiplicity` \(2\) is not read as spin: rename it spin or mult"),
        ("net_charge=-1", "`net_charge`"),
        ("tot_charge=-1", "`tot_charge`"),
        ("q=1", "`q`"),
        ("mult=3", "`mult`"),
        ("spin_multiplicity=3", "`spin_multiplicity`"),
        ("Charge=0 mult=1 q=0 charge=0", None),
        ("total_charge=-1 Charge=-1 spin=1 multiplicity=2 uhf=1", None),
        ('q="0.1 0.2 0.3" Spin=singlet', None),
    ],
)
def test_a_state_under_another_name_gives_one_warning(comment, said, tmp_path, recwarn):
    path = tmp_path / "a.xyz"
    path.write_text(3 * f"1\n{comment}\nHe 0 0 0\n")
    list(open_structures(path))
    found = [str(one.message) for one in recwarn if "not read as" in str(one.message)]
    assert len(found) == (said is not None)
    if said:
        assert re.search(f"a.xyz, frame 0: {said}", found[0])


@pytest.mark.parametrize(
    ("pairs", "state"), [({"charge": -1, "spin": 1}, (-1, 1)), ({"total_charge": 1}, (1, 0)), ({}, (0, 0))]
)
def test_a_database_states_charge_and_spin(pairs, state, tmp_path):
    for suffix in ("db", "json"):
        with connect(tmp_path / f"a.{suffix}") as database:
            database.write(oxygen(), level="PBE")
            database.write(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]), **pairs)
        frames = open_structures(tmp_path / f"a.{suffix}")
        assert charge_and_spin(frames[1]) == state


MOLFILE = """
  drawn

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  {}  0  0  0  0  0  0  0  0  0  0
    0.0000    0.0000    1.0000 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
{}M  END
"""


@pytest.mark.parametrize(
    ("code", "lines", "state"),
    [
        (5, "M  CHG  1   1  -1\n", (-1, 0)),
        (5, "", (-1, 0)),
        (0, "M  CHG  2   1  -2   2   1\n", (-1, 0)),
        (0, "M  RAD  1   1   2\n", (0, 1)),
        (4, "", (0, 1)),
        (0, "", (0, 0)),
    ],
)
@pytest.mark.parametrize("suffix", ["mol", "sdf"])
def test_a_molfile_states_charge_and_radicals(code, lines, state, suffix, tmp_path):
    end = "$$$$\n" if suffix == "sdf" else ""
    (tmp_path / f"a.{suffix}").write_text(MOLFILE.format(code, lines) + end)
    assert charge_and_spin(load_structure(tmp_path / f"a.{suffix}")) == state


def test_input_of_gaussian_states_charge_and_spin(tmp_path):
    text = "# B3LYP/6-31G*\n\ntitle\n\n-1 2\nO 0.0 0.0 0.0\nO 0.0 0.0 1.3\n\n"
    (tmp_path / "a.com").write_text(text)
    assert charge_and_spin(load_structure(tmp_path / "a.com")) == (-1, 1)


def test_a_rounded_charge_is_not_cut_off(tmp_path):
    path = tmp_path / "frames.xyz"
    path.write_text(frame_with("charge=-0.9999999 spin=1"))
    assert [charge_and_spin(frame) for frame in AseFile(path=path).read()] == [(0, 0), (-1, 1)]
    assert load_structure(path).info["charge"] == -1


def test_a_file_that_calls_the_multiplicity_spin_gives_a_warning(tmp_path, recwarn):
    path = tmp_path / "frames.xyz"
    path.write_text(frame_with("spin=1"))
    with pytest.warns(UserWarning, match=r"frame 1: O2 with charge \+0 has 16 electrons, of which 1 cannot"):
        AseFile(path=path).read()
    path.write_text(frame_with("charge=1"))  # a radical that does not state its spin
    recwarn.clear()
    AseFile(path=path).read()
    assert not recwarn.list


def test_impossible_spins_are_refused_by_references(tblite):
    for info, n_electrons in (({"spin": 1}, 16), ({"charge": 1, "spin": 17}, 15)):
        expected = told(name="spin", value=info["spin"], allowed=f"up to {n_electrons} ", remedy=True)
        atoms = Atoms("O2", oxygen().positions, info=info)
        with pytest.raises(StructureError, check=expected):
            make_calculator(GFN2).get_potential_energy(atoms)
        atoms.set_cell([8, 8, 8])
        atoms.pbc = True
        with pytest.raises(StructureError, check=expected):
            make_calculator(GFN2).get_potential_energy(atoms)


def test_the_report_tells_the_state(tmp_path, tblite):
    from asecalc_ml.analysis.report.report import key_facts

    run = nve().run(atoms=oxygen(), directory=tmp_path, quiet=True)
    assert {row.name: row.value for row in key_facts(run)}["unpaired electrons"] == "2"
