"""One quantity of a model as a model of its own, whose contributions can be explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ModelError
from asecalc_ml.model.heads.head import OwnReadout, ScalarHead
from asecalc_ml.model.potential import AtomOutput, Modules, Potential, PotentialInput

if TYPE_CHECKING:
    from asecalc_ml.model.model import Model


class HeadedPotential(Potential):
    """A potential and a head of a scalar as one potential, whose readout is the head's.

    Parameters
    ----------
    body : Potential
    head : ScalarHead
    """

    def __init__(self, body: Potential, head: ScalarHead):
        super().__init__()
        self.body, self.head = body, head
        self.cutoff, self.triplet_cutoff = body.cutoff, body.triplet_cutoff
        self.molecular_graph = body.molecular_graph
        self.continuous, self.takes = body.continuous, body.takes
        self.atom_features = body.atom_features

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        return self.head(self.body(inputs), inputs)

    @property
    def embeddings(self) -> Modules:
        return self.body.embeddings

    @property
    def interactions(self) -> Modules:
        return self.body.interactions

    @property
    def attentions(self) -> Modules:
        return self.body.attentions

    @property
    def readout(self) -> nn.Module:
        return self.head

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.head.last_linear(self.body)


def single(model: Model, name: str | None = None) -> Model:
    """The model of one scalar quantity; the model itself if it predicts nothing else with its own readout.

    Parameters
    ----------
    model : Model
    name : str, optional
        Of the quantity; may be left out where there is one.

    Raises
    ------
    ModelError
        If the model does not predict it, predicts several and none is named, or it is no scalar.
    """
    names = [quantity.name for quantity in model.quantities]
    if name is None and len(names) > 1:
        raise ModelError(
            f"the model predicts {', '.join(names)}",
            name="target",
            allowed=names,
            remedy="name one as `target`",
        )
    if name is not None and name not in names:
        remedy = f"It predicts {', '.join(names)}"
        raise unknown_name_error(ModelError, f"the model does not predict {name!r}", name, names, remedy)
    place = 0 if name is None else names.index(name)
    head = model.quantity_heads[place]
    if not isinstance(head, ScalarHead):
        raise ModelError(
            f"{head.quantity.name} is a {head.quantity.kind}, and no number with contributions of atoms",
            name=head.quantity.name,
            value=head.quantity.kind,
            remedy="choose a scalar, such as alpha in place of polarizability",
        )
    if isinstance(head, OwnReadout):
        return model
    scale, shift = (table.view(len(names), -1)[place] for table in (model.scale, model.shift))
    quantity = head.quantity.model_copy(update={"pooling": head.pooling})
    potential = HeadedPotential(model.potential, head)
    own = type(model)(potential, scale, shift, heads=[OwnReadout(quantity)])
    return own.train(model.training).requires_grad_(False)
