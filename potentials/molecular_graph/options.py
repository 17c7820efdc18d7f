"""Hyperparameters of the networks on molecular graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.potentials.shared.geometric import TORCH_GEOMETRIC
from asecalc_ml.structure.molecular_graph.features import GRAPH_DISTANCES

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential

FABER = (
    "F. A. Faber, L. Hutchison, B. Huang, J. Gilmer, S. S. Schoenholz, G. E. Dahl, O. Vinyals, S. Kearnes, "
    "P. F. Riley, O. A. von Lilienfeld, J. Chem. Theory Comput. 13, 5255 (2017), arXiv:1702.05532"
)


class MolecularGraphOptions(Options):
    """Base of networks on molecular graphs."""

    packages: ClassVar[tuple[str, ...]] = ("rdkit",)

    max_graph_distance: int | None = Field(
        None,
        ge=GRAPH_DISTANCES[0],
        le=GRAPH_DISTANCES[-1],
        description="bonds between atoms up to which a pair sends messages; empty: all pairs of the molecule",
    )
    average_neighbors: float = Field(
        17.0,
        gt=0,
        description="number that sums over pairs are divided by, so that features keep their size: 1 as "
        "published, with batch normalisation; the average number of other atoms in a molecule, 17 in QM9",
    )


class GraphConvolutions(MolecularGraphOptions):
    """Graph convolutions (weave) on features of atoms and pairs of a molecule (arXiv:1603.00856)."""

    citation: ClassVar[str] = (
        "S. Kearnes, K. McCloskey, M. Berndl, V. Pande, P. Riley, J. Comput. Aided Mol. Des. 30, 595 (2016), "
        f"arXiv:1603.00856; {FABER}"
    )

    n_layers: int = Field(2, ge=1, description="number of weave modules")
    atom_channels: int = Field(50, ge=1, description="width of the features of atoms")
    pair_channels: int = Field(50, ge=1, description="width of the features of pairs")
    final_channels: int = Field(128, ge=1, description="width of the last features of atoms")
    distance_powers: list[int] = Field(
        [1, 2, 3, 6],
        description="powers of the distance (Å) by which what pairs send to atoms is divided, next to the "
        "value itself; none reproduces arXiv:1603.00856",
    )
    symmetric_pairs: bool = Field(
        False,
        description="give both orders of two atoms the same features of a pair, as in arXiv:1603.00856",
    )
    readout: Literal["atoms", "sum", "histogram"] = Field(
        "atoms",
        description="atoms: a contribution of each atom; sum: features of atoms are summed before a hidden "
        "layer; histogram: they are counted in Gaussian bins before it, as in arXiv:1603.00856",
    )
    readout_channels: int = Field(128, ge=1, description="sum, histogram: width of the hidden layer")

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.molecular_graph.graph_convolutions import GraphConvolutionsPotential

        return GraphConvolutionsPotential(self)


class GatedGraph(MolecularGraphOptions):
    """Gated graph network on features of atoms and pairs of a molecule (arXiv:1511.05493)."""

    citation: ClassVar[str] = (
        "Y. Li, D. Tarlow, M. Brockschmidt, R. Zemel, ICLR 2016, arXiv:1511.05493; J. Gilmer et al., ICML "
        f"2017, arXiv:1704.01212; {FABER}; {TORCH_GEOMETRIC}"
    )
    packages: ClassVar[tuple[str, ...]] = ("rdkit", "torch-geometric")

    hidden_channels: int = Field(64, ge=1, description="width of the features of atoms")
    n_passes: int = Field(3, ge=0, description="message passes, which share their weights")
    edge_channels: int = Field(
        16,
        ge=1,
        description="width of the edge network, which is the number of matrices that messages are made with",
    )
    readout: Literal["gated", "set2set"] = Field(
        "gated", description="gated: a contribution of each atom; set2set: a value of the whole molecule"
    )
    set2set_steps: int = Field(3, ge=1, description="steps of the set2set readout")

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.molecular_graph.gated_graph import GatedGraphPotential

        return GatedGraphPotential(self)
