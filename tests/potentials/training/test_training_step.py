"""Batches that are slices of joined frames, joined weights, and the step as one function of both."""

import warnings
from itertools import chain

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from small_training import changed, interrupted, labelled, small_options
from small_training import weights as weights_of_entry

from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.derivative import edge_derivative
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.potentials.training import train
from asecalc_ml.potentials.training.frames import batches as batches_module
from asecalc_ml.potentials.training.frames.batches import EpochBatches, LabelledGraph, StoredFrames, loader
from asecalc_ml.potentials.training.frames.labelled_graphs import epoch_order
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.losses import total_loss
from asecalc_ml.potentials.training.optimization import whole_step
from asecalc_ml.potentials.training.optimization.agreement import DeviationError, check_prediction, check_step
from asecalc_ml.potentials.training.optimization.eager import eager_forward, eager_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import (
    compiled,
    prediction_graph,
    prediction_of,
    step_graph,
    step_of,
)
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.potentials.training.trainer import build_model, compile_validation

CUTOFF = 4.0
LOSS = LossOptions(stress_weight=1.0)


def stretched_molecules() -> list[Atoms]:
    """Methanol and water; some pairs are beyond the cutoff."""
    frames = [*labelled("CH3OH", 5), *labelled("H2O", 4)]
    for atoms in frames[::2]:
        atoms.positions[-1] += 3.5
        atoms.calc.calculate(atoms)
    return frames


def crystals() -> list[Atoms]:
    """Rattled copper in cells of 1 (smaller than the cutoff), 8 and 27 atoms, with stress."""
    random, frames = np.random.default_rng(0), []
    for n in (2, 2, 2, 2, 1, 3, 1):
        atoms = bulk("Cu") * (n, n, n)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.set_cell(atoms.cell * (1 + random.normal(scale=0.01, size=(3, 3))), scale_atoms=True)
        atoms.calc = EMT()
        atoms.get_stress()
        frames.append(atoms)
    return frames


def graphs(frames, cutoff=CUTOFF) -> list[LabelledGraph]:
    return [LabelledGraph.from_atoms(atoms, cutoff, ("energy", "forces", "stress")) for atoms in frames]


@pytest.mark.parametrize("triplet_cutoff", [None, 2.5])
@pytest.mark.parametrize("make_frames", [stretched_molecules, crystals, labelled])
def test_batches_are_those_of_collated_graphs(make_frames, triplet_cutoff, monkeypatch):
    """Bit for bit, in any order, also where several blocks of batches are joined and the last is short."""
    monkeypatch.setattr(batches_module, "BATCHES_AT_ONCE", 2)
    frames = graphs(make_frames())
    stored = StoredFrames(frames, CUTOFF, ("energy", "forces"), triplet_cutoff)
    order = epoch_order(len(frames), seed=0, epoch=3)
    parts = [order[k : k + 2] for k in range(0, len(order), 2)]
    found = list(stored.batches(order, 2))
    assert len(found) == len(parts)
    for batch, part in zip(found, parts, strict=True):
        members = [frames[k] for k in part]
        expected = with_ghost(collate([m.graph for m in members]), CUTOFF, triplet_cutoff=triplet_cutoff)
        if triplet_cutoff is not None:
            assert_same_triplets(batch.inputs, expected)
            expected = pad_triplets(expected, batch.inputs.triplets.shape[1])
            expected = expected._replace(triplets=batch.inputs.triplets)
        numbers = torch.cat([expected.atomic_numbers[:-1], batch.inputs.atomic_numbers[-1:]])
        expected = expected._replace(atomic_numbers=numbers)  # the ghost may be any element
        for name, tensor in expected._asdict().items():
            value = getattr(batch.inputs, name)
            assert tensor is value or torch.equal(tensor, value), name
        assert batch.n_atoms[:-1].tolist() == [m.graph.n_atoms for m in members]
        assert torch.equal(batch.energy.values[:-1], torch.cat([m.energy for m in members]))
        assert torch.equal(batch.forces.values[:-1], torch.cat([m.forces for m in members]))


def assert_same_triplets(found: PotentialInput, expected: PotentialInput) -> None:
    """The same triplets in the same order, apart from those of the ghost."""
    last = expected.edge_index.shape[1] - 1
    real = found.triplets[:, (found.triplets != last).all(dim=0)]
    assert torch.equal(real, expected.triplets)


def test_an_epoch_has_every_frame_once_and_no_short_batch():
    frames = graphs(labelled(n_frames=11))
    energies = sorted(float(frame.energy) for frame in frames)
    epochs = EpochBatches(StoredFrames(frames, CUTOFF), 4, shuffle_seed=0)
    sizes, seen = zip(
        *((b.n_systems, b.energy.values[:-1].tolist()) for b in epochs.of_epoch(1)), strict=True
    )
    assert sizes == (4, 4)
    assert set(chain.from_iterable(seen)) < set(energies)
    in_order = EpochBatches(StoredFrames(frames, CUTOFF), 4)
    assert [batch.n_systems for batch in in_order] == [4, 4, 3]
    found = chain.from_iterable(batch.energy.values[:-1].tolist() for batch in in_order)
    assert sorted(found) == energies


