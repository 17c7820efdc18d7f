"""The conformance suite passes an honest calculator, and fails each broken one by its own check alone."""

import json
import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given
from hypothesis import strategies as st
from places import HELPERS
from raising import told

from asecalc_ml.conformance import Effort
from asecalc_ml.conformance.all_checks import CHECKS
from asecalc_ml.conformance.checks.derivatives import slope
from asecalc_ml.conformance.noise import rounding
from asecalc_ml.conformance.structures import make_structures
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.testing import check_calculator

NAMES = [check.name for check in CHECKS]
EFFORT = Effort(memory_calls=160, dynamics_steps=200)
DYNAMICS = {"NVE 0.1 fs", "NVE 0.5 fs"}
LONG = {*DYNAMICS, "memory", "speed", "continuity"}  # seconds; looked at by default where they should fail
STRESS = {"stress of bulk", "stress of slab"}
TURNED = {"rotation", "reflection"}

#: Checks that must fail, and why more than the calculator's own where there are more.
EXPECTED = {
    "WrongSign": {"forces", *DYNAMICS},  # an atom that climbs gains the energy twice
    "WrongFactor": {"forces"},
    # Forces of no energy have no symmetric Hessian, and work is done along closed paths.
    "NonConservative": {"forces", "hessian", *DYNAMICS},
    "Torque": {"net torque", "forces", "hessian", *DYNAMICS},  # no energy has such forces
    # The same, and a force that nothing balances has a lever.
    "NoReaction": {"net force", "net torque", "forces", "hessian", *DYNAMICS},
    "StressSign": STRESS,
    "VoigtOrder": {*STRESS, *TURNED},  # six numbers in the wrong places do not turn as a tensor
    "SlabVolume": {"stress of slab"},
    "StressFactor": STRESS,
    "VolumeOfAnAtom": {"stresses of atoms"},
    "FirstImage": {"stresses of atoms"},
    # The same law three times: a mirror turned is a rotation, and an energy with a direction has a torque.
    "Anisotropic": {*TURNED, "net torque", "two atoms"},
    "Chiral": {"reflection"},
    "ByIndex": {"permutation"},
    "SinglePositions": {"translation"},
    "SingleLeak": {"rounding"},
    "MinimumImage": {"supercell"},
    "NoOwnImages": {"supercell"},
    "NotWrapped": {"wrapped"},
    "AllPeriodic": {"slab height"},
    # One atom, the same in a box, two far apart: the three ways to have no pair.
    "NeedsNeighbors": {"isolated atom", "isolated atom in a box", "empty neighbor list"},
    "MeanPooling": {"extensivity", "supercell"},  # twice the cell is twice the molecule
    "HardCutoff": {"continuity"},
    "ForceJump": {"continuity"},
    "StaleCell": {"nothing stale"},
    "StaleElements": {"nothing stale"},
    "Tolerant": {"nothing stale"},
    "FirstQuestion": {"order of questions"},
    "Random": {"determinism"},
    "NeedsInfo": {"plain atoms"},
    "WrongHessian": {"hessian"},
    "WrongType": {"types"},
    "SinglePrecisionArrays": {"types"},
    "SharedBuffer": {"results are kept"},
    "MutatesInput": {"input untouched"},
    "Annotates": {"input untouched"},
    "ChangesProcess": {"process untouched"},
    "PaddingLeak": {"batch"},
    "Leak": {"memory"},
}

each_broken = pytest.mark.parametrize("kind", EXPECTED)


def check(kind: str, names=None, effort=EFFORT):
    """All checks, or those named, of a calculator of this file's neighbor on a molecule without a mirror."""
    return check_calculator(f"broken_calculators:{kind}", molecule("H2O2"), only=names, effort=effort)


@pytest.fixture(autouse=True)
def _environment_is_put_back(monkeypatch):
    monkeypatch.setenv("BROKEN_CALCULATOR", "")
    monkeypatch.syspath_prepend(HELPERS)


