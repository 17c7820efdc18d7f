"""The average of the weights: how far it reaches back, what checkpoints keep of it, and when it lags."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from small_training import changed, interrupted, small_options, weights

from asecalc_ml.potentials.training import loop as loop_module
from asecalc_ml.potentials.training import train
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.optimization.exponential_average import STATE_KEY, ExponentialAverage


@pytest.fixture
def options(tmp_path):
    return small_options(tmp_path)


def shares(decay, n_steps):
    """Share of each step in the average after the last, from the average of unit vectors."""
    average = ExponentialAverage(decay)
    found = np.zeros(n_steps)
    found[0] = 1
    for step in range(1, n_steps):
        found[:step] *= average.decay_at(step)
        found[step] = 1 - average.decay_at(step)
    return found


@pytest.mark.parametrize("n_steps", [30, 300, 1920, 8000])
def test_the_average_lags_by_a_tenth_of_a_short_training(n_steps):
    """The decays multiply to factorials: step s of n has the share 9 n! (s+9)! / ((s+1)! (n+9)!)."""
    found, steps = shares(0.999, n_steps), np.arange(n_steps)
    logarithms = gammaln(n_steps + 1) + gammaln(steps + 10) - gammaln(steps + 2) - gammaln(n_steps + 10)
    assert found.sum() == pytest.approx(1)
    assert found[1:] == pytest.approx(9 * np.exp(logarithms)[1:], rel=1e-9)
    assert n_steps - 1 - found @ steps == pytest.approx(n_steps / 10, abs=1)


@pytest.mark.parametrize(("decay", "n_steps"), [(0.999, 17_460), (0.99, 4_600)])
def test_the_average_of_a_long_training_is_that_of_a_constant_decay(decay, n_steps):
    """The total variation between the shares of both is below the part that is older than the rise."""
    constant = (1 - decay) * decay ** np.arange(n_steps)[::-1]
    constant[0] /= 1 - decay
    moved = np.abs(shares(decay, n_steps) - constant).sum() / 2
    assert moved <= decay ** (n_steps - (10 * decay - 1) / (1 - decay)) + 1e-15
    assert moved < 3e-4


def test_the_stored_average_is_that_of_the_steps(options, monkeypatch):
    """Averaged here in float64 from the weights after each step."""
    expected, n_seen, train_step = {}, 0, TrainingLoop.train_step

    def average(loop, batch):
        nonlocal n_seen
        loss = train_step(loop, batch)
        decay = min(0.9, (1 + n_seen) / (10 + n_seen)) if n_seen else 0.0
        for name, tensor in loop.model.named_parameters():
            former = expected.get(name, 0.0)
            expected[name] = decay * former + (1 - decay) * tensor.detach().double()
        n_seen += 1
        return loss

    monkeypatch.setattr(TrainingLoop, "train_step", average)
    train(options, quiet=True)
    stored = torch.load(options.directory / "last.ckpt", weights_only=True)["state_dict"]
    assert n_seen == 12
    for name, tensor in expected.items():
        assert torch.allclose(stored[f"model.{name}"].double(), tensor, rtol=1e-5, atol=1e-7), name


def constant_decay(decay):
    """The average of earlier versions."""
    return ExponentialAverage(decay, rises=False)


def without_rule(path) -> None:
    """Take out of a checkpoint what earlier versions did not store."""
    stored = torch.load(path, weights_only=True)
    del stored["callbacks"][STATE_KEY]["rises"]
    torch.save(stored, path)


def test_a_training_of_an_earlier_version_is_resumed_with_its_constant_decay(options, monkeypatch):
    options = changed(
        options, optimizer={"warmup_steps": 2, "learning_rate": 0.03, "ema_decay": 0.999}, max_epochs=8
    )
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "ExponentialAverage", constant_decay)
        whole = changed(options, name="whole", directory=options.directory / "whole")
        expected = weights(train(whole, quiet=True))
        interrupted(options, monkeypatch)
    without_rule(options.directory / "last.ckpt")
    with pytest.warns(UserWarning, match="average of the weights lags.* earlier version"):
        entry = train(options, resume=True, quiet=True)
    assert any("train again from the start, with --replace" in note for note in entry.card.notes)
    resumed = weights(entry)
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_short_training_with_the_default_decay_does_not_lag(options):
    options = changed(options, optimizer={"warmup_steps": 2, "learning_rate": 0.01}, max_epochs=12)
    notes = train(options, quiet=True).card.notes
    assert options.optimizer.ema_decay == 0.999
    assert not any("lags" in note for note in notes)