def test_joined_weights_are_those_of_the_model(tmp_path):
    model = build_model(small_options(tmp_path), fit_scaling(labelled(), None))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = FlatWeights(model)
    assert sum(weights.sizes) == sum(p.numel() for p in model.parameters())
    named = weights.named(weights.values)
    assert all(torch.equal(named[name], before[name]) for name in weights.names)
    with weights.replaced_by(torch.zeros_like(weights.values.data)):
        assert not any(p.any() for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(weights.flatten(named), weights.values)
    weights.release()
    weights.values.data.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(params=["equivariant-transformer", "graph-network"])
def prepared(request, tmp_path):
    """Model in float64, its weights, and batches of crystals of several sizes with and without labels."""
    small = {
        "architecture": request.param,
        "hidden_channels": 8,
        "n_layers": 1,
        "n_rbf": 8,
        "cutoff_A": CUTOFF,
    }
    frames = crystals()
    options = small_options(tmp_path).model_copy(update={"model": small, "loss": LOSS})
    model = build_model(options, fit_scaling(frames, None)).set_dtype(torch.float64)
    labels = graphs(frames)
    labels[1] = LabelledGraph(labels[1].graph, energy=labels[1].energy)
    return model, FlatWeights(model), list(loader(labels, CUTOFF, 3))[:2]


@pytest.mark.slow
def test_one_traced_step_serves_batches_of_every_size(prepared):
    model, weights, batches = prepared
    assert len({batch.inputs.edge_index.shape[1] for batch in batches}) == 2
    step = step_of(step_graph(model, weights, batches[0], LOSS, dynamic=True))
    check_step(step, model, weights, batches, LOSS)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_step_is_the_eager_one(prepared, dynamic):
    model, weights, batches = prepared
    given = batches if dynamic else batches[:1]
    graph = step_graph(model, weights, given[0], LOSS, dynamic)
    step = step_of(compiled(graph, [weights.values.detach(), *given[0].tensors], dynamic))
    check_step(step, model, weights, given, LOSS)


def test_the_gradient_of_a_traced_step_is_that_of_finite_differences(prepared):
    model, weights, (batch, _) = prepared
    step = step_of(step_graph(model, weights, batch, LOSS))
    values = weights.values.detach().clone()
    _, gradient = step(values, batch)
    place, size = int(gradient.abs().argmax()), 1e-5
    losses = []
    for sign in (1, -1):
        moved = values.clone()
        moved[place] += sign * size
        losses.append(float(step(moved, batch)[0]))
    assert (losses[0] - losses[1]) / (2 * size) == pytest.approx(float(gradient[place]), rel=1e-6)


@pytest.mark.parametrize("with_gradient", [False, True])
def test_traced_predictions_are_the_eager_ones(prepared, with_gradient):
    """For other weights than the model has, too; those of other frames are found out."""
    model, weights, (batch, _) = prepared
    given = batch.inputs
    predict = prediction_of(prediction_graph(model, weights, given, with_gradient))
    check_prediction(predict, model, weights, [given])
    predicted = predict(0.9 * weights.values.detach(), given)
    with weights.replaced_by(0.9 * weights.values.detach()):
        expected = edge_derivative(model, given)
    torch.testing.assert_close(predicted.systems, expected.systems)
    assert len(predicted.gradient) == (len(expected.gradient) if with_gradient else 0)
    longer = given._replace(edge_vectors=1.1 * given.edge_vectors)
    with pytest.raises(DeviationError, match="systems of the compiled and the eager model differ"):
        check_prediction(lambda values, _: predict(values, longer), model, weights, [given])


@pytest.mark.parametrize("architecture", ["graph-network", pytest.param("tensornet", marks=pytest.mark.slow)])
def test_a_step_on_arrays_is_the_eager_one(tmp_path, architecture):
    """For molecules with pairs beyond the cutoff in batches of other frames than the one that was traced."""
    frames = labelled(n_frames=8)
    for atoms in frames[::2]:
        atoms.positions[-1] += 3.5
        atoms.calc.calculate(atoms)
    small = {"architecture": architecture, "hidden_channels": 8, "n_layers": 1, "n_rbf": 8, "cutoff_A": 4.0}
    model = build_model(changed(small_options(tmp_path), model=small), fit_scaling(frames, None))
    weights = FlatWeights(model.set_dtype(torch.float64))
    stored = StoredFrames(graphs(frames), CUTOFF, ("energy", "forces"))
    assert stored.all_pairs
    batches, loss = list(EpochBatches(stored, 4)), LossOptions()
    step = step_of(step_graph(model, weights, batches[0], loss, all_pairs=True))
    check_step(step, model, weights, batches, loss)
    inputs = [batch.inputs for batch in batches]
    predict = prediction_of(prediction_graph(model, weights, inputs[0], True, all_pairs=True))
    check_prediction(predict, model, weights, inputs)


def test_molecules_of_one_size_alone_have_all_pairs():
    """Not frames of several sizes, nor crystals, whose numbers of atoms and edges are equal by chance."""
    assert StoredFrames(graphs(labelled()), CUTOFF).all_pairs
    assert not StoredFrames(graphs(stretched_molecules()), CUTOFF).all_pairs
    two = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], cell=[9, 9, 12], pbc=True)
    pairs = LabelledGraph(AtomGraph.from_atoms(two, CUTOFF))
    assert StoredFrames([pairs], CUTOFF).all_pairs  # a molecule in a box
    two.positions[1] = [0, 0, 9.5]
    image = LabelledGraph(AtomGraph.from_atoms(two, CUTOFF))
    assert image.graph.edge_index.tolist() == pairs.graph.edge_index.tolist()
    assert not StoredFrames([image], CUTOFF).all_pairs


