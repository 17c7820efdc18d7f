"""Values that a pair shares with its reverse: half of the rows hold them all, in values and derivatives."""

import pytest
import torch

from asecalc_ml.model.compile.molecules.all_pairs import Molecules
from asecalc_ml.model.compile.molecules.energy_graph import with_shapes
from asecalc_ml.model.compile.molecules.half_pairs import HalfPairs, Kept, OfAllPairs, even_nodes
from asecalc_ml.model.compile.program import traced

MOLECULES = Molecules(2, 4)
PAIRS = MOLECULES.edge_index(torch.device("cpu"))
HALF = HalfPairs(PAIRS)


def random(*shape: int) -> torch.Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return values.requires_grad_(True)


def test_each_pair_has_a_kept_one_of_the_same_atoms():
    i, j = PAIRS
    assert HALF.n_kept == 2 * 4 * 5 // 2
    assert (i[HALF.kept] <= j[HALF.kept]).all()
    for number, kept in enumerate(HALF.kept[HALF.of_pair]):
        assert {int(i[number]), int(j[number])} == {int(i[kept]), int(j[kept])}
    assert torch.equal(PAIRS[:, HALF.reverse], PAIRS.flip(0))


def test_all_pairs_of_kept_ones_are_kept_again():
    values = random(HALF.n_kept, 3)
    assert torch.equal(Kept.apply(OfAllPairs.apply(values, HALF), HALF), values)
    assert torch.equal(OfAllPairs.apply(values, HALF), values.index_select(0, HALF.of_pair))


@pytest.mark.parametrize("features", [(), (3,)])
def test_derivatives_are_those_of_an_index_select(features):
    """Of all pairs exactly; of kept ones too, whose derivative needs no sum by index."""
    values = random(HALF.n_kept, *features)
    assert torch.autograd.gradcheck(lambda x: OfAllPairs.apply(x, HALF), values)
    assert torch.autograd.gradcheck(lambda x: Kept.apply(x, HALF), random(HALF.n_pairs, *features))
    assert torch.autograd.gradgradcheck(lambda x: OfAllPairs.apply(x, HALF) ** 3, values)
    assert torch.autograd.gradgradcheck(lambda x: Kept.apply(x, HALF) ** 3, random(HALF.n_pairs, *features))
    weights = random(HALF.n_pairs, *features).detach()
    for change, source in ((OfAllPairs, HALF.of_pair), (Kept, HALF.kept)):
        x = random(HALF.n_kept if change is OfAllPairs else HALF.n_pairs, *features)
        w = weights[: len(source)]
        (gradient,) = torch.autograd.grad((w * change.apply(x, HALF)).sum(), x)
        (expected,) = torch.autograd.grad((w * x.index_select(0, source)).sum(), x)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("change", [OfAllPairs, Kept])
def test_no_derivative_is_a_sum_by_index(change):
    """Of any order: such a sum becomes atomic additions where it is compiled."""

    def derivatives(values):
        x = values.detach().requires_grad_(True)
        results = [(change.apply(x, HALF) ** 4).sum()]
        for _ in range(3):
            (gradient,) = torch.autograd.grad(results[-1], x, create_graph=True)
            results.append((gradient**2).sum())
        return [result.detach() for result in results]

    graph = traced(derivatives, [random(HALF.n_kept if change is OfAllPairs else HALF.n_pairs, 3).detach()])
    targets = {str(node.target) for node in graph.graph.nodes}
    assert "aten.index_select.default" in targets
    assert not {target for target in targets if "index_add" in target or "index_put" in target}


@pytest.mark.parametrize("change", [OfAllPairs, Kept])
def test_many_arrays_at_once_are_each_by_itself(change):
    """Values and derivatives, with the arrays along the first or the last axis."""
    n_rows = HALF.n_kept if change is OfAllPairs else HALF.n_pairs
    for axis in (0, 2):
        x = random(n_rows, 3, 2).movedim(2, axis).detach().requires_grad_(True)
        together = torch.vmap(lambda values: change.apply(values, HALF), in_dims=axis)(x)
        alone = torch.stack([change.apply(values, HALF) for values in x.unbind(axis)])
        assert torch.equal(together, alone)
        weights = torch.rand(alone.shape, dtype=alone.dtype)
        (gradient,) = torch.autograd.grad((weights * together).sum(), x)
        (expected,) = torch.autograd.grad((weights * alone).sum(), x)
        torch.testing.assert_close(gradient, expected)


def even_results(function) -> list[bool]:
    """For each result of a function of the vectors of all pairs, whether it is known to be even."""
    vectors = random(HALF.n_pairs, 3).detach()
    graph = with_shapes(traced(function, [vectors]), [vectors])
    even = even_nodes(graph, graph.graph.find_nodes(op="placeholder")[0], HALF)
    (results,) = graph.graph.find_nodes(op="output")[0].args
    return [node in even for node in results]


def test_what_changes_with_the_sign_of_a_vector_is_not_even():
    """Radial functions are recognised; nothing that differs between a pair and its reverse is."""
    weight, bias = random(1, 5).detach(), random(5).detach()
    of_pairs, symmetric = random(HALF.n_pairs, 1).detach(), torch.ones(HALF.n_pairs, 1, dtype=torch.float64)

    def results(vectors):
        d = vectors.norm(dim=1)
        radial = torch.exp(-((d[:, None] - bias) ** 2))
        return {
            "distance": (True, d),
            "radial": (True, radial),
            "filter": (True, torch.tanh(d[:, None] @ weight + bias)),
            "heads": (True, radial.view(-1, 5, 1).sum(dim=2)),
            "square": (True, (vectors * vectors).sum(dim=1)),
            "symmetric constant": (True, radial * symmetric),
            "vectors": (False, vectors),
            "direction": (False, vectors / d[:, None]),
            "component": (False, vectors[:, 0] * d),
            "cube": (False, vectors**3),
            "constant of each pair": (False, radial * of_pairs),
            "sum over pairs": (False, radial.sum(dim=0)),
            "transposed": (False, radial.t() * 2),
            "running sum": (False, d.cumsum(0)),
            "repeated along a new axis": (False, d.expand(HALF.n_pairs, -1)),
        }

    expected = results(random(HALF.n_pairs, 3).detach())
    named = even_results(lambda vectors: [value for _, value in results(vectors).values()])
    assert dict(zip(expected, named, strict=True)) == {
        name: is_even for name, (is_even, _) in expected.items()
    }
