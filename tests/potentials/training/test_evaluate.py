"""Errors on labelled frames, and what the card says the frames cover."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.corrections import correction_calculators
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.errors import DatasetError, StructureError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.datasets.extxyz import write_extxyz
from asecalc_ml.potentials.training import evaluate as evaluate_module
from asecalc_ml.potentials.training.evaluate import evaluate, evaluate_model
from asecalc_ml.potentials.training.frames.domain import measure_domain
from asecalc_ml.store.registry import Registry
from asecalc_ml.testing import untrained_card


def morse() -> Model:
    return Model(Morse().build())


def labelled_by_morse(n_frames=60, energy_error=0.0, forces_error=0.0):
    """Frames of methane and water whose labels are the model's own plus a known error."""
    random = np.random.default_rng(0)
    frames = []
    for k in range(n_frames):
        atoms = molecule(("CH4", "H2O")[k % 2])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        evaluation = Evaluator(morse())(AtomGraph.from_atoms(atoms, 6.0))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(evaluation.energy[0]) + energy_error * (-1) ** (k // 2),
            forces=evaluation.forces.numpy() + forces_error,
        )
        frames.append(atoms)
    return frames


def test_a_model_has_no_error_on_its_own_labels():
    metrics = evaluate(morse(), labelled_by_morse()).metrics()
    assert metrics.n_frames == 60
    assert metrics.energy_mae_meV == pytest.approx(0, abs=1e-9)
    assert metrics.forces_rmse_meV_A == pytest.approx(0, abs=1e-9)


def test_known_errors_are_measured_in_meV():
    metrics = evaluate(morse(), labelled_by_morse(energy_error=0.005, forces_error=0.02)).metrics()
    assert metrics.energy_mae_meV == pytest.approx(5.0)
    assert metrics.energy_rmse_meV == pytest.approx(5.0)
    assert metrics.forces_mae_meV_A == pytest.approx(20.0)
    assert metrics.forces_rmse_meV_A == pytest.approx(20.0)


def test_energies_per_atom_weigh_small_and_large_frames_alike():
    """5 meV too much in methane (5 atoms) and in water (3 atoms)."""
    metrics = evaluate(morse(), labelled_by_morse(energy_error=0.005)).metrics()
    assert metrics.energy_mae_meV_atom == pytest.approx((5 / 5 + 5 / 3) / 2)
    assert metrics.stress_mae_GPa is None  # molecules


def test_errors_of_stress_are_those_put_in():
    """0.5 GPa on every component of one crystal, and a frame without stress that does not count."""
    crystal = bulk("Cu", cubic=True)
    evaluation = Evaluator(morse())(AtomGraph.from_atoms(crystal, 6.0))
    stress = full_3x3_to_voigt_6_stress(evaluation.virial[0].numpy()) / crystal.get_volume()
    labels = {"energy": 0.0, "forces": np.zeros((4, 3))}
    with_stress, without = crystal.copy(), crystal.copy()
    with_stress.calc = SinglePointCalculator(with_stress, **labels, stress=stress + 0.5 * units.GPa)
    without.calc = SinglePointCalculator(without, **labels)
    metrics = evaluate(morse(), [with_stress, without]).metrics()
    assert metrics.stress_mae_GPa == pytest.approx(0.5)
    assert metrics.stress_rmse_GPa == pytest.approx(0.5)


def test_frames_are_evaluated_in_parts_of_a_bounded_size(monkeypatch):
    """Whatever the parts, the errors are the same, frame by frame."""
    frames = labelled_by_morse(10, energy_error=0.1)
    whole = evaluate(morse(), frames)
    monkeypatch.setattr(evaluate_module, "ATOMS_AT_ONCE", 9)
    sizes, cut = [], evaluate_module.batches_by_atoms

    def recorded(*given):
        for batch in cut(*given):
            sizes.append([len(atoms) for atoms in batch])
            yield batch

    monkeypatch.setattr(evaluate_module, "batches_by_atoms", recorded)
    np.testing.assert_allclose(evaluate(morse(), frames).energy, whole.energy, atol=1e-12)
    assert sizes == [[5, 3]] * 5


def test_evaluation_leaves_the_model_on_its_type():
    model = morse()
    evaluate(model, labelled_by_morse(4))
    assert model.dtype == torch.float64


def labelled(atoms: Atoms) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((len(atoms), 3)))
    return atoms


