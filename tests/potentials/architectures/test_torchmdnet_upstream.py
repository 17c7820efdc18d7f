"""TorchMD-NET's architectures are torchmd-net's own: same names, same weights, same energies and forces."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.model.evaluator import Evaluation, Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, GraphNetwork, TensorNet

CUTOFF_A = 4.0
SMALL = {"hidden_channels": 16, "n_layers": 2, "n_rbf": 8, "cutoff_A": CUTOFF_A, "max_atomic_number": 20}

# Upstream's names of what it is given, and its defaults for what we have no option for.
UPSTREAM = {
    "embedding_dimension": 16,
    "num_layers": 2,
    "num_rbf": 8,
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "activation": "silu",
    "cutoff_lower": 0.0,
    "cutoff_upper": CUTOFF_A,
    "max_z": 21,
    "max_num_neighbors": 64,
    "aggr": "add",
    "neighbor_embedding": True,
    "attn_activation": "silu",
    "num_heads": 2,
    "distance_influence": "both",
    "equivariance_invariance_group": "O(3)",
    "derivative": True,
    "atom_filter": -1,
    "prior_model": None,
    "output_model": "Scalar",
    "reduce_op": "sum",
}

CASES = {
    "equivariant-transformer": (EquivariantTransformer(**SMALL, n_heads=2), {"vector_cutoff": True}),
    "equivariant-transformer of the paper": (
        EquivariantTransformer(**SMALL, n_heads=2, envelope=False),
        {"vector_cutoff": False},
    ),
    "equivariant-transformer, other options": (
        EquivariantTransformer(
            **SMALL,
            n_heads=4,
            rbf="gauss",
            neighbor_embedding=False,
            distance_influence="values",
            activation="tanh",
        ),
        {
            "num_heads": 4,
            "rbf_type": "gauss",
            "neighbor_embedding": False,
            "distance_influence": "values",
            "activation": "tanh",
            "vector_cutoff": True,
        },
    ),
    "tensornet": (TensorNet(**SMALL), {}),
    "tensornet SO(3)": (TensorNet(**SMALL, group="SO(3)"), {"equivariance_invariance_group": "SO(3)"}),
    "graph-network": (GraphNetwork(**SMALL), {}),
    "graph-network, no neighbors": (
        GraphNetwork(**SMALL, neighbor_embedding=False),
        {"neighbor_embedding": False},
    ),
}

MODELS = ("equivariant-transformer", "tensornet", "graph-network")

each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def create_model():
    """torchmd-net as its users have it, imported after ours."""
    pytest.importorskip("warp", reason="torchmd-net's own neighbor search needs warp: pip install warp-lang")
    import asecalc_ml.potentials.torchmdnet.upstream as ours

    ours.layers()
    from torchmdnet.models.model import create_model

    return create_model


@pytest.fixture
def plain_tensornet(create_model, monkeypatch):
    """Upstream's TensorNet as it is in Python, which it runs where there is no Warp."""
    from torchmdnet.models import tensornet

    monkeypatch.setattr(tensornet, "OPT", False)
    for name in ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3"):
        monkeypatch.setattr(tensornet, name, getattr(tensornet, f"_{name}"))


@pytest.fixture
def pair(create_model):
    """Our model and upstream's, with the same weights; biases are not left at zero."""

    def make(case: str, precision: int = 64):
        options, changes = CASES[case]
        name = next(name for name in MODELS if case.startswith(name))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            theirs = create_model({**UPSTREAM, "model": name, "precision": precision, **changes})
            for parameter in theirs.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            ours = Model(options.build()).set_dtype(torch.float64 if precision == 64 else torch.float32)
        left_over = ours.potential.load_state_dict(theirs.state_dict(), strict=False)
        return ours, theirs, left_over

    return make


def upstream_results(theirs, structures: list[Atoms], precision: int = 64) -> tuple[np.ndarray, np.ndarray]:
    dtype = torch.float64 if precision == 64 else torch.float32
    numbers = torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures]))
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in structures])).to(dtype)
    batch = torch.from_numpy(np.repeat(np.arange(len(structures)), [len(atoms) for atoms in structures]))
    box = torch.from_numpy(structures[0].cell.array).to(dtype) if structures[0].pbc.all() else None
    charges = torch.tensor([atoms.info.get("charge", 0) for atoms in structures], dtype=dtype)
    energy, forces = theirs(numbers, positions, batch, box=box, q=charges)
    return energy.detach().double().numpy().ravel(), forces.detach().double().numpy()


def our_results(ours: Model, structures: list[Atoms]) -> Evaluation:
    return Evaluator(ours)(collate([AtomGraph.from_atoms(atoms, CUTOFF_A) for atoms in structures]))


