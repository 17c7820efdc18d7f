"""Registered models of one architecture as one, whose weights are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asecalc_ml.model.model import Model
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.stored_model import StoredModel


@dataclass(frozen=True)
class StoredCommittee:
    """Models that differ in their weights, scales and shifts alone: see :meth:`of`.

    Parameters
    ----------
    members : tuple of StoredModel
    """

    members: tuple[StoredModel, ...]

    @classmethod
    def of(cls, members: Sequence[StoredModel]) -> StoredCommittee | None:
        """The models as one; None if they differ in architecture, options, pooling, type or device."""
        kinds = [(*_architecture(member.card), member.dtype, member.device) for member in members]
        return cls(tuple(members)) if all(kind == kinds[0] for kind in kinds) else None

    @property
    def name(self) -> str:
        """Names of the models, for messages."""
        return " + ".join(member.name for member in self.members)

    @property
    def hash(self) -> str:
        """SHA-256 over the models' hashes."""
        return hashlib.sha256("\n".join(member.hash for member in self.members).encode()).hexdigest()

    @property
    def dtype(self) -> torch.dtype:
        return self.members[0].dtype

    @property
    def device(self) -> torch.device:
        return self.members[0].device

    @property
    def cutoff(self) -> float:
        return self.members[0].cutoff

    @property
    def triplet_cutoff(self) -> float | None:
        return self.members[0].triplet_cutoff

    @property
    def molecular_graph(self) -> bool:
        return self.members[0].molecular_graph

    @property
    def model(self) -> tuple[Model, ...]:
        """The models themselves."""
        return tuple(member.model for member in self.members)


def _architecture(card: ModelCard) -> tuple:
    return (
        card.architecture,
        card.hyperparameters,
        card.quantities,
        card.cutoff_A,
        card.triplet_cutoff_A,
        card.molecular_graph,
        card.partial_charges,
    )
