"""The model that is explained, in float64, with its name and what it was trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from ase import Atoms

from asecalc_ml.analysis.relevance.subject import ExplainedBatch
from asecalc_ml.calculators.ml_calculator import check_trained
from asecalc_ml.errors import AnalysisError
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.model.heads.single import single
from asecalc_ml.model.model import Model
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.golden import check_golden
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.checks_of_many import check_each
from asecalc_ml.structure.loading import check_structure

#: Pairs that are kept beyond the cutoff, which finite differences may bring inside.
MARGIN_A = 0.01

#: Atoms that pass through the model together.
BATCH_ATOMS = 512


@dataclass(frozen=True)
class Source:
    """A model ready to be explained.

    Parameters
    ----------
    model : Model
    name, architecture : str
    hash : str or None
        SHA-256 of the file; None for a model in memory.
    card : ModelCard or None
    """

    model: Model
    name: str
    architecture: str
    hash: str | None = None
    card: ModelCard | None = None

    @classmethod
    def of(cls, model: str | Path | Model) -> Source:
        """A model in memory, which is copied, or a registered one."""
        if isinstance(model, Model):
            name = type(model.potential).__name__
            own = copy.deepcopy(model).set_dtype(torch.float64).eval().requires_grad_(False)
            return cls(own, name, name)
        stored = StoredModel.find(model, "float64")
        check_golden(stored)
        return cls(stored.model, stored.card.name, stored.card.architecture, stored.hash, stored.card)

    def of_quantity(self, name: str | None) -> Source:
        """Source with a model of one scalar; see :func:`asecalc_ml.model.heads.single.single`.

        Raises
        ------
        ModelError
            If the model does not predict it, or several and none is named.
        """
        return replace(self, model=single(self.model, name))

    def checked(self, structures: Atoms | Iterable[Atoms], source: str = "structure ") -> list[Atoms]:
        """Structures that the model can evaluate.

        Parameters
        ----------
        structures : Atoms or iterable of Atoms
        source : str
            What messages put before the number of a structure, such as its file and an @.

        Raises
        ------
        AnalysisError
            If there is none.
        StructureError
            If one is broken, or not what the model was trained on.
        """
        frames = [structures] if isinstance(structures, Atoms) else list(structures)
        if not frames:
            raise AnalysisError(
                "there are no structures to explain", name="structures", remedy="give at least one"
            )
        checks = [] if self.card is None else [partial(check_trained, card=self.card)]
        located = {f"{source}{number}": atoms for number, atoms in enumerate(frames)}
        check_each(located, check_structure, *checks)
        return frames

    def subject(self, frames: Sequence[Atoms]) -> ExplainedBatch:
        """Structures side by side."""
        graphs = [graph_of(atoms, self.model, margin_A=MARGIN_A) for atoms in frames]
        return ExplainedBatch.of(self.model, graphs)

    def batches(self, frames: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], ExplainedBatch]]:
        """Structures in batches of :data:`BATCH_ATOMS` atoms, each also as the methods take it."""
        for batch in batches_by_atoms(frames, BATCH_ATOMS):
            yield batch, self.subject(batch)
