"""Hyperparameters of JAT."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import Cutoff_A

if TYPE_CHECKING:
    from asecalc_ml.model.potential import Potential


class JAT(Options):
    """JAT (Hödl, TU Wien 2022): graph attention. Defaults are those of its best model of an ionic liquid."""

    citation: ClassVar[str] = (
        "S. Hödl, Sparse graph attention networks as efficient ionic liquid potentials, diploma thesis, "
        "TU Wien (2022), github.com/stefanhoedl/JAT_potential"
    )

    cutoff_A: Cutoff_A = Field(5.0, description="distance beyond which atoms do not see each other, Å")
    hidden_channels: int = Field(48, ge=2, description="width of the atom features")
    n_layers: int = Field(7, ge=1, description="number of attention layers")
    n_heads: int = Field(1, ge=1, description="attention heads; hidden_channels is a multiple of it")
    update: Literal["skip", "gru"] = Field(
        "skip", description="how features take up messages: added to them, or by a gated recurrent unit"
    )
    max_atomic_number: int = Field(
        99, ge=1, le=118, description="heaviest element the embedding has room for"
    )
    envelope: bool = Field(
        True,
        description="weight attention with the cutoff function, so that the energy is continuous; false "
        "reproduces the thesis, and dynamics refuses it",
    )

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> JAT:
        if self.hidden_channels % self.n_heads:
            raise ValueError(
                f"hidden_channels is {self.hidden_channels}; heads share it evenly, so it must be a multiple "
                f"of n_heads ({self.n_heads})"
            )
        return self

    def build(self) -> Potential:
        """A network with random weights from torch's generator."""
        from asecalc_ml.potentials.jat.network import JATPotential

        return JATPotential(self)
