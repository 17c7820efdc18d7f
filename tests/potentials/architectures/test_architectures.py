"""Every registered architecture obeys the laws of `asecalc_ml.testing`."""

import re

import pytest
import torch
from places import TESTS

from asecalc_ml.model.pair_potentials import ZBL, LennardJones, Morse
from asecalc_ml.plugins import get, names
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, GraphNetwork, TensorNet
from asecalc_ml.testing import PotentialChecks

SMALL = {"hidden_channels": 16, "n_rbf": 8, "cutoff_A": 4.0, "max_atomic_number": 20}

# Vectors are zero before the first layer, and those of the last readout block are for dipoles.
VECTORS_UNUSED = (
    "representation_model.attention_layers.0.vec_proj.weight",
    "output_model.output_network.1.vec2_proj.weight",
)


class TestLennardJones(PotentialChecks):
    options = LennardJones(epsilon_eV=0.3, sigma_A=1.2, cutoff_A=4.0)


@pytest.mark.smoke
class TestMorse(PotentialChecks):
    options = Morse(cutoff_A=4.0)


class TestZBL(PotentialChecks):
    options = ZBL(reach=2.0)


@pytest.mark.smoke
class TestEquivariantTransformer(PotentialChecks):
    options = EquivariantTransformer(**SMALL, n_layers=2, n_heads=2)
    unused_parameters = VECTORS_UNUSED


class TestEquivariantTransformerOtherOptions(PotentialChecks):
    options = EquivariantTransformer(
        **SMALL,
        n_layers=1,
        n_heads=4,
        rbf="gauss",
        trainable_rbf=True,
        neighbor_embedding=False,
        distance_influence="keys",
        activation="ssp",
        attention_activation="tanh",
    )
    unused_parameters = VECTORS_UNUSED


class TestEquivariantTransformerOfThePaper(PotentialChecks):
    options = EquivariantTransformer(**SMALL, n_layers=2, n_heads=2, envelope=False)
    unused_parameters = VECTORS_UNUSED

    def test_that_it_is_not_continuous_is_true(self):
        model = self.model()
        assert not model.potential.continuous
        assert self._jump(model, 2, 1e-6) > 0.1 * self._jump(model, 2, 1e-3) > 0


class TestTensorNet(PotentialChecks):
    options = TensorNet(**SMALL, n_layers=1)


class TestTensorNetSO3(PotentialChecks):
    options = TensorNet(**SMALL, n_layers=1, group="SO(3)", rbf="gauss", trainable_rbf=True)
    mirror = False


class TestGraphNetwork(PotentialChecks):
    options = GraphNetwork(**SMALL, n_layers=2)


class TestGraphNetworkOtherOptions(PotentialChecks):
    options = GraphNetwork(**SMALL, n_layers=1, neighbor_embedding=False, rbf="gauss", activation="tanh")


@pytest.mark.smoke
def test_every_architecture_of_ours_is_checked():
    """Somewhere in the tests a class inherits the checks with its options."""
    sources = [file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py")]
    sources = [source for source in sources if "(PotentialChecks)" in source]
    checked = {
        name for source in sources for name in re.findall(r"^    options = (\w+)\(", source, re.MULTILINE)
    }
    architectures = [get("architectures", name) for name in names("architectures")]
    assert {one.__name__ for one in architectures if one.__module__.startswith("asecalc_ml.")} <= checked


@pytest.mark.parametrize("name", names("architectures"))
def test_defaults_can_be_built(name):
    with torch.random.fork_rng(devices=[]):
        potential = get("architectures", name)().build()
    # dynamics refuses anything else, so it cannot be the default; networks on molecular graphs have no forces
    assert potential.continuous != potential.molecular_graph
