"""The heads of a model, from what it shall predict."""

from __future__ import annotations

from collections.abc import Sequence

from asecalc_ml.errors import ModelError
from asecalc_ml.model.heads.equivariant import NormHead, RankThreeHead, RankTwoHead, VectorHead
from asecalc_ml.model.heads.head import OwnReadout, QuantityHead, ScalarHead
from asecalc_ml.model.heads.scalar import NetworkHead, SoftmaxHead
from asecalc_ml.model.potential import Potential
from asecalc_ml.targets.target import Quantity

EQUIVARIANT = {
    "vector": VectorHead,
    "vector norm": NormHead,
    "symmetric rank-2 tensor": RankTwoHead,
    "symmetric rank-3 tensor": RankThreeHead,
}


def build_heads(quantities: Sequence[Quantity], potential: Potential) -> list[QuantityHead]:
    """A head for each quantity: the architecture's own readout for one scalar, else networks of their own.

    Parameters
    ----------
    quantities : sequence of Quantity
    potential : Potential

    Raises
    ------
    ModelError
        For a vector or tensor, if the potential has features of the whole structure alone.
    """
    return [_head(quantity, potential, alone=len(quantities) == 1) for quantity in quantities]


def _head(quantity: Quantity, potential: Potential, alone: bool) -> QuantityHead:
    n_features = potential.last_linear[0].shape[1]
    if not quantity.is_scalar:
        if not potential.atom_features:
            raise ModelError(
                f"{quantity.name} is a {quantity.kind}, and the readout of this architecture sees the whole "
                "structure at once, which has no direction;",
                name=quantity.name,
                value=quantity.kind,
                remedy="choose a readout that is a sum over atoms (mpnn: `readout: gated`, cgcnn: `readout: "
                "atoms`), or another architecture, such as painn",
            )
        return EQUIVARIANT[quantity.kind](quantity, potential)
    head: ScalarHead = OwnReadout(quantity) if alone else NetworkHead(quantity, n_features)
    return SoftmaxHead(head, n_features) if quantity.pooling == "softmax" else head