def test_a_step_that_deviates_is_found_out(prepared):
    """A gradient that lacks a part of one parameter's, and a loss that is a little off."""
    model, weights, (batch, _) = prepared
    eager = eager_step(model, weights, LOSS)

    def gradient_cut(values, given):
        loss, gradient = eager(values, given)
        place = int(gradient.abs().argmax())
        gradient[place] *= 0.999
        return loss, gradient

    def loss_off(values, given):
        loss, gradient = eager(values, given)
        return 1.00001 * loss, gradient

    for step, name in ((gradient_cut, "gradients by .*"), (loss_off, "loss")):
        with pytest.raises(DeviationError, match=f"{name} of the compiled and the eager step differ"):
            check_step(step, model, weights, [batch], LOSS)


def test_compiled_validation_finds_the_errors_of_the_eager_one(tmp_path, monkeypatch):
    """Traced, not compiled, and used for whole batches alone; the last one has two frames."""
    options = small_options(tmp_path).model_copy(update={"batch_size": 3})
    model = build_model(options, fit_scaling(labelled(), None)).set_dtype(torch.float64)
    frames = StoredFrames(graphs(labelled(n_frames=8)), model.cutoff, options.loss.fitted)
    batches = EpochBatches(frames, options.batch_size)
    loop = TrainingLoop(model, options, batches, batches, quiet=True)
    loop.average.update(1.1 * loop.weights.values.detach())
    expected = loop.validate()
    eager_sizes, eager = [], loop.task.predict

    def recorded(inputs):
        eager_sizes.append(inputs.n_systems - 1)
        return eager(inputs)

    loop.task.predict = recorded
    monkeypatch.setattr(whole_step, "compiled", lambda graph, *_: graph)
    compile_validation(loop)
    assert loop.validate() == pytest.approx(expected, rel=1e-10)
    assert eager_sizes == [2]


@pytest.mark.slow
def test_a_resumed_compiled_training_ends_at_the_same_weights(tmp_path, monkeypatch):
    """Bit for bit, and to rounding where an eager training ends."""
    small = {"architecture": "graph-network", "hidden_channels": 8, "n_layers": 1, "n_rbf": 8}
    options = changed(small_options(tmp_path), model=small, compile=True, precision="float64")
    ends = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the training step cannot be compiled")
        for name, compiled in (("whole", True), ("eager", False)):
            given = changed(options, name=name, directory=tmp_path / name, compile=compiled)
            ends[name] = weights_of_entry(train(given, quiet=True))
        interrupted(options, monkeypatch)
        ends["resumed"] = weights_of_entry(train(options, resume=True, quiet=True))
    for name, tensor in ends["whole"].items():
        assert torch.equal(tensor, ends["resumed"][name]), name
        torch.testing.assert_close(tensor, ends["eager"][name], rtol=1e-6, atol=1e-9)


def test_the_eager_step_is_that_of_autograd(prepared):
    model, weights, (batch, _) = prepared
    value, gradient = eager_step(model, weights, LOSS)(weights.values.detach(), batch)
    expected = total_loss(eager_forward(model)(batch.inputs), batch, LOSS)
    expected.backward()
    assert torch.equal(value, expected.detach())
    named = weights.named(gradient)
    for name, parameter in model.named_parameters():
        found = named[name]
        assert torch.equal(found, torch.zeros_like(found) if parameter.grad is None else parameter.grad)


def test_frames_without_pairs_make_batches():
    frames = [LabelledGraph(AtomGraph.from_atoms(Atoms("H"), CUTOFF)) for _ in range(2)]
    (batch,) = loader(frames, CUTOFF, 2)
    assert batch.inputs.edge_index.shape == (2, 0)
    assert batch.inputs.batch.tolist() == [0, 1, 2]
