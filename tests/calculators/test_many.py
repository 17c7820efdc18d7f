"""Many structures at once, by calculators that compute them together and by those that loop."""

import numpy as np
import pytest
import torch
import toy_calculators
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from building import traced_in_place_of_compiled

from asecalc_ml.calculators import ml_calculator
from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.batches.many import batches, computes_together, results_of_each
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.calculators.protocol import offered
from asecalc_ml.errors import PluginError, StructureError


def rattled(n: int, atoms: Atoms | None = None) -> list[Atoms]:
    frames = [(atoms or molecule("H2O")).copy() for _ in range(n)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    return frames


@pytest.fixture
def sizes():
    """Numbers of structures of each batch of a toy calculator."""
    toy_calculators.BatchedSprings.batches.clear()
    return toy_calculators.BatchedSprings.batches


def test_results_of_a_loop_stay_those_of_their_structure():
    """EMT writes the forces of all structures into one array."""
    frames = rattled(3)
    alone = [EMT().get_forces(atoms.copy()) for atoms in frames]
    for results in (offered(EMT()).calculate_many(frames), results_of_each(EMT(), frames)):
        for of_frame, forces in zip(results, alone, strict=True):
            np.testing.assert_array_equal(of_frame["forces"], forces)
    assert not np.allclose(alone[0], alone[1])


def test_who_computes_together(tiny_model):
    model = MLCalculator(tiny_model, compile="never")
    assert computes_together(model)
    assert computes_together(Corrected(model, ["zbl"]))
    assert not computes_together(EMT())
    assert not computes_together(Corrected(EMT(), ["zbl"]))  # its parts loop


def test_batches_of_one_for_a_calculator_that_loops(sizes, monkeypatch):
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 7)
    frames = rattled(5)
    assert [len(batch) for batch in batches(toy_calculators.BatchedSprings(), frames)] == [2, 2, 1]
    assert [len(batch) for batch in batches(EMT(), frames)] == [1] * 5


def test_one_call_for_all(sizes):
    results = results_of_each(toy_calculators.BatchedSprings(), iter(rattled(5)))
    assert sizes == [5]
    assert len(results) == 5


def test_one_bad_structure_costs_none_of_the_others(sizes, monkeypatch):
    monkeypatch.setenv("TOY_LONGEST_A", "3")
    frames = rattled(9)
    frames[4].positions[0] += 10
    results = results_of_each(toy_calculators.BatchedSprings(), frames)
    assert [str(result) for result in results if isinstance(result, Exception)] == ["too long"]
    assert isinstance(results[4], RuntimeError)
    expected = [toy_calculators.Springs().get_potential_energy(frame) for frame in frames]
    energies = [np.nan if k == 4 else result["energy"] for k, result in enumerate(results)]
    assert energies[:4] + energies[5:] == pytest.approx(expected[:4] + expected[5:], abs=1e-5)


def test_a_model_refuses_one_structure_and_computes_the_others(tiny_model):
    frames = [*rattled(2), Atoms("Xe"), *rattled(2, molecule("CH4"))]
    model = MLCalculator(tiny_model, dtype="float64", compile="never")
    results = results_of_each(model, frames)
    assert "was not trained on" in str(results.pop(2))
    del frames[2]
    for atoms, of_atoms in zip(frames, results, strict=True):
        assert of_atoms["energy"] == pytest.approx(model.get_potential_energy(atoms), abs=1e-9)
        assert of_atoms["forces"] == pytest.approx(model.get_forces(atoms), abs=1e-9)


def mixture() -> list[Atoms]:
    """Molecules of several sizes, single atoms, a crystal, ions, cells; most sizes come several times."""
    frames = [
        *rattled(9),
        *rattled(3, molecule("CH3CH2OH")),
        Atoms("H"),
        molecule("CH4"),
        *rattled(2, Atoms("H", cell=[3, 3, 3], pbc=True)),
        *rattled(2, Atoms("OH2", molecule("H2O").positions, cell=[6, 7, 8], pbc=[True, True, False])),
        *rattled(3, molecule("C6H6") + Atoms("CO", [[5, 5, 5], [5, 5, 6.2]])),
    ]
    frames[1].cell = [9.0, 9.0, 9.0]  # of a molecule, which has a stress then
    frames[2].info.update(charge=1, spin=1)
    frames[3].set_initial_charges([1.0, 0.0, 0.0])
    frames[4].set_initial_magnetic_moments([1.0, 0.0, 0.0])
    frames[5].set_momenta(np.ones((3, 3)))
    return [frames[k] for k in np.random.default_rng(0).permutation(len(frames))]


@pytest.mark.parametrize("way", ["eager", "traced"])
@pytest.mark.parametrize("network", ["TensorNet", "PhysNet"])
def test_a_mixture_is_computed_as_each_structure_is(own_home, monkeypatch, way, network):
    """TensorNet takes charge and spin, PhysNet gives charges and dipoles."""
    from asecalc_ml.potentials.physnet import PhysNet
    from asecalc_ml.potentials.torchmdnet import TensorNet
    from asecalc_ml.testing import register_untrained

    options = {"TensorNet": TensorNet, "PhysNet": PhysNet}[network](
        hidden_channels=8, n_layers=1, n_rbf=8, max_atomic_number=20
    )
    known = {"charges": [0, 1], "spins": [0, 1], "elements": ["H", "C", "O"], "dtype": torch.float64}
    register_untrained("small", options, molecule("CH3CH2OH"), **known)
    shapes = traced_in_place_of_compiled(monkeypatch)
    frames = mixture()
    model = MLCalculator("small", compile="never" if way == "eager" else "always")
    together = model.calculate_many(frames)
    assert bool(shapes) == (way == "traced")
    for atoms, results in zip(frames, together, strict=True):
        alone = MLCalculator("small", compile="never")
        alone.calculate(atoms, ["energy"])
        assert results.keys() == alone.results.keys()
        for name, value in alone.results.items():
            assert results[name] == pytest.approx(value, abs=1e-9), name


