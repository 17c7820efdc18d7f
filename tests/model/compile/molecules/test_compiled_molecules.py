"""Molecules as arrays, compiled: the machine code gives the results of eager mode for calls of every kind."""

from collections.abc import Iterator

import pytest
import torch

from asecalc_ml.model.compile.compiled_graph import load_package, write_package
from asecalc_ml.model.compile.molecules.all_pairs import Molecules
from asecalc_ml.model.compile.molecules.batches import fill
from asecalc_ml.model.compile.molecules.molecule_graph import MoleculeInput, known_call, molecule_program
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster

CUTOFF_A = 4.0
NETWORKS = {
    "equivariant-transformer": EquivariantTransformer(
        hidden_channels=16, n_rbf=8, n_layers=2, n_heads=2, cutoff_A=CUTOFF_A
    ),
    "tensornet": TensorNet(hidden_channels=16, n_rbf=8, n_layers=1, cutoff_A=CUTOFF_A),
    "schnet": SchNet(cutoff_A=CUTOFF_A, n_atom_basis=16, n_rbf=8, n_interactions=2),
    "painn": PaiNN(cutoff_A=CUTOFF_A, n_atom_basis=16, n_rbf=8, n_interactions=2),
    "physnet": PhysNet(cutoff_A=CUTOFF_A, hidden_channels=16, n_rbf=8, n_layers=2),
}


def array(sizes: list[int], shape: Molecules, stretch: float = 1.0) -> MoleculeInput:
    structures = [cluster(("C", "H", "O"), 1.3, size, seed) for seed, size in enumerate(sizes)]
    for charge, atoms in enumerate(structures):
        atoms.positions *= stretch
        atoms.info.update(charge=charge % 3 - 1, spin=charge % 2)
    return fill(structures, shape)


def calls(shape: Molecules) -> Iterator[MoleculeInput]:
    """Near and far, and with other numbers of atoms where there are several molecules."""
    for stretch in (0.9, 1.3, 2.0, 10.0):
        yield array(shape.n_systems * [shape.n_atoms], shape, stretch)
    if shape.n_systems > 1:
        yield array([1 + k % shape.n_atoms for k in range(shape.n_systems - 3)], shape)


@pytest.mark.slow  # compiling takes 30 to 60 s
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [Molecules(1, 9), Molecules(16, 9)])
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_molecules_are_eager(network, shape, dtype, tmp_path):
    model: Model = untrained_model(NETWORKS[network], dtype=dtype).eval().requires_grad_(False)
    program = molecule_program(next(calls(shape)))
    write_package(model, program, tmp_path / "package.pt2")
    function = load_package(tmp_path / "package.pt2", torch.device("cpu"))
    known = [*program.known_calls(model), *(known_call(model, given) for given in calls(shape))]
    assert [number for number, call in enumerate(known) if not call.agrees_with(function)] == []