@pytest.fixture
def broken(_environment_is_put_back):
    """The module of the broken calculators."""
    return import_module("broken_calculators")


def test_the_honest_one_passes_everything():
    report = check("WithStresses")
    if report.failed == ["memory"]:  # threads of earlier tests may have taken some; a leak would show again
        assert check("WithStresses", ["memory"]).failed == []
    else:
        assert report.failed == []
    assert [result.name for result in report.results if result.verdict == "not applicable"] == [
        "NVE precision"
    ]


def test_stresses_of_atoms_are_checked_where_there_are_some():
    assert check("Honest", ["stresses of atoms"])["stresses of atoms"].verdict == "not applicable"
    argon = bulk("Ar", "fcc", 5.26, cubic=True)
    report = check_calculator(LennardJones(sigma=3.4, rc=8.0), argon, only=["stresses of atoms"])
    assert report["stresses of atoms"].verdict == "passed"


@each_broken
def test_a_broken_one_fails_its_own_check_alone(kind):
    short = [name for name in NAMES if name not in LONG - EXPECTED[kind]]
    assert set(check(kind, short).failed) == EXPECTED[kind]


@pytest.mark.slow
@each_broken
def test_a_broken_one_fails_no_long_check_either(kind):
    effort = Effort(memory_calls=1000, dynamics_steps=1000)  # enough to tell a drift from a fluctuation
    assert set(check(kind, effort=effort).failed) == EXPECTED[kind]


def test_every_check_fails_somewhere():
    """But for the figures that are only told."""
    assert set(NAMES) - set().union(*EXPECTED.values()) == {"lattice translation", "NVE precision", "speed"}


# --------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("StressSign", "the opposite sign"),
        ("VoigtOrder", "shear components in another order"),
        ("StressFactor", "2 times what it should be"),
    ],
)
def test_the_usual_mistakes_of_a_stress_are_named(kind, words):
    assert words in check(kind, ["stress of bulk"])["stress of bulk"].note


def test_the_place_of_a_jump_is_told():
    result = check("HardCutoff", ["continuity"])["continuity"]
    assert result.verdict == "failed"
    # Three atoms: the first or the second of the pair at the cutoff; two molecules: any of their atoms.
    assert result.figure > 1e-4


def test_memory_is_measured_right():
    """Sixteen kilobytes a call, by construction."""
    result = check("Leak", ["memory"])["memory"]
    assert result.figure == pytest.approx(160, rel=0.3)
    assert result.unit == "MB"


def test_the_report_goes_through_json():
    report = check("StressSign", ["stress of bulk", "batch", "speed"])
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["failed"] == ["stress of bulk"]
    assert not found["passed"]
    assert [one["verdict"] for one in found["checks"]] == ["failed", "passed", "passed"]
    assert found["calculator"]["class"] == "broken_calculators:StressSign"
    assert "stress of bulk" in str(report)


def test_a_calculator_that_raises_fails_that_check_and_the_suite_goes_on(broken):
    names = ["forces", "wrapped", "stress of slab", "isolated atom", "net torque"]
    report = check_calculator(broken.Raising(), molecule("H2O2"), only=names)
    assert {result.name: result.verdict for result in report.results} == {
        "forces": "passed",
        "stress of slab": "not applicable",
        "net torque": "passed",
        "wrapped": "failed",
        "isolated atom": "failed",
    }
    assert report["wrapped"].note == "raised RuntimeError: no convergence"
    assert report["isolated atom"].note == "raised ValueError: energy is nan"
    assert report["stress of slab"].note == "no stress of slabs"


def test_unknown_check():
    with pytest.raises(
        ConfigError, match="'forces'", check=told(name="force", allowed=["forces"], remedy=True)
    ):
        check_calculator(EMT(), bulk("Cu"), only=["force"])


# ------------------------------------------------------------------------------- others' calculators


def test_emt_jumps_at_its_cutoff():
    """Its cutoff function is a Fermi function, which is not zero where the list of neighbors ends."""
    dimer = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]])
    result = check_calculator(EMT(), dimer, only=["continuity"])["continuity"]
    assert result.verdict == "failed"
    assert 1e-6 < result.figure < 1e-4
    assert result.unit == "eV"