BAD = {
    "closer": Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]),
    "not finite": Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]),
    "was not trained on Xe": Atoms("Xe2", [[0, 0, 0], [0, 0, 3]]),
    "charge": Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"charge": 3}),
    "whole number": Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"charge": "a lot"}),
    "periodic": Atoms("H2", [[0, 0, 0], [0, 0, 0.2]], cell=[3, 3, 3], pbc=True),
    "empty": Atoms(),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_structure_is_named_with_the_message_of_its_own(tiny_model, bad):
    model, frames = MLCalculator(tiny_model, compile="never"), rattled(12)
    frames[7] = BAD[bad]
    with pytest.raises(StructureError) as alone:
        model.calculate(BAD[bad], ["energy"])
    with pytest.raises(StructureError) as among:
        model.calculate_many(frames)
    assert str(among.value) == f"structure 7, counted from 0: {alone.value}"
    assert (among.value.name, among.value.remedy) == (alone.value.name, alone.value.remedy)


def test_numbers_of_bad_structures_beyond_the_first_batch(tiny_model, monkeypatch):
    monkeypatch.setattr(ml_calculator, "MANY_ATOMS", 12)
    frames = rattled(12)
    frames[9] = BAD["closer"]
    with pytest.raises(StructureError, match=r"^structure 9, "):
        MLCalculator(tiny_model, compile="never").calculate_many(frames)


def test_stress_where_there_is_a_cell():
    frames = [molecule("H2O"), bulk("Cu", cubic=True)]
    results = results_of_each(EMT(), frames, ("energy", "stress"))
    assert [result["energy"] for result in results] == [EMT().get_potential_energy(atoms) for atoms in frames]
    assert results[1]["stress"] == pytest.approx(EMT().get_stress(frames[1]))


class WithoutStress(LennardJones):
    """What it computes together lacks the stress that it has alone."""

    def calculate_many(self, structures):
        return [
            {"energy": LennardJones(rc=5).get_potential_energy(atoms), "forces": np.zeros((len(atoms), 3))}
            for atoms in structures
        ]


def test_what_a_batch_lacks_is_computed_alone():
    crystals = rattled(2, bulk("Ar", "fcc", a=5.2, cubic=True))
    results = results_of_each(WithoutStress(rc=5), crystals, ("forces", "stress"))
    for atoms, of_atoms in zip(crystals, results, strict=True):
        assert of_atoms["stress"] == pytest.approx(LennardJones(rc=5).get_stress(atoms))
        assert of_atoms["forces"] == pytest.approx(LennardJones(rc=5).get_forces(atoms))


def test_a_wrong_number_of_results_is_a_mistake_of_its_author():
    class Forgetful(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate_many(self, structures):
            return [{"energy": 0.0, "forces": np.zeros((3, 3))}]

    with pytest.raises(
        PluginError, match=r"Forgetful\.calculate_many\(\) returned 1 results for 2 structures"
    ):
        results_of_each(Forgetful(), rattled(2))


def test_members_of_a_committee_at_every_structure(tiny_model, own_home):
    committee = Committee([tiny_model, other_model(own_home)], dtype="float64", compile="never")
    frames = rattled(3)
    for calculator in (committee, Corrected(committee, ["zbl"])):
        together = results_of_each(calculator, frames)
        for atoms, results in zip(frames, together, strict=True):
            for member, of_member in zip(committee.members, results["members"], strict=True):
                assert of_member["forces"] == pytest.approx(member.get_forces(atoms), abs=1e-9)
            alone = results_of_each(calculator, [atoms])[0]
            assert results["energy"] == pytest.approx(alone["energy"], abs=1e-9)
            assert [of_member["energy"] for of_member in results["members"]] == pytest.approx(
                [of_member["energy"] for of_member in alone["members"]], abs=1e-9
            )


def other_model(home) -> str:
    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
    from asecalc_ml.testing import register_untrained

    options = EquivariantTransformer(hidden_channels=16, n_layers=1, n_rbf=8, n_heads=2, max_atomic_number=20)
    torch.manual_seed(5)
    register_untrained("other", options, molecule("CH3CH2OH"))
    return "other"


def test_a_committee_hands_a_batch_to_each_member(tiny_model, own_home, monkeypatch):
    committee = Committee([tiny_model, other_model(own_home)], compile="never")
    sizes = []
    computed = MLCalculator.calculate_many

    def counted(self, structures):
        sizes.append(len(structures))
        return computed(self, structures)

    monkeypatch.setattr(MLCalculator, "calculate_many", counted)
    monkeypatch.setattr(MLCalculator, "calculate", None)
    committee.calculate_many(rattled(7))
    assert sizes == [7, 7]
