"""Optimizers, accumulated batches and mixed precision: against torch's own, larger batches, and restarts."""

import numpy as np
import pytest
import torch
from small_training import changed, small_options, weights

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ConfigError
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.optimizers import make_optimizer
from asecalc_ml.potentials.training.options import OptimizerOptions
from asecalc_ml.testing import untrained_model

SMALL_NETWORK = EquivariantTransformer(hidden_channels=16, n_layers=1, n_rbf=8, n_heads=2)
ALGORITHMS = ["adamw", "adam", "sgd", "lamb", "yogi"]


def algorithm(name: str, **options) -> OptimizerOptions:
    if name in ("lamb", "yogi"):
        pytest.importorskip("pytorch_optimizer")
    return OptimizerOptions(algorithm=name, **options)


def on_parameters(name: str, parameters: list, rate: float, decay: float) -> torch.optim.Optimizer:
    """The same optimizer on the parameters one by one, as a model without joined weights has it."""
    if name in ("lamb", "yogi"):
        import pytorch_optimizer

        kind = {"lamb": pytorch_optimizer.Lamb, "yogi": pytorch_optimizer.Yogi}[name]
        return kind(parameters, lr=rate, weight_decay=decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    return kind(parameters, lr=rate, weight_decay=decay)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_joined_weights_change_as_parameters_one_by_one_do(name):
    """LAMB too, whose step depends on the norm of each layer."""
    model = untrained_model(SMALL_NETWORK)
    weights = FlatWeights(model)
    optimizer = make_optimizer(algorithm(name, learning_rate=0.01, weight_decay=0.1), weights)
    alone = [torch.nn.Parameter(parameter.detach().clone()) for parameter in weights.parameters]
    other = on_parameters(name, alone, 0.02, 0.1)
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradient = torch.randn(weights.values.shape, generator=random, dtype=torch.float64)
        for parameter, part in zip(alone, weights.views(gradient), strict=True):
            parameter.grad = part.clone()
        optimizer.step(gradient.clone(), 0.02)
        other.step()
    for parameter, expected in zip(weights.parameters, alone, strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_state_is_put_back_as_it_was(name):
    first, second = (FlatWeights(untrained_model(SMALL_NETWORK)) for _ in range(2))
    options = algorithm(name)
    optimizers = [make_optimizer(options, weights) for weights in (first, second)]
    random = torch.Generator().manual_seed(0)
    gradients = torch.randn((4, *first.values.shape), generator=random, dtype=torch.float64)
    for gradient in gradients[:3]:
        optimizers[0].step(gradient.clone(), 0.01)
    second.values.data.copy_(first.values.data)
    optimizers[1].load(optimizers[0].state(), optimizers[0].n_steps)
    for optimizer in optimizers:
        optimizer.step(gradients[3].clone(), 0.01)
    assert torch.equal(first.values, second.values)


@pytest.mark.parametrize(
    "changes",
    [
        *({"algorithm": name} for name in ALGORITHMS[1:]),
        {"accumulated_batches": 2},
        {"mixed_precision": True},
    ],
    ids=lambda changes: "-".join(map(str, next(iter(changes.items())))),
)
def test_a_resumed_training_ends_at_the_same_weights(changes, tmp_path, monkeypatch):
    """All three stop in the midst of the third epoch."""
    options = small_options(tmp_path)
    if "algorithm" in changes:
        algorithm(changes["algorithm"])
        optimizer = {**options.optimizer.model_dump(), **changes, "learning_rate": 1e-4}
        options = changed(options, optimizer=optimizer)
    else:
        options = changed(options, **changes)
    straight = changed(options, name="straight", directory=tmp_path / "straight")
    expected = weights(train(straight, quiet=True))
    stop_in_the_third_epoch(options, monkeypatch)
    resumed = weights(train(options, resume=True, quiet=True))
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def stop_in_the_third_epoch(options: TrainOptions, monkeypatch) -> None:
    step = TrainingLoop.train_step

    def fails(loop, *batches):
        if loop.progress.n_epochs == 2:
            raise RuntimeError("power cut")
        return step(loop, *batches)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "train_step", fails)
        with pytest.raises(RuntimeError, match="power cut"):
            train(options, quiet=True)


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    """For frames of one size; a last step with fewer frames is left out of both."""
    options = changed(
        small_options(tmp_path), precision="float64", split={"n_train": 20, "n_validation": 8, "n_test": 12}
    )
    large = changed(options, name="large", directory=tmp_path / "large", batch_size=8)
    small = changed(options, name="small", directory=tmp_path / "small", batch_size=4, accumulated_batches=2)
    expected, accumulated = (weights(train(one, quiet=True)) for one in (large, small))
    for name in expected:
        torch.testing.assert_close(accumulated[name], expected[name], rtol=1e-7, atol=1e-9)
    losses = [
        np.loadtxt(tmp_path / name / "metrics.csv", delimiter=",", skiprows=1)[:, 1:3]
        for name in ("large", "small")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-8)


def test_a_schedule_counts_steps_and_not_batches(tmp_path, monkeypatch):
    rates = []
    end_epoch = TrainingLoop.end_epoch

    def with_rate(loop, metrics):
        rates.append(loop.optimizer.learning_rate)
        end_epoch(loop, metrics)

    monkeypatch.setattr(TrainingLoop, "end_epoch", with_rate)
    options = changed(small_options(tmp_path), batch_size=4, accumulated_batches=3)
    train(options, quiet=True)  # 2 steps an epoch, 8 in all, 5 of warm-up
    expected = [
        (step + 1) / 5 if step < 5 else 0.5 * (1 + np.cos(np.pi * (step - 5) / 3)) for step in (1, 3, 5, 7)
    ]
    assert rates == pytest.approx([1e-3 * factor for factor in expected])


def test_mixed_precision_learns_as_float32_does(tmp_path):
    options = changed(small_options(tmp_path), max_epochs=12)
    mixed = changed(options, name="mixed", directory=tmp_path / "mixed", mixed_precision=True)
    plain, rounded = (train(one, quiet=True).card.metrics.forces_mae_meV_A for one in (options, mixed))
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mixed_precision": True, "compile": True}, "exclude each other"),
        ({"mixed_precision": True, "precision": "float64"}, "for precision float32"),
        ({"accumulated_batches": 0}, "greater than or equal to 1"),
        ({"optimizer": {"algorithm": "adagrad"}}, "'adamw', 'adam', 'sgd', 'lamb' or 'yogi'"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    given = {"name": "x", "data": {"format": "ase", "path": "frames.xyz"}, **changes}
    with pytest.raises(ConfigError, match=words):
        parse_options(given, TrainOptions)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("asecalc_ml.potentials.training.options.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"asecalc-ml\[optimizers\]"):
        parse_options({"algorithm": "lamb"}, OptimizerOptions)