@pytest.mark.parametrize("smooth", [True, False])
def test_lennard_jones_of_ase_is_continuous_where_it_is_asked_to_be(smooth):
    """Without smooth=True the energy is shifted and the force jumps, by 24 ε/r [2 (σ/r)¹² − (σ/r)⁶]."""
    calculator = LennardJones(epsilon=1.0, sigma=1.0, rc=4.0, smooth=smooth)
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.2]])
    report = check_calculator(calculator, atoms, only=["forces", "continuity"])
    assert report.failed == ([] if smooth else ["continuity"])
    if not smooth:
        largest_component = 0.8 * 24 / 4 * (4.0**-6 - 2 * 4.0**-12)  # the axis is 0.36, 0.48, 0.80
        assert report["continuity"].figure == pytest.approx(largest_component, rel=1e-6)


def test_a_model_of_ours(tiny_model):
    names = [
        "rounding",
        "forces",
        "stress of bulk",
        "stress of slab",
        "supercell",
        "wrapped",
        "nothing stale",
    ]
    report = check_calculator({tiny_model: {"dtype": "float64"}}, only=names)
    assert report.failed == []
    assert (report.dtype, report.structure) == ("float64", "C2H6O")


def test_a_calculator_that_takes_none_of_our_structures(broken):
    with pytest.raises(StructureError, check=told(value="Picky", remedy="--atoms")):
        check_calculator(broken.Picky())


# -------------------------------------------------------------------------------------------- the means


def test_four_points_are_exact_for_a_quartic():
    found = slope(lambda x: 3 + 2 * x - x**2 + 5 * x**3 + 7 * x**4, 0.5)
    assert found.value == pytest.approx(2.0, abs=1e-12)
    assert found.error < 1e-10


@given(st.floats(1.0, 1e4), st.floats(-0.9, 0.9), st.sampled_from([0.0, 1e-12, 1e-7]))
def test_a_slope_lies_within_its_error(steepness, shift, noise):
    """A nearly sharp step: the largest differences see none of it, the smallest drown in noise.

    A step that lies exactly where differences are taken, at a shift of 1, is left out: two of them then agree
    by chance.
    """
    rng = np.random.default_rng(0)

    def step(x):
        return (
            np.tanh(steepness * (x - 0.01 * shift)) + rng.normal(0, noise)
            if noise
            else np.tanh(steepness * (x - 0.01 * shift))
        )

    exact = steepness / np.cosh(min(abs(steepness * 0.01 * shift), 300)) ** 2
    found = slope(step, 0.02, noise)
    assert abs(found.value - exact) <= 3 * found.error + 1e-9 * steepness


@pytest.mark.parametrize("amplitude", [0.0, 1e-7])
def test_rounding_sees_noise_and_nothing_smooth(amplitude, broken):
    random = np.random.default_rng(0)
    honest, atoms = broken.Honest(), molecule("H2O2")
    found = rounding(lambda one: honest.answer(one)["energy"] + random.normal(0, amplitude), atoms)
    assert found == pytest.approx(amplitude, rel=0.4, abs=1e-14)


@pytest.mark.parametrize("given", [molecule("H2O2"), bulk("Cu"), bulk("NaCl", "rocksalt", 5.64)])
def test_structures_have_no_symmetry_left(given, broken):
    structures = make_structures(given)
    honest = broken.Honest()
    assert not structures.molecule.pbc.any()
    assert structures.slab.pbc.tolist() == [True, True, False]
    assert np.abs(honest.answer(structures.bulk)["stress"]).min() > 1e-6
    assert np.abs(honest.answer(structures.molecule)["forces"]).max() > 1e-3


def test_no_test_tool_is_needed():
    code = "import sys; sys.modules['pytest'] = None; from asecalc_ml.testing import check_calculator"
    path = os.pathsep.join(part for part in sys.path if part)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