def test_distances_of_water_counted_by_hand():
    water = labelled(molecule("H2O"))
    domain = measure_domain([water, water], cutoff=5.0)
    assert {key: sum(found.counts) for key, found in domain.distances.items()} == {
        "H-H 1-3": 2,
        "H-O bonded": 4,
    }
    assert domain.distances["H-O bonded"].mean == pytest.approx(water.get_distance(0, 1))
    assert domain.angles["H-O-H"].mean == pytest.approx(water.get_angle(1, 0, 2))
    assert domain.energy_eV == (-1.0, -1.0)
    assert domain.largest_force_eV_A == pytest.approx(np.sqrt(3))


def test_dihedrals_of_hydrogen_peroxide_lie_on_one_turn():
    frames = []
    for angle in (-92, 178, 180, 182):
        frames.append(molecule("H2O2"))
        frames[-1].set_dihedral(2, 0, 1, 3, angle, indices=[3])
    found = measure_domain([labelled(one) for one in frames], cutoff=5.0).dihedrals["H-O-O-H"]
    assert (found.width, found.start, len(found.counts)) == (5.0, -36, 72)
    assert found.counts[17] == 1
    assert found.counts[0] + found.counts[-1] == 3  # 180 comes out as -180, or a last bit below


def test_a_bond_that_breaks_later_still_counts_as_bonded():
    start, torn = molecule("H2O"), molecule("H2O")
    torn.positions[1] += 2.0
    domain = measure_domain([labelled(start), labelled(torn)], cutoff=10.0)
    assert sum(domain.distances["H-O bonded"].counts) == 4


def test_a_crystal_listed_in_another_order_has_bonds_of_its_own():
    first = bulk("Si", cubic=True) * (2, 2, 2)
    other = first[np.random.default_rng(0).permutation(len(first))]
    domain = measure_domain([labelled(first), labelled(other)], cutoff=3.0)
    assert domain.distances["Si-Si bonded"].std == pytest.approx(0, abs=1e-6)
    assert sum(domain.distances["Si-Si bonded"].counts) == 2 * 2 * 64
    assert set(domain.distances) == {"Si-Si bonded"}
    assert domain.angles["Si-Si-Si"].std == pytest.approx(0, abs=1e-4)


def test_wrapped_frames_give_the_same_as_unwrapped_ones():
    start = molecule("H2O", cell=[6.0, 6.0, 6.0], pbc=True)
    moved = start.copy()
    moved.positions += [0.0, 0.0, 5.9]
    wrapped = moved.copy()
    wrapped.wrap()
    assert not np.allclose(wrapped.positions, moved.positions)
    for cut in (moved, wrapped):
        domain = measure_domain([labelled(start), labelled(cut)], cutoff=3.0)
        assert domain.angles["H-O-H"].std == pytest.approx(0, abs=1e-5)
        assert domain.distances["H-O bonded"].std == pytest.approx(0, abs=1e-9)
        assert "H-O other molecule" not in domain.distances


def test_two_molecules_are_told_apart():
    pair = molecule("H2O")
    other = molecule("H2O")
    other.positions += [0, 0, 3.5]
    domain = measure_domain([labelled(pair + other)], cutoff=10.0)
    assert sum(domain.distances["O-O other molecule"].counts) == 1
    assert sum(domain.distances["H-O other molecule"].counts) == 4


@pytest.mark.parametrize("cubic", [True, False], ids=["cubic", "primitive: every neighbor is an own image"])
def test_distances_of_a_crystal_are_those_of_its_supercell(cubic):
    cell = bulk("Cu", cubic=cubic)
    cell.calc = EMT()
    supercell = cell * (2, 1, 1)
    supercell.calc = EMT()
    for atoms in (cell, supercell):
        atoms.get_potential_energy()
    small, large = (measure_domain([atoms], cutoff=3.0) for atoms in (cell, supercell))
    key = "Cu-Cu bonded"
    assert large.distances[key].counts == [2 * count for count in small.distances[key].counts]


# ---------------------------------------------------------------------------------------- a registered model


def registered(folder, frames, monkeypatch, **changes):
    """Evaluate a registered Morse potential on these frames; also the sizes of its batches."""
    fields = {"elements": ["H", "C", "O"]} | changes
    Registry().add_model(morse(), untrained_card("morse", Morse(), morse(), frames[0], **fields))
    write_extxyz(folder / "data.xyz", frames)
    sizes, calculate_many = [], MLCalculator.calculate_many

    def counted(self, structures):
        sizes.append(len(structures))
        return calculate_many(self, structures)

    with monkeypatch.context() as patch:
        patch.setattr(MLCalculator, "calculate_many", counted)
        found = evaluate_model("morse", dataset({"format": "ase", "path": str(folder / "data.xyz")}))
    return found, sizes


