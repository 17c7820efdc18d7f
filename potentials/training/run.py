"""The way through a training, start to end."""

from __future__ import annotations

import torch

from asecalc_ml.errors import TrainingError
from asecalc_ml.model import Model
from asecalc_ml.model_file import read_model
from asecalc_ml.potentials.training.finish import load_best, register
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.training.scaling import Scaling, fit_scaling
from asecalc_ml.potentials.training.trainer import build_model, fit, read_data
from asecalc_ml.registry import Entry, Registry
from asecalc_ml.threads import torch_threads


def run(options: TrainOptions, resume: bool, replace: bool, quiet: bool) -> Entry:
    """Read, fit, test, register; see :func:`asecalc_ml.potentials.training.train`."""
    Registry().check_free(options.name, replace)
    with torch_threads(options.threads), torch.random.fork_rng():
        data = read_data(options)
        scaling = fit_scaling(data.train, options.reference_energies_eV)
        model = _start(options, scaling)
        best = fit(options, data, model, resume, quiet)
        return register(options, data, load_best(model, best), scaling, replace)


def _start(options: TrainOptions, scaling: Scaling) -> Model:
    """Random weights from the seed, or those of another model under this data's scale and shift."""
    model = build_model(options, scaling)
    if options.init_from is not None:
        source, card = read_model(Registry().find(options.init_from).path)
        try:
            model.potential.load_state_dict(source.potential.state_dict())
        except RuntimeError as error:
            raise TrainingError(
                f"init_from: {card.name!r} is a {card.architecture} with {card.hyperparameters}; give "
                "`model` the same architecture and hyperparameters to start from its weights"
            ) from error
    return model
