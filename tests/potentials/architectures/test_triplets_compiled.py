"""Networks that see angles, compiled and trained: numbers of triplets change, shapes and results do not."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from training_steps import check_training_step

from asecalc_ml import MLCalculator
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.ani import ANI
from asecalc_ml.potentials.dimenet import DimeNetPlusPlus
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.store.card import ModelCard
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained, untrained_model

NETWORKS = {
    "ani": ANI(cutoff_A=4.0, angular_cutoff_A=2.5, hidden_channels=[8]),
    "dimenet-plus-plus": DimeNetPlusPlus(
        cutoff_A=3.0,
        hidden_channels=8,
        n_layers=1,
        triplet_channels=5,
        basis_channels=3,
        output_channels=6,
        n_radial=3,
        n_spherical=3,
    ),
}


def batch(names: list[str], model: Model, seed: int) -> PotentialInput:
    frames = [load_structure(name) for name in names]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed + number)
    graph = collate([AtomGraph.from_atoms(atoms, model.cutoff) for atoms in frames])
    return with_ghost(graph, model.cutoff, triplet_cutoff=model.triplet_cutoff)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", NETWORKS)
def test_one_traced_step_serves_frames_of_any_size(network, compiled):
    """Gradients of forces with respect to parameters, for numbers of triplets that differ."""
    model = untrained_model(NETWORKS[network])
    names = (["ethanol", "water"], ["benzene", "acetic-acid"], ["water", "malonaldehyde"])
    batches = [batch(one, model, seed) for seed, one in enumerate(names)]
    assert len({one.triplets.shape for one in batches}) == 3
    check_training_step(model, *batches, dynamic=True, compiled=compiled)


def rattled_by_triplets(structure: Atoms, card: ModelCard) -> dict[int, Atoms]:
    """Frames with other numbers of triplets each, the largest number first: its room serves the others."""
    frames = {}
    for seed in range(6):
        atoms = structure.copy()
        atoms.rattle(0.1, seed=seed)
        graph = AtomGraph.from_atoms(atoms, card.cutoff_A)
        inputs = with_ghost(graph, card.cutoff_A, triplet_cutoff=card.triplet_cutoff_A)
        frames[inputs.triplets.shape[1]] = atoms
    return dict(sorted(frames.items(), reverse=True))


@pytest.mark.slow  # compiles four times
@pytest.mark.parametrize("network", NETWORKS)
def test_a_compiled_calculator_finds_what_an_eager_one_does(network):
    register_untrained(network, NETWORKS[network], load_structure("ethanol"), dtype=torch.float64)
    compiled, eager = (MLCalculator(network, compile=how) for how in ("always", "never"))
    for structure in (load_structure("ethanol"), bulk("C", "sc", a=1.9) * 3):
        frames = rattled_by_triplets(structure, eager.card)
        assert len(frames) > 1
        for atoms in frames.values():
            np.testing.assert_allclose(compiled.get_forces(atoms), eager.get_forces(atoms), atol=1e-9)
    assert len(compiled._evaluator.compiled.shapes) == 2


def labelled_frames(n_frames: int) -> list[Atoms]:
    """Methanol with energies and forces of ASE's EMT."""
    frames = []
    for seed in range(n_frames):
        atoms = molecule("CH3OH")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_registers_a_model_that_runs(network, tmp_path):
    write(tmp_path / "frames.xyz", labelled_frames(12), format="extxyz")
    hyperparameters = NETWORKS[network].model_dump(exclude_defaults=True)
    options = TrainOptions(
        name="methanol",
        data={"format": "ase", "path": str(tmp_path / "frames.xyz")},
        split={"n_train": 6, "n_validation": 3, "n_test": 3},
        model={"architecture": network, **hyperparameters},
        batch_size=2,
        max_epochs=2,
        directory=tmp_path / "training",
    )
    entry = train(options, quiet=True)
    assert entry.card.triplet_cutoff_A == NETWORKS[network].build().triplet_cutoff
    atoms = molecule("CH3OH")
    atoms.calc = MLCalculator("methanol", compile="never")
    assert np.isfinite(atoms.get_forces()).all()
