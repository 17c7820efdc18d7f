"""Edges in a padded matrix: equal to the list with masking, and what the published code does without."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from asecalc_ml.analysis.relevance import explain
from asecalc_ml.errors import AnalysisError, ModelError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.testing.models import untrained_model
from asecalc_ml.testing.structures import cluster, small_crystal

CUTOFF_A = 4.0
SMALL = {
    "hidden_channels": 12, "readout_channels": 10, "cutoff_A": CUTOFF_A, "max_atomic_number": 20,
    "n_layers": 2, "basis_spacing_A": 0.5, "envelope": False, "average_neighbors": 3.0,
}  # fmt: skip


def structures() -> list[Atoms]:
    """Cells smaller and larger than the cutoff, a cluster, and an atom without neighbors."""
    large = small_crystal(("H", "C", "O"), 1.3).repeat((3, 2, 2))
    large.rattle(0.05, seed=1)
    primitive = bulk("Al", "fcc", a=4.05)  # one atom, all of whose neighbors are its images
    return [small_crystal(("H", "C", "O"), 1.3), cluster("HCNO", 1.3, 7), large, primitive, Atoms("O")]


def inputs_of(frames: list[Atoms]) -> PotentialInput:
    together = collate([AtomGraph.from_atoms(atoms, CUTOFF_A) for atoms in frames])
    return with_ghost(together, CUTOFF_A)


def most_neighbors(inputs: PotentialInput) -> int:
    return int(torch.bincount(inputs.edge_index[0]).max())


def values(options: CGCNN, inputs: PotentialInput) -> Tensor:
    """Contributions of atoms, or values of structures, of a network with the same weights each time."""
    torch.manual_seed(3)
    output = untrained_model(options).potential(inputs)
    return output.system if output.contributions is None else output.contributions


@pytest.mark.parametrize("readout", ["atoms", "crystal"])
@pytest.mark.parametrize("envelope", [True, False])
@pytest.mark.parametrize("max_atoms", [None, 40])
def test_a_masked_matrix_equals_the_list(readout, envelope, max_atoms):
    """Cells smaller than the cutoff have several images of one neighbor, with a place each."""
    inputs = inputs_of(structures())
    options = CGCNN(**SMALL | {"readout": readout, "envelope": envelope})
    matrix = options.model_copy(
        update={"adjacency": "matrix", "max_neighbors": most_neighbors(inputs) + 3, "max_atoms": max_atoms}
    )
    expected, computed = values(options, inputs), values(matrix, inputs)
    assert expected.abs().max() > 0.01
    assert (computed - expected).abs().max() < 1e-12


@pytest.mark.parametrize("n_places", [5, 12, 45])
@pytest.mark.parametrize("max_atoms", [None, 40])
@pytest.mark.parametrize("masked", [True, False])
def test_places_and_padding_as_written_in_loops(n_places, max_atoms, masked):
    """The nearest take the places; without a mask empty ones hold the first atom, 1 Å beyond the cutoff."""
    frames, layout = structures(), {"max_neighbors": n_places, "max_atoms": max_atoms}
    adjacency = "matrix" if masked else "unmasked-matrix"
    options = CGCNN(**SMALL, readout="crystal", adjacency=adjacency, **layout)
    torch.manual_seed(3)
    potential = untrained_model(options).potential
    for atoms in frames:
        inputs = inputs_of([atoms])
        computed = potential(inputs).system[0]
        assert (computed - _by_loops(potential, inputs, n_places, max_atoms, masked)).abs().max() < 1e-10


def _by_loops(
    potential, inputs: PotentialInput, n_places: int, max_atoms: int | None, masked: bool
) -> Tensor:
    n_atoms = inputs.n_atoms - 1  # without the ghost
    neighbors: list[list[tuple[float, int]]] = [[] for _ in range(max_atoms or n_atoms)]
    for (i, j), vector in zip(inputs.edge_index.T.tolist(), inputs.edge_vectors, strict=True):
        if i < n_atoms:
            neighbors[i].append((float(vector.norm()), j))
    if masked:
        neighbors = neighbors[:n_atoms]
    for i, row in enumerate(neighbors):
        nearest = sorted(row)[:n_places]
        neighbors[i] = nearest if masked else nearest + [(CUTOFF_A + 1.0, 0)] * (n_places - len(nearest))
    numbers = torch.tensor([*inputs.atomic_numbers[:n_atoms].tolist(), *[0] * (len(neighbors) - n_atoms)])
    x = potential.embedding(numbers)
    for convolution in potential.convolutions:
        rows = []
        for i, row in enumerate(neighbors):
            total = x[i].clone()
            for distance, j in row:
                bond = potential.basis(torch.tensor([distance], dtype=torch.float64))[0]
                total = total + convolution.message(x[i], x[j], bond) / 3.0  # torch-geometric's message
            rows.append(total)
        x = torch.stack(rows)
    return potential.readout_network.output(potential.readout_network.hidden(x.mean(dim=0)))


def test_a_structure_in_a_batch_is_what_it_is_alone():
    """Padding has a size of its own, so that no value depends on the other structures."""
    frames = structures()
    options = CGCNN(**SMALL, readout="crystal", adjacency="unmasked-matrix", max_neighbors=30, max_atoms=40)
    together = values(options, inputs_of(frames))
    for number, atoms in enumerate(frames):
        assert (values(options, inputs_of([atoms]))[0] - together[number]).abs().max() < 1e-12


def test_padding_changes_values_without_a_mask():
    inputs, layout = inputs_of(structures()), {"readout": "crystal", "adjacency": "unmasked-matrix"}
    few = values(CGCNN(**SMALL, **layout, max_neighbors=100), inputs)
    assert (values(CGCNN(**SMALL, **layout, max_neighbors=110), inputs) - few).abs().max() > 1e-3
    more_atoms = values(CGCNN(**SMALL, **layout, max_neighbors=100, max_atoms=40), inputs)
    assert (more_atoms - few).abs().max() > 1e-3


def test_forces_of_a_masked_matrix_are_those_of_the_list():
    inputs = inputs_of(structures())
    gradients = []
    for layout in ({}, {"adjacency": "matrix", "max_neighbors": most_neighbors(inputs), "max_atoms": 40}):
        vectors = inputs.edge_vectors.clone().requires_grad_(True)
        total = values(CGCNN(**SMALL, **layout), inputs._replace(edge_vectors=vectors)).sum()
        gradients.append(torch.autograd.grad(total, vectors)[0])
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12


def test_matrices_are_not_continuous_and_have_room_for_so_many_atoms():
    layout = {"adjacency": "matrix", "max_neighbors": 12, "max_atoms": 20}
    potential = untrained_model(CGCNN(**SMALL | {"envelope": True}, **layout)).potential
    assert not potential.continuous
    with pytest.raises(ModelError, match=r"36 atoms.*20 rows.*adjacency: list"):
        potential(inputs_of(structures()))


def test_methods_that_need_rows_of_atoms_are_not_offered_with_padding_atoms():
    layout = {"adjacency": "matrix", "max_neighbors": 60, "max_atoms": 10}
    atoms, model = small_crystal(("H", "C", "O"), 1.3), untrained_model(CGCNN(**SMALL, **layout))
    with pytest.raises(AnalysisError, match="'grad-cam' cannot be offered"):
        explain(model, atoms, method="grad-cam")
    assert explain(model, atoms, method="occlusion")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adjacency": "matrix"}, "needs max_neighbors"),
        ({"max_neighbors": 12}, "adjacency is list"),
        ({"max_atoms": 12}, "adjacency is list"),
        ({"adjacency": "unmasked-matrix", "max_neighbors": 12, "envelope": True}, "envelope: false"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    with pytest.raises(ValueError, match=words):
        CGCNN(**SMALL | options)
