"""A training of seconds: rattled methanol with the energies and forces of ASE's EMT."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

from asecalc_ml.potentials.training import TrainOptions, train
from asecalc_ml.potentials.training.loop import TrainingLoop

TRAIN_STEP = TrainingLoop.train_step

SMALL = {
    "architecture": "equivariant-transformer",
    "hidden_channels": 16,
    "n_layers": 1,
    "n_rbf": 8,
    "n_heads": 2,
}


def labelled(name="CH3OH", n_frames=40, seed=0):
    """Rattled frames of a molecule with energies and forces from ASE's EMT."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = molecule(name)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


def small_options(tmp_path):
    """Options of a training in a folder."""
    write(tmp_path / "frames.xyz", labelled(), format="extxyz")
    return TrainOptions(
        name="methanol",
        data={"format": "ase", "path": str(tmp_path / "frames.xyz"), "level_of_theory": "EMT"},
        split={"n_train": 24, "n_validation": 8, "n_test": 8},
        model=SMALL,
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        max_epochs=4,
        directory=tmp_path / "training",
    )


def changed(options, **changes):
    return TrainOptions(**{**options.model_dump(), **changes})


def weights(entry):
    from safetensors.torch import load_file

    return load_file(entry.path)


def _fail_in_epoch_two(loop, batch):
    """A step of the loop that fails in the midst of the third epoch."""
    if loop.progress.n_steps == 2 * len(loop.train) + 1:
        raise RuntimeError("power cut")
    return TRAIN_STEP(loop, batch)


def interrupted(options, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "train_step", _fail_in_epoch_two)
        with pytest.raises(RuntimeError, match="power cut"):
            train(options, quiet=True)
