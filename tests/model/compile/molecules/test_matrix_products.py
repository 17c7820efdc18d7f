"""Layers of one input as one product: the same numbers, and only of layers that share their input."""

import torch
from torch import nn
from torch.fx import Interpreter

from asecalc_ml.model.compile.molecules.energy_graph import with_shapes
from asecalc_ml.model.compile.molecules.matrix_products import joint_products
from asecalc_ml.model.compile.program import traced


class Layers(nn.Module):
    """Two layers of x, of which one has no bias, one of x in another shape, one of another input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 5, bias=False)
        self.reshaped, self.other = nn.Linear(2, 3), nn.Linear(3, 3)
        self.matrix = nn.Parameter(torch.randn(4, 2))

    def forward(self, x):
        first, second = self.first(x), self.second(x.reshape(2, 3, 4))
        scaled = torch.addmm(self.first.bias, x, self.first.weight.t(), alpha=2.0)
        return [first, second, self.reshaped(x.view(12, 2)), self.other(first), x @ self.matrix, scaled]


def joined():
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        layers, x = Layers().requires_grad_(False), torch.randn(6, 4)
        graph = with_shapes(traced(layers, [x]), [x])
        attributes = {
            node.target: getattr(graph, node.target) for node in graph.graph.find_nodes(op="get_attr")
        }
    return layers, x, graph, *joint_products(graph, attributes)


def test_layers_of_one_input_are_one_product():
    *_, products, places = joined()
    sizes = sorted(products[number].sizes for number, _ in places.values())
    assert sizes == [(3,), (3,), (3, 5), (3, 5)]


def test_each_layer_gets_its_own_result():
    layers, x, graph, products, places = joined()
    expected = [
        layers.first(x),
        layers.second(x),
        layers.reshaped(x.view(12, 2)),
        layers.other(layers.first(x)),
    ]

    results = []

    class Values(Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if n in places:
                number, place = places[n]
                torch.testing.assert_close(products[number](self.env[n.args[-2]])[place], value)
                results.append(value)
            return value

    Values(graph).run(x)
    assert len(results) == len(expected)


def test_weights_that_are_trained_have_derivatives():
    _, x, graph, _, places = joined()
    nodes = graph.graph.find_nodes(op="get_attr")
    trained = {str(node.target): getattr(graph, node.target).clone().requires_grad_(True) for node in nodes}
    products, _ = joint_products(graph, trained)
    node = next(node for node, (number, _) in places.items() if len(products[number].sizes) == 2)
    number, place = places[node]
    weight = trained[str(node.args[-1].args[0].target)]
    (gradient,) = torch.autograd.grad(products[number](x)[place].sum(), weight)
    torch.testing.assert_close(gradient, x.sum(dim=0).expand_as(gradient))
