"""A registered model whose weights are read when they are needed: a compiled one runs without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from asecalc_ml.errors import ModelError
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
from asecalc_ml.model.model import Model
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.model_file import file_hash, read_model, read_uncertainty
from asecalc_ml.store.registry import Registry

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class StoredModel:
    """A model file with the type and the device it shall run in.

    Parameters
    ----------
    path : Path
    card : ModelCard
    hash : str
        SHA-256 of the file.
    dtype : torch.dtype
        Of the potential's arithmetic.
    device : torch.device
    """

    path: Path
    card: ModelCard
    hash: str
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def find(cls, spec: str | Path, dtype: str | None = None, device: str = "cpu") -> StoredModel:
        """A registered model or a model file, by default in the type it was trained in.

        Raises
        ------
        ModelError
            If it is unknown or no model, or if type or device cannot be used here.
        """
        entry = Registry().find(spec)
        chosen = _dtype(dtype or entry.card.dtype)
        return cls(entry.path, entry.card, entry.hash, chosen, _device(device))

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def members(self) -> tuple[StoredModel, ...]:
        """The model itself, as those of a :class:`asecalc_ml.store.stored_committee.StoredCommittee`."""
        return (self,)

    @property
    def cutoff(self) -> float:
        return self.card.cutoff_A

    @property
    def triplet_cutoff(self) -> float | None:
        return self.card.triplet_cutoff_A

    @property
    def molecular_graph(self) -> bool:
        return self.card.molecular_graph

    @cached_property
    def model(self) -> Model:
        """The model itself, ready to be evaluated; importing its architecture takes a second.

        Raises
        ------
        ModelError
            If the file is not the one that was found.
        """
        model, _ = read_model(self.path)
        self._check_unchanged()
        return model.set_dtype(self.dtype).to(self.device).eval().requires_grad_(False)

    @cached_property
    def uncertainty(self) -> LastLayerUncertainty | None:
        """What the model's uncertainty is computed with; None if its file holds none.

        Raises
        ------
        ModelError
            If the file is not the one that was found.
        """
        uncertainty = read_uncertainty(self.path) if self.card.uncertainty else None
        self._check_unchanged()
        return uncertainty

    def _check_unchanged(self) -> None:
        if file_hash(self.path) != self.hash:
            raise ModelError(
                f"the model file {self.path} was replaced after a calculator was made from it",
                name=str(self.path),
                value=self.hash,
                remedy="make a new calculator",
            )


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ModelError(
            f"dtype is {name!r};",
            name="dtype",
            value=name,
            allowed=DTYPES,
            remedy=f"use {' or '.join(map(repr, DTYPES))}",
        )
    return getattr(torch, name)


def _device(name: str) -> torch.device:
    """A device on which float64 can be computed, and read back; "meta" holds no numbers."""
    try:
        device = torch.device(name)
        torch.ones(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        usable = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ModelError(
            f"device {name!r} cannot be used here: {_why_not(name, error)};",
            name="device",
            value=name,
            allowed=usable,
            remedy=f"use {' or '.join(map(repr, usable))}",
        ) from error
    return device


def _why_not(device: str, error: Exception) -> str:
    """What is wrong with a device, in place of torch's own words where they do not help."""
    kind = str(device).partition(":")[0]
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "this installation of torch has no CUDA"
    if kind == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device, which `nvidia-smi` and CUDA_VISIBLE_DEVICES may explain"
    if kind in ("mps", "meta"):
        return "geometry and sums need float64, which it does not compute"
    first, _, _ = str(error).partition("\n")
    return "there is no such device" if kind not in ("cpu", "cuda") or "ordinal" in first else first
