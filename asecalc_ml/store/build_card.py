"""The card of a new model, however it was made."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from ase import Atoms

from asecalc_ml.config.options import Options
from asecalc_ml.model.model import Model
from asecalc_ml.sources import source_of_plugin
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.golden import make_golden
from asecalc_ml.versions import installed_versions

PACKAGES = ("ase", "numpy", "torch")


def build_card(
    model: Model,
    name: str,
    architecture: str,
    hyperparameters: Options,
    structure: Atoms,
    packages: Iterable[str] = (),
    **known: Any,
) -> ModelCard:
    """Card of a model: what follows from the model itself, and what only its maker knows.

    Parameters
    ----------
    model : Model
    name : str
        Name of the model in the registry.
    architecture : str
        Registered name of its architecture.
    hyperparameters : Options
        Options of the architecture.
    structure : Atoms
        Golden values are computed for it.
    packages : iterable of str
        Further packages that the model was made with; their versions are recorded.
    **known
        All other fields of :class:`~asecalc_ml.store.card.ModelCard`, such as elements, dataset and metrics.
        A field that is also derived here takes the value given.

    Raises
    ------
    ModelError
        As :func:`~asecalc_ml.store.golden.make_golden`.
    """
    potential = model.potential
    made_with = [*sorted({*PACKAGES, *packages}), *getattr(hyperparameters, "packages", ())]
    derived = {
        "architecture_source": source_of_plugin("architectures", architecture),
        "hyperparameters": hyperparameters.model_dump(mode="json"),
        "quantities": model.quantities,
        "cutoff_A": potential.cutoff,
        "triplet_cutoff_A": model.triplet_cutoff,
        "molecular_graph": potential.molecular_graph,
        "continuous": potential.continuous,
        "partial_charges": potential.partial_charges,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "golden": make_golden(model, structure),
        "versions": installed_versions(made_with),
        "created": datetime.date.today().isoformat(),
    }
    return ModelCard(name=name, architecture=architecture, **{**derived, **known})