def test_all_frames_are_handed_to_the_calculator_together(tmp_path, monkeypatch):
    """Whatever their groups, which hold few frames each."""
    frames = labelled_by_morse(40, energy_error=0.005, forces_error=0.02)
    for k, atoms in enumerate(frames):
        atoms.info["group"] = f"group {k % 7}"
    found, sizes = registered(tmp_path, frames, monkeypatch)
    assert sizes == [40]
    assert len(found.groups) == 8
    expected = evaluate(morse(), frames).metrics()
    assert found.metrics.energy_rmse_meV == pytest.approx(expected.energy_rmse_meV, abs=1e-3)
    assert found.metrics.forces_mae_meV_A == pytest.approx(expected.forces_mae_meV_A, abs=1e-3)
    assert found.metrics.forces_mae_meV_A == pytest.approx(20, abs=1e-3)


def test_batches_are_bounded_and_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 16)
    frames = labelled_by_morse(10, energy_error=0.005)
    found, sizes = registered(tmp_path, frames, monkeypatch)
    assert sizes == [4, 4, 2]  # methane and water in turn
    assert found.metrics.energy_mae_meV == pytest.approx(5, abs=1e-3)


def test_a_frame_that_a_calculator_refuses_is_evaluated_all_the_same(tmp_path, monkeypatch):
    """Atoms nearer than 0.4 Å: no run begins there, and a label there counts."""
    frames = labelled_by_morse(4)
    close = Atoms("H2", [[0, 0, 0], [0, 0, 0.38]])
    evaluation = Evaluator(morse())(AtomGraph.from_atoms(close, 6.0))
    labels = {"energy": float(evaluation.energy[0]) + 0.1, "forces": evaluation.forces.numpy()}
    close.calc = SinglePointCalculator(close, **labels)
    frames.insert(2, close)
    found, _ = registered(tmp_path, frames, monkeypatch)
    assert found.metrics.n_frames == 5
    assert found.metrics.energy_mae_meV == pytest.approx(100 / 5, rel=1e-3)


def test_a_frame_without_a_finite_energy_is_named(tmp_path, monkeypatch):
    frames = labelled_by_morse(3)
    same = Atoms("H2", [[0, 0, 0], [0, 0, 0]])
    same.calc = SinglePointCalculator(same, energy=0.0, forces=np.zeros((2, 3)))
    results = "asecalc_ml.potentials.training.evaluate.results_of"
    monkeypatch.setattr(results, raising(StructureError("not finite")))
    with pytest.raises(DatasetError, match=r"data\.xyz.*3.*the model's energy or forces are not finite"):
        registered(tmp_path, [*frames, same], monkeypatch)


def raising(error):
    def function(*_):
        raise error

    return function


def test_progress_is_shown(tmp_path, monkeypatch, capsys):
    frames = labelled_by_morse(3)
    registered(tmp_path, frames, monkeypatch)
    assert "evaluating" not in capsys.readouterr().err
    evaluate_model("morse", dataset({"format": "ase", "path": str(tmp_path / "data.xyz")}), quiet=False)
    said = capsys.readouterr().err
    assert "evaluating morse: 3 frames" in said
    assert "evaluating morse: done, 3 frames" in said


def test_terms_of_the_card_count(tmp_path, monkeypatch):
    """Labels that hold a repulsive core, of frames where it is felt."""
    frames = labelled_by_morse(6)
    for atoms in frames:
        atoms.positions *= 0.5
        evaluation = Evaluator(morse())(AtomGraph.from_atoms(atoms, 6.0))
        (term,) = correction_calculators(["zbl"])
        energy, forces = term.get_potential_energy(atoms), term.get_forces(atoms)
        labels = {
            "energy": energy + float(evaluation.energy[0]),
            "forces": forces + evaluation.forces.numpy(),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
    assert abs(energy) > 0.1
    found, _ = registered(tmp_path, frames, monkeypatch, corrections=[{"zbl": {}}])
    assert found.metrics.energy_mae_meV < 1e-2
    assert evaluate(morse(), frames, [{"zbl": {}}]).metrics().energy_mae_meV == pytest.approx(0, abs=1e-6)
