"""Graph convolutions and the gated graph network obey the laws of every architecture, and their equations."""

import pytest

from asecalc_ml.potentials.molecular_graph import GatedGraph, GraphConvolutions
from asecalc_ml.testing import PotentialChecks

pytest.importorskip("rdkit")

SMALL = {"atom_channels": 10, "pair_channels": 8, "final_channels": 12, "readout_channels": 9}


class TestGraphConvolutions(PotentialChecks):
    options = GraphConvolutions(**SMALL)
    mirror = False


class TestGraphConvolutionsOfThePaper(PotentialChecks):
    options = GraphConvolutions(
        **SMALL,
        n_layers=3,
        distance_powers=[],
        symmetric_pairs=True,
        max_graph_distance=2,
        readout="histogram",
    )
    mirror = False


class TestGraphConvolutionsSummed(PotentialChecks):
    options = GraphConvolutions(**SMALL, n_layers=1, readout="sum")
    mirror = False


class TestGatedGraph(PotentialChecks):
    options = GatedGraph(hidden_channels=10, edge_channels=8, n_passes=2)
    mirror = False


class TestGatedGraphWithSet2Set(PotentialChecks):
    options = GatedGraph(
        hidden_channels=10, edge_channels=8, n_passes=1, readout="set2set", max_graph_distance=3
    )
    mirror = False