def check(ours, theirs, structures, tolerance, precision=64) -> None:
    energy, forces = upstream_results(theirs, structures, precision)
    found = our_results(ours, structures)
    assert np.abs(forces).max() > 0.01
    assert found.energy.numpy() == pytest.approx(energy, abs=tolerance * np.abs(energy).max())
    assert found.forces.numpy() == pytest.approx(forces, abs=tolerance * np.abs(forces).max())


def molecules() -> list[Atoms]:
    """Of different size and charge."""
    structures = [molecule(name) for name in ("CH3CH2OH", "H2O", "C6H6", "CO2", "CH3CONH2")]
    for atoms, charge in zip(structures, (0, 1, 0, -1, 0), strict=True):
        atoms.rattle(0.05, seed=0)
        atoms.info["charge"] = charge
    return structures


def box() -> Atoms:
    """Sixteen atoms in a box as upstream needs: triclinic, reduced, at least twice as wide as the cutoff."""
    random = np.random.default_rng(0)
    cell = np.array([[8.5, 0, 0], [-1.0, 8.6, 0], [1.5, 2.0, 8.4]])
    grid = np.stack(np.meshgrid([0, 0.5], [0, 0.5], [0, 0.25, 0.5, 0.75]), axis=-1).reshape(-1, 3)
    atoms = Atoms(
        "HCNO" * 4, scaled_positions=grid + random.uniform(-0.08, 0.08, grid.shape), cell=cell, pbc=True
    )
    return atoms


@each_case
def test_names_of_weights_are_upstreams(pair, case):
    """Left over are the box of its neighbor search, and scale and shift, which our Model has."""
    _, _, left_over = pair(case)
    assert left_over.missing_keys == []
    assert set(left_over.unexpected_keys) == {"representation_model.distance.box", "mean", "std"}


@each_case
def test_molecules_in_a_batch(pair, plain_tensornet, case):
    ours, theirs, _ = pair(case)
    check(ours, theirs, molecules(), 1e-11)


@each_case
def test_periodic_box(pair, plain_tensornet, case):
    ours, theirs, _ = pair(case)
    check(ours, theirs, [box()], 1e-11)


def test_tensornet_with_warps_kernels(pair):
    """They hold a third in single precision, whatever the type of everything else."""
    ours, theirs, _ = pair("tensornet")
    check(ours, theirs, molecules(), 1e-7)
    check(ours, theirs, [box()], 1e-7)


def test_warps_kernels_see_the_mirror_image(pair):
    """Upstream's kernel and its Python, which is ours, build the antisymmetric part with opposite signs.

    O(3) cannot tell; SO(3) can. Should this fail, upstream has mended it, and it may go.
    """
    ours, theirs, _ = pair("tensornet SO(3)")
    mirrored = [Atoms(atoms.numbers, -atoms.positions, info=atoms.info) for atoms in molecules()]
    expected, _ = upstream_results(theirs, molecules())
    assert our_results(ours, mirrored).energy.numpy() == pytest.approx(expected, rel=1e-6)
    assert our_results(ours, molecules()).energy.numpy() != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("case", ["equivariant-transformer", "graph-network"])
def test_single_precision(pair, case):
    ours, theirs, _ = pair(case, 32)
    check(ours, theirs, molecules(), 1e-5, 32)
    check(ours, theirs, [box()], 1e-5, 32)


def test_upstream_is_as_its_users_left_it(create_model):
    """Ours lives apart from it: another copy of the same classes."""
    from torchmdnet.models.torchmd_et import EquivariantMultiHeadAttention
    from torchmdnet.models.utils import OptimizedDistance

    from asecalc_ml.potentials.torchmdnet.upstream import layers

    assert layers().et.EquivariantMultiHeadAttention is not EquivariantMultiHeadAttention
    found = OptimizedDistance(cutoff_upper=3.0)(torch.tensor([[0.0, 0, 0], [0, 0, 2], [0, 0, 9]]))
    assert found[0].shape == (2, 2)


# ------------------------------------------------------------------------------------ a process of its own

BUILD_ALL = """
import sys
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, GraphNetwork, TensorNet
for options in (EquivariantTransformer, TensorNet, GraphNetwork):
    options().build()
"""


def run(code: str) -> str:
    """What the code prints on stdout."""
    path = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.smoke
def test_building_imports_no_warp_and_prints_nothing():
    assert run(BUILD_ALL + "assert not [name for name in sys.modules if name.split('.')[0] == 'warp']") == ""


def test_no_warp_is_needed():
    assert run("import sys; sys.modules['warp'] = None\n" + BUILD_ALL) == ""


def test_upstream_may_be_imported_first():
    pytest.importorskip("warp", reason="torchmd-net's own import needs warp: pip install warp-lang")
    code = "import torchmdnet.models.model, sys\nbefore = dict(sys.modules)\n"
    after = "\nassert all(sys.modules[name] is before[name] for name in before)\nprint('kept')"
    assert run(code + BUILD_ALL + after).splitlines()[-1] == "kept"
