"""Arrays of pairs: reads and sums along an axis are those by index."""

import pytest
import torch

from asecalc_ml.model.compile.molecules.all_pairs import Molecules, Place

N_SYSTEMS, N_ATOMS = 3, 4
MOLECULES = Molecules(N_SYSTEMS, N_ATOMS)
PAIRS = (N_SYSTEMS, N_ATOMS, N_ATOMS)
CPU = torch.device("cpu")

#: Index, shape of the rows, axis and number of targets.
INDICES = {
    "centre": (MOLECULES.edge_index(CPU)[0], PAIRS, 2, N_SYSTEMS * N_ATOMS),
    "neighbor": (MOLECULES.edge_index(CPU)[1], PAIRS, 1, N_SYSTEMS * N_ATOMS),
    "system": (MOLECULES.batch(CPU), (N_SYSTEMS, N_ATOMS), 1, N_SYSTEMS),
}


@pytest.fixture(params=INDICES)
def case(request):
    index, rows, axis, n_targets = INDICES[request.param]
    return index, Place(rows, axis, torch.ones(len(index), dtype=torch.bool)), n_targets


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_all_pairs_of_each_molecule_are_in_order():
    expected = [
        (first + i, first + j)
        for first in range(0, N_SYSTEMS * N_ATOMS, N_ATOMS)
        for i in range(N_ATOMS)
        for j in range(N_ATOMS)
    ]
    assert MOLECULES.edge_index(CPU).T.tolist() == [list(pair) for pair in expected]


@pytest.mark.parametrize("features", [(), (5,), (2, 3), (N_ATOMS,), (N_SYSTEMS * N_ATOMS,)])
def test_a_place_reads_and_sums_as_its_index_does(case, features):
    index, place, n_targets = case
    values, rows = random(n_targets, *features), random(len(index), *features)
    assert torch.equal(place.spread(values), values[index])
    sums = torch.zeros(n_targets, *features, dtype=torch.float64).index_add(0, index, rows)
    torch.testing.assert_close(place.sum(rows), sums)
    largest = [rows[index == target].amax(dim=0) for target in range(n_targets)]
    assert torch.equal(place.largest(rows), torch.stack(largest))
