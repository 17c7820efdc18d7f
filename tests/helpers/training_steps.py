"""Traced and compiled training steps against the eager one, with random labels."""

from collections.abc import Callable

import torch

from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training.frames.labelled_graphs import Batch, Label
from asecalc_ml.potentials.training.optimization.agreement import check_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import compiled as compile_graph
from asecalc_ml.potentials.training.optimization.whole_step import step_graph, step_of
from asecalc_ml.potentials.training.options import LossOptions


def with_labels(inputs: PotentialInput, seed: int = 0) -> Batch:
    """A batch with random energies, forces, stresses and dipoles; the ghost has none."""
    random = torch.Generator().manual_seed(seed)

    def label(n_rows: int, *row: int) -> Label:
        weights = torch.ones(n_rows, dtype=torch.float64)
        weights[-1] = 0
        values = torch.randn(n_rows, *row, generator=random, dtype=torch.float64)
        return Label(values, weights, weights.sum())

    n_systems, n_atoms = inputs.n_systems, inputs.n_atoms
    return Batch(
        inputs,
        n_atoms=inputs.batch.bincount(minlength=n_systems),
        n_frames=torch.tensor(n_systems - 1.0, dtype=torch.float64),
        energy=label(n_systems),
        forces=label(n_atoms, 3),
        stress=label(n_systems, 3, 3),
        dipole=label(n_systems, 3),
        volume=torch.full((n_systems,), 50.0, dtype=torch.float64),
        from_centre=torch.randn(n_atoms, 3, generator=random, dtype=torch.float64),
    )


def loss_of(model: Model) -> LossOptions:
    """A loss on everything that a model predicts."""
    return LossOptions(stress_weight=1.0, dipole_weight=float(model.potential.partial_charges))


def check_training_step(
    model: Model,
    *inputs: PotentialInput,
    dynamic: bool = False,
    compiled: bool = False,
    inductor_options: dict | None = None,
    make_graph: Callable = step_graph,
) -> None:
    """Raise DeviationError where a step traced with the first of the inputs deviates on one of them."""
    weights, loss = FlatWeights(model), loss_of(model)
    batches = [with_labels(given) for given in inputs]
    try:
        run = make_graph(model, weights, batches[0], loss, dynamic)
        if compiled:
            arguments = [weights.values.detach(), *batches[0].tensors]
            run = compile_graph(run, arguments, dynamic, inductor_options)
        check_step(step_of(run), model, weights, batches, loss)
    finally:
        weights.release()
