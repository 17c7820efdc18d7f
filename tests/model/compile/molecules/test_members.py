"""Members of a committee in one graph: each gets what its own model gives."""

import pytest
import torch

from asecalc_ml.model.compile.compiled_graph import load_package, write_package
from asecalc_ml.model.compile.molecules.all_pairs import Molecules, NotDenseError
from asecalc_ml.model.compile.molecules.batches import fill
from asecalc_ml.model.compile.molecules.members import members_program
from asecalc_ml.model.compile.molecules.molecule_graph import MoleculeInput, known_calls
from asecalc_ml.model.compile.program import as_function
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.neuralil import NeuralIL
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster

SIZES = {"cutoff_A": 4.0, "n_rbf": 8}
NETWORKS = {
    "equivariant-transformer": EquivariantTransformer(hidden_channels=16, n_layers=1, n_heads=2, **SIZES),
    "schnet": SchNet(n_atom_basis=16, n_interactions=2, **SIZES),
    "painn": PaiNN(n_atom_basis=16, n_interactions=2, **SIZES),
    "physnet": PhysNet(hidden_channels=16, n_layers=2, **SIZES),  # with charges
    "tensornet": TensorNet(hidden_channels=16, n_layers=1, **SIZES),
}


def molecules(shape: Molecules) -> MoleculeInput:
    structures = [cluster(("C", "H", "O"), 1.3, shape.n_atoms, seed) for seed in range(shape.n_systems)]
    for number, atoms in enumerate(structures):
        atoms.info.update(charge=number % 3 - 1, spin=number % 2)
    return fill(structures, shape)


def committee(name: str, dtype: torch.dtype = torch.float32) -> tuple[Model, ...]:
    """Three models with weights, scales and shifts of their own."""
    models = tuple(untrained_model(NETWORKS[name], seed, dtype=dtype) for seed in range(3))
    for number, model in enumerate(models):
        model.scale *= 1 + number
        model.shift += number
        model.eval().requires_grad_(False)
    return models


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("equivariant-transformer", Molecules(1, 5)),
        ("painn", Molecules(1, 5)),
        ("schnet", Molecules(1, 5)),
        ("schnet", Molecules(3, 4)),
        ("physnet", Molecules(2, 4)),
        pytest.param("tensornet", Molecules(1, 4), marks=pytest.mark.slow),
    ],
)
def test_members_are_what_each_is_alone(name, shape):
    """Within the rounding of each, for near and far atoms and for missing ones."""
    models, given = committee(name), molecules(shape)
    program = members_program(given)
    together = as_function(program.trace(models))
    for number, model in enumerate(models):
        for call in known_calls(model, given):
            (rows,) = together(call.arguments)
            assert bool(((rows[number] - call.results[0]).abs() <= call.bounds[0]).all()), name
    assert all(call.agrees_with(together) for call in program.known_calls(models))


def test_members_that_share_some_weights():
    """Members that were trained from one model with a part of it frozen."""
    models, given = committee("schnet"), molecules(Molecules(1, 4))
    for model in models:
        model.potential.embeddings[0].load_state_dict(models[0].potential.embeddings[0].state_dict())
    program = members_program(given)
    assert all(call.agrees_with(as_function(program.trace(models))) for call in program.known_calls(models))


def test_another_member_is_noticed():
    """What compiled code has to reproduce rests on each member's weights."""
    models, given = committee("schnet"), molecules(Molecules(1, 4))
    program = members_program(given)
    together = as_function(program.trace(models))
    with torch.no_grad():
        models[2].potential.last_linear[0].mul_(1.01)
    assert not any(call.agrees_with(together) for call in program.known_calls(models))


def test_an_architecture_without_sums_along_an_axis_has_no_joint_graph():
    options = NeuralIL(cutoff_A=4.0, elements=["C", "H", "O"])
    models = tuple(untrained_model(options, seed).eval().requires_grad_(False) for seed in range(2))
    with pytest.raises(NotDenseError):
        members_program(molecules(Molecules(1, 4))).trace(models)


@pytest.mark.slow  # compiling takes a minute
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_members_are_eager(name, dtype, tmp_path):
    models, given = committee(name, dtype), molecules(Molecules(1, 9))
    program = members_program(given)
    write_package(models, program, tmp_path / "package.pt2")
    function = load_package(tmp_path / "package.pt2", torch.device("cpu"))
    assert all(call.agrees_with(function) for call in program.known_calls(models))
