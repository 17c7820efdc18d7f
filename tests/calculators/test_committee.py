"""A committee is the mean of its members, says how far they disagree, and refuses members that do not fit."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import read, write
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.errors import ConfigError, ModelError, StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.runs import RunReader
from asecalc_ml.store.card import DatasetCard
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

LEVEL = "PBE/def2-SVP"
NAMES = ["first", "second", "third"]


def register(name: str, r0_A: float, atoms: Atoms, level: str | None = LEVEL, **fields) -> None:
    """A Morse potential as a model; another bond length makes another member."""
    data = DatasetCard(name="frames", level_of_theory=level, hash="0" * 64, n_train=1, n_validation=1)
    options = Morse(depth_eV=2.0, r0_A=r0_A, cutoff_A=4.0)
    register_untrained(name, options, atoms, **{"dtype": torch.float64, "dataset": data} | fields)


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


@pytest.fixture
def crystal(ethanol) -> Atoms:
    atoms = ethanol.copy()
    atoms.set_cell([[5.5, 0, 0], [0.8, 5.0, 0], [-0.4, 0.6, 5.2]])
    atoms.pbc = True
    return atoms


@pytest.fixture
def members(ethanol) -> list[str]:
    for name, r0_A in zip(NAMES, (1.10, 1.15, 1.25), strict=True):
        register(name, r0_A, ethanol)
    return NAMES


# -------------------------------------------------------------------------------------- means and deviations


@pytest.mark.smoke
def test_means_and_deviations_by_definition(members, crystal):
    """Every formula written out once more, for three members."""
    committee = Committee(members)
    crystal.calc = committee
    crystal.get_stress()
    alone = [MLCalculator(name) for name in members]
    for name in ("energy", "energies", "forces", "stress"):
        a, b, c = (one.get_property(name, crystal) for one in alone)
        mean = (a + b + c) / 3
        variance = ((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2
        assert committee.results[name] == pytest.approx(mean, abs=1e-12)
        assert committee.results[f"{name}_std"] == pytest.approx(np.sqrt(variance), abs=1e-12)
    x, y, z = committee.results["forces_std"].T
    assert committee.results["forces_deviation"] == pytest.approx(np.sqrt(x**2 + y**2 + z**2))
    shapes = {name: np.shape(value) for name, value in committee.results.items()}
    assert shapes["forces_deviation"] == (9,)
    assert shapes["forces_std"] == (9, 3)
    assert shapes["stress_std"] == (6,)
    assert type(committee.results["energy"]) is type(committee.results["energy_std"]) is float


@pytest.mark.filterwarnings("ignore:Uncertainty estimation has not been calibrated")
def test_matscipys_committee(members, crystal):
    from matscipy.calculators.committee import Committee as MatscipyCommittee
    from matscipy.calculators.committee import CommitteeMember, CommitteeUncertainty

    parts = [CommitteeMember(MLCalculator(name)) for name in members]
    theirs = CommitteeUncertainty(MatscipyCommittee(members=parts))
    theirs.calculate(crystal, ["energy", "forces", "stress"])
    ours = Committee(members)
    ours.get_stress(crystal)
    for name in ("energy", "forces", "stress"):
        assert ours.results[name] == pytest.approx(theirs.results[name], abs=1e-12)
        assert ours.results[f"{name}_std"] == pytest.approx(theirs.results[f"{name}_uncertainty"], abs=1e-12)


def test_forces_and_stress_are_slopes_of_the_mean_energy(members, crystal):
    crystal.calc = Committee(members)
    forces, stress = crystal.get_forces(), crystal.get_stress()
    assert calculate_numerical_forces(crystal, 1e-4) == pytest.approx(forces, abs=1e-5)
    assert calculate_numerical_stress(crystal, 1e-5) == pytest.approx(stress, abs=1e-6)


def test_members_that_agree_have_no_deviation(ethanol):
    """The same potential at three depths: forces are proportional, and so are their deviations."""
    for name, depth in zip(NAMES, (1.0, 2.0, 3.0), strict=True):
        options = Morse(depth_eV=depth, r0_A=1.2, cutoff_A=4.0)
        register_untrained(name, options, ethanol, dtype=torch.float64)
    ethanol.calc = Committee(NAMES)
    norms = np.linalg.norm(ethanol.get_forces(), axis=1)
    assert ethanol.calc.results["forces_deviation"] == pytest.approx(norms / 2)  # std of (1, 2, 3) is 1


def test_energies_that_compare_within_one_composition_only(ethanol):
    for name, r0_A in (("first", 1.1), ("second", 1.2)):
        register(name, r0_A, ethanol, energies_degenerate=True)
    committee = Committee(["first", "second"])
    committee.get_potential_energy(ethanol)
    assert committee.results["energy_std"] > 0
    other = load_structure("1-propanol")
    assert np.isfinite(committee.get_potential_energy(other))
    assert not {"energy_std", "energies_std"} & committee.results.keys()
    assert committee.results["forces_deviation"].shape == (12,)


def test_each_member_runs_once(members, crystal, monkeypatch):
    committee, calls = Committee(members), []
    for member in committee.members:
        plain = member.calculate
        monkeypatch.setattr(
            member, "calculate", lambda *a, plain=plain, **k: calls.append(1) or plain(*a, **k)
        )
    crystal.calc = committee
    crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress()
    crystal.info["note"], crystal.arrays["tags"] = "anything", np.arange(9)
    crystal.get_potential_energies()
    assert len(calls) == 3


def test_the_hessian_is_the_mean(members, ethanol):
    alone = [MLCalculator(name).get_hessian(ethanol) for name in members]
    assert Committee(members).get_hessian(ethanol) == pytest.approx(sum(alone) / 3, abs=1e-10)


def test_many_at_once(members, ethanol, crystal):
    structures = [ethanol, crystal, load_structure("1-propanol")]
    for atoms, found in zip(structures, Committee(members).calculate_many(structures), strict=True):
        alone = Committee(members)
        assert found["energy"] == pytest.approx(alone.get_potential_energy(atoms), abs=1e-10)
        assert found["forces_std"] == pytest.approx(alone.results["forces_std"], abs=1e-10)


# ---------------------------------------------------------------------------------------- what it is made of


def test_what_all_members_take(ethanol):
    register("first", 1.1, ethanol, elements=["C", "H", "O"], charges=[-1, 0, 1])
    register("second", 1.2, ethanol, elements=["C", "H", "N", "O"], charges=[0, 1])
    committee = Committee(["first", "second"])
    assert (committee.elements, committee.charges, committee.spins) == (["C", "H", "O"], [0, 1], [0])
    with pytest.raises(StructureError, check=told(name="first", value=["N"])):
        committee.get_potential_energy(load_structure("pyrimidine"))
    assert np.isfinite(committee.get_potential_energy(ethanol))


def test_a_changed_charge_is_seen(ethanol):
    from asecalc_ml.potentials.torchmdnet import TensorNet

    for seed, name in enumerate(("first", "second")):
        options = TensorNet(hidden_channels=8, n_layers=1, n_rbf=8 + seed, max_atomic_number=20)
        register_untrained(name, options, ethanol, charges=[0, 1], dtype=torch.float64)
    committee = Committee(["first", "second"])
    neutral = committee.get_potential_energy(ethanol)
    ethanol.info["charge"] = 1
    charged = committee.get_potential_energy(ethanol)
    assert charged != neutral
    assert charged == Committee(["first", "second"]).get_potential_energy(ethanol)
    ethanol.info["charge"] = 2
    for _ in range(2):
        with pytest.raises(StructureError, check=told(name="charge", value=2)):
            committee.get_potential_energy(ethanol)
    ethanol.info["charge"] = 0
    assert committee.get_potential_energy(ethanol) == neutral


def test_a_property_that_not_all_have(members, ethanol):
    with pytest.raises(
        PropertyNotImplementedError,
        match=r"no dipole, which MLCalculator does not .* give energy, .*stresses, energy_std, .*; ask",
    ):
        Committee(members).get_property("dipole", ethanol)


def test_continuous_only_if_all_are(ethanol):
    register("first", 1.1, ethanol)
    register("second", 1.2, ethanol, continuous=False)
    register("third", 1.3, ethanol)
    assert Committee(["first", "third"]).continuous
    assert not Committee(["first", "second"]).continuous


def test_the_description_names_every_member(members):
    committee = make_calculator({"committee": {"members": members, "dtype": "float32"}})
    description = json.loads(json.dumps(describe_calculator(committee)))
    assert [one["name"] for one in description["members"]] == members
    assert [one["model_hash"] for one in description["members"]] == [
        MLCalculator(name).model_hash for name in members
    ]
    assert {one["parameters"]["dtype"] for one in description["members"]} == {"float32"}


def test_its_hash_is_that_of_all_members(members, ethanol):
    before = Committee(members).model_hash
    assert Committee(members).model_hash == before
    assert Committee(members[:2]).model_hash != before
    register("fourth", 1.3, ethanol)
    assert Committee([*members[:2], "fourth"]).model_hash != before


@pytest.mark.parametrize("way", ["pickle", "todict", "spec"])
def test_it_can_be_made_again(members, ethanol, way):
    committee = Committee(members, dtype="float32")
    if way == "pickle":
        again = pickle.loads(pickle.dumps(committee))
    elif way == "todict":
        again = get_calculator_class(committee.name)(**json.loads(json.dumps(committee.todict())))
    else:
        again = make_calculator(json.loads(json.dumps(committee.spec())))
    assert again.model_hash == committee.model_hash
    assert again.get_potential_energy(ethanol) == committee.get_potential_energy(ethanol)


def test_with_corrections(members, ethanol):
    pytest.importorskip("dftd3", reason="needs dftd3: pip install 'asecalc-ml[dispersion]'")
    spec = {"members": members, "corrections": ["zbl", {"d3": {"functional": "PBE"}}]}
    ethanol.calc = make_calculator({"committee": spec})
    committee = Committee(members)
    assert ethanol.get_potential_energy() < committee.get_potential_energy(ethanol)
    deviation = ethanol.calc.results["forces_deviation"]  # dispersion is the same for all members
    assert deviation == pytest.approx(committee.results["forces_deviation"], abs=1e-12)
    description = describe_calculator(ethanol.calc)
    assert [one["name"] for one in description["members"]] == members
    assert [list(one) for one in description["corrections"]] == [["zbl"], ["d3"]]


def test_written_and_read(members, ethanol, tmp_path):
    ethanol.calc = Committee(members)
    ethanol.get_forces()
    for name in ("one.traj", "one.xyz", "one.json"):
        write(tmp_path / name, ethanol)
        assert read(tmp_path / name).get_potential_energy() == pytest.approx(ethanol.get_potential_energy())
    assert ethanol.get_properties(["forces"])["forces"].shape == (9, 3)


# ----------------------------------------------------------------------------------------------------- a run


def run_options(members: list[str], **others) -> NVE:
    return NVE(
        **others,
        structure="water",
        calculator={"committee": {"members": members}},
        relax=False,
        equilibration_ps=0.01,
        timestep_fs=0.5,
        steps=60,
        write_every=5,
        checkpoint_every=10,
    )


@pytest.fixture
def water_members() -> list[str]:
    for name, r0_A in (("first", 0.95), ("second", 1.05)):
        register(name, r0_A, load_structure("water"))
    return ["first", "second"]


def test_a_run_names_all_members_and_resumes_bit_for_bit(water_members, tmp_path, monkeypatch):
    straight = run_options(water_members).run(directory=tmp_path / "straight", quiet=True)
    assert [one["name"] for one in straight.read_provenance()["calculator"]["members"]] == water_members
    assert all(one["model_hash"] for one in straight.read_provenance()["calculator"]["members"])
    interrupt(monkeypatch, at_call=55)
    with pytest.raises(KeyboardInterrupt):
        run_options(water_members).run(directory=tmp_path / "cut", quiet=True)
    assert not RunReader(tmp_path / "cut").finished
    monkeypatch.undo()
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "models"))
    resumed = resume_run(tmp_path / "cut", quiet=True)
    assert same_bytes(straight.directory, resumed.directory, "trajectory.traj")
    assert same_bytes(straight.directory, resumed.directory, "thermo.csv")


@pytest.mark.parametrize("at_call", [24, 40], ids=["before the first checkpoint", "after it"])
def test_frames_on_which_members_differ_are_kept_also_when_resumed(
    at_call, water_members, tmp_path, monkeypatch
):
    options = run_options(water_members, flag={"committee_deviation_eV_A": 1e-6, "interval_fs": 5})
    straight = options.run(directory=tmp_path / "straight", quiet=True)
    flagged = [atoms.info["step"] for atoms in read(straight.directory / "flagged.extxyz", ":")]
    assert flagged == [0, 10, 20, 30, 40, 50, 60]
    interrupt(monkeypatch, at_call)
    with pytest.raises(KeyboardInterrupt):
        options.run(directory=tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "models"))
    resumed = resume_run(tmp_path / "cut", quiet=True)
    for name in ("flagged.extxyz", "trajectory.traj", "thermo.csv"):
        assert same_bytes(straight.directory, resumed.directory, name)


def test_every_part_gets_its_state_back(members, crystal):
    committee, again = Committee(members), Committee(members)
    untouched = again.checkpoint_state()
    committee.get_stress(crystal)
    again.restore_state(json.loads(json.dumps(committee.checkpoint_state())))
    assert again.checkpoint_state() == committee.checkpoint_state() != untouched


def interrupt(monkeypatch, at_call: int) -> None:
    plain, calls = Committee.combine, []

    def counting(self, results, atoms):
        calls.append(1)
        if len(calls) == at_call:
            raise KeyboardInterrupt
        return plain(self, results, atoms)

    monkeypatch.setattr(Committee, "combine", counting)


def same_bytes(one: Path, other: Path, name: str) -> bool:
    return (one / name).read_bytes() == (other / name).read_bytes()


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("few", [[], ["first"], "first", {"first": None}])
def test_fewer_than_two(members, few):
    with pytest.raises(ConfigError, check=told(name="members", value=few, remedy="two")):
        make_calculator({"committee": {"members": few}})


def test_without_members():
    with pytest.raises(ConfigError, check=told(name="members", problem="no members")):
        make_calculator("committee")


def test_one_twice(members):
    with pytest.raises(ConfigError, check=told(name="first", problem="twice", remedy=True)):
        Committee(["first", "second", "first"])


def test_an_unknown_member(members):
    with pytest.raises(ModelError, match="'second'", check=told(name="secnd", remedy=True)):
        Committee(["first", "secnd"])


def test_a_member_that_is_no_model(members):
    with pytest.raises(ModelError, check=told(name="EMT", remedy="asecalc-ml models list")):
        Committee(["first", {"ase.calculators.emt:EMT": None}])


@pytest.mark.parametrize("level", ["GFN2-xTB", None])
def test_levels_of_theory_that_differ(members, ethanol, level):
    register("other", 1.3, ethanol, level=level)
    with pytest.raises(
        ModelError, check=told(value=["PBE/def2-SVP", level], problem="other on", remedy=True)
    ):
        Committee(["first", "other"])


def test_nothing_in_common(members):
    register("argon", 1.3, Atoms("Ar2", [[0, 0, 0], [0, 0, 3]]))
    with pytest.raises(ModelError, check=told(name="elements", problem="argon: Ar", remedy=True)):
        Committee(["first", "argon"])
